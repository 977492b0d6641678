"""Products with a graph and with weights, over space-time windows that are never unfolded.

A plain `einsum` unfolds the windows, expands the graph to a batch in backward, and keeps what lies
between the two products: K + 1 times the activations. Here windows are strided views, bodies go
through both products one after another, and backward computes the cheaper product again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from msg3d_lab.model.norm import pieces

__all__ = ["FRAME", "Window", "aggregate_project", "project_aggregate"]


class Window(NamedTuple):
    """Windows over frames; by default every frame is one.

    Attributes:
        size: tau, steps of a window.
        stride: frames between the starts of two windows.
        dilation: d, frames between two steps.
    """

    size: int = 1
    stride: int = 1
    dilation: int = 1

    def padding(self) -> tuple[int, int]:
        """Frames of zeros before and after, for ceil(T / stride) windows.

        An even extent gets the odd frame at the end.
        """
        before, odd = divmod(self.dilation * (self.size - 1), 2)
        return before, before + odd

    def padded(self, x: Tensor) -> Tensor:
        """The activations with the frames of zeros."""
        return F.pad(x, (0, 0, 0, 0, *self.padding())) if self.size > 1 else x

    def of(self, x: Tensor) -> Tensor:
        """View padded activations (B, T, S, C) as (B, T', size, S, C); nothing is copied."""
        extent = self.dilation * (self.size - 1) + 1
        return x.unfold(1, extent, self.stride)[..., :: self.dilation].permute(0, 1, 4, 2, 3)


FRAME = Window()
_NARROW = 16  # channels from which on a product per window is quicker than one on a copy


def aggregate_project(
    A: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *, window: Window = FRAME
) -> Tensor:
    """Gather from the neighbours at every scale, then project all scales together.

    `out[b, t, r] = sum_k weight[k] sum_(w, s) A[(r, k), (w, s)] x[b, stride * t + d * w, s]`. It is
    the better order where a projection would not have fewer channels than there are.

    Args:
        A: the graph all windows share: rows by receiver and scale, columns by window step and
            sender.
        x: activations.
        weight: of all scales side by side.
        bias: added to the sum, if any.
        window: which frames go together.

    Shapes:
        A: (R * K, size * S), x: (B, T, S, C), weight: (O, K * C) ->
        (B, ceil(T / stride), R, O).
    """
    A, x, weight, bias = _of_one_type(A, x, weight, bias)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (A, x, weight)):
        return cast(Tensor, _AggregateProject.apply(A, x, weight, bias, window))  # type: ignore[no-untyped-call]
    return _AggregateProject.run(A, x, weight, bias, window)


def project_aggregate(
    A: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *, window: Window = FRAME
) -> Tensor:
    """Project every frame for every scale, then gather from the neighbours.

    `out[b, t, r] = sum_(w, s, k) A[r, (w, s, k)] weight[k] x[b, stride * t + d * w, s]`. It is the
    better order where windows overlap: a frame is projected once for all windows that see it.

    Args:
        A: the graph: rows by receiver, columns by window step, sender and scale.
        x: activations.
        weight: of the scales one below another.
        bias: added to the sum, if any.
        window: which frames go together.

    Shapes:
        A: (R, size * S * K), x: (B, T, S, C), weight: (K * O, C) -> (B, ceil(T / stride), R, O).
    """
    A, x, weight, bias = _of_one_type(A, x, weight, bias)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (A, x, weight)):
        return cast(Tensor, _ProjectAggregate.apply(A, x, weight, bias, window))  # type: ignore[no-untyped-call]
    return _ProjectAggregate.run(A, x, weight, bias, window)


def _of_one_type(A: Tensor, x: Tensor, *others: Tensor | None) -> Any:
    """All in the type that convolutions compute in: autocast's, or the activations'."""
    device = x.device.type
    mixed = torch.is_autocast_enabled(device) and x.dtype != torch.float64
    dtype = torch.get_autocast_dtype(device) if mixed else x.dtype
    x = x.to(dtype).contiguous()
    return A.to(dtype), x, *(t if t is None else t.to(dtype) for t in others)


def _aggregate(A: Tensor, x: Tensor, window: Window) -> Tensor:
    """Multiply every window by the graph: (R, size * S), (B, T, S, C) -> (B, T', R, C)."""
    windows = window.of(window.padded(x))
    B, T, _, _, C = windows.shape
    if C < _NARROW:
        y = A @ _side_by_side(windows.flatten(2, 3))
        return y.view(A.shape[0], B, T, C).permute(1, 2, 0, 3).contiguous()
    # The windows of one body are a strided batch, which GEMM takes as it is; of several, a copy.
    batch = windows.reshape(B * T, A.shape[1], C)
    return torch.bmm(A.expand(B * T, -1, -1), batch).view(B, T, A.shape[0], C)


def _side_by_side(x: Tensor) -> Tensor:
    """Order (B, T, S, C) as one matrix of S rows; a copy."""
    return x.permute(2, 0, 1, 3).flatten(1)


