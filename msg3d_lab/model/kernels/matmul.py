"""Matrix products with weights, computed by PyTorch's convolutions.

A matrix product and a 1 x 1 convolution of channels-last activations are the same sums. On CPUs,
PyTorch gives the first to MKL and the second to oneDNN, which is twice as fast where MKL does not
use all of the processor: in float32 and the sizes of this network, 350 against 165 GFLOP/s (two
threads of an AMD Zen 5). In bfloat16 the two are equally fast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

VALUES_AT_ONCE = 2**22


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `x @ weight.mT + bias`; the weight need not be contiguous.

    Shapes:
        x: (B, T, V, C), weight: (O, C), bias: (O,) -> (B, T, V, O), contiguous.
    """
    if not x.is_cpu:
        return F.linear(x, weight, bias)
    return from_image(F.conv2d(image(x), weight[..., None, None], bias))


def outer(g: Tensor, x: Tensor) -> Tensor:
    """Return the sum of `g[b, t, v, :, None] * x[b, t, v]`: a projection's gradient of its weight.

    Shapes:
        g: (B, T, V, O), x: (B, T, V, C) -> (O, C).
    """
    O, C = g.shape[-1], x.shape[-1]  # noqa: E741
    if not x.is_cpu:
        return g.reshape(-1, O).mT @ x.reshape(-1, C)
    if C > O:  # oneDNN is faster with the wider one as the output
        return outer(x, g).mT
    _, grad, _ = torch.ops.aten.convolution_backward(
        image(g),
        image(x),
        x.new_empty(O, C, 1, 1),  # only its shape is used
        None,
        [1, 1],
        [0, 0],
        [1, 1],
        False,
        [0, 0],
        1,
        [False, True, False],
    )
    return grad[..., 0, 0]


def image(x: Tensor) -> Tensor:
    """View activations as PyTorch's images in channels-last format; copied if not contiguous.

    Shapes:
        x: (B, T, V, C) -> (B, C, T, V).
    """
    return x.contiguous().permute(0, 3, 1, 2)


def from_image(x: Tensor) -> Tensor:
    """The reverse of `image`.

    Shapes:
        x: (B, C, T, V) -> (B, T, V, C), contiguous.
    """
    return x.permute(0, 2, 3, 1).contiguous()


def body_slices(x: Tensor, *, values: int) -> list[slice]:
    """Return slices of a batch to compute one after another, so that less memory is needed at once.

    On a CPU a slice has as many bodies as need `VALUES_AT_ONCE`, and at least one: one of the
    published network with 100 frames, all of a narrow network's, whose many small products would
    take longer than a few large ones. On a GPU, and while a program is traced, there is one slice.

    Args:
        x: activations, (B, ...).
        values: how many numbers are needed at once for a body.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    if x.device.type != "cpu" or traced:
        return [slice(None)]
    bodies = max(1, VALUES_AT_ONCE // values)
    return [slice(i, i + bodies) for i in range(0, len(x), bodies)]
