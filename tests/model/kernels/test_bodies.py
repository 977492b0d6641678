"""Bodies nobody is in are computed once, and it cannot be told from the numbers."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses import FakeTensorMode

from msg3d_lab import MSG3D
from msg3d_lab.model.kernels.bodies import find_empty_bodies
from msg3d_lab.model.kernels.norm import BatchNorm

TINY = {"num_classes": 3, "base_channels": 6, "num_gcn_scales": 2, "num_g3d_scales": 2}


def built(toy_skeleton, *, share=True, training=True, **arguments):
    torch.manual_seed(1)
    model = MSG3D(skeleton=toy_skeleton, **{**TINY, **arguments}).double().train(training)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor), alpha=0.3)
    model.share_empty = share
    return model


def clips(pattern, *, frames=5, dtype=torch.float64):
    """Noise; `pattern[n][m]` tells whether somebody is there."""
    there = torch.tensor(pattern)
    x = torch.randn(*there.shape, frames, 5, 3, generator=torch.Generator().manual_seed(2))
    return (x * there[:, :, None, None, None]).to(dtype)


def carried(model, x):
    """How many bodies reach the first block."""
    seen = []
    hook = model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with torch.no_grad():
        model(x)
    hook.remove()
    return sum(seen)


def after_a_step(model, x):
    """Everything a step leaves: logits, gradients, running statistics."""
    logits = model(x)
    (logits * torch.linspace(-1, 2, logits.numel()).view_as(logits)).sum().backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    return found | dict(model.named_buffers()) | {"logits": logits.detach()}


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name in one:
        scale = max(1.0, float(other[name].abs().max()))
        assert float((one[name] - other[name]).abs().max()) <= 1e-10 * scale, name


@settings(max_examples=25)
@given(
    pattern=st.integers(1, 3).flatmap(
        lambda persons: st.lists(
            st.lists(st.booleans(), min_size=persons, max_size=persons), min_size=1, max_size=6
        )
    ),
    training=st.booleans(),
    momentum=st.sampled_from([0.1, None]),
)
def test_empty_bodies_count_as_often_as_they_occur(toy_skeleton, pattern, training, momentum):
    persons = len(pattern[0])
    found = []
    for share in (True, False):
        model = built(toy_skeleton, share=share, training=training, num_persons=persons)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum
        found.append(after_a_step(model, clips(pattern)))
    assert_close(*found)


def test_find_empty_bodies_keeps_one_body_per_person():
    x = clips([[True, False], [False, False], [False, True], [True, False]])
    shared = find_empty_bodies(x)
    assert shared.kept.tolist() == [0, 5, 6, 2, 1]
    assert shared.multiplicity == (2, 3)
    flat = x.flatten(0, 1)
    assert torch.equal(flat[shared.kept][shared.place], flat)
    assert not (shared.place[[1, 3, 7]] - 4).any()  # the second person's, none of the first's


def test_find_empty_bodies_finds_nothing_that_is_not_empty():
    assert (
        find_empty_bodies(clips([[True, False], [True, True]])) is None
    )  # one alone saves nothing
    x = clips([[True, False], [True, False]])
    x[0, 1, -1, -1, -1] = 1e-30
    assert find_empty_bodies(x) is None
    x[0, 1, -1, -1, -1] = float("nan")
    assert find_empty_bodies(x) is None


@pytest.mark.parametrize("training", [False, True])
def test_msg3d_carries_one_empty_body(toy_skeleton, training):
    x = clips([[True, False]] * 4 + [[True, True]])
    assert carried(built(toy_skeleton, training=training), x) == 7
    assert carried(built(toy_skeleton, training=training, share=False), x) == 10


def test_msg3d_shares_under_recomputation_and_mixed_precision(toy_skeleton):
    x = clips([[True, False]] * 4 + [[True, True]])
    plain = after_a_step(built(toy_skeleton), x)
    model = built(toy_skeleton)
    model.recompute = True
    again = after_a_step(model, x)
    assert all(torch.equal(plain[name], again[name]) for name in plain)

    found = []
    for share in (True, False):
        model = built(toy_skeleton, share=share).float()
        with torch.autocast("cpu", torch.bfloat16):
            found.append(F.softmax(model(x.float()).float(), dim=1))
    torch.testing.assert_close(*found, rtol=0, atol=0.05)


def test_msg3d_gives_every_empty_body_its_own_input_gradient(toy_skeleton):
    x = clips([[True, False]] * 3)
    gradients = []
    for share in (True, False):
        mine = x.clone().requires_grad_()
        after_a_step(built(toy_skeleton, share=share), mine)
        gradients.append(mine.grad)
    assert torch.equal(*gradients)
    assert gradients[0][:, 1].any()


def freeze_one_of_two(model):
    model.blocks[1].tcn.pointwise.bn.eval()


def freeze_a_block(model):
    model.blocks[0].eval()
    model.blocks[0].requires_grad_(False)


def forget_running_statistics(model):
    for module in model.blocks.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = None


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("change", [freeze_one_of_two, freeze_a_block, forget_running_statistics])
def test_msg3d_is_the_same_when_some_norms_are_not_as_built(toy_skeleton, change, training):
    x = clips([[True, False]] * 4 + [[True, True]])
    found, logits = [], []
    for share in (True, False):
        model = built(toy_skeleton, share=share, training=training)
        model.sliced = share
        change(model)
        step = {n: t for n, t in after_a_step(model, x).items() if t is not None}
        found.append(step)
        with torch.no_grad():
            logits.append({"logits": model(x)})
    assert_close(*found)
    assert_close(*logits)


@pytest.mark.filterwarnings("ignore")  # TorchScript is on its way out, and warns of every branch
def test_msg3d_shares_nothing_while_it_is_traced(toy_skeleton):
    model = built(toy_skeleton, training=False)
    with torch.no_grad():
        traced = torch.jit.trace(model, (clips([[True, False]] * 3),), check_trace=False)
        for pattern in ([[True, True]] * 3, [[False, True]] * 5):
            x = clips(pattern)
            torch.testing.assert_close(traced(x), model(x), rtol=1e-10, atol=1e-10)


def test_msg3d_runs_on_tensors_without_values(toy_skeleton):
    """PyTorch's stand-ins, by which others count memory without computing."""
    with FakeTensorMode():
        model = MSG3D(skeleton=toy_skeleton, **TINY, pathways=["factorized"], tcn_dilations=[1])
        logits = model(torch.zeros(4, 2, 5, 5, 3))
        logits.sum().backward()
        assert logits.shape == (4, 3)


