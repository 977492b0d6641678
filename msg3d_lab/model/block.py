"""The block that joins the pathways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import reduce
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from msg3d_lab.graph import Aggregation, Normalization, WindowEdges
from msg3d_lab.model.g3d import MultiWindowG3D
from msg3d_lab.model.ms_gcn import MSGCN
from msg3d_lab.model.ms_tcn import MSTCN

__all__ = ["Pathway", "STGCBlock"]

Pathway = Literal["factorized", "g3d"]


class STGCBlock(nn.Module):
    """A space-time graph convolution block: pathways side by side, their sum rectified, an MSTCN.

    The factorized pathway is MSGCN, MSTCN, MSTCN: long-range in space, then in time. The G3D
    pathway sees space and time in one layer.

    Args:
        in_channels: C.
        out_channels: O.
        A: (V, V) body adjacency.
        stride: frames between two outputs.
        first: whether this is the network's first block, which widens its few channels at once.
        pathways: which pathways there are.
        num_gcn_scales: scales of the factorized pathway.
        num_g3d_scales: scales of the G3D pathway.
        tcn_dilations: see `MSTCN`.
        dropout: probability, after the block's last layer (pyskl's `tcn_dropout`).
        others: see `MultiWindowG3D`.

    Shapes:
        x: (B, T, V, C) -> (B, ceil(T / stride), V, O).

    Raises:
        ValueError: no pathway, or an unknown one.

    Source: Liu et al., CVPR 2020, figure 3.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        A: np.ndarray,
        stride: int = 1,
        first: bool = False,
        pathways: Sequence[Pathway] = ("factorized", "g3d"),
        num_gcn_scales: int = 13,
        num_g3d_scales: int = 6,
        window_sizes: Sequence[int] = (3, 5),
        window_dilations: Sequence[int] = (1, 1),
        window_edges: WindowEdges = "dense",
        aggregation: Aggregation = "disentangled",
        normalization: Normalization = "symmetric",
        residual_mask: bool = True,
        tcn_dilations: Sequence[int] = (1, 2, 3, 4),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not pathways or not set(pathways) <= {"factorized", "g3d"}:
            raise ValueError(
                f"pathways are 'factorized', 'g3d' or both, found {list(pathways) or 'none'}"
            )
        mid_channels = out_channels if first else in_channels
        self.factorized: nn.Sequential | None = None
        self.g3d: MultiWindowG3D | None = None
        if "factorized" in pathways:
            self.factorized = nn.Sequential(
                MSGCN(
                    in_channels=in_channels,
                    out_channels=mid_channels,
                    A=A,
                    num_scales=num_gcn_scales,
                    aggregation=aggregation,
                    normalization=normalization,
                    residual_mask=residual_mask,
                ),
                MSTCN(
                    in_channels=mid_channels,
                    out_channels=out_channels,
                    stride=stride,
                    dilations=tcn_dilations,
                ),
                MSTCN(
                    in_channels=out_channels,
                    out_channels=out_channels,
                    dilations=tcn_dilations,
                    activation=False,
                ),
            )
        if "g3d" in pathways:
            self.g3d = MultiWindowG3D(
                in_channels=in_channels,
                mid_channels=mid_channels,
                out_channels=out_channels,
                A=A,
                num_scales=num_g3d_scales,
                window_sizes=window_sizes,
                window_dilations=window_dilations,
                window_stride=stride,
                window_edges=window_edges,
                aggregation=aggregation,
                normalization=normalization,
                residual_mask=residual_mask,
            )
        self.tcn = MSTCN(
            in_channels=out_channels, out_channels=out_channels, dilations=tcn_dilations
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *, recompute: bool = False, copies: Sequence[int] = ()) -> Tensor:
        """Run the block; see the class, `MSG3D` for `recompute` and `batch_norm` for `copies`."""
        run = _recomputed if recompute else _run
        outputs = [
            run(pathway, x, copies)
            for pathway in (self.factorized, self.g3d)
            if pathway is not None
        ]
        total = torch.relu(reduce(torch.add, outputs))
        out: Tensor = self.dropout(run(self.tcn, total, copies))
        return out


def _run(module: nn.Module, x: Tensor, copies: Sequence[int]) -> Tensor:
    """A layer, or several in sequence."""
    for layer in module if isinstance(module, nn.Sequential) else (module,):
        x = layer(x, copies=copies)
    return x


def _recomputed(module: nn.Module, x: Tensor, copies: Sequence[int]) -> Tensor:
    """The module's output, of whose activations only the input is kept until backward."""
    from torch.utils.checkpoint import checkpoint

    return checkpoint(
        _run,
        module,
        x,
        copies,
        use_reentrant=False,
        preserve_rng_state=False,  # dropout, the only layer that draws, is outside
        context_fn=lambda: (nullcontext(), _statistics_kept(module)),
    )


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Let batch normalisations update copies of their running statistics.

    Otherwise a batch that is computed twice would count twice.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    own = [dict(norm.named_buffers()) for norm in norms]
    for norm, buffers in zip(norms, own, strict=True):
        for name, buffer in buffers.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, own, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
