import copy

import pytest
import torch
from harness.workloads import Case, make_clips, make_form, make_work

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


def test_make_clips_spreads_single_persons_over_the_batches(model):
    batches = make_clips(Case("eval", 8, 0.82), clip_len=4, model=model)
    empty = [int((~x[:, 1].flatten(1).any(1)).sum()) for x, _ in batches]
    assert empty == [6, 7]
    for x, labels in batches:
        assert x.shape == (8, 2, 4, 25, 3)
        assert x[:, 0].flatten(1).any(1).all()
        assert labels.max() < 4


@pytest.mark.parametrize("form", ["reference", "ours", "fused"])
def test_forms_give_the_same_logits(model, form):
    network = make_form(form, model, training=False)
    x, _ = make_clips(Case("eval", 4, 0.5), clip_len=8, model=model)[0]
    with torch.no_grad():
        expected = model.eval()(x)
        torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=1e-6)


def test_training_work_takes_the_same_step_in_either_form(model):
    case = Case("train", 4, 0.5)
    batches = [(x.double(), y) for x, y in make_clips(case, clip_len=8, model=model)]
    before = copy.deepcopy(model.double().state_dict())
    logits = {}
    for form in ("reference", "ours"):
        network = make_form(form, model, training=True)
        first = network(batches[0][0]).detach()
        work = make_work(case, network, batches, precision="fp32")
        for _ in range(3):
            work()
        assert all(p.grad is not None for p in network.parameters())
        logits[form] = network(batches[0][0]).detach()
        assert (logits[form] - first).norm() > 1e-3 * first.norm()
    # Graphs are rounded to float32 in the one and not in the other.
    torch.testing.assert_close(logits["ours"], logits["reference"], rtol=1e-5, atol=1e-6)
    # The model itself stays what it was, for the next side.
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_evaluation_work_is_of_the_precision_asked_for(model):
    case = Case("eval", 2)
    batches = make_clips(case, clip_len=8, model=model)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        work = make_work(case, model.eval(), batches, precision=precision)
        [logits] = work()
        assert logits.dtype == dtype
        assert logits.shape == (2, 4)


def test_the_inference_form_is_not_trained(model):
    with pytest.raises(ValueError, match="'fused' is a form for evaluation"):
        make_form("fused", model, training=True)
