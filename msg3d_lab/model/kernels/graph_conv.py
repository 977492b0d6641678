"""Multi-scale graph convolution over space-time windows: products with a graph and with weights.

A plain `einsum` copies the windows, expands the graph to a batch in backward, and keeps the result
of the first of its two products: K + 1 times the activations. Here the graph of a window is the
kernel of a convolution over frames whose channels are the joints, the two products are computed
a few bodies at a time, and backward computes the first product again. Windows are copied only for
the gradient of the graph, those of these bodies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from msg3d_lab.model.kernels.matmul import body_slices, from_image, image, outer, project


class Window(NamedTuple):
    """Sliding windows over frames. Default: every frame is a window.

    Attributes:
        size: tau, steps of a window.
        stride: frames between the starts of two windows.
        dilation: d, frames between two steps of a window.
    """

    size: int = 1
    stride: int = 1
    dilation: int = 1

    def padding(self) -> tuple[int, int]:
        """Frames of zeros before and after a clip, for ceil(T / stride) windows.

        Where the two cannot be equal, there is one more after.
        """
        before, odd = divmod(self.dilation * (self.size - 1), 2)
        return before, before + odd

    def padded(self, x: Tensor) -> Tensor:
        """Append the one more frame after, if there is one, to (B, T, S, C)."""
        before, after = self.padding()
        return F.pad(x, (0, 0, 0, 0, 0, after - before)) if after > before else x

    def of(self, across: Tensor) -> Tensor:
        """Copy what `padded` returns window by window: (B, T, C, S) -> (B, T', C, size * S)."""
        before = self.padding()[0]
        frames = F.pad(across, (0, 0, 0, 0, before, before)) if before else across
        steps = frames.unfold(1, self.dilation * (self.size - 1) + 1, self.stride)
        return steps[..., :: self.dilation].mT.flatten(3)


FRAME = Window()
_NARROW = 16  # channels from which on a product per frame is faster than one of all frames


def graph_conv(
    A: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    window: Window = FRAME,
    project_first: bool = False,
) -> Tensor:
    """Return the multi-scale graph convolution of every window.

    `out[b, t, v, w] = bias + sum_k weight[k] sum_(s, u) A[k, (w, v), (s, u)] x[b, stride * t +
    dilation * s, u]`, with v and u the receiving and sending joint, w and s their steps in the
    window.

    Args:
        A: the graph of a window at every scale, receiver first; joint v in step w is w * V + v.
        x: activations.
        weight: a matrix per scale, side by side: those of a 1 x 1 convolution of K * C channels.
        bias: added to the sum, if any.
        window: which frames a window has. Default: every frame is a window.
        project_first: whether to multiply by the weights first; the result is the same. It is
            faster where windows overlap, because a frame is projected once for all of them, unless
            the projection has many more channels than x.

    Shapes:
        A: (K, size * V, size * V), x: (B, T, V, C), weight: (O, K * C, 1, 1), bias: (O,) ->
        (B, ceil(T / stride), V * size, O), the steps of a joint side by side.
    """
    K, W = len(A), window.size
    V = A.shape[-1] // W
    by_step = A.view(K, W, V, W, V)  # (k, w, v, s, u)
    if project_first:  # rows (v, w), columns (s, u, k); the scales' matrices one below another
        graph = by_step.permute(2, 1, 3, 4, 0).reshape(V * W, W * V * K)
        matrix = weight.view(len(weight), K, -1).transpose(0, 1).reshape(-1, x.shape[-1])
    else:  # rows (v, w, k), columns (s, u); the scales' matrices side by side
        graph = by_step.permute(2, 1, 0, 3, 4).reshape(V * W * K, W * V)
        matrix = weight.flatten(1)
    # All in the type that convolutions compute in: autocast's, or the activations'.
    device = x.device.type
    mixed = torch.is_autocast_enabled(device) and x.dtype != torch.float64
    dtype = torch.get_autocast_dtype(device) if mixed else x.dtype
    graph, x, matrix = graph.to(dtype), x.to(dtype).contiguous(), matrix.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    inputs = (graph, x, matrix, bias, window, project_first)
    learned = any(t is not None and t.requires_grad for t in (graph, x, matrix, bias))
    if not (learned and torch.is_grad_enabled()):
        return _TwoProducts.run(*inputs)
    return cast(Tensor, _TwoProducts.apply(*inputs))  # type: ignore[no-untyped-call]


class _TwoProducts(torch.autograd.Function):
    """Both products, in either order. Of the activations, backward needs x alone."""

    @staticmethod
    def run(
        A: Tensor,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        window: Window,
        project_first: bool,
    ) -> Tensor:
        def work(x: Tensor) -> Tensor:
            if not project_first:
                return project(_wide(_aggregate(A, x, window), weight.shape[1]), weight, bias)
            y = _aggregate(A, _by_sender(project(x, weight), A, window), window)
            return y if bias is None else y.add_(bias)

        return _in_slices(work, x, _slices(x, weight, window))

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        A, x, weight, _, ctx.window, ctx.project_first = inputs
        ctx.save_for_backward(A, x, weight)
        return _TwoProducts.run(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        A, x, weight = ctx.saved_tensors
        window = ctx.window
        need_A, need_x, need_weight, need_bias = ctx.needs_input_grad[:4]
        grad_A, grad_weight = _sums(need_A, A), _sums(need_weight, weight)
        grad_x = torch.empty_like(x) if need_x else None
        for i in _slices(x, weight, window):
            xi, g = x[i], grad[i].contiguous()
            by_A: Tensor | None
            back: Tensor | None
            if ctx.project_first:
                inner = _by_sender(project(xi, weight), A, window)
                by_A, by_inner = _aggregate_backward(
                    A, inner, g, window, need_A, need_x or need_weight
                )
                back = None if by_inner is None else _wide(by_inner, len(weight))
                if grad_weight is not None and back is not None:
                    grad_weight += outer(back, xi)
                if grad_x is not None and back is not None:
                    grad_x[i] = project(back, weight.mT)
            else:
                if grad_weight is not None:
                    grad_weight += outer(g, _wide(_aggregate(A, xi, window), weight.shape[1]))
                by_A = back = None
                if need_A or need_x:
                    by_scale = _wide(project(g, weight.mT), x.shape[-1])
                    by_A, back = _aggregate_backward(A, xi, by_scale, window, need_A, need_x)
                if grad_x is not None and back is not None:
                    grad_x[i] = back
            if grad_A is not None and by_A is not None:
                grad_A += by_A
        return (
            None if grad_A is None else grad_A.to(A.dtype),
            grad_x,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            grad.sum((0, 1, 2)) if need_bias else None,
            None,
            None,
        )


def _wide(x: Tensor, channels: int) -> Tensor:
    """View the features of several joints as those of one."""
    return x.view(*x.shape[:2], -1, channels)


def _by_sender(projected: Tensor, A: Tensor, window: Window) -> Tensor:
    """View every scale of a joint as a sender: (B, T, S, K * O) -> (B, T, S * K, O)."""
    return projected.view(*projected.shape[:2], A.shape[1] // window.size, -1)


def _aggregate(A: Tensor, x: Tensor, window: Window) -> Tensor:
    """Multiply every window by the graph: (R, size * S), (B, T, S, C) -> (B, T', R, C)."""
    if window.size == 1 and window.stride > 1:
        return _aggregate(A, x[:, :: window.stride], FRAME)
    B, T, S, C = x.shape
    if window == FRAME and C >= _NARROW:
        return torch.bmm(A.expand(B * T, -1, -1), x.reshape(B * T, S, C)).view(B, T, -1, C)
    kernel, options = _as_convolution(A, window)
    y = F.conv2d(image(window.padded(x).mT), kernel, None, *options)
    return from_image(y).mT.contiguous()


def _aggregate_backward(
    A: Tensor, x: Tensor, grad: Tensor, window: Window, need_A: bool, need_x: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of the graph and of the activations, those that are needed."""
    B, T, S, C = x.shape
    if window.size == 1 and window.stride > 1:
        seen = slice(None, None, window.stride)
        grad_A, back = _aggregate_backward(A, x[:, seen], grad, FRAME, need_A, need_x)
        if back is None:
            return grad_A, None
        grad_x = torch.zeros_like(x)
        grad_x[:, seen] = back
        return grad_A, grad_x
    if window == FRAME and C >= _NARROW:
        g, frames = grad.view(B * T, -1, C), x.reshape(B * T, S, C)
        grad_A = torch.bmm(g, frames.mT).sum(0) if need_A else None
        return grad_A, torch.bmm(A.mT.expand(B * T, -1, -1), g).view_as(x) if need_x else None
    g, across = grad.mT.contiguous(), window.padded(x).mT.contiguous()
    grad_A = outer(g, window.of(across)) if need_A else None
    if not need_x:
        return grad_A, None
    kernel, options = _as_convolution(A, window)
    by_image, _, _ = torch.ops.aten.convolution_backward(
        image(g), image(across), kernel, None, *options, False, [0, 0], 1, [True, False, False]
    )
    return grad_A, from_image(by_image).mT[:, :T].contiguous()


def _as_convolution(
    A: Tensor, window: Window
) -> tuple[Tensor, tuple[list[int], list[int], list[int]]]:
    """Return a graph over windows as a kernel over frames whose channels are the joints.

    Returns:
        The kernel (R, S, size, 1); stride, padding and dilation.
    """
    kernel = A.view(len(A), window.size, -1).mT.contiguous()[..., None]
    return kernel, ([window.stride, 1], [window.padding()[0], 0], [window.dilation, 1])


def _slices(x: Tensor, weight: Tensor, window: Window) -> list[slice]:
    """Slices of bodies; what lies between the two products has one side of the weights."""
    joints_and_frames = x.shape[1] * x.shape[2]
    return body_slices(x, values=joints_and_frames * window.size * max(weight.shape))


def _in_slices(work: Callable[[Tensor], Tensor], x: Tensor, slices: list[slice]) -> Tensor:
    """Return `work(x)`, computed in slices of bodies, which do not depend on each other."""
    if len(slices) == 1:
        return work(x)
    out = x.new_empty(0)
    for i in slices:
        y = work(x[i])
        if i.start == 0:
            out = y.new_empty(len(x), *y.shape[1:])
        out[i] = y
    return out


def _sums(needed: bool, like: Tensor) -> Tensor | None:
    """Zeros to add up a gradient over bodies, in single precision at least."""
    precision = torch.promote_types(like.dtype, torch.float32)
    return torch.zeros_like(like, dtype=precision) if needed else None
