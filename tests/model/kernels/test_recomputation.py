"""Recomputation changes the memory that training needs and nothing else, to the bit."""

import copy

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from msg3d_lab import MSG3D
from msg3d_lab.model import save_model

SMALL = {"num_classes": 4, "base_channels": 12, "num_gcn_scales": 4, "num_g3d_scales": 3}
VARIANTS = {
    "two windows": {},
    "factorized only": {"pathways": ("factorized",)},
    "g3d only": {"pathways": ("g3d",)},
    "dropout": {"dropout": 0.3},
    "no masks, columns": {"residual_mask": False, "normalization": "column"},
}


def built(*, recompute, **variant):
    torch.manual_seed(1)
    model = MSG3D(**(SMALL | variant)).double()
    model.recompute = recompute
    return model


def trained(model, *, steps=3, autocast=False):
    """Logits of each step, last gradients, and everything in the network, after some steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = torch.Generator().manual_seed(2)
    dtype = next(model.parameters()).dtype
    torch.manual_seed(3)  # of dropout
    seen = []
    for _ in range(steps):
        x = torch.randn(3, 2, 12, 25, 3, generator=data, dtype=dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = model(x)
            loss = F.cross_entropy(logits.float() if autocast else logits, torch.arange(3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(logits.detach())
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return seen, gradients, model.state_dict()


def assert_same(one, other):
    (logits, gradients, state), (logits2, gradients2, state2) = one, other
    assert all(torch.equal(a, b) for a, b in zip(logits, logits2, strict=True))
    assert not [n for n in gradients if not torch.equal(gradients[n], gradients2[n])]
    assert not [n for n in state if not torch.equal(state[n], state2[n])]


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_recompute_trains_the_same_network(variant):
    plain = trained(built(recompute=False, **variant))
    again = trained(built(recompute=True, **variant))
    assert_same(plain, again)
    counters = [v for n, v in again[2].items() if n.endswith("num_batches_tracked")]
    assert {int(c) for c in counters} == {3}  # each batch counted once


def test_recompute_trains_the_same_network_under_autocast():
    pair = [built(recompute=r).float() for r in (False, True)]
    assert_same(*(trained(model, autocast=True) for model in pair))


def test_recompute_counts_batches_once_when_gradients_are_accumulated():
    """Two forward passes before the first backward, which then comes in the other order."""
    pair = [built(recompute=r) for r in (False, True)]
    x = torch.randn(2, 2, 2, 12, 25, 3, dtype=torch.float64)
    for model in pair:
        first, second = model(x[0]).square().sum(), model(x[1]).square().sum()
        second.backward()
        first.backward()
    one, other = (m.state_dict() for m in pair)
    assert all(torch.equal(one[name], other[name]) for name in one)
    for a, b in zip(*(m.parameters() for m in pair), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_recompute_keeps_its_buffers_when_backward_fails():
    model = built(recompute=True)
    buffers = dict(model.named_buffers())
    loss = model(torch.randn(2, 2, 12, 25, 3, dtype=torch.float64)).sum()

    def fail(module, inputs):
        raise RuntimeError("out of memory")

    hook = model.blocks[0].tcn.reduce.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        loss.backward()
    hook.remove()
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())


def test_recompute_needs_less_memory():
    def peak(model):
        """Bytes of all tensors together, at most, from what the allocator is asked for."""
        model, x = model.float(), torch.randn(2, 2, 64, 25, 3)
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            model(x).sum().backward()
        total = most = 0
        events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
        for event in sorted(events, key=lambda e: e.start_ns()):
            total += event.nbytes()
            most = max(most, total)
        return most

    plain, again = (peak(built(recompute=r, base_channels=24)) for r in (False, True))
    assert again < 0.5 * plain


def test_recompute_is_for_training_only(monkeypatch):
    def never(*arguments, **named):
        raise AssertionError("nothing is to be recomputed")

    monkeypatch.setattr("torch.utils.checkpoint.checkpoint", never)
    model = built(recompute=True)
    x = torch.randn(2, 2, 12, 25, 3, dtype=torch.float64)
    with torch.no_grad():
        model(x)
    model.eval()(x)
    with pytest.raises(AssertionError, match="recomputed"):
        model.train()(x)


def test_recompute_is_no_part_of_a_checkpoint(tmp_path):
    for name, recompute in (("plain", False), ("again", True)):
        save_model(built(recompute=recompute), tmp_path / name)
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "again").read_bytes()
    with safe_open(tmp_path / "again", framework="pt") as file:
        assert "recompute" not in str(file.metadata())
    assert copy.deepcopy(built(recompute=True)).recompute
    assert not MSG3D(**SMALL).recompute
