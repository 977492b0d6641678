import pytest

from msg3d_lab.training import estimate, recipes
from msg3d_lab.training.held import _STATUS, held_bytes

needs_linux = pytest.mark.skipif(not _STATUS.exists(), reason="only Linux tells what is held")


@needs_linux
def test_a_process_holds_more_than_its_tensors(toy_store, toy_recipe):
    big = recipes.with_settings(toy_recipe, {"base_channels": 48, "clip_len": 32})
    table = estimate(big, data=toy_store, device="cpu", calibrate=False).memory["total"]
    less, more = (held_bytes(big, toy_store, batch=n) for n in (1, 64))
    assert less > 100e6  # Python and PyTorch
    grown, tensors = more - less, table[64] - table[1]
    assert tensors > 100e6
    assert 0.9 * tensors < grown < 4 * tensors


def test_where_the_system_does_not_tell_nothing_is_said(toy_store, toy_recipe, monkeypatch):
    module = __import__("msg3d_lab.training.held", fromlist=["_"])
    monkeypatch.setattr(module, "_STATUS", _STATUS / "nowhere")
    assert held_bytes(toy_recipe, toy_store, batch=1) is None
