"""The block that joins the pathways."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn

from msg3d_lab.model.g3d import MultiWindowG3D
from msg3d_lab.model.kernels.recomputation import run
from msg3d_lab.model.ms_tcn import MSTCN


class STGCBlock(nn.Module):
    """A space-time graph convolution block: pathways, added and rectified, then an MSTCN.

    `out = MSTCN(ReLU(factorized(x) + g3d(x)))`. The factorized pathway is MSGCN, MSTCN, MSTCN:
    long-range in space, then in time. The G3D pathway sees space and time in one layer.

    Args:
        factorized: the factorized pathway, or None.
        g3d: the G3D pathway, or None.
        tcn: the block's last layer.
        dropout: probability, after the last layer (pyskl's `tcn_dropout`).

    Shapes:
        x: (B, T, V, C) -> (B, ceil(T / stride), V, O).

    Source: Liu et al., CVPR 2020, figure 3.
    """

    def __init__(
        self,
        *,
        factorized: nn.Sequential | None,
        g3d: MultiWindowG3D | None,
        tcn: MSTCN,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.factorized = factorized
        self.g3d = g3d
        self.tcn = tcn
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *, recompute: bool = False) -> Tensor:
        """Run the block; see the class, and `MSG3D.recompute`."""
        pathways = [pathway for pathway in (self.factorized, self.g3d) if pathway is not None]
        total = reduce(torch.add, [run(pathway, x, recompute=recompute) for pathway in pathways])
        out: Tensor = self.dropout(run(self.tcn, torch.relu(total), recompute=recompute))
        return out
