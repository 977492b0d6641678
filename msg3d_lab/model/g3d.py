"""G3D: one graph convolution over a whole space-time window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from msg3d_lab.graph import Aggregation, Normalization, WindowEdges, window_graph
from msg3d_lab.model.kernels.graph_conv import Window, aggregate_project, project_aggregate
from msg3d_lab.model.kernels.norm import batch_norm, norm_relu_project
from msg3d_lab.model.layers import ConvBN
from msg3d_lab.model.ms_gcn import ScaleAdjacency

__all__ = ["G3D", "MultiWindowG3D"]


class G3D(nn.Module):
    """Multi-scale graph convolution over sliding space-time windows, then the window's collapse.

    Every joint of a window reaches every joint within K hops in every frame of the window in one
    layer. The collapse, a convolution over the window's steps, gives one output per window; no
    activation follows, because the block adds its pathways first.

    The order of the two products follows the cost. With as many channels inside as outside, every
    frame is projected once and windows of projections are aggregated (windows overlap, so this
    saves up to `window_size` times the projection). Where the input is much thinner than the
    inside (the network's first block), windows are aggregated first.

    Args:
        in_channels: C.
        mid_channels: channels between graph convolution and collapse.
        out_channels: O.
        A: (V, V) body adjacency.
        num_scales: K + 1, hops 0 to K on the window's graph.
        window_size: tau, steps of a window.
        window_stride: frames between two windows.
        window_dilation: d, frames between two steps.
        window_edges: "dense" (cross-space-time edges) or "grid".
        aggregation: "disentangled" or "powers".
        normalization: "symmetric" (author) or "column" (mmaction2, pyskl).
        residual_mask: whether a learnable mask is added to every scale.

    Shapes:
        x: (B, T, V, C) -> (B, ceil(T / window_stride), V, O).

    Source: Liu et al., CVPR 2020, section 3.3; mid_channels = C except in the
    first block as in kenziyuliu/MS-G3D.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        A: np.ndarray,
        num_scales: int,
        window_size: int = 3,
        window_stride: int = 1,
        window_dilation: int = 1,
        window_edges: WindowEdges = "dense",
        aggregation: Aggregation = "disentangled",
        normalization: Normalization = "symmetric",
        residual_mask: bool = True,
    ) -> None:
        super().__init__()
        self.num_scales = num_scales
        self.window_size = window_size
        self.window_stride = window_stride
        self.window_dilation = window_dilation
        self.adjacency = ScaleAdjacency(
            window_graph(A, window_size, edges=window_edges),
            num_scales=num_scales,
            aggregation=aggregation,
            normalization=normalization,
            residual_mask=residual_mask,
        )
        self.mlp = ConvBN(num_scales * in_channels, mid_channels)
        self.collapse = ConvBN(window_size * mid_channels, out_channels)
        self.project_first = in_channels >= mid_channels

    def forward(self, x: Tensor, *, copies: Sequence[int] = ()) -> Tensor:
        """Convolve; see the class, and `batch_norm` for `copies`."""
        V, C = x.shape[2:]
        K, W = self.num_scales, self.window_size
        window = Window(W, self.window_stride, self.window_dilation)
        A = self.adjacency().view(K, W, V, W, V)  # (k, step and joint v, step and joint u)
        conv = self.mlp.conv
        weight = conv.weight.view(-1, K, C)
        # Rows in the order (v, step): the collapse finds the steps of a joint side by side.
        if self.project_first:
            rows = A.permute(2, 1, 3, 4, 0).reshape(V * W, W * V * K)
            stacked = weight.transpose(0, 1).reshape(-1, C)
            y = project_aggregate(rows, x, stacked, conv.bias, window=window)
        else:
            rows = A.permute(2, 1, 0, 3, 4).reshape(V * W * K, W * V)
            y = aggregate_project(rows, x, weight.flatten(1), conv.bias, window=window)
        y = norm_relu_project(self.mlp.bn, y, self.collapse.conv, copies=copies)
        return batch_norm(self.collapse.bn, y, copies=copies)


class MultiWindowG3D(nn.Module):
    """The sum of G3D pathways with different windows.

    Args:
        window_sizes: tau of each pathway.
        window_dilations: d of each pathway, as many.
        others: see `G3D`.

    Shapes:
        x: (B, T, V, C) -> (B, ceil(T / window_stride), V, O).

    Raises:
        ValueError: not as many dilations as sizes, or none.

    Source: Liu et al., CVPR 2020, section 3.4.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        A: np.ndarray,
        num_scales: int,
        window_sizes: Sequence[int] = (3, 5),
        window_dilations: Sequence[int] = (1, 1),
        window_stride: int = 1,
        window_edges: WindowEdges = "dense",
        aggregation: Aggregation = "disentangled",
        normalization: Normalization = "symmetric",
        residual_mask: bool = True,
    ) -> None:
        super().__init__()
        if len(window_sizes) != len(window_dilations) or not window_sizes:
            raise ValueError(
                f"expected one window dilation per window size, found sizes {list(window_sizes)} "
                f"and dilations {list(window_dilations)}"
            )
        self.windows = nn.ModuleList(
            G3D(
                in_channels=in_channels,
                mid_channels=mid_channels,
                out_channels=out_channels,
                A=A,
                num_scales=num_scales,
                window_size=size,
                window_stride=window_stride,
                window_dilation=dilation,
                window_edges=window_edges,
                aggregation=aggregation,
                normalization=normalization,
                residual_mask=residual_mask,
            )
            for size, dilation in zip(window_sizes, window_dilations, strict=True)
        )

    def forward(self, x: Tensor, *, copies: Sequence[int] = ()) -> Tensor:
        """Convolve; see the class, and `batch_norm` for `copies`."""
        first, *others = self.windows
        out: Tensor = first(x, copies=copies)
        for window in others:
            out = out + window(x, copies=copies)
        return out
