import copy

import pytest
import torch
from harness import Case, workloads, yardstick
from harness.held import Held
from harness.workloads import clips_for, make_side, make_work

from msg3d_lab import MSG3D

TINY = {
    "num_classes": 4,
    "base_channels": 6,
    "num_gcn_scales": 2,
    "num_g3d_scales": 2,
    "window_sizes": (3,),
    "window_dilations": (1,),
}


@pytest.fixture
def model():
    return MSG3D(**TINY)


@pytest.mark.parametrize(
    ("case", "clips", "singles", "label"),
    [
        (Case("train", 16), 16, 0, "training step, batch 16, two persons"),
        (
            Case("train", 16, 0.82),
            16,
            13,
            "training step, batch 16, 13 of 16 clips with one person",
        ),
        # 82 % of 8 clips is no whole number: two batches come closer.
        (Case("eval", 8, 0.82), 16, 13, "evaluation, batch 8, 13 of 16 clips with one person"),
        (Case("eval", 64, 0.82), 64, 52, "evaluation, batch 64, 52 of 64 clips with one person"),
        (Case("eval", 1), 1, 0, "latency, one clip, two persons"),
    ],
)
def test_case_has_the_share_of_single_persons(case, clips, singles, label):
    assert (case.clips, case.singles, case.label) == (clips, singles, label)
    assert case.clips == case.batches * case.batch


def test_clips_for_spreads_single_persons_over_the_batches(model):
    batches = clips_for(Case("eval", 8, 0.82), clip_len=4, model=model)
    empty = [int((~x[:, 1].flatten(1).any(1)).sum()) for x, _ in batches]
    assert empty == [6, 7]
    for x, labels in batches:
        assert x.shape == (8, 2, 4, 25, 3)
        assert x[:, 0].flatten(1).any(1).all()
        assert labels.max() < 4


@pytest.mark.parametrize("side", ["yardstick", "ours", "fused"])
def test_sides_give_the_same_logits(model, side):
    network = make_side(side, model, training=False)
    x, _ = clips_for(Case("eval", 4, 0.5), clip_len=8, model=model)[0]
    with torch.no_grad():
        expected = model.eval()(x)
        torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=1e-6)


def test_training_work_takes_the_same_step_on_either_side(model):
    case = Case("train", 4, 0.5)
    batches = [(x.double(), y) for x, y in clips_for(case, clip_len=8, model=model)]
    before = copy.deepcopy(model.double().state_dict())
    logits = {}
    for side in ("yardstick", "ours"):
        network = make_side(side, model, training=True)
        first = network(batches[0][0]).detach()
        work = make_work(case, network, batches, precision="fp32")
        for _ in range(3):
            work()
        assert all(p.grad is not None for p in network.parameters())
        logits[side] = network(batches[0][0]).detach()
        assert (logits[side] - first).norm() > 1e-3 * first.norm()
    # Graphs are rounded to float32 in the one and not in the other.
    torch.testing.assert_close(logits["ours"], logits["yardstick"], rtol=1e-5, atol=1e-6)
    # The model itself stays what it was, for the next side.
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_evaluation_work_is_of_the_precision_asked_for(model):
    case = Case("eval", 2)
    batches = clips_for(case, clip_len=8, model=model)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        work = make_work(case, model.eval(), batches, precision=precision)
        [logits] = work()
        assert logits.dtype == dtype
        assert logits.shape == (2, 4)


def test_the_inference_form_is_not_trained(model):
    with pytest.raises(ValueError, match="'fused' is a form for evaluation"):
        make_side("fused", model, training=True)


def test_yardstick_says_where_it_would_be(monkeypatch, tmp_path):
    assert yardstick().__name__ == "PlainMSG3D"
    monkeypatch.setattr(workloads, "__file__", str(tmp_path / "site/msg3d_lab/b/workloads.py"))
    with pytest.raises(FileNotFoundError, match="clone the repository"):
        yardstick()


def test_held_counts_the_same_products_whoever_multiplies():
    """Without G3D, whose order of products differs, both sides multiply the same matrices."""
    network = TINY | {"pathways": ("factorized",)}
    held = Held(device="cpu", network=network, clip_len=8)
    case = Case("eval", 1)
    flop = {
        side: held.prepare(case=case, side=side, precision="fp32")
        for side in ("yardstick", "ours", "fused")
    }
    assert len(set(flop.values())) == 1
    assert flop["ours"] > 0
    assert held.run(side="ours", precision="fp32").seconds > 0
    held.forget()
    with pytest.raises(KeyError):
        held.run(side="ours", precision="fp32")


def test_held_counts_bf16_and_training_as_well():
    held = Held(device="cpu", network=TINY, clip_len=8)
    fp32, bf16 = (
        held.prepare(case=Case("eval", 2), side="ours", precision=p) for p in ("fp32", "bf16")
    )
    assert fp32 == bf16
    assert held.prepare(case=Case("train", 2), side="ours", precision="fp32") > 2 * fp32


def test_held_finds_the_sides_alike_in_double_precision():
    held = Held(device="cpu", network=TINY, clip_len=8)
    found = held.differences(("yardstick", "fused"))
    assert set(found) == {
        f"{side}, {dtype}" for side in ("yardstick", "fused") for dtype in ("float64", "float32")
    }
    assert found["yardstick, float64"] < 1e-10
    assert found["fused, float64"] < 1e-10
    assert found["yardstick, float32"] < 1e-6


def test_held_measures_memory():
    held = Held(device="cpu", network=TINY, clip_len=8)
    kept = {
        side: held.tensors(case=Case("train", 4, 0.5), side=side, precision="fp32")
        for side in ("yardstick", "ours")
    }
    assert 0 < kept["ours"]["kept"] < kept["yardstick"]["kept"] <= kept["yardstick"]["peak"]
    evaluation = held.tensors(case=Case("eval", 4), side="ours", precision="fp32")
    assert set(evaluation) == {"peak"}
    process = held.process(case=Case("eval", 4), side="ours", precision="fp32")
    assert process is None or process >= 0
