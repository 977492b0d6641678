"""MS-G3D, the network."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from msg3d_lab import skeletons
from msg3d_lab.graph import Aggregation, Normalization, WindowEdges
from msg3d_lab.model.block import Pathway, STGCBlock
from msg3d_lab.model.kernels.empty_bodies import can_be_looked_at, share_empty
from msg3d_lab.model.kernels.norm import by_batch, counts_copies, pieces
from msg3d_lab.skeletons import Skeleton

__all__ = ["MSG3D", "Pathway", "STGCBlock"]

_LOG = logging.getLogger(__name__)


class MSG3D(nn.Module):
    """MS-G3D, a classifier of actions from skeleton sequences.

    Batch normalisation of the input, three blocks (`STGCBlock`) of width c, 2c and 4c (the
    second and third halve the frames), the mean over frames, joints and persons, a linear
    classifier.

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
            running statistics are the same to the bit.
        share_empty: True. Bodies that are zero throughout are alike, so one is computed for all of
            them, in training and in evaluation; the results are the same to the rounding. It is
            left alone where it would not be exact; a debug log then says why: with dropout in
            training, with another kind of batch normalisation, or when the gradient of the input is
            asked for. Exported and traced programs compute every body, and so does `torch.compile`,
            but not the method `compile`.
        by_clip: True. On a CPU, a batch is evaluated clip by clip when no gradients are kept, which
            needs less memory and time. Set it to False, and `share_empty` too, for hooks that are
            to see whole batches.
        fused: whether this is the form for evaluation that `fuse` makes.

        None of these is an argument, since they are no part of the network: checkpoints do not know
        them.

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
        self.share_empty = True
        self.by_clip = True
        self.fused = False
        self._not_shared = ""
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

        Bodies are told apart outside the blocks, so empty ones are still computed once, which
        `torch.compile` of the whole network cannot.

        Args:
            *args: of `torch.compile`.
            **kwargs: of `torch.compile`. Shapes are dynamic unless said otherwise: one program
                serves any number of bodies.
        """
        self.by_clip = False  # compiled programs are quickest with many bodies at once
        for block in self.blocks:
            block.compile(*args, **{"dynamic": True, **kwargs})

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
        shared = share_empty(x) if self._may_share(x) else None
        x = self.data_bn(x.transpose(1, 2).reshape(N * T, M * V * C))
        x = x.view(N, T, M, V, C).transpose(1, 2).reshape(N * M, T, V, C)
        bodies = x if shared is None else x[shared.kept]
        if self._by_clip(bodies):
            features = torch.cat([self._features(clip) for clip in torch.split(bodies, M)])
        else:
            copies = () if shared is None or not self._by_batch() else shared.copies
            features = self._features(bodies, copies)
        if shared is not None:
            features = features[shared.place]
        features = features.view(N, M, -1).mean(dim=1)
        logits: Tensor = self.fc(features)
        return logits

    def _may_share(self, x: Tensor) -> bool:
        """Whether empty bodies may be carried once; a debug log says why not."""
        if not self.share_empty or not can_be_looked_at(x):
            return False
        reason = ""
        if torch.is_grad_enabled() and x.requires_grad:
            reason = "the input's gradient is asked for, which knows each empty body apart"
        elif self.training and self._block_arguments["dropout"] > 0:
            reason = "dropout makes them differ"
        elif not all(counts_copies(m) for m in self.blocks.modules() if by_batch(m)):
            reason = "a batch normalisation that does not count copies was put in"
        if reason != self._not_shared:
            self._not_shared = reason
            if reason:
                _LOG.debug("empty bodies are computed one by one: %s", reason)
        return not reason

    def _by_clip(self, bodies: Tensor) -> bool:
        """Whether clips are evaluated one after another: they fit into a CPU's caches better."""
        return (
            self.by_clip
            and len(pieces(bodies)) > self.num_persons
            and not torch.is_grad_enabled()
            and not self._by_batch()
        )

    def _by_batch(self) -> bool:
        """Whether the batch's own statistics matter, and with them how many copies there are."""
        return any(map(by_batch, self.blocks.modules()))

    def _features(self, x: Tensor, copies: Sequence[int] = ()) -> Tensor:
        """The mean over frames and joints behind the last block: (B, T, V, C) -> (B, 4c)."""
        recompute = self.recompute and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            x = block(x, recompute=recompute, copies=copies)
        return x.mean(dim=(1, 2))
