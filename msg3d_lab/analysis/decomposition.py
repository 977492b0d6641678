"""Decompose logits and sums inside MS-G3D into parts, exactly.

Two places of MS-G3D are linear. After the last block come means and a matrix, so that a logit is
the mean of one number per person, frame and joint. Inside a block, the pathways are added before
the activation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor

from msg3d_lab.analysis.activations import run_with_cache
from msg3d_lab.analysis.points import graph_layers, list_points
from msg3d_lab.model import G3D, MSG3D, MSGCN


def class_activation(
    model: MSG3D,
    x: Tensor,
    classes: int | Sequence[int] | Tensor | None = None,
) -> Tensor:
    """Return the contribution of every person, frame and joint to a logit.

    The mean over persons, frames and joints is the class's logit minus its bias
    (`model.fc.bias[class]`), up to rounding errors. Absent persons count as well: the network
    computes activations for them too.

    A value belongs to a place of the last block, which has seen all joints within reach and many
    frames: it tells where the network keeps the evidence, not which input it came from.

    Args:
        model: the network, in evaluation mode.
        x: a batch.
        classes: the class that is explained: one for all clips, or one per clip. Default: the
            predicted classes.

    Shapes:
        x: (N, M, T, V, C) -> (N, M, T, V); each frame of the last block is spread over the frames
            of the clip that it stands for: see `spread_over_frames`.
    Units: of logits.

    Raises:
        ValueError: no such class, not one class per clip, or a network in training mode.

    Source: class activation maps, Zhou et al., CVPR 2016 (arXiv 1512.04150), which upsample; for
        skeletons and ST-GCN, Song et al. 2019 (arXiv 1905.06774).
    """
    check_mode(model)
    last = f"block{len(model.blocks)}"
    logits, cache = run_with_cache(model, x, names=[last])
    rows = model.fc.weight[_classes(classes, logits)]
    values = torch.einsum("nmtvc,nc->nmtv", cache[last], rows.to(cache[last])).detach()
    return spread_over_frames(values, x.shape[2])


def spread_over_frames(values: Tensor, clip_len: int) -> Tensor:
    """Spread the values of a layer with fewer frames over the frames of the clip.

    Frame t of the clip gets the value of the layer's frame t * T' // T, times T / (T' * n) if n
    frames share that value, so that the mean over frames does not change. If T is a multiple of T',
    the factor is 1. The receptive field of the layer's frame is centred near the first of its n
    frames.

    Shapes:
        (N, M, T', V) -> (N, M, clip_len, V), T' at most clip_len.
    """
    count = values.shape[2]
    source = torch.arange(clip_len, device=values.device) * count // clip_len
    sharing = torch.bincount(source, minlength=count)
    factor = clip_len / (count * sharing.to(values))
    return (values * factor[:, None])[:, :, source]


def pathway_contributions(model: MSG3D, x: Tensor) -> dict[str, dict[str, Tensor]]:
    """Return the contribution of each pathway to each block's sum, to which it applies a ReLU.

    Args:
        model: the network, in evaluation mode.
        x: a batch.

    Returns:
        For each block its pathways, "factorized" and one per G3D window ("g3d.window3").

    Shapes:
        x: (N, M, T, V, C) -> (N, M, T', V, C') per pathway, with the block's T' and C'.

    Source: Liu et al., CVPR 2020, figure 3: pathways are added before the activation.
    """
    check_mode(model)
    terms: dict[str, dict[str, str]] = {}
    for point in list_points(model):
        block, *path = point.name.split(".")
        is_window = len(path) == 2 and path[0] == "g3d"
        if path == ["factorized"] or is_window:
            terms.setdefault(block, {})[".".join(path)] = point.name
    names = [name for block in terms.values() for name in block.values()]
    _, cache = run_with_cache(model, x, names=names)
    return {
        block: {pathway: cache[name] for pathway, name in own.items()}
        for block, own in terms.items()
    }


def scale_shares(model: MSG3D, x: Tensor, *, batch_size: int = 4) -> pd.DataFrame:
    """Return how much each scale (each hop) contributes to each graph convolution; exact.

    A graph convolution adds one term per scale, `(A_k + A_res_k) x W_k`, then normalises the sum,
    which is linear in evaluation mode, and applies a ReLU. The terms of a graph are kept for
    `batch_size` clips at a time; a clip of 100 frames of NTU RGB+D needs about 0.2 GB.

    Args:
        model: the network, in evaluation mode; it runs once per graph.
        x: a batch.
        batch_size: clips at a time; the result is of all clips.

    Returns:
        A row per `graph` ("block1.factorized", "block1.g3d.window3") and `scale`, with its `share`:
        the covariance of its term with the normalised sum over the sum's variance, both within
        channels and then summed over channels. Shares of a graph add up to 1.

    Raises:
        ValueError: the network is in training mode, or a batch size below 1.
    """
    check_mode(model)
    if batch_size < 1:
        raise ValueError(f"expected a batch_size of at least 1, found {batch_size}")
    rows = []
    for graph, layer in graph_layers(model).items():
        sums = _Sums()
        for part in torch.split(x, batch_size):
            sums.add(_scale_terms(model, part, graph, layer))
        rows += [{"graph": graph, "scale": k, "share": s} for k, s in enumerate(sums.shares())]
    return pd.DataFrame(rows)


@torch.no_grad()
def _scale_terms(model: MSG3D, x: Tensor, graph: str, layer: MSGCN | G3D) -> Tensor:
    """A graph convolution's normalised sum by scale, without its constant: (K + 1, ..., C)."""
    K, conv, bn = len(layer.adjacency.A), layer.mlp.conv, cast(Any, layer.mlp.bn)
    _, cache = run_with_cache(model, x, names=[f"{graph}.scale{k}" for k in range(K)])
    terms = list(cache.values())
    if isinstance(layer, MSGCN):
        weights = conv.weight.view(conv.out_channels, K, -1).unbind(dim=1)
        terms = [term @ W.T for term, W in zip(terms, weights, strict=True)]
    factor = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    # G3D's terms hold the channels of every window step, one after another.
    return torch.stack([t.reshape(*t.shape[:4], -1, len(factor)) * factor for t in terms])


class _Sums:
    """Shares of the variance of a sum's terms, over batches: (terms, ..., C)."""

    def __init__(self) -> None:
        self.count = 0
        self.origin = self.sums = self.products = torch.zeros(())

    def add(self, terms: Tensor) -> None:
        """Add the places of a batch."""
        flat = terms.flatten(1, -2)
        if not self.count:
            # Values relative to about their mean lose less precision in the products.
            self.origin = torch.stack([_double(term).mean(dim=0) for term in flat])
            self.sums = self.products = torch.zeros_like(self.origin)

        def moved() -> Iterator[Tensor]:
            # One term at a time: all of them in double precision would fill the memory.
            return (_double(term) - start for term, start in zip(flat, self.origin, strict=True))

        total = cast(Tensor, sum(moved()))
        self.count += flat.shape[1]
        self.sums = self.sums + torch.stack([term.sum(dim=0) for term in moved()])
        products = [(term * total).sum(dim=0) for term in moved()]
        self.products = self.products + torch.stack(products)

    def shares(self) -> list[float]:
        """The covariance of each term with the sum, over the sum's variance; within channels."""
        means = self.sums / self.count
        given = (self.products / self.count - means * means.sum(dim=0)).sum(dim=1).tolist()
        variance = sum(given)
        return [value / variance if variance else float("nan") for value in given]


def _double(values: Tensor) -> Tensor:
    """In double precision, on the CPU if the device is Apple's GPU, which has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def check_mode(network: object) -> None:
    """Raise ValueError if a network is in training mode; other callables have no mode."""
    if getattr(network, "training", False):
        raise ValueError(
            "the network is in training mode, where each forward pass changes it and depends on "
            "the whole batch: call model.eval() first"
        )


def _classes(classes: int | Sequence[int] | Tensor | None, logits: Tensor) -> Tensor:
    """One class per clip: (N,)."""
    N, count = logits.shape
    if classes is None:
        return logits.argmax(dim=1)
    chosen = torch.as_tensor(classes, device=logits.device).long()
    if chosen.ndim == 0:
        chosen = chosen.expand(N)
    if chosen.shape != (N,):
        raise ValueError(
            f"expected one class, or one for each of {N} clips, found shape {tuple(chosen.shape)}"
        )
    wrong = chosen[(chosen < 0) | (chosen >= count)].tolist()
    if wrong:
        raise ValueError(f"classes are 0 to {count - 1}, found {wrong[0]}")
    return chosen
