"""G3D: one graph convolution over a whole space-time window."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from msg3d_lab.model.adjacency import ScaleAdjacency
from msg3d_lab.model.conv import ConvBN
from msg3d_lab.model.kernels.graph_conv import Window, graph_conv
from msg3d_lab.model.kernels.norm import batch_norm, norm_relu_project


class G3D(nn.Module):
    """Multi-scale graph convolution over sliding space-time windows, then the window's collapse.

    `out = BN(collapse(ReLU(BN(sum_k (A_k + A_res_k) x_window W_k))))`. Every joint of a window
    reaches every joint within K hops in every frame of the window in one layer. The collapse, a
    convolution over the window's steps, gives one output per window. No activation follows, because
    the block adds its pathways first.

    The order of the two matrix products follows their cost. With as many channels inside as
    outside, every frame is projected once and then aggregated in every window that it is in
    (windows overlap, so this saves up to `window.size` times the projection). With fewer channels
    outside, in the network's first block, windows are aggregated first.

    Args:
        in_channels: C.
        mid_channels: channels between graph convolution and collapse.
        out_channels: O.
        adjacency: the graph of the window at every scale; see `msg3d_lab.graph.window_graph`.
        window: size tau, stride and dilation d of the windows.

    Shapes:
        x: (B, T, V, C) -> (B, ceil(T / window.stride), V, O).

    Source: Liu et al., CVPR 2020, section 3.3. As in kenziyuliu/MS-G3D, mid_channels is C except in
        the first block.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        adjacency: ScaleAdjacency,
        window: Window,
    ) -> None:
        super().__init__()
        self.window = window
        self.adjacency = adjacency
        self.mlp = ConvBN(len(adjacency.A) * in_channels, mid_channels)
        self.collapse = ConvBN(window.size * mid_channels, out_channels)
        self.project_first = in_channels >= mid_channels
        self.scale_sum = nn.Identity()  # hooks on it see the sum over scales

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; see the class."""
        y = graph_conv(
            self.adjacency(),
            x,
            self.mlp.conv.weight,
            self.mlp.conv.bias,
            window=self.window,
            project_first=self.project_first,
        )
        y = norm_relu_project(self.mlp.bn, self.scale_sum(y), self.collapse.conv)
        return batch_norm(self.collapse.bn, y)


class MultiWindowG3D(nn.Module):
    """The sum of G3D layers with different windows.

    Args:
        windows: one layer per window.

    Shapes:
        x: (B, T, V, C) -> (B, ceil(T / stride), V, O).

    Source: Liu et al., CVPR 2020, section 3.4.
    """

    def __init__(self, windows: Sequence[G3D]) -> None:
        super().__init__()
        self.windows = nn.ModuleList(windows)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum; see the class."""
        return reduce(torch.add, [window(x) for window in self.windows])
