"""MS-G3D, the network: where its layers are chosen, and how they follow one another."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from msg3d_lab import skeletons
from msg3d_lab.graph import Aggregation, Normalization, WindowEdges, window_graph
from msg3d_lab.model.adjacency import ScaleAdjacency
from msg3d_lab.model.block import STGCBlock
from msg3d_lab.model.g3d import G3D, MultiWindowG3D
from msg3d_lab.model.kernels.bodies import has_concrete_values, run_on_bodies, why_not_shared
from msg3d_lab.model.kernels.graph_conv import Window
from msg3d_lab.model.ms_gcn import MSGCN
from msg3d_lab.model.ms_tcn import MSTCN
from msg3d_lab.skeletons import Skeleton

Pathway = Literal["factorized", "g3d"]
_LOG = logging.getLogger(__name__)


class MSG3D(nn.Module):
    """MS-G3D, a classifier of actions from skeleton sequences.

    Batch normalisation of the input; three blocks (`STGCBlock`) of width c, 2c and 4c, of which the
    second and third halve the frames; the mean over frames, joints and persons; a linear
    classifier.

    The two published dialects are arguments: the author's is `edge_set="chain"` with
    `normalization="symmetric"`, that of mmaction2 and pyskl `"star"` with `"column"`.

    Args:
        num_classes: classes.
        skeleton: a layout's name, or a `Skeleton` of your own.
        edge_set: the layout's edge set where it has several. Default: its first one.
        in_channels: C; 3 for x, y, z and for x, y, score.
        num_persons: M; the input's normalisation has weights of its own for each person.
        base_channels: c, width of the first block.
        num_gcn_scales: K + 1 of the factorized pathway.
        num_g3d_scales: K + 1 of the G3D pathway.
        aggregation: "disentangled" or "powers".
        normalization: "symmetric" or "column".
        residual_mask: whether every scale has a learnable mask.
        pathways: "factorized", "g3d" or both.
        window_sizes: tau of each G3D layer.
        window_dilations: d of each G3D layer.
        window_edges: "dense" or "grid".
        tcn_dilations: of the temporal convolutions.
        dropout: after each block.

    Attributes:
        arguments: the keyword arguments that build this model again.
        recompute: True trains with less memory: each pathway, and each block's last layer, keeps
            its input only and is computed again in backward. Logits, gradients and running
            statistics are the same to the bit. Default: False.
        share_empty: whether bodies that are zero throughout are computed once for all clips, in
            training and in evaluation. The results are the same up to rounding. Where they would
            not be, every body is computed, and a debug log says why: with dropout in training, with
            another kind of batch normalisation, or when the gradient of the input is asked for.
            Exported and traced programs compute every body, and so does `torch.compile`, but not
            the method `compile`. Default: True.
        sliced: whether a CPU evaluates a batch in slices when no gradients are kept, as many bodies
            at once as need little memory. Set it and `share_empty` to False for hooks that are to
            see whole batches. Default: True.
        fused: whether this is the form for evaluation that `fuse` makes.

        The last four are no arguments, because they are no part of the network: checkpoints do not
        hold them.

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
            raise ValueError(
                f"edge_set={edge_set!r}, but the skeleton given is {skeleton.label}: leave "
                "edge_set out (edge_set=None; in a recipe --set edge_set=null), or load the layout "
                "with it"
            )
        if not pathways or not set(pathways) <= {"factorized", "g3d"}:
            raise ValueError(
                f"pathways are 'factorized', 'g3d' or both, found {list(pathways) or 'none'}"
            )
        if len(window_sizes) != len(window_dilations) or not window_sizes:
            raise ValueError(
                f"expected one window dilation per window size, found sizes {list(window_sizes)} "
                f"and dilations {list(window_dilations)}"
            )
        self.arguments: dict[str, Any] = {
            "num_classes": num_classes,
            "skeleton": skeleton,
            "in_channels": in_channels,
            "num_persons": num_persons,
            "base_channels": base_channels,
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
        self.skeleton = skeleton
        self.num_classes, self.num_persons, self.in_channels = num_classes, num_persons, in_channels
        self.recompute = False
        self.share_empty = True
        self.sliced = True
        self.fused = False
        self._not_shared = ""

        scales_of = partial(
            ScaleAdjacency,
            aggregation=aggregation,
            normalization=normalization,
            residual_mask=residual_mask,
        )
        mstcn = partial(MSTCN, dilations=tcn_dilations)

        def factorized(width_in: int, width: int, width_out: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                MSGCN(
                    in_channels=width_in,
                    out_channels=width,
                    adjacency=scales_of(skeleton.adjacency, num_scales=num_gcn_scales),
                ),
                mstcn(in_channels=width, out_channels=width_out, stride=stride),
                mstcn(in_channels=width_out, out_channels=width_out, activation=False),
            )

        def g3d(width_in: int, width: int, width_out: int, stride: int) -> MultiWindowG3D:
            return MultiWindowG3D(
                [
                    G3D(
                        in_channels=width_in,
                        mid_channels=width,
                        out_channels=width_out,
                        adjacency=scales_of(
                            window_graph(skeleton.adjacency, size, edges=window_edges),
                            num_scales=num_g3d_scales,
                        ),
                        window=Window(size, stride, dilation),
                    )
                    for size, dilation in zip(window_sizes, window_dilations, strict=True)
                ]
            )

        def block(width_in: int, width: int, width_out: int, *, stride: int = 1) -> STGCBlock:
            widths = width_in, width, width_out
            return STGCBlock(
                factorized=factorized(*widths, stride) if "factorized" in pathways else None,
                g3d=g3d(*widths, stride) if "g3d" in pathways else None,
                tcn=mstcn(in_channels=width_out, out_channels=width_out),
                dropout=dropout,
            )

        c = base_channels
        self.data_bn = nn.BatchNorm1d(num_persons * skeleton.num_joints * in_channels)
        # The few channels of the input are widened at once, others in the last layer of a pathway.
        self.blocks = nn.ModuleList(
            [
                block(in_channels, c, c),
                block(c, c, 2 * c, stride=2),
                block(2 * c, 2 * c, 4 * c, stride=2),
            ]
        )
        self.fc = nn.Linear(4 * c, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits; see the class."""
        self._check_shape(x)
        N, M, T, V, C = x.shape
        bodies = self.data_bn(x.transpose(1, 2).reshape(N * T, M * V * C))
        bodies = bodies.view(N, T, M, V, C).transpose(1, 2).reshape(N * M, T, V, C)
        features = run_on_bodies(
            self.blocks,
            self._features,
            bodies,
            clips=x,
            share_empty=self._may_share(x),
            values=T * V * self.fc.in_features // 2 if self.sliced else None,
        )
        logits: Tensor = self.fc(features.view(N, M, -1).mean(dim=1))
        return logits

    def _features(self, x: Tensor) -> Tensor:
        """Run the blocks and average over frames and joints: (B, T, V, C) -> (B, 4c)."""
        recompute = self.recompute and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            x = block(x, recompute=recompute)
        return x.mean(dim=(1, 2))

    def _check_shape(self, x: Tensor) -> None:
        M, V, C = self.num_persons, self.skeleton.num_joints, self.in_channels
        if x.ndim != 5 or (x.shape[1], x.shape[3], x.shape[4]) != (M, V, C):
            raise ValueError(
                f"this model takes (N, {M}, T, {V}, {C}): {M} persons, {V} joints of "
                f"{self.skeleton.label}, {C} channels; found {tuple(x.shape)}"
            )

    def _may_share(self, x: Tensor) -> bool:
        """Whether empty bodies may be computed once; a debug log says why not."""
        if not self.share_empty or not has_concrete_values(x):
            return False
        reason = why_not_shared(self.blocks, x)
        if reason and reason != self._not_shared:
            _LOG.debug("empty bodies are computed one by one: %s", reason)
        self._not_shared = reason
        return not reason

    def train(self, mode: bool = True) -> MSG3D:
        """Set the mode, as every module does; a fused network has only one.

        Raises:
            RuntimeError: a fused network is to be trained.
        """
        if mode and self.fused:
            raise RuntimeError(
                "a fused network cannot be trained, its normalisations are gone: train the one it "
                "was made of, or load it without fused=True"
            )
        return super().train(mode)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the blocks in place, for evaluation; the first batch then takes half a minute.

        Empty bodies are found outside the blocks, so they are still computed once, unlike with
        `torch.compile` of the whole network.

        Args:
            *args: of `torch.compile`.
            **kwargs: of `torch.compile`. Shapes are dynamic by default: one program serves any
                number of bodies.
        """
        self.sliced = False  # compiled programs are fastest with many bodies at once
        for block in self.blocks:
            block.compile(*args, **{"dynamic": True, **kwargs})