def _aggregate_backward(
    A: Tensor, x: Tensor, grad: Tensor, window: Window, grad_A: Tensor | None, need_x: bool
) -> Tensor | None:
    """Add to the graph's gradient; return the activations'."""
    padded = window.padded(x)
    windows = window.of(padded)
    B, T, W, S, C = windows.shape
    g = grad.reshape(B, T, A.shape[0], C)
    if grad_A is not None:
        grad_A += _side_by_side(g) @ _side_by_side(windows.flatten(2, 3)).mT
    if not need_x:
        return None
    if C < _NARROW:
        by_step = (A.mT @ _side_by_side(g)).view(W, S, B, T, C).permute(2, 3, 0, 1, 4)
    else:
        transposed = A.mT.expand(B * T, -1, -1)
        by_step = torch.bmm(transposed, g.flatten(0, 1)).view(B, T, W, S, C)
    if W == 1 and window.stride == 1:
        return by_step[:, :, 0]
    grad_x = torch.zeros_like(padded)
    for step in range(W):
        first = window.dilation * step
        seen = slice(first, first + window.stride * (T - 1) + 1, window.stride)
        grad_x[:, seen] += by_step[:, :, step]
    before = window.padding()[0]
    return grad_x[:, before : before + x.shape[1]]


def _piece_by_piece(work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`work(x)`, whose bodies do not know of each other, in pieces."""
    parts = pieces(x)
    if len(parts) == 1:
        return work(x)
    out = x.new_empty(0)
    for i in parts:
        y = work(x[i])
        if i.start == 0:
            out = y.new_empty(len(x), *y.shape[1:])
        out[i] = y
    return out


def _sums(needed: bool, like: Tensor) -> Tensor | None:
    """Where a gradient is added up over bodies: in single precision at least."""
    precision = torch.promote_types(like.dtype, torch.float32)
    return torch.zeros_like(like, dtype=precision) if needed else None


class _AggregateProject(torch.autograd.Function):
    @staticmethod
    def run(A: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
        def work(x: Tensor) -> Tensor:
            scales = _aggregate(A, x, window)
            B, T = scales.shape[:2]
            return F.linear(scales.view(-1, weight.shape[1]), weight, bias).view(
                B, T, -1, len(weight)
            )

        return _piece_by_piece(work, x)

    @staticmethod
    def forward(
        ctx: Any, A: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, window: Window
    ) -> Tensor:
        ctx.save_for_backward(A, x, weight)
        ctx.window = window
        return _AggregateProject.run(A, x, weight, bias, window)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        A, x, weight = ctx.saved_tensors
        need_A, need_x, need_weight, need_bias = ctx.needs_input_grad[:4]
        grad_A, grad_weight = _sums(need_A, A), _sums(need_weight, weight)
        grad_x = torch.empty_like(x) if need_x else None
        for i in pieces(x):
            g = grad[i].reshape(-1, len(weight))
            if grad_weight is not None:
                scales = _aggregate(A, x[i], ctx.window)
                grad_weight += g.mT @ scales.view(-1, weight.shape[1])
            if need_A or need_x:
                g_scales = g @ weight
                back = _aggregate_backward(A, x[i], g_scales, ctx.window, grad_A, need_x)
                if grad_x is not None and back is not None:
                    grad_x[i] = back
        return (
            None if grad_A is None else grad_A.to(A.dtype),
            grad_x,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            grad.sum((0, 1, 2)) if need_bias else None,
            None,
        )


class _ProjectAggregate(torch.autograd.Function):
    @staticmethod
    def run(A: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
        senders = A.shape[1] // window.size

        def work(x: Tensor) -> Tensor:
            y = _aggregate(A, _projected(x, weight, senders), window)
            return y if bias is None else y.add_(bias)

        return _piece_by_piece(work, x)

    @staticmethod
    def forward(
        ctx: Any, A: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, window: Window
    ) -> Tensor:
        ctx.save_for_backward(A, x, weight)
        ctx.window = window
        return _ProjectAggregate.run(A, x, weight, bias, window)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        A, x, weight = ctx.saved_tensors
        need_A, need_x, need_weight, need_bias = ctx.needs_input_grad[:4]
        grad_A, grad_weight = _sums(need_A, A), _sums(need_weight, weight)
        grad_x = torch.empty_like(x) if need_x else None
        need_projected = need_x or need_weight
        for i in pieces(x):
            projected = _projected(x[i], weight, A.shape[1] // ctx.window.size)
            back = _aggregate_backward(A, projected, grad[i], ctx.window, grad_A, need_projected)
            if back is not None:
                g = back.reshape(-1, len(weight))
                if grad_weight is not None:
                    grad_weight += g.mT @ x[i].reshape(-1, x.shape[-1])
                if grad_x is not None:
                    grad_x[i] = (g @ weight).view_as(x[i])
        return (
            None if grad_A is None else grad_A.to(A.dtype),
            grad_x,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            grad.sum((0, 1, 2)) if need_bias else None,
            None,
        )


def _projected(x: Tensor, weight: Tensor, senders: int) -> Tensor:
    """Every frame for every scale: (B, T, S, C) -> (B, T, senders, O), senders (s, k)."""
    B, T, _, C = x.shape
    return (x.reshape(-1, C) @ weight.mT).view(B, T, senders, -1)
