import logging

import pytest

from msg3d_lab.training import recipes
from msg3d_lab.training.diagnostics import memory
from msg3d_lab.training.diagnostics.memory import peak_memory

needs_linux = pytest.mark.skipif(
    not memory._STATUS.exists(), reason="only Linux tells a process's peak memory"
)


@needs_linux
def test_peak_memory_grows_with_the_batch(toy_store, toy_recipe):
    """Two fresh processes train 8 and 16 clips, which keep at least this much for backward."""
    big = recipes.with_settings(toy_recipe, {"base_channels": 24, "clip_len": 64})
    less, more = (peak_memory(big, toy_store, batch_size=n) for n in (8, 16))
    assert less > 100e6  # Python and PyTorch
    assert 20e6 < more - less < 200e6


@needs_linux
def test_peak_memory_of_a_process_that_fails_is_not_known(
    toy_store, toy_recipe, caplog, monkeypatch
):
    monkeypatch.setenv("PYTHONMALLOC", "no such thing")  # ends at once, as without memory
    with caplog.at_level(logging.WARNING):
        assert peak_memory(toy_recipe, toy_store, batch_size=1) is None
    assert "the peak memory of 1 clips is not known" in caplog.text
    assert "ended with code 1 (" in caplog.text


def test_peak_memory_is_not_known_where_the_system_does_not_tell(
    toy_store, toy_recipe, monkeypatch
):
    assert peak_memory(toy_recipe, toy_store, batch_size=1, device="mps") is None
    monkeypatch.setattr(memory, "_STATUS", memory._STATUS / "nowhere")
    assert peak_memory(toy_recipe, toy_store, batch_size=1) is None
