"""Batch normalisation with what follows it, of batches in which one body may stand for several.

PyTorch's own module would do, but for two things: bodies that are all alike are carried once (see
`bodies.py`) and have to count as often as they occur, and the ReLU and the addition that follow a
normalisation belong into the same backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from msg3d_lab.model.kernels.matmul import outer, project

__all__ = ["batch_norm", "by_batch", "counts_copies", "norm_relu_project", "pieces"]

_WITH_MOMENTS = ("cpu", "cuda")  # devices that PyTorch has `batch_norm_update_stats` for


def batch_norm(
    norms: nn.Module | Sequence[nn.Module],
    x: Tensor,
    *,
    residual: Tensor | None = None,
    relu: bool = False,
    copies: Sequence[int] = (),
) -> Tensor:
    """Return `relu(norm(x) + residual)` of channels-last activations.

    Args:
        norms: the batch normalisation, or several that share the channels in their order. An
            `nn.Identity` stands for one that was folded into its convolution. Those that are not
            alike, one frozen in evaluation mode for example, are applied one by one.
        x: activations.
        residual: added after the normalisation.
        relu: whether the sum is rectified.
        copies: the last `len(copies)` bodies of the batch stand for so many equal bodies each. In
            training the statistics, and with them the gradients, are those of the whole batch.

    Shapes:
        x, residual: (B, T, V, C) -> (B, T, V, C).

    Raises:
        ValueError: in training, a single value per channel.
    """
    norms = [norms] if isinstance(norms, nn.Module) else list(norms)
    own = counts_copies(norms[0])
    kinds = {(counts_copies(n), n.training, getattr(n, "eps", None)) for n in norms}
    if all(isinstance(norm, nn.Identity) for norm in norms):
        y = x
    elif len(norms) > 1 and not (own and len(kinds) == 1):
        parts = torch.split(x, [cast(int, norm.num_features) for norm in norms], dim=-1)
        each = zip(norms, parts, strict=True)
        y = torch.cat([batch_norm(norm, part, copies=copies) for norm, part in each], dim=-1)
    elif own and norms[0].training:
        ours = cast(list[nn.BatchNorm2d], norms)
        count, *statistics = _batch_statistics(ours, x, copies)
        affine, _ = _joined(ours)
        return cast(
            Tensor,
            _Normalise.apply(  # type: ignore[no-untyped-call]
                x, residual, *affine, *statistics, ours[0].eps, relu, count, tuple(copies)
            ),
        )
    elif own:
        (weight, bias), (mean, var) = _joined(cast(list[nn.BatchNorm2d], norms))
        y = _normalised(x, mean, var, weight, bias, cast(float, norms[0].eps))
    else:  # a module put in the place of ours
        y = norms[0](x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    free = own and not torch.is_grad_enabled()  # nobody else holds y
    if residual is not None:
        y, free = (y.add_(residual) if free else y + residual), not torch.is_grad_enabled()
    if relu:
        y = y.relu_() if free else torch.relu(y)
    return y


def norm_relu_project(
    norm: nn.Module, x: Tensor, conv: nn.Conv2d, *, copies: Sequence[int] = ()
) -> Tensor:
    """Return `conv(relu(norm(x)))` of a 1 x 1 convolution, keeping x alone for backward.

    What lies between is large and cheap, so backward computes it again.

    Args:
        norm: the batch normalisation, of C channels.
        x: activations.
        conv: takes g * C channels, those of g joints side by side.
        copies: see `batch_norm`.

    Shapes:
        x: (B, T, g * V, C) -> (B, T, V, O).
    """
    matrix, offset = conv.weight.flatten(1), conv.bias
    if not (counts_copies(norm) and norm.training):
        y = batch_norm(norm, x, relu=True, copies=copies)
        return project(y.view(*x.shape[:2], -1, matrix.shape[1]), matrix, offset)
    ours = cast(nn.BatchNorm2d, norm)
    count, *statistics = _batch_statistics([ours], x, copies)
    return cast(
        Tensor,
        _NormaliseProject.apply(  # type: ignore[no-untyped-call]
            x,
            ours.weight,
            ours.bias,
            *statistics,
            matrix.to(x.dtype),
            None if offset is None else offset.to(x.dtype),
            ours.eps,
            count,
            tuple(copies),
        ),
    )


def counts_copies(norm: nn.Module) -> bool:
    """Whether a normalisation is PyTorch's own, none put in its place, so that copies count."""
    return (
        type(norm) is nn.BatchNorm2d
        and norm.affine
        and norm.track_running_stats
        and norm.running_mean is not None
    )


