"""Decompose logits and sums inside MS-G3D into parts, exactly.

Two places of MS-G3D are linear. After the last block come means and a matrix, so that a logit is
the mean of one number per person, frame and joint. Inside a block, the pathways are added before
the activation.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        classes: the class that is explained: one for all clips, or one per clip. Default: the
            predicted classes.

    Shapes:
        x: (N, M, T, V, C) -> (N, M, T, V); each frame of the last block is spread over the frames
            of the clip that it stands for: see `spread_over_frames`.
    Units: of logits.

    Source: class activation maps, Zhou et al., CVPR 2016 (arXiv 1512.04150), which upsample; for
        skeletons and ST-GCN, Song et al. 2019 (arXiv 1905.06774).
    """
    check_mode(model)
    last = f"block{len(model.blocks)}"
    logits, cache = run_with_cache(model, x, names=[last])
    chosen = logits.argmax(dim=1) if classes is None else torch.as_tensor(classes, device=x.device)
    rows = model.fc.weight[chosen.long().expand(len(x))]
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


def scale_shares(model: MSG3D, x: Tensor) -> pd.DataFrame:
    """Return how much each scale (each hop) contributes to each graph convolution; exact.

    A graph convolution adds one term per scale, `(A_k + A_res_k) x W_k`, then normalises the sum,
    which is linear in evaluation mode, and applies a ReLU. The network runs once per graph and
    clip, so that only a clip's terms are in memory: 0.3 GB for 100 frames of NTU RGB+D.

    Returns:
        A row per `graph` ("block1.factorized", "block1.g3d.window3") and `scale`, with its `share`:
        the covariance of its term with the normalised sum over the sum's variance, both within
        channels and then summed over channels. Shares of a graph add up to 1.
    """
    check_mode(model)
    rows = []
    for graph, layer in graph_layers(model).items():
        count, sums, products = 0, torch.zeros(()), torch.zeros(())
        for clip in torch.split(x, 1):
            # First to the CPU, then to float64, which Apple's GPUs do not have.
            terms = _scale_terms(model, clip, graph, layer).flatten(1, -2).cpu().double()
            total = terms.sum(dim=0)
            count += len(total)
            sums = sums + terms.sum(dim=1)
            products = products + torch.stack([(term * total).sum(dim=0) for term in terms])
        means = sums / count
        given = (products / count - means * means.sum(dim=0)).sum(dim=1)
        shares = (given / given.sum()).tolist()
        rows += [{"graph": graph, "scale": k, "share": share} for k, share in enumerate(shares)]
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


def check_mode(network: object) -> None:
    """Raise ValueError if a network is in training mode; other callables have no mode."""
    if getattr(network, "training", False):
        raise ValueError(
            "the network is in training mode, where each forward pass changes it and depends on "
            "the whole batch: call model.eval() first"
        )
