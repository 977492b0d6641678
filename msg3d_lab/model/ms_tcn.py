"""Multi-scale temporal convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msg3d_lab.model.conv import ConvBN, TemporalConv
from msg3d_lab.model.kernels.norm import BatchNorm, batch_norm


class MSTCN(nn.Module):
    """Temporal convolution with several dilations side by side and a residual connection.

    `out = ReLU(concat(branches) + residual)`. The branches: for each dilation a bottleneck and a
    3-frame convolution; a bottleneck and a 3-frame maximum; a 1 x 1 convolution. Each ends with a
    batch normalisation. The bottlenecks of all branches are one convolution (`reduce`) and their
    last normalisations one normalisation (`bn`): the same function as branch by branch, in fewer
    and larger operations.

    Args:
        in_channels: C.
        out_channels: O; the branches have O // branches channels each, the last one the rest.
        stride: frames between two outputs.
        dilations: of the convolutional branches.
        activation: whether the output is rectified. False for a pathway's last layer, because the
            block adds the pathways first.

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
        self.reduce = ConvBN(in_channels, width * (branches - 1), relu=True)
        self.temporal = nn.ModuleList(
            TemporalConv(width, width, kernel_size=3, stride=stride, dilation=d) for d in dilations
        )
        self.pooled: nn.Module = nn.Identity()  # a fused network has a scale and a shift here
        self.bn: nn.Module = BatchNorm(width * (branches - 1))
        self.pointwise = ConvBN(in_channels, out_channels - width * (branches - 1), stride=stride)
        same = in_channels == out_channels and stride == 1
        self.residual = nn.Identity() if same else ConvBN(in_channels, out_channels, stride=stride)
        self.branches = nn.Identity()  # hooks on it see the normalised branches

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; see the class."""
        *convolved, pooled = torch.split(self.reduce(x), self.width, dim=-1)
        branches = [conv(h) for conv, h in zip(self.temporal, convolved, strict=True)]
        branches.append(self.pooled(_maximum_of_3_frames(pooled, stride=self.stride)))
        branches.append(self.pointwise.conv(x))
        return batch_norm(
            (self.bn, self.pointwise.bn),
            torch.cat(branches, dim=-1),
            residual=self.residual(x),
            relu=self.activation,
            normalized=self.branches,
        )


def _maximum_of_3_frames(x: Tensor, *, stride: int) -> Tensor:
    maximum = F.max_pool2d(x.permute(0, 3, 1, 2), (3, 1), stride=(stride, 1), padding=(1, 0))
    return maximum.permute(0, 2, 3, 1)
