import logging

import pytest
from msg3d_lab.training.diagnostics.held import _STATUS, held_bytes

from msg3d_lab.training import estimate, recipes
from msg3d_lab.training.diagnostics import trial

needs_linux = pytest.mark.skipif(not _STATUS.exists(), reason="only Linux tells what is held")


@needs_linux
def test_a_process_holds_more_than_its_tensors(toy_store, toy_recipe, monkeypatch):
    """The whole way: two fresh processes train 8 and 16 clips; the table has what they held."""
    monkeypatch.setattr(trial, "_MOST", 1)
    settings = {"base_channels": 24, "clip_len": 64, "batch_size": 16}
    big = recipes.with_settings(toy_recipe, settings)
    memory = estimate(big, data=toy_store, device="cpu", seconds=3600).memory
    assert (memory["process"] >= memory["total"]).all()
    assert memory.loc[1, "process"] > 100e6  # Python and PyTorch
    held, tensors = (memory.loc[16, c] - memory.loc[8, c] for c in ("process", "total"))
    assert tensors > 25e6
    assert 0.8 * tensors < held < 3 * tensors


@needs_linux
def test_a_process_that_fails_costs_only_its_number(toy_store, toy_recipe, caplog, monkeypatch):
    monkeypatch.setenv("PYTHONMALLOC", "no such thing")  # ends at once, as without memory
    with caplog.at_level(logging.WARNING):
        assert held_bytes(toy_recipe, toy_store, batch=1) is None
    assert "what a process holds at 1 clips is not known: it ended with code 1 (" in caplog.text


def test_where_the_system_does_not_tell_nothing_is_said(toy_store, toy_recipe, monkeypatch):
    module = __import__("msg3d_lab.training.diagnostics.held", fromlist=["_"])
    monkeypatch.setattr(module, "_STATUS", _STATUS / "nowhere")
    assert held_bytes(toy_recipe, toy_store, batch=1) is None
