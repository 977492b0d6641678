"""Learned graphs: the residual masks that training added to the body's adjacencies.

Every scale of every graph convolution aggregates with A + A_res: A is designed, and the residual
mask A_res is learned from values within 1e-6 of zero. One weight of a mask serves all channels and
is on the scale of A, so that an edge can be compared between networks of one recipe.

In every matrix a row receives and a column sends, as in `msg3d_lab.graph`. Weights have no unit.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from msg3d_lab.analysis.points import graph_layers
from msg3d_lab.evaluation.statistics import holm
from msg3d_lab.graph import hop_distance, window_frames
from msg3d_lab.model import G3D, MSG3D
from msg3d_lab.skeletons import Skeleton


@dataclass(frozen=True, eq=False)
class LearnedGraph:
    """The adjacencies of one graph convolution.

    Args:
        name: of its point: "block1.factorized", "block1.g3d.window3".
        A: designed.
        A_res: learned; zeros if the network has no masks.
        skeleton: the joint layout.
        window_size: W, steps of a G3D window; 1 for the graph of single frames.
        window_dilation: frames between two steps.

    Shapes:
        A, A_res: (K+1, W * V, W * V), receiver first; node w * V + v is joint v in step w.
    """

    name: str
    A: np.ndarray
    A_res: np.ndarray
    skeleton: Skeleton
    window_size: int = 1
    window_dilation: int = 1

    @property
    def total(self) -> np.ndarray:
        """A + A_res, which the network aggregates with."""
        return self.A + self.A_res

    @property
    def frames(self) -> np.ndarray:
        """(W * V,) the frame of every node, relative to the frame of the output.

        Frames are those of the block's input; after strides they are farther apart than the
        clip's: in block 3 of the paper's network, by two frames of the clip.
        """
        steps = window_frames(self.window_size, self.window_dilation)
        return np.repeat(steps, self.skeleton.num_joints)

    @property
    def hops(self) -> np.ndarray:
        """(W * V, W * V) hops between the joints of two nodes, in any frames."""
        W = self.window_size
        return np.tile(hop_distance(self.skeleton.adjacency), (W, W))


def learned_graphs(model: MSG3D) -> dict[str, LearnedGraph]:
    """Return the designed and learned adjacencies of every graph convolution, by name.

    Raises:
        ValueError: not an MSG3D.

    Example:
        >>> model = MSG3D(num_classes=4, base_channels=6, num_g3d_scales=2, window_sizes=(3, 5))
        >>> learned_graphs(model)["block2.g3d.window5"].total.shape
        (2, 125, 125)
    """
    graphs = {}
    for name, layer in graph_layers(model).items():
        own = layer.adjacency
        A = own.A.detach().double().cpu().numpy()
        mask = np.zeros_like(A) if own.A_res is None else own.A_res.detach().double().cpu().numpy()
        window = (layer.window.size, layer.window.dilation) if isinstance(layer, G3D) else (1, 1)
        graphs[name] = LearnedGraph(name, A, mask, model.skeleton, *window)
    return graphs


def mask_change(
    models: MSG3D | Sequence[MSG3D], untrained: MSG3D | Sequence[MSG3D] | None = None
) -> pd.DataFrame:
    """Return what training added to every edge, over networks that differ only in their seed.

    Args:
        models: one trained network, or one per seed.
        untrained: the networks they started from, in the same order, or one for all. Default:
            changes are relative to 0; masks start within 1e-6 of it.

    Returns:
        A row per `graph`, `scale`, `receiver` and `sender` (names of joints), with
        `receiver_frame` and `sender_frame`, relative to the middle of the window; `hops` between
        the two joints; `A`, as designed; the `mean` change and its `sd` over seeds; `p_value` of a
        t-test that the mean is 0; `p_holm`, adjusted for all edges and scales of the graph (Holm
        1979). One seed has no sd and no p-values (NaN). With few seeds, few edges are significant:
        adjusted for thousands of edges, a change must be many times its sd.

    Raises:
        ValueError: networks with different graphs or without masks, or not one untrained network
            per trained one.
    """
    trained = _matching(models)
    if untrained is not None:
        starts = _matching(untrained, like=trained[0])
    parts = []
    for name, graph in trained[0].items():
        masks = np.stack([graphs[name].A_res for graphs in trained])
        if untrained is not None:
            masks -= np.stack([graphs[name].A_res for graphs in starts])  # one for all, or each
        p = _t_test(masks)
        K, nodes, _ = graph.A.shape
        scale, v, u = (index.ravel() for index in np.indices(graph.A.shape))
        joints = np.tile(np.arange(graph.skeleton.num_joints), graph.window_size)
        names = pd.Index(graph.skeleton.joints)
        sd = masks.std(axis=0, ddof=1) if len(masks) > 1 else np.full(masks.shape[1:], np.nan)
        columns = {
            "graph": pd.Categorical([name] * (K * nodes * nodes), list(trained[0])),
            "scale": scale,
            "receiver": pd.Categorical.from_codes(joints[v], names),
            "sender": pd.Categorical.from_codes(joints[u], names),
            "receiver_frame": graph.frames[v],
            "sender_frame": graph.frames[u],
            "hops": graph.hops[v, u],
            "A": graph.A.ravel(),
            "mean": masks.mean(axis=0).ravel(),
            "sd": sd.ravel(),
            "p_value": p.ravel(),
            "p_holm": holm(p.ravel()),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def mask_agreement(models: Sequence[MSG3D]) -> pd.DataFrame:
    """Return how similar the masks of networks trained from several seeds are.

    Args:
        models: two networks or more that differ only in their seed.

    Returns:
        A row per `graph` and `scale`, with the mean, `lowest` and `highest` Pearson `correlation`
        of the masks of two networks, over all pairs. Untrained networks are near 0; a mask whose
        weights are all equal has no correlation (NaN).

    Raises:
        ValueError: networks with different graphs, or without masks.
    """
    graphs = _matching(models)
    upper = np.triu_indices(len(graphs), k=1)
    rows = []
    for name, graph in graphs[0].items():
        for scale in range(len(graph.A)):
            masks = [own[name].A_res[scale].ravel() for own in graphs]
            with np.errstate(invalid="ignore"):  # a mask of equal weights has no correlation
                pairs = np.corrcoef(masks)[upper]
            rows.append((name, scale, pairs.mean(), pairs.min(), pairs.max()))
    return pd.DataFrame(rows, columns=["graph", "scale", "correlation", "lowest", "highest"])


def strongest_edges(
    changes: pd.DataFrame,
    *,
    top: int = 12,
    min_hops: int = 2,
    min_frames: int = 0,
    graph: str = "*",
) -> pd.DataFrame:
    """Return the edges with the largest changes, positive or negative.

    Args:
        changes: rows of `mask_change`, such as those of a scale, or with a low `p_holm`.
        top: how many.
        min_hops: least number of hops between the joints; 2 leaves out a joint itself and its
            neighbours.
        min_frames: least number of frames between the two ends.
        graph: name or pattern, such as "block1.*" or "*.g3d.*".

    Returns:
        Rows of `changes`, by the absolute mean change, the largest first.

    Raises:
        ValueError: no graph of this name.
    """
    names = list(changes["graph"].unique())
    chosen = fnmatch.filter(names, graph)
    if not chosen:
        raise ValueError(f"no graph is called {graph!r}: there are {', '.join(names)}")
    apart = (changes["receiver_frame"] - changes["sender_frame"]).abs()
    keep = changes["graph"].isin(chosen) & (changes["hops"] >= min_hops) & (apart >= min_frames)
    order = changes.loc[keep, "mean"].abs().sort_values(ascending=False, kind="stable").index
    return changes.loc[order].head(top).reset_index(drop=True)


def _matching(
    models: MSG3D | Sequence[MSG3D], *, like: dict[str, LearnedGraph] | None = None
) -> list[dict[str, LearnedGraph]]:
    """The graphs of networks with the same designed adjacencies."""
    networks = [models] if isinstance(models, MSG3D) else list(models)
    for network in networks:
        if not network.arguments["residual_mask"]:
            raise ValueError("a network was built with residual_mask=False: it has no masks")
    found = [learned_graphs(network) for network in networks]
    first = found[0] if like is None else like
    for graphs in found:
        other = [n for n in first if n not in graphs or not np.array_equal(first[n].A, graphs[n].A)]
        if other or graphs.keys() != first.keys():
            raise ValueError(
                "the networks have different graphs, so that their edges cannot be compared: "
                f"{', '.join((other or list(graphs.keys() - first.keys()))[:5])} differ"
            )
    return found


def _t_test(values: np.ndarray) -> np.ndarray:
    """Two-sided p-values that the mean over the first axis is 0; NaN where unknown."""
    n = len(values)
    if n < 2:
        return np.full(values.shape[1:], np.nan)
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    t = np.divide(mean, sd / np.sqrt(n), out=np.full_like(mean, np.nan), where=sd > 0)
    p: np.ndarray = 2 * stats.t.sf(np.abs(t), n - 1)
    # An edge without any change has p = 1; equal changes in all seeds allow no test.
    return np.where((sd == 0) & (mean == 0), 1.0, p)
