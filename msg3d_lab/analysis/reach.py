"""The reach of a network over the body: by its graphs, and by its gradients."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from msg3d_lab.analysis.activations import run_with_cache
from msg3d_lab.analysis.decomposition import check_mode
from msg3d_lab.analysis.masks import learned_graphs
from msg3d_lab.analysis.points import POOLED
from msg3d_lab.graph import hop_distance, hop_shares
from msg3d_lab.model import MSG3D


def receptive_field_by_hop(model: MSG3D) -> pd.DataFrame:
    """Return how the weight of every graph spreads over hops, as designed and as learned.

    Every row of `|A|` is divided by its sum; the share of hop d is what a row gives to joints at d
    edges of the body, averaged over rows. The same for `|A + A_res|`.

    Args:
        model: any MSG3D; compare one with aggregation "disentangled" to one with "powers".

    Returns:
        A row per `graph`, `scale` and `hops`, with the shares `designed` and `learned`, which add
        up to 1 over hops. The mean over scales is the share of the whole layer.

    Source: Liu et al., CVPR 2020, section 3.2, on the bias of powers towards near joints.
    """
    parts = []
    for name, graph in learned_graphs(model).items():
        kinds = {"designed": np.abs(graph.A), "learned": np.abs(graph.total)}
        shares = {kind: hop_shares(A, graph.hops).mean(axis=2) for kind, A in kinds.items()}
        scale, hops = (index.ravel() for index in np.indices(shares["designed"].shape))
        columns = {kind: share.ravel() for kind, share in shares.items()}
        parts.append(pd.DataFrame({"graph": name, "scale": scale, "hops": hops, **columns}))
    return pd.concat(parts, ignore_index=True)


def effective_reach(model: MSG3D, x: Tensor, *, point: str = "block1") -> pd.DataFrame:
    """Return from how many hops away a value inside the network is influenced.

    For every joint, the gradient of its value in the middle frame (its channels summed with random
    signs) with respect to the normalised input is taken; the share of hop d is the fraction of the
    squared gradient at joints at d hops, averaged over receiving joints. It includes all layers up
    to the point, with the activations of this batch.

    Args:
        x: a batch; a handful of clips is enough.
        point: a name from `points(model)` with joints; one backward pass per joint.

    Returns:
        A row per hop, with its `share`; shares add up to 1.

    Raises:
        ValueError: training mode, no such point, or one without joints.

    Source: the effective receptive field, Luo et al., NeurIPS 2016 (arXiv 1701.04128), on a graph.
    """
    check_mode(model)
    if point == POOLED:
        raise ValueError(f"{POOLED!r} has no joints: choose a point before the mean over them")
    _, cache = run_with_cache(model, x, names=["input", point], gradients=True)
    value, source = cache[point], cache["input"]
    N, M, T, V, C = value.shape
    generator = torch.Generator().manual_seed(0)
    signs = (torch.randint(2, (N, M, C), generator=generator) * 2 - 1).to(value)
    rows = []
    for v in range(V):
        of = (value[:, :, T // 2, v] * signs).sum()
        (gradient,) = torch.autograd.grad(of, source, retain_graph=True)
        rows.append(gradient.double().square().sum(dim=(0, 1, 2, 4)).cpu().numpy())
    shares = hop_shares(np.stack(rows), hop_distance(model.skeleton.adjacency)).mean(axis=1)
    return pd.DataFrame({"share": shares}).rename_axis("hops")