def by_batch(module: nn.Module) -> bool:
    """Whether a module is a batch normalisation that goes by the statistics of its own batch.

    That is every one in training, and in evaluation one without running statistics.
    """
    return isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)


def pieces(x: Tensor) -> list[slice]:
    """Slices of a batch to be worked on one after another: bodies, which fit into a CPU's caches.

    A GPU, and whoever traces the program, takes the batch as a whole.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    if x.device.type != "cpu" or traced:
        return [slice(None)]
    return [slice(i, i + 1) for i in range(len(x))]


def _batch_statistics(
    norms: list[nn.BatchNorm2d], x: Tensor, copies: Sequence[int]
) -> tuple[int, Tensor, Tensor]:
    """Values per channel, their mean and variance, which the running statistics then follow."""
    with torch.no_grad():
        count, mean, var = _statistics(x, copies)
        widths = [norm.num_features for norm in norms]
        parts = torch.split(mean, widths), torch.split(var, widths)
        for norm, *own in zip(norms, *parts, strict=True):
            _follow(norm, count, *own)
    return count, mean, var


def _joined(norms: list[nn.BatchNorm2d]) -> tuple[list[Tensor], list[Tensor]]:
    """(weight, bias) and (running mean, running variance) of all channels."""
    names = ("weight", "bias"), ("running_mean", "running_var")

    def joined(name: str) -> Tensor:
        tensors = [cast(Tensor, getattr(norm, name)) for norm in norms]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    return [joined(name) for name in names[0]], [joined(name) for name in names[1]]


def _normalised(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    weight, bias = weight.to(mean.dtype), bias.to(mean.dtype)  # statistics may be the wider ones
    y = torch.batch_norm(x.permute(0, 3, 1, 2), weight, bias, mean, var, False, 0.0, eps, False)
    return y.permute(0, 2, 3, 1)


def _statistics(x: Tensor, copies: Sequence[int]) -> tuple[int, Tensor, Tensor]:
    """Values per channel, mean and biased variance, copies counted.

    The bodies without copies, and each that has some, are measured apart and put together by their
    means and variances, which loses no digits; sums of squares would.
    """
    B, T, V = x.shape[:3]
    once = B - len(copies)
    groups = [(once, x[:once])] if once else []
    groups += [(n, x[i : i + 1]) for n, i in zip(copies, range(once, B), strict=True)]
    count = sum(n for n, _ in groups) * T * V
    if count <= 1:
        raise ValueError(
            f"expected more than one value per channel in training, found {B} bodies of {T} frames "
            f"and {V} joints: use larger batches or longer clips"
        )
    found = [_moments(group) for _, group in groups]
    if len(found) == 1:
        return count, *found[0]
    precision = torch.float32 if x.is_mps else torch.float64  # Apple's GPUs have no other
    means, variances = (torch.stack(values).to(precision) for values in zip(*found, strict=True))
    shares = means.new_tensor([n * T * V / count for n, _ in groups])
    mean = shares @ means
    var = shares @ (variances + (means - mean).square())
    return count, mean.to(found[0][0].dtype), var.to(found[0][0].dtype)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel, in single precision at least."""
    precision = torch.promote_types(x.dtype, torch.float32)
    if x.device.type in _WITH_MOMENTS:
        unused = x.new_zeros(2, x.shape[-1], dtype=precision)
        return torch.batch_norm_update_stats(x.permute(0, 3, 1, 2), unused[0], unused[1], 0.0)
    var, mean = torch.var_mean(x.to(precision), dim=(0, 1, 2), correction=0)
    return mean, var


def _follow(norm: nn.BatchNorm2d, count: int, mean: Tensor, var: Tensor) -> None:
    """Move the running statistics as PyTorch does: the variance is the unbiased one."""
    running_mean, running_var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    tracked = cast(Tensor, norm.num_batches_tracked)
    tracked.add_(1)
    # Without a momentum, the plain average over all batches.
    share = 1.0 / float(tracked) if norm.momentum is None else norm.momentum
    running_mean.lerp_(mean.to(running_mean.dtype), share)
    running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), share)


