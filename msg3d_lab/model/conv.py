"""The convolutions of MS-G3D: a 1 x 1 or temporal one, and a 1 x 1 one with its normalisation.

Activations are (B, T, V, C), contiguous, with channels last. PyTorch's convolutions and batch
normalisations see the same memory as (B, C, T, V) in `channels_last` format, so no layer copies.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msg3d_lab.model.kernels.norm import BatchNorm, batch_norm


class TemporalConv(nn.Conv2d):
    """A convolution over frames, the same for every joint, on channels-last activations.

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
            # its memory on the CPU (seen below 16 channels from 64 frames on). With more channels
            # it is correct, and faster than this.
            frames = x[:, :: self.stride[0]]
            if torch.compiler.is_exporting():  # else the program is for an even T, or an odd T
                frames = frames.contiguous()
            frames = frames.permute(0, 3, 1, 2)
            return F.conv2d(frames, self.weight, self.bias).permute(0, 2, 3, 1)
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvBN(nn.Module):
    """A 1 x 1 convolution and its batch normalisation; the published code calls it an MLP.

    Shapes:
        x: (B, T, V, C) -> (B, ceil(T / stride), V, O).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, relu: bool = False
    ) -> None:
        super().__init__()
        self.relu = relu
        self.conv = TemporalConv(in_channels, out_channels, stride=stride)
        self.bn: nn.Module = BatchNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise and, with `relu`, rectify."""
        return batch_norm(self.bn, self.conv(x), relu=self.relu)
