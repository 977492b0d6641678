"""A network for evaluation only: normalisations in the convolutions, masks in the graphs.

In evaluation a batch normalisation is a scale and a shift per channel, which the convolution before
it can do. The one that follows a maximum keeps its scale and shift. The layers are the same, with
an `nn.Identity` where a normalisation was.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from msg3d_lab.model.adjacency import ScaleAdjacency
from msg3d_lab.model.conv import ConvBN
from msg3d_lab.model.ms_tcn import MSTCN
from msg3d_lab.model.msg3d import MSG3D


def fuse(model: MSG3D) -> MSG3D:
    """Return a copy of a network for evaluation only: the same logits, faster.

    The copy has no gradients and cannot be trained or saved; keep the network it was made of. It
    may be moved, converted (`.to(torch.bfloat16)`), compiled (`.compile()`) and exported like any
    other.

    Args:
        model: a network, in any mode; it does not change. Its running statistics are used.

    Raises:
        ValueError: the network is fused already, or a normalisation has no running statistics.

    Example:
        >>> model = MSG3D(num_classes=5, base_channels=12).eval()
        >>> x = torch.randn(2, 2, 16, 25, 3)
        >>> torch.allclose(fuse(model)(x), model(x), atol=1e-5)
        True
    """
    if model.fused:
        raise ValueError("this network is fused already: fuse the one it was made of")
    fused = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
    for module in fused.modules():
        if isinstance(module, ConvBN):
            _scale(module.conv, *_affine(module.bn))
            module.bn = nn.Identity()
        elif isinstance(module, MSTCN):
            _fuse_temporal(module)
        elif isinstance(module, ScaleAdjacency):
            module.A, module.A_res = module(), None
    fused.fused = True
    return fused


class ScaleShift(nn.Module):
    """A scale and a shift per channel.

    Shapes:
        x: (..., C) -> the same.
    """

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.shift = nn.Parameter(shift, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift; see the class."""
        return torch.addcmul(self.shift.to(x.dtype), x, self.scale.to(x.dtype))


def _fuse_temporal(layer: MSTCN) -> None:
    scale, shift = _affine(layer.bn)
    parts = torch.split(scale, layer.width), torch.split(shift, layer.width)
    *convolved, pooled = zip(*parts, strict=True)
    for conv, affine in zip(layer.temporal, convolved, strict=True):
        _scale(cast(nn.Conv2d, conv), *affine)
    dtype = layer.reduce.conv.weight.dtype
    layer.pooled = ScaleShift(*(tensor.to(dtype) for tensor in pooled))
    layer.bn = nn.Identity()


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The scale and the shift of a normalisation in evaluation, in double precision."""
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or norm.running_var is None:
        raise ValueError(
            f"expected batch normalisations with running statistics, found {norm}: fuse a network "
            "as MSG3D builds it"
        )
    scale = (norm.running_var.double() + norm.eps).rsqrt() * norm.weight.double()
    shift = -scale * norm.running_mean.double() + norm.bias.double()
    return scale.detach(), shift.detach()


def _scale(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    """Scale and shift the output of a convolution by changing its weights."""
    weight = conv.weight
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias.double()
    scaled = weight.double() * scale[:, None, None, None]
    conv.weight = nn.Parameter(scaled.to(weight), requires_grad=False)
    conv.bias = nn.Parameter((bias * scale + shift).to(weight), requires_grad=False)
