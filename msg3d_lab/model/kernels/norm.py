"""Batch normalisation, with the ReLU and the addition that follow it in the same backward pass.

PyTorch's own module would do, but for two things. The empty bodies of a batch are computed once
(see `bodies.py`) and have to count as often as they occur. And keeping what lies between a
normalisation and a ReLU would take as much memory again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from msg3d_lab.model.kernels.matmul import body_slices, outer, project

_WITH_MOMENTS = ("cpu", "cuda")  # devices that PyTorch has `batch_norm_update_stats` for


class BatchNorm(nn.BatchNorm2d):
    """PyTorch's batch normalisation, of batches in which a body may stand for several equal ones.

    Attributes:
        multiplicity: the last `len(multiplicity)` bodies of the batch stand for so many equal
            bodies each; see `counted`. In training the statistics, and with them the gradients, are
            those of the whole batch. Empty: every body stands for itself.
    """

    multiplicity: tuple[int, ...] = ()


@contextmanager
def counted(module: nn.Module, multiplicity: tuple[int, ...]) -> Iterator[None]:
    """In the block, let a module's batch normalisations count the last bodies so often each."""
    norms = [norm for norm in module.modules() if isinstance(norm, BatchNorm)]
    for norm in norms:
        norm.multiplicity = multiplicity
    try:
        yield
    finally:
        for norm in norms:
            norm.multiplicity = ()


