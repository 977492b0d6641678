"""Multi-scale graph convolution on single frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from msg3d_lab.graph import Aggregation, Normalization, scale_adjacencies
from msg3d_lab.model.kernels.graph_conv import aggregate_project
from msg3d_lab.model.kernels.norm import batch_norm
from msg3d_lab.model.layers import ConvBN

__all__ = ["MSGCN", "ScaleAdjacency"]


class ScaleAdjacency(nn.Module):
    """The adjacencies of all scales and the residual mask that training adds to them.

    Shapes:
        () -> (K+1, V, V), receiver v first, sender u second.

    Source: Liu et al., CVPR 2020, section 3.1; masks added after normalisation and started within
    +-1e-6 as in kenziyuliu/MS-G3D.
    """

    A: Tensor
    A_res: nn.Parameter | None

    def __init__(
        self,
        A: np.ndarray,
        *,
        num_scales: int,
        aggregation: Aggregation,
        normalization: Normalization,
        residual_mask: bool,
    ) -> None:
        super().__init__()
        scales = scale_adjacencies(
            A, num_scales, aggregation=aggregation, normalization=normalization, dtype=np.float32
        )
        # Not in the state dict: the model's configuration rebuilds it.
        self.register_buffer("A", torch.from_numpy(scales), persistent=False)
        mask = nn.Parameter(torch.empty_like(self.A).uniform_(-1e-6, 1e-6))
        self.register_parameter("A_res", mask if residual_mask else None)

    def forward(self) -> Tensor:
        """Return A + A_res."""
        return self.A if self.A_res is None else self.A + self.A_res


class MSGCN(nn.Module):
    """Multi-scale graph convolution: aggregate at every hop, concatenate, project, rectify.

    `out = ReLU(BN(sum_k (A_k + A_res_k) x W_k))`. Aggregating first is never dearer here, because
    the published networks never shrink channels in this layer.

    Args:
        in_channels: C.
        out_channels: O.
        A: (V, V) body adjacency.
        num_scales: K + 1, hops 0 to K.
        aggregation: "disentangled" (the paper's) or "powers" (what it replaces).
        normalization: "symmetric" (author) or "column" (mmaction2, pyskl).
        residual_mask: whether a learnable mask is added to every scale.

    Shapes:
        x: (B, T, V, C) -> (B, T, V, O).

    Source: Liu et al., CVPR 2020, equations 2 and 3.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        A: np.ndarray,
        num_scales: int,
        aggregation: Aggregation = "disentangled",
        normalization: Normalization = "symmetric",
        residual_mask: bool = True,
    ) -> None:
        super().__init__()
        self.adjacency = ScaleAdjacency(
            A,
            num_scales=num_scales,
            aggregation=aggregation,
            normalization=normalization,
            residual_mask=residual_mask,
        )
        self.mlp = ConvBN(num_scales * in_channels, out_channels)

    def forward(self, x: Tensor, *, copies: Sequence[int] = ()) -> Tensor:
        """Convolve; see the class, and `batch_norm` for `copies`."""
        A = self.adjacency()  # (k, v, u)
        # Rows (v, k) leave each joint's scales side by side: the concatenation costs nothing.
        rows = A.transpose(0, 1).reshape(-1, A.shape[-1])
        conv = self.mlp.conv
        y = aggregate_project(rows, x, conv.weight.flatten(1), conv.bias)
        return batch_norm(self.mlp.bn, y, relu=True, copies=copies)
