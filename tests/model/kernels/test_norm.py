"""Batch normalisation with multiplicities equals that of the repeated bodies."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from msg3d_lab.model.kernels import norm as norm_module
from msg3d_lab.model.kernels.norm import BatchNorm, batch_norm, counted, norm_relu_project

pytestmark = pytest.mark.usefixtures("at_once")

BODIES, MULTIPLICITY = 5, (3, 2)  # the last two bodies stand for three and two


def norms(*widths, momentum=0.1):
    made = []
    for width in widths:
        norm = BatchNorm(width, momentum=momentum).double()
        nn.init.uniform_(norm.weight, -1, 1)
        nn.init.normal_(norm.bias)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.normal_(norm.running_mean)
        made.append(norm)
    return made


def twins(*widths, **options):
    torch.manual_seed(1)
    one = norms(*widths, **options)
    torch.manual_seed(1)
    return one, norms(*widths, **options)


def counting(*layers):
    return counted(nn.ModuleList(layers), MULTIPLICITY)


def written_out(x):
    once = len(x) - len(MULTIPLICITY)
    return torch.cat(
        [x[:once], *(x[once + i].expand(n, *x.shape[1:]) for i, n in enumerate(MULTIPLICITY))]
    )


def plain(layers, x, residual, relu):
    parts = x.split([layer.num_features for layer in layers], dim=-1)
    y = torch.cat(
        [n(p.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) for n, p in zip(layers, parts, strict=True)],
        dim=-1,
    )
    y = y if residual is None else y + residual
    return torch.relu(y) if relu else y


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("widths", [(6,), (4, 2)])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_counts_multiplicity(with_residual, relu, widths, momentum):
    (mine, theirs), channels = twins(*widths, momentum=momentum), sum(widths)
    x = torch.randn(BODIES, 3, 4, channels, dtype=torch.float64) + 5
    inputs = [x, torch.randn_like(x) if with_residual else None]
    inputs = [t if t is None else t.requires_grad_() for t in inputs]
    weights = torch.randn(BODIES + sum(MULTIPLICITY) - len(MULTIPLICITY), 3, 4, channels).double()

    def gradients(out, layers):
        wanted = [t for t in inputs if t is not None]
        wanted += [p for layer in layers for p in layer.parameters()]
        return torch.autograd.grad((out * weights).sum(), wanted)

    for _ in range(2):  # the second batch tells averages from replacements
        with counting(*mine):
            out = batch_norm(mine, inputs[0], residual=inputs[1], relu=relu)
        whole = [t if t is None else written_out(t) for t in inputs]
        expected = plain(theirs, *whole, relu)
        torch.testing.assert_close(written_out(out), expected, rtol=0, atol=1e-12)
    for a, b in zip(gradients(written_out(out), mine), gradients(expected, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    for one, other in zip(mine, theirs, strict=True):
        for name, buffer in one.named_buffers():
            torch.testing.assert_close(buffer, dict(other.named_buffers())[name], msg=name)


@pytest.mark.parametrize("frozen", [0, 1])
def test_batch_norm_of_different_kinds_counts_multiplicity(frozen):
    """One of two is frozen, and has an epsilon of its own."""
    mine, theirs = twins(4, 2)
    for layers in (mine, theirs):
        layers[frozen].eval().eps = 0.1
    x = torch.randn(BODIES, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    with counting(*mine):
        out = written_out(batch_norm(mine, x, residual=x, relu=True))
    whole = written_out(x)
    expected = plain(theirs, whole, whole, True)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(out)
    found, wanted = (
        torch.autograd.grad((y * weights).sum(), [x, *a.parameters(), *b.parameters()])
        for y, (a, b) in ((out, mine), (expected, theirs))
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one.running_var, other.running_var)


def test_batch_norm_respects_different_epsilons():
    mine, theirs = twins(4, 2)
    mine[1].eps = theirs[1].eps = 0.5
    x = torch.randn(BODIES, 3, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(batch_norm(mine, x), plain(theirs, x, None, False))


def test_batch_norm_without_the_quick_moments_is_the_same(monkeypatch):
    """As on Apple's GPUs, for which PyTorch has no `batch_norm_update_stats`."""
    x = torch.randn(BODIES, 3, 4, 6) + 5
    (quick,), (other,) = twins(6)
    with counting(quick):
        expected = batch_norm(quick.float(), x)
    monkeypatch.setattr(norm_module, "_WITH_MOMENTS", ())
    with counting(other):
        torch.testing.assert_close(batch_norm(other.float(), x), expected)
    torch.testing.assert_close(other.running_var, quick.running_var)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_batch_norm_takes_a_network_in_half_precision(dtype):
    (mine,), (theirs,) = twins(6)
    x = torch.randn(BODIES, 3, 4, 6).to(dtype).requires_grad_()
    out = batch_norm(mine.to(dtype), x, relu=True)
    expected = plain([theirs.to(dtype)], x, None, True)
    weights = torch.randn_like(out)
    found, wanted = (
        torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])
        for y, layer in ((out, mine), (expected, theirs))
    )
    for one, other in zip((out, *found), (expected, *wanted), strict=True):
        assert one.dtype == other.dtype == dtype
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("widths", [(6,), (4, 2)])
@pytest.mark.parametrize("gradients", [False, True])
def test_batch_norm_in_evaluation_uses_the_running_statistics(widths, gradients):
    layers = [norm.eval() for norm in norms(*widths)]
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    before = x.clone()
    with torch.set_grad_enabled(gradients):
        out = batch_norm(layers, x, residual=x, relu=True)
        torch.testing.assert_close(out, plain(layers, x, x, True), rtol=0, atol=1e-12)
    assert torch.equal(x, before)
    assert out.requires_grad is gradients


def test_batch_norm_leaves_alone_what_was_folded():
    x = torch.randn(2, 3, 4, 6)
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            out = batch_norm([nn.Identity(), nn.Identity()], x, relu=True)
        assert torch.equal(out, torch.relu(x))
        assert (x < 0).any()


@pytest.mark.parametrize("training", [False, True])
def test_norm_relu_project_is_three_steps(training):
    (mine,), (theirs,) = twins(6)
    conv = nn.Conv2d(2 * 6, 5, 1).double()
    x = torch.randn(BODIES, 3, 8, 6, dtype=torch.float64, requires_grad=True)
    with counting(mine):
        out = norm_relu_project(mine.train(training), x, conv)
    y = plain([theirs.train(training)], written_out(x), None, True)
    expected = F.linear(y.reshape(len(y), 3, 4, 12), conv.weight.flatten(1), conv.bias)
    torch.testing.assert_close(written_out(out), expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad(
            (written_out(out) * weights).sum(), [x, *mine.parameters(), *conv.parameters()]
        ),
        torch.autograd.grad(
            (expected * weights).sum(), [x, *theirs.parameters(), *conv.parameters()]
        ),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)
    torch.testing.assert_close(mine.running_var, theirs.running_var)


def test_batch_norm_needs_more_than_one_value():
    with pytest.raises(ValueError, match="more than one value per channel"):
        batch_norm(BatchNorm(3), torch.randn(1, 1, 1, 3))
