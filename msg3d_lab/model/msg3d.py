"""MS-G3D: the block that joins the pathways, and the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from msg3d_lab import skeletons
from msg3d_lab.graph import Aggregation, Normalization, WindowEdges
from msg3d_lab.model.g3d import MultiWindowG3D
from msg3d_lab.model.ms_gcn import MSGCN
from msg3d_lab.model.ms_tcn import MSTCN
from msg3d_lab.skeletons import Skeleton

__all__ = ["MSG3D", "Pathway", "STGCBlock"]

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

    def forward(self, x: Tensor, *, recompute: bool = False) -> Tensor:
        """Run the block; see the class, and `MSG3D` for `recompute`."""
        run = _recomputed if recompute else _run
        outputs = [
            run(pathway, x) for pathway in (self.factorized, self.g3d) if pathway is not None
        ]
        out: Tensor = self.dropout(run(self.tcn, torch.relu(cast(Tensor, sum(outputs)))))
        return out


class MSG3D(nn.Module):
    """MS-G3D, a classifier of actions from skeleton sequences.

    Batch normalisation of the input, three `STGCBlock`s of width c, 2c and 4c (the second and third
    halve the frames), the mean over frames, joints and persons, a linear classifier.

    The two published dialects are arguments: the author's is `edge_set="chain"` with
    `normalization="symmetric"`, mmaction2's and pyskl's `"star"` with `"column"`.

    Args:
        num_classes: classes.
        skeleton: a layout's name, or a `Skeleton` of your own.
        edge_set: the layout's edge set where it has several; its first one if left out.
        in_channels: C; 3 for x, y, z and for x, y, score.
        num_persons: M; the input's normalisation knows persons apart.
        base_channels: c, width of the first block.
        num_gcn_scales: K + 1 of the factorized pathway.
        num_g3d_scales: K + 1 of the G3D pathway.
        aggregation: "disentangled" or "powers".
        normalization: "symmetric" or "column".
        residual_mask: whether every scale has a learnable mask.
        pathways: "factorized", "g3d" or both.
        window_sizes: tau of each G3D pathway.
        window_dilations: d of each G3D pathway.
        window_edges: "dense" or "grid".
        tcn_dilations: of the temporal convolutions.
        dropout: after each block.

    Attributes:
        recompute: set it to True to train with less memory: each pathway, and each block's last
            layer, keeps its input only and is computed again in backward. Logits, gradients and
            running statistics are the same to the bit. It is no argument, since it is no part of
            the network: checkpoints do not know it.

    Shapes:
        x: (N, M, T, V, C) -> (N, num_classes) logits.

    Raises:
        ValueError: an argument out of its range; an input of another shape.

    Source: Liu et al., CVPR 2020; 3,194,595 parameters at NTU60 settings as in kenziyuliu/MS-G3D.

    Example:
        >>> model = MSG3D(num_classes=60, base_channels=12, num_persons=1)
        >>> model(torch.zeros(2, 1, 16, 25, 3)).shape
        torch.Size([2, 60])
    """

    def __init__(
        self,
        *,
        num_classes: int,
        skeleton: str | Skeleton = "ntu25",
        edge_set: str | None = None,
        in_channels: int = 3,
        num_persons: int = 2,
        base_channels: int = 96,
        num_gcn_scales: int = 13,
        num_g3d_scales: int = 6,
        aggregation: Aggregation = "disentangled",
        normalization: Normalization = "symmetric",
        residual_mask: bool = True,
        pathways: Sequence[Pathway] = ("factorized", "g3d"),
        window_sizes: Sequence[int] = (3, 5),
        window_dilations: Sequence[int] = (1, 1),
        window_edges: WindowEdges = "dense",
        tcn_dilations: Sequence[int] = (1, 2, 3, 4),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if isinstance(skeleton, str):
            skeleton = skeletons.get(skeleton, edge_set=edge_set)
        elif edge_set not in (None, skeleton.edge_set):
            raise ValueError(f"edge_set={edge_set!r}, but the skeleton given is {skeleton.label}")
        self.skeleton = skeleton
        shared: dict[str, Any] = {
            "num_gcn_scales": num_gcn_scales,
            "num_g3d_scales": num_g3d_scales,
            "aggregation": aggregation,
            "normalization": normalization,
            "residual_mask": residual_mask,
            "pathways": tuple(pathways),
            "window_sizes": tuple(window_sizes),
            "window_dilations": tuple(window_dilations),
            "window_edges": window_edges,
            "tcn_dilations": tuple(tcn_dilations),
            "dropout": dropout,
        }
        self.num_classes, self.num_persons, self.in_channels = num_classes, num_persons, in_channels
        self.base_channels = base_channels
        self.recompute = False
        self._block_arguments = shared
        A = skeleton.adjacency
        c = base_channels
        self.data_bn = nn.BatchNorm1d(num_persons * skeleton.num_joints * in_channels)
        self.blocks = nn.ModuleList(
            [
                STGCBlock(in_channels=in_channels, out_channels=c, A=A, first=True, **shared),
                STGCBlock(in_channels=c, out_channels=2 * c, A=A, stride=2, **shared),
                STGCBlock(in_channels=2 * c, out_channels=4 * c, A=A, stride=2, **shared),
            ]
        )
        self.fc = nn.Linear(4 * c, num_classes)

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that build this model again."""
        return {
            "num_classes": self.num_classes,
            "skeleton": self.skeleton,
            "in_channels": self.in_channels,
            "num_persons": self.num_persons,
            "base_channels": self.base_channels,
            **self._block_arguments,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Return logits; see the class."""
        expected = (self.num_persons, self.skeleton.num_joints, self.in_channels)
        if x.ndim != 5 or (x.shape[1], x.shape[3], x.shape[4]) != expected:
            M, V, C = expected
            raise ValueError(
                f"this model takes (N, {M}, T, {V}, {C}): {M} persons, {V} joints of "
                f"{self.skeleton.label}, {C} channels; found {tuple(x.shape)}"
            )
        N, M, T, V, C = x.shape
        x = self.data_bn(x.transpose(1, 2).reshape(N * T, M * V * C))
        x = x.view(N, T, M, V, C).transpose(1, 2).reshape(N * M, T, V, C)
        recompute = self.recompute and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            x = block(x, recompute=recompute)
        logits: Tensor = self.fc(x.mean(dim=(1, 2)).view(N, M, -1).mean(dim=1))
        return logits


def _run(module: nn.Module, x: Tensor) -> Tensor:
    return module(x)


def _recomputed(module: nn.Module, x: Tensor) -> Tensor:
    """The module's output, of whose activations only the input is kept until backward."""
    from torch.utils.checkpoint import checkpoint

    return checkpoint(
        module,
        x,
        use_reentrant=False,
        preserve_rng_state=False,  # dropout, the only layer that draws, is outside
        context_fn=lambda: (nullcontext(), _statistics_kept(module)),
    )


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Let batch normalisations update copies of their running statistics.

    Otherwise a batch that is computed twice would count twice.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
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
