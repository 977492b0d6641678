"""Multi-scale temporal convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msg3d_lab.model.kernels.norm import batch_norm
from msg3d_lab.model.layers import ConvBN, TemporalConv

__all__ = ["MSTCN"]


class MSTCN(nn.Module):
    """Temporal convolution with several dilations side by side and a residual connection.

    Branches, concatenated: for each dilation a bottleneck and a 3-frame convolution; a bottleneck
    and a 3-frame maximum; a 1 x 1 convolution. The bottlenecks of all branches are one convolution
    (`reduce`), and their second normalisations one normalisation (`bn`): the same function as
    branch by branch, with fewer and larger products.

    Args:
        in_channels: C.
        out_channels: O; branches share it evenly, the last one takes the remainder.
        stride: frames between two outputs.
        dilations: of the convolutional branches.
        activation: whether the sum is rectified here; a pathway's last layer leaves that to the
            block.

    Shapes:
        x: (B, T, V, C) -> (B, ceil(T / stride), V, O).

    Raises:
        ValueError: fewer output channels than branches.

    Source: Liu et al., CVPR 2020, section 3.4 and figure 3d; kenziyuliu/MS-G3D for the pooling and
    1 x 1 branches.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilations: Sequence[int] = (1, 2, 3, 4),
        activation: bool = True,
    ) -> None:
        super().__init__()
        branches = len(dilations) + 2
        width = out_channels // branches
        if width == 0:
            raise ValueError(
                f"{out_channels} output channels cannot be shared by {branches} temporal branches "
                f"({len(dilations)} dilations, maximum, 1 x 1): use a multiple of {branches}"
            )
        self.stride = stride
        self.width = width
        self.activation = activation
        self.reduce = ConvBN(in_channels, width * (branches - 1))
        self.temporal = nn.ModuleList(
            TemporalConv(width, width, kernel_size=3, stride=stride, dilation=d) for d in dilations
        )
        self.pooled: nn.Module = nn.Identity()  # what `fuse` leaves of the maximum's normalisation
        self.bn: nn.Module = nn.BatchNorm2d(width * (branches - 1))
        self.pointwise = ConvBN(in_channels, out_channels - width * (branches - 1), stride=stride)
        same = in_channels == out_channels and stride == 1
        self.residual = nn.Identity() if same else ConvBN(in_channels, out_channels, stride=stride)

    def forward(self, x: Tensor, *, copies: Sequence[int] = ()) -> Tensor:
        """Convolve; see the class, and `batch_norm` for `copies`."""
        reduced = self.reduce(x, relu=True, copies=copies)
        *convolved, pooled = torch.split(reduced, self.width, dim=-1)
        branches = [conv(h) for conv, h in zip(self.temporal, convolved, strict=True)]
        maximum = F.max_pool2d(
            pooled.permute(0, 3, 1, 2), (3, 1), stride=(self.stride, 1), padding=(1, 0)
        )
        branches += [self.pooled(maximum.permute(0, 2, 3, 1)), self.pointwise.conv(x)]
        residual = x
        if not isinstance(self.residual, nn.Identity):
            residual = self.residual(x, copies=copies)
        return batch_norm(
            (self.bn, self.pointwise.bn),
            torch.cat(branches, dim=-1),
            residual=residual,
            relu=self.activation,
            copies=copies,
        )
