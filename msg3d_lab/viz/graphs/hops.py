"""How the weight of a scale spreads over hops: adjacency powers against disentangled scales.

Powers count walks, and walks wander near where they start; the k-adjacency of MS-G3D gives its
weight to the joints at exactly k hops (and the joint itself).

Source: Liu et al., CVPR 2020 (arXiv 2003.14111), section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msg3d_lab.graph import Aggregation, Normalization, hop_distance, scale_adjacencies
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.graphs.adjacency import body_heat
from msg3d_lab.viz.style import (
    CATEGORIES,
    FAINT,
    INK,
    MUTED,
    new_axes,
    new_figure,
    sequential,
    styled,
)

__all__ = ["disentangled_figure", "hop_figure", "hop_share", "hop_share_table"]

_NAMES: dict[Aggregation, str] = {"powers": "adjacency powers", "disentangled": "disentangled"}
# The weight drawn as the largest dot: one scale for all pictures, so that they can be compared.
_LARGEST = 0.5


def hop_share_table(
    scales: np.ndarray, skeleton: Skeleton, *, focus: int | None = None
) -> pd.DataFrame:
    """Return how the weight of each scale spreads over hop distances.

    Every row of an adjacency is divided by its sum; the share of hop d is what the row gives to the
    joints at d hops, averaged over the rows.

    Args:
        scales: non-negative adjacencies, receiver first, as `graph.scale_adjacencies` gives them.
        skeleton: the joint layout.
        focus: count this joint's rows only.

    Shapes:
        scales: (K+1, V, V) -> table with K+1 rows `k` and a column per hop; rows sum to 1.

    Raises:
        ValueError: the joints do not match the skeleton, or a weight is negative.

    Example:
        >>> from msg3d_lab import graph, skeletons
        >>> body = skeletons.get("ntu25")
        >>> scales = graph.scale_adjacencies(body.adjacency, 3, normalization="column")
        >>> head = body.joints.index("head")
        >>> hop_share_table(scales, body, focus=head).loc[2, [0, 1, 2]].tolist()
        [0.5, 0.0, 0.5]
    """
    scales, V = np.asarray(scales, dtype=float), skeleton.num_joints
    if scales.ndim != 3 or scales.shape[1:] != (V, V) or (scales < 0).any():
        raise ValueError(
            f"expected non-negative adjacencies (K+1, {V}, {V}) for {skeleton.label}, "
            f"found {scales.shape}, smallest weight {scales.min(initial=0):g}"
        )
    distance = hop_distance(skeleton.adjacency)
    hops = np.unique(distance[np.isfinite(distance)]).astype(int)
    rows = slice(None) if focus is None else [focus]
    total = scales.sum(axis=2, keepdims=True)
    shares = np.divide(scales, total, out=np.zeros_like(scales), where=total > 0)
    table = [[np.where(distance == d, A, 0)[rows].sum(axis=1).mean() for d in hops] for A in shares]
    return pd.DataFrame(
        table,
        index=pd.RangeIndex(len(scales), name="k"),
        columns=pd.Index(hops, name="hops away"),
    )


@styled
def hop_share(
    shares: pd.DataFrame, *, title: str | None = None, vmax: float = 1.0, ax: Axes | None = None
) -> Axes:
    """Draw a table of `hop_share_table` as a heatmap with the percentages written in it."""
    values = shares.to_numpy(dtype=float)
    rows, columns = values.shape
    ax = new_axes(ax, (0.42 * columns + 1.2, 0.36 * rows + 1.1))
    image = ax.imshow(
        np.ma.masked_less(values, 0.0005), cmap=sequential(), vmin=0, vmax=vmax, aspect="auto"
    )
    for (row, column), share in np.ndenumerate(values):
        if share >= 0.005:
            red, green, blue, _ = image.cmap(image.norm(share))
            dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
            ax.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else INK,
            )
    ax.set_xticks(range(columns), shares.columns)
    ax.set_yticks(range(rows), shares.index)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="hops away", ylabel="scale k", title=title or "")
    return ax


@styled
def hop_figure(
    skeleton: Skeleton, k: int, *, focus: int, normalization: Normalization = "symmetric"
) -> Figure:
    """Draw what one joint hears at scale k: by the power, by the k-adjacency, and by hop distance.

    Args:
        skeleton: the joint layout.
        k: the scale, 0 or more.
        focus: the receiving joint.
        normalization: of the adjacencies; see `graph.normalize`.

    Raises:
        ValueError: k is negative, or there is no such joint.
    """
    _check_joint(focus, skeleton)
    rows = _focus_rows(skeleton, [k], focus, normalization)
    figure, axes = new_figure((9.6, 3.9), 1, 3, width_ratios=[1, 1, 1.15])
    power, disentangled, bars = axes[0]
    for ax, (kind, name), sign in zip((power, disentangled), _NAMES.items(), "^_", strict=True):
        title = f"{name}, $A{sign}{{{k if sign == '^' else f'({k})'}}}$"
        body_heat(rows[kind][0], skeleton, focus=focus, vmax=_LARGEST, title=title, ax=ax)
    distance = hop_distance(skeleton.adjacency)[focus]
    hops = np.unique(distance[np.isfinite(distance)]).astype(int)
    sides = zip(_NAMES.items(), (-0.2, 0.2), CATEGORIES[1::-1], strict=True)
    for (kind, name), offset, color in sides:
        share = [100 * rows[kind][0][distance == d].sum() for d in hops]
        bars.bar(hops + offset, share, width=0.4, color=color, label=name)
    bars.set(xlabel="hops away", ylabel="share of the weight (%)", ylim=(0, 100))
    bars.set_xticks(hops)
    bars.grid(axis="y", color=FAINT, lw=0.7)
    bars.set_axisbelow(True)
    bars.legend(loc="upper right", fontsize=9)
    figure.suptitle(
        f"What the {skeleton.joints[focus]} (ringed) hears at scale k = {k}",
        x=0.01,
        ha="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


@styled
def disentangled_figure(
    skeleton: Skeleton,
    *,
    focus: int,
    hops: Sequence[int] | None = None,
    normalization: Normalization = "symmetric",
) -> Figure:
    """Draw, scale by scale, which joints one joint hears: adjacency powers above, MS-G3D's below.

    The README's figure is this one, for the left wrist of "ntu25", saved at 110 dpi.

    Args:
        skeleton: the joint layout.
        focus: the receiving joint.
        hops: the scales k to show, one column each; by default up to five, spread evenly from 1 to
            the farthest joint.
        normalization: of the adjacencies; see `graph.normalize`.

    Raises:
        ValueError: no scale, a negative one, or there is no such joint.
    """
    _check_joint(focus, skeleton)
    distance = hop_distance(skeleton.adjacency)[focus]
    if hops is None:
        farthest = max(distance[np.isfinite(distance)].max(), 1)
        hops = np.unique(np.linspace(1, farthest, 5).round()).astype(int).tolist()
    if not hops:
        raise ValueError("expected at least one scale k to show, found none")
    rows = _focus_rows(skeleton, hops, focus, normalization)
    figure, axes = new_figure((1.95 * len(hops) + 0.7, 5.0), 2, len(hops))
    heading = f"What the {skeleton.joints[focus]} (ringed) hears at scale k"
    figure.suptitle(f"{heading}: larger and darker dots have more weight", fontsize=12.5)
    for line, (kind, name) in zip(axes, _NAMES.items(), strict=True):
        for ax, k, weights in zip(line, hops, rows[kind], strict=True):
            body_heat(weights, skeleton, focus=focus, vmax=_LARGEST, ax=ax)
            share = 100 * weights[distance == k].sum()
            percent = f"{share:.0f} %" if share >= 0.5 else "under 1 %" if share > 0 else "nothing"
            caption = f"{percent} at {k} hop{'s' * (k != 1)}"
            style: Any = {"color": INK, "fontweight": "bold"} if kind == "disentangled" else {}
            style = {"color": MUTED, "ha": "center", "va": "top", "fontsize": 10, **style}
            ax.text(0.5, -0.01, caption, transform=ax.transAxes, **style)
            if kind == "powers":
                ax.set_title(f"k = {k}", loc="center", fontsize=11)
        name = f"{name} (MS-G3D)" if kind == "disentangled" else name
        beside: Any = {"rotation": 90, "ha": "right", "va": "center", "fontsize": 11}
        line[0].text(-0.04, 0.5, name, transform=line[0].transAxes, fontweight="bold", **beside)
    return figure


def _focus_rows(
    skeleton: Skeleton, hops: Sequence[int], focus: int, normalization: Normalization
) -> dict[Aggregation, np.ndarray]:
    """For both aggregations, the focus joint's row at each scale, summing to 1: (len(hops), V)."""
    if min(hops) < 0:
        raise ValueError(f"a scale k counts hops and must be 0 or more, found {min(hops)}")
    rows: dict[Aggregation, np.ndarray] = {}
    for kind in _NAMES:
        scales = scale_adjacencies(
            skeleton.adjacency, max(hops) + 1, aggregation=kind, normalization=normalization
        )
        row = scales[list(hops), focus]
        rows[kind] = row / row.sum(axis=1, keepdims=True)
    return rows


def _check_joint(focus: int, skeleton: Skeleton) -> None:
    if not 0 <= focus < skeleton.num_joints:
        raise ValueError(
            f"focus is a joint of {skeleton.label}, 0 to {skeleton.num_joints - 1}, found {focus}"
        )