class _Normalise(torch.autograd.Function):
    """`relu((x - mean) / sqrt(var + eps) * weight + bias + residual)`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        eps: float,
        relu: bool,
        count: int,
        copies: tuple[int, ...],
    ) -> Tensor:
        y = _normalised(x, mean, var, weight, bias, eps)
        if residual is not None:
            y.add_(residual)
        if relu:
            y.relu_()
        # y costs no memory: the next layer keeps it anyway.
        ctx.save_for_backward(x, weight, mean, var, y if relu else None)
        ctx.eps, ctx.count, ctx.copies = eps, count, copies
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, y = ctx.saved_tensors
        need_x, need_residual = ctx.needs_input_grad[:2]
        if y is not None:
            grad = torch.ops.aten.threshold_backward(grad, y, 0)
        grad_x = torch.empty_like(x) if need_x else None
        grad_weight, grad_bias = _backward(ctx, x, weight, mean, var, grad, grad_x)
        return grad_x, grad if need_residual else None, grad_weight, grad_bias, *(None,) * 6


class _NormaliseProject(torch.autograd.Function):
    """`project(relu((x - mean) / sqrt(var + eps) * weight + bias))`, of which only x is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        matrix: Tensor,
        offset: Tensor | None,
        eps: float,
        count: int,
        copies: tuple[int, ...],
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias, mean, var, matrix)
        ctx.eps, ctx.count, ctx.copies = eps, count, copies
        y = _normalised(x, mean, var, weight, bias, eps).relu_()
        return project(y.view(*x.shape[:2], -1, matrix.shape[1]), matrix, offset)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, var, matrix = ctx.saved_tensors
        precision = torch.promote_types(matrix.dtype, torch.float32)
        grad_matrix = torch.zeros_like(matrix, dtype=precision)
        inner = torch.empty_like(x)  # the gradient behind the normalisation, then that of x
        for i in pieces(x):
            y = _normalised(x[i], mean, var, weight, bias, ctx.eps).relu_()
            g = grad[i].contiguous()
            grad_matrix += outer(g, y.view(*g.shape[:3], -1))
            inner[i] = torch.ops.aten.threshold_backward(project(g, matrix.mT).view_as(y), y, 0)
        grad_weight, grad_bias = _backward(ctx, x, weight, mean, var, inner, inner)
        grad_offset = grad.sum((0, 1, 2)) if ctx.needs_input_grad[6] else None
        grad_matrix = grad_matrix.to(matrix.dtype)
        return inner, grad_weight, grad_bias, None, None, grad_matrix, grad_offset, *(None,) * 3


def _backward(
    ctx: Any,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    var: Tensor,
    grad: Tensor,
    grad_x: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Write the gradient of x, which may be where `grad` is; return weight's and bias's.

    `mean` and `var` are functions of all of x. With n values per channel, m copies of a body and
    G the sum of the gradients of those copies, which is what arrives here,
    `grad_x = weight / sigma * (G - m / n * (sum G + x_hat * sum (G x_hat)))`.
    """
    # The sums alone: with statistics that are given, its gradient of x would be another one.
    _, along_x_hat, total = torch.ops.aten.native_batch_norm_backward(
        grad.permute(0, 3, 1, 2),
        x.permute(0, 3, 1, 2),
        weight.to(mean.dtype),
        mean,
        var,
        None,
        None,
        False,
        ctx.eps,
        [False, True, True],
    )
    if grad_x is not None:
        # grad_x = slope * G + m * (linear * x + constant)
        inverse = (var + ctx.eps).rsqrt()
        slope = weight * inverse
        linear = -slope * inverse * along_x_hat / ctx.count
        constant = -slope * total / ctx.count - linear * mean
        once = len(x) - len(ctx.copies)
        m = mean.new_ones(len(x), 1, 1, 1)
        for body, n in enumerate(ctx.copies, once):
            m[body].fill_(n)
        for i in pieces(x):
            rest = torch.addcmul(m[i] * constant, x[i], m[i] * linear)
            grad_x[i] = rest.addcmul_(grad[i], slope)
    return along_x_hat, total
