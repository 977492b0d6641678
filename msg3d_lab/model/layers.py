"""The two operations everything here is made of: a convolution in time and a product with a graph.

Activations are (B, T, V, C) with channels last, contiguous. PyTorch's convolutions and batch
normalisations see the same memory as (B, C, T, V) in `channels_last` format, so no layer copies.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["ConvBN", "TemporalConv", "batch_norm", "graph_product", "num_windows"]


class TemporalConv(nn.Conv2d):
    """A convolution over frames that leaves joints alone, on channels-last activations.

    Shapes:
        x: (B, T, V, C) -> (B, ceil(T / stride), V, O).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size=(kernel_size, 1),
            stride=(stride, 1),
            dilation=(dilation, 1),
            padding=(dilation * (kernel_size - 1) // 2, 0),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; see the class."""
        if self.kernel_size[0] == 1 and self.stride[0] > 1 and self.in_channels < 32:
            # Torch 2.13's backward of a strided 1 x 1 convolution of few channels writes outside
            # its memory on the CPU (seen below 16 channels from 64 frames on). Wide ones are safe,
            # and quicker left alone.
            frames = x[:, :: self.stride[0]].permute(0, 3, 1, 2)
            return F.conv2d(frames, self.weight, self.bias).permute(0, 2, 3, 1)
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvBN(nn.Module):
    """A 1 x 1 convolution and its batch normalisation; the published code calls it an MLP.

    Shapes:
        x: (B, T, V, C) -> (B, ceil(T / stride), V, O).
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = TemporalConv(in_channels, out_channels, stride=stride)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise; see the class."""
        return batch_norm(self.bn, self.conv(x))


def batch_norm(bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Apply a 2D batch normalisation to channels-last activations."""
    y: Tensor = bn(x.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)


def num_windows(num_frames: int, window_size: int, *, stride: int = 1, dilation: int = 1) -> int:
    """How many windows fit into `num_frames` frames (padding included)."""
    return (num_frames - dilation * (window_size - 1) - 1) // stride + 1


def graph_product(
    A: Tensor, x: Tensor, *, window_size: int = 1, stride: int = 1, dilation: int = 1
) -> Tensor:
    """Multiply the rows of every space-time window by one matrix.

    `out[b, t, r] = sum_(w, s) A[r, (w, s)] x[b, stride * t + dilation * w, s]`. A plain
    `einsum` or `matmul` would unfold the windows, or expand `A` to a batch in backward; here
    windows are strided views, and the gradient of `A` is summed clip by clip.

    Args:
        A: the matrix all windows share; columns are ordered window step first.
        x: activations, already padded in time.
        window_size: steps of a window; 1 for a graph on single frames.
        stride: frames between the starts of two windows.
        dilation: frames between two steps of a window.

    Shapes:
        A: (R, window_size * S), x: (B, T, S, C) -> (B, T', R, C).
    """
    if torch.is_grad_enabled() and (A.requires_grad or x.requires_grad):
        return _GraphProduct.apply(A, x, window_size, stride, dilation)  # type: ignore[no-untyped-call]
    return _forward(A, x, window_size, stride, dilation)


def _windows(x: Tensor, window_size: int, stride: int, dilation: int) -> Tensor:
    """A view (B, T', window_size, S, C) of (B, T, S, C); nothing is copied."""
    B, T, S, C = x.shape
    b, t, s, c = x.stride()
    count = num_windows(T, window_size, stride=stride, dilation=dilation)
    return x.as_strided((B, count, window_size, S, C), (b, stride * t, dilation * t, s, c))


def _forward(A: Tensor, x: Tensor, window_size: int, stride: int, dilation: int) -> Tensor:
    windows = _windows(x, window_size, stride, dilation)
    B, T, _, _, C = windows.shape
    R = A.shape[0]
    # Windows of one clip are a strided batch, which GEMM takes as it is; those of several clips
    # are not. A GPU prefers one launch and pays for it with a copy.
    clips = B if window_size == 1 or x.is_cuda else 1
    shared = A.expand(clips * T, -1, -1)
    product = x.new_empty(B, T, R, C)
    for i in range(0, B, clips):
        batch = windows[i : i + clips].reshape(clips * T, A.shape[1], C)
        torch.bmm(shared, batch, out=product[i : i + clips].view(clips * T, R, C))
    return product


class _GraphProduct(torch.autograd.Function):
    """`graph_product` with a gradient that never holds more than one clip's windows."""

    @staticmethod
    def forward(
        ctx: Any, A: Tensor, x: Tensor, window_size: int, stride: int, dilation: int
    ) -> Tensor:
        ctx.save_for_backward(A, x)
        ctx.window = (window_size, stride, dilation)
        return _forward(A, x, window_size, stride, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        A, x = ctx.saved_tensors
        window_size, stride, dilation = ctx.window
        windows = _windows(x, window_size, stride, dilation)
        B, T, _, S, C = windows.shape
        grad = grad.contiguous()
        need_A, need_x = ctx.needs_input_grad[:2]
        grad_A = torch.zeros_like(A, dtype=torch.promote_types(A.dtype, torch.float32))
        grad_x = torch.zeros_like(x)
        clips = B if x.is_cuda else 1
        transposed = A.mT.expand(clips * T, -1, -1)
        for i in range(0, B, clips):
            g = grad[i : i + clips].view(clips * T, -1, C)
            if need_A:
                w = windows[i : i + clips].reshape(clips * T, A.shape[1], C)
                grad_A += g.transpose(0, 1).flatten(1) @ w.transpose(0, 1).flatten(1).mT
            if need_x:
                g_windows = torch.bmm(transposed, g).view(clips, T, window_size, S, C)
                for step in range(window_size):
                    first = dilation * step
                    frames = slice(first, first + stride * (T - 1) + 1, stride)
                    grad_x[i : i + clips, frames] += g_windows[:, :, step]
        return grad_A.to(A.dtype) if need_A else None, grad_x if need_x else None, None, None, None
