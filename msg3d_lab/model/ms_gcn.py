"""Multi-scale graph convolution on single frames."""

from __future__ import annotations

from torch import Tensor, nn

from msg3d_lab.model.adjacency import ScaleAdjacency
from msg3d_lab.model.conv import ConvBN
from msg3d_lab.model.kernels.graph_conv import graph_conv
from msg3d_lab.model.kernels.norm import batch_norm


class MSGCN(nn.Module):
    """Multi-scale graph convolution: aggregate at every hop, project, sum, rectify.

    `out = ReLU(BN(sum_k (A_k + A_res_k) x W_k))`.

    Args:
        in_channels: C.
        out_channels: O.
        adjacency: the graph of the body at every scale.

    Shapes:
        x: (B, T, V, C) -> (B, T, V, O).

    Source: Liu et al., CVPR 2020, equations 2 and 3.
    """

    def __init__(self, *, in_channels: int, out_channels: int, adjacency: ScaleAdjacency) -> None:
        super().__init__()
        self.adjacency = adjacency
        self.mlp = ConvBN(len(adjacency.A) * in_channels, out_channels)
        self.scale_sum = nn.Identity()  # hooks on it see the sum over scales

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; see the class."""
        y = graph_conv(self.adjacency(), x, self.mlp.conv.weight, self.mlp.conv.bias)
        return batch_norm(self.mlp.bn, self.scale_sum(y), relu=True)