def batch_norm(
    norms: nn.Module | Sequence[nn.Module],
    x: Tensor,
    *,
    residual: Tensor | None = None,
    relu: bool = False,
    normalized: nn.Module | None = None,
) -> Tensor:
    """Return `relu(norm(x) + residual)` of channels-last activations.

    Args:
        norms: the batch normalisation, or several that share the channels in their order. An
            `nn.Identity` stands for one that was folded into its convolution. Those that differ in
            kind, for example because one is frozen in evaluation mode, are applied one by one.
        x: activations.
        residual: added after the normalisation.
        relu: whether the sum is rectified.
        normalized: a module whose forward hooks see `norm(x)`, and may change it. Without hooks it
            is not called.

    Shapes:
        x, residual: (B, T, V, C) -> (B, T, V, C).

    Raises:
        ValueError: in training, a single value per channel.
    """
    norms = [norms] if isinstance(norms, nn.Module) else list(norms)
    if normalized is not None and normalized._forward_hooks:
        y = normalized(batch_norm(norms, x))
        y = y if residual is None else y + residual
        return torch.relu(y) if relu else y
    own = [norm for norm in norms if counts_multiplicity(norm)]
    kinds = {(norm.training, norm.eps) for norm in own}
    alike = len(own) == len(norms) and len(kinds) == 1
    if all(isinstance(norm, nn.Identity) for norm in norms):
        y = x
    elif len(norms) > 1 and not alike:
        parts = torch.split(x, [cast(int, norm.num_features) for norm in norms], dim=-1)
        y = torch.cat([batch_norm(n, part) for n, part in zip(norms, parts, strict=True)], dim=-1)
    elif alike and own[0].training:
        count, mean, var = _batch_statistics(own, x)
        (weight, bias), _ = _joined(own)
        options = own[0].eps, relu, count, own[0].multiplicity
        return cast(
            Tensor,
            _Normalise.apply(x, residual, weight, bias, mean, var, *options),  # type: ignore[no-untyped-call]
        )
    elif alike:
        (weight, bias), (mean, var) = _joined(own)
        y = _normalised(x, mean, var, weight, bias, own[0].eps)
    else:  # a module that was put in the place of ours
        y = norms[0](x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    in_place = alike and not torch.is_grad_enabled()  # nothing else holds y
    if residual is not None:
        y = y.add_(residual) if in_place else y + residual
        in_place = not torch.is_grad_enabled()
    if relu:
        y = y.relu_() if in_place else torch.relu(y)
    return y


def norm_relu_project(norm: nn.Module, x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Return `conv(relu(norm(x)))` of a 1 x 1 convolution, keeping x alone for backward.

    What lies between is large and cheap, so backward computes it again. The convolution takes g * C
    channels, those of g joints side by side.

    Shapes:
        x: (B, T, g * V, C) -> (B, T, V, O).
    """
    matrix, offset = conv.weight.flatten(1), conv.bias
    if not (counts_multiplicity(norm) and norm.training):
        y = batch_norm(norm, x, relu=True)
        return project(y.view(*x.shape[:2], -1, matrix.shape[1]), matrix, offset)
    count, mean, var = _batch_statistics([norm], x)
    matrix = matrix.to(x.dtype)
    offset = None if offset is None else offset.to(x.dtype)
    options = norm.eps, count, norm.multiplicity
    return cast(
        Tensor,
        _NormaliseProject.apply(x, norm.weight, norm.bias, mean, var, matrix, offset, *options),  # type: ignore[no-untyped-call]
    )


def counts_multiplicity(norm: nn.Module) -> TypeGuard[BatchNorm]:
    """Whether a normalisation is ours, as it was built, and none put in its place."""
    return (
        type(norm) is BatchNorm
        and norm.affine
        and norm.track_running_stats
        and norm.running_mean is not None
    )


def uses_batch_statistics(module: nn.Module) -> bool:
    """Whether a module is a batch normalisation that uses the statistics of its own batch.

    That is every one in training, and in evaluation one without running statistics.
    """
    return isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)


def _batch_statistics(norms: list[BatchNorm], x: Tensor) -> tuple[int, Tensor, Tensor]:
    """Values per channel, their mean and variance, which the running statistics then follow."""
    with torch.no_grad():
        count, mean, var = _statistics(x, norms[0].multiplicity)
        widths = [norm.num_features for norm in norms]
        parts = torch.split(mean, widths), torch.split(var, widths)
        for norm, *own in zip(norms, *parts, strict=True):
            update_running(norm, count, *own)
    return count, mean, var


def _joined(norms: list[BatchNorm]) -> tuple[list[Tensor], list[Tensor]]:
    """(weight, bias) and (running mean, running variance) of all channels."""

    def joined(name: str) -> Tensor:
        tensors = [cast(Tensor, getattr(norm, name)) for norm in norms]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    return [joined("weight"), joined("bias")], [joined("running_mean"), joined("running_var")]


def _normalised(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    weight, bias = weight.to(mean.dtype), bias.to(mean.dtype)  # statistics may be the wider ones
    y = torch.batch_norm(x.permute(0, 3, 1, 2), weight, bias, mean, var, False, 0.0, eps, False)
    return y.permute(0, 2, 3, 1)


def _statistics(x: Tensor, multiplicity: Sequence[int]) -> tuple[int, Tensor, Tensor]:
    """Values per channel, mean and biased variance, of all bodies that those in x stand for.

    The bodies that count once, and each that counts more often, are measured apart and put together
    by their means and variances. This is as exact as measuring all at once; sums of squares would
    lose digits.
    """
    B, T, V = x.shape[:3]
    once = B - len(multiplicity)
    groups = [(once, x[:once])] if once else []
    groups += [(n, x[i : i + 1]) for n, i in zip(multiplicity, range(once, B), strict=True)]
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
    fractions = means.new_tensor([n * T * V / count for n, _ in groups])
    mean = fractions @ means
    var = fractions @ (variances + (means - mean).square())
    return count, mean.to(found[0][0].dtype), var.to(found[0][0].dtype)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel, in single precision at least."""
    precision = torch.promote_types(x.dtype, torch.float32)
    if x.device.type in _WITH_MOMENTS:
        unused = x.new_zeros(2, x.shape[-1], dtype=precision)
        return torch.batch_norm_update_stats(x.permute(0, 3, 1, 2), unused[0], unused[1], 0.0)
    var, mean = torch.var_mean(x.to(precision), dim=(0, 1, 2), correction=0)
    return mean, var


@torch.no_grad()
def update_running(norm: _BatchNorm, count: float, mean: Tensor, var: Tensor) -> None:
    """Update the running statistics as PyTorch does, with the unbiased variance."""
    running_mean, running_var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    tracked = cast(Tensor, norm.num_batches_tracked)
    tracked.add_(1)
    # Without a momentum, the plain average over all batches.
    momentum = 1.0 / float(tracked) if norm.momentum is None else norm.momentum
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)


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
        multiplicity: tuple[int, ...],
    ) -> Tensor:
        y = _normalised(x, mean, var, weight, bias, eps)
        if residual is not None:
            y.add_(residual)
        if relu:
            y.relu_()
        # y costs no memory: the next layer keeps it anyway.
        ctx.save_for_backward(x, weight, mean, var, y if relu else None)
        ctx.eps, ctx.count, ctx.multiplicity = eps, count, multiplicity
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
        multiplicity: tuple[int, ...],
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias, mean, var, matrix)
        ctx.eps, ctx.count, ctx.multiplicity = eps, count, multiplicity
        y = _normalised(x, mean, var, weight, bias, eps).relu_()
        return project(y.view(*x.shape[:2], -1, matrix.shape[1]), matrix, offset)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, var, matrix = ctx.saved_tensors
        precision = torch.promote_types(matrix.dtype, torch.float32)
        grad_matrix = torch.zeros_like(matrix, dtype=precision)
        inner = torch.empty_like(x)  # the gradient behind the normalisation, then that of x
        for i in body_slices(x, values=x.shape[1:].numel()):
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

    `mean` and `var` are functions of all of x. With n values per channel, m bodies that one stands
    for and G the sum of the gradients of those bodies, which is what arrives here,
    `grad_x = weight / sigma * (G - m / n * (sum G + x_hat * sum (G x_hat)))`.
    """
    # Only the sums: its gradient of x would take the statistics as given.
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
        once = len(x) - len(ctx.multiplicity)
        m = mean.new_ones(len(x), 1, 1, 1)
        for body, n in enumerate(ctx.multiplicity, once):
            m[body].fill_(n)
        for i in body_slices(x, values=x.shape[1:].numel()):
            rest = torch.addcmul(m[i] * constant, x[i], m[i] * linear)
            grad_x[i] = rest.addcmul_(grad[i], slope)
    return along_x_hat, total
