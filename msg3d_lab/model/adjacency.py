"""The k-adjacencies of all scales and the residual mask that training adds to them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from msg3d_lab.graph import Aggregation, Normalization, scale_adjacencies


class ScaleAdjacency(nn.Module):
    """`A_k + A_res_k` of every scale k: the graph that a layer aggregates over.

    `A_k` is fixed: the normalised k-adjacency of scale k (`msg3d_lab.graph.k_adjacency`), or the
    k-th power of the normalised adjacency. `A_res_k` is the residual mask, a learned matrix.

    Args:
        A: (V, V) adjacency of the body, or of a G3D window.
        num_scales: K + 1, for the hops 0 to K.
        aggregation: "disentangled" (k-adjacencies, the paper's) or "powers" (what they replace).
        normalization: "symmetric" (author) or "column" (mmaction2, pyskl).
        residual_mask: whether there is a residual mask.

    Attributes:
        A: (K+1, V, V) buffer. The state dict leaves it out; the model's arguments rebuild it.
        A_res: (K+1, V, V) parameter, or None.

    Shapes:
        () -> (K+1, V, V), receiver v first, sender u second.

    Source: Liu et al., CVPR 2020, section 3.1. The mask is added after normalisation and starts
        within +-1e-6, as in kenziyuliu/MS-G3D.
    """

    A: Tensor
    A_res: nn.Parameter | None

    def __init__(
        self,
        A: np.ndarray,
        *,
        num_scales: int,
        aggregation: Aggregation = "disentangled",
        normalization: Normalization = "symmetric",
        residual_mask: bool = True,
    ) -> None:
        super().__init__()
        scales = scale_adjacencies(
            A, num_scales, aggregation=aggregation, normalization=normalization, dtype=np.float32
        )
        self.register_buffer("A", torch.from_numpy(scales), persistent=False)
        mask = nn.Parameter(torch.empty_like(self.A).uniform_(-1e-6, 1e-6))
        self.register_parameter("A_res", mask if residual_mask else None)

    def forward(self) -> Tensor:
        """Return A + A_res."""
        return self.A if self.A_res is None else self.A + self.A_res