class Other(nn.BatchNorm2d):
    """Stands for a normalisation that another library put in, such as a synchronised one."""


def with_other_norms(model):
    for module in model.modules():
        if type(module) is BatchNorm:
            module.__class__ = Other
    return model


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: model, None),
        (with_other_norms, "batch normalisation was put in that does not count"),
        (lambda model: built(model.skeleton, dropout=0.1), "dropout makes them differ"),
    ],
)
def test_msg3d_says_why_it_does_not_share(toy_skeleton, caplog, change, reason):
    caplog.set_level(logging.DEBUG)
    x = clips([[True, False]] * 3)
    model = change(built(toy_skeleton))
    assert [carried(model, x), carried(model, x)] == [4 if reason is None else 6] * 2
    assert [r.message for r in caplog.records if "empty bodies" in r.message] == (
        [] if reason is None else [caplog.records[0].message]
    )
    assert reason is None or reason in caplog.text
    assert carried(model.eval(), x) == 4  # each by itself in evaluation


def test_msg3d_computes_the_same_with_normalisations_of_others(toy_skeleton):
    x = clips([[True, True]] * 3)
    assert_close(
        after_a_step(built(toy_skeleton), x),
        after_a_step(with_other_norms(built(toy_skeleton)), x),
    )


def test_share_empty_is_no_part_of_the_network(toy_skeleton):
    model = built(toy_skeleton, share=False)
    assert "share_empty" not in model.arguments
    assert not copy.deepcopy(model).share_empty
