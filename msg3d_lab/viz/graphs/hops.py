"""How the weight of a graph spreads over hops: adjacency powers against disentangled scales.

Powers count walks, and most walks end near their start; the k-adjacency of MS-G3D gives its weight
to the joints at exactly k hops (and to the joint itself).

Source: Liu et al., CVPR 2020 (arXiv 2003.14111), section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msg3d_lab.graph import Aggregation, Normalization, hop_distance, hop_shares, scale_adjacencies
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.elements import add_colorbar, add_figure_title, add_grid, draw_heatmap
from msg3d_lab.viz.graphs.on_body import body_weights
from msg3d_lab.viz.style import (
    DISENTANGLED,
    INK,
    MUTED,
    POWERS,
    new_axes,
    new_figure,
    sequential,
    series_colors,
    signed_scale,
    styled,
)

_NAMES: dict[Aggregation, str] = {"powers": "adjacency powers", "disentangled": "disentangled"}
_COLORS: dict[Aggregation, str] = {"powers": POWERS, "disentangled": DISENTANGLED}
# The weight of the largest dot, the same in all pictures, so that they can be compared.
_LARGEST = 0.5


def hop_share_table(scales: np.ndarray, skeleton: Skeleton) -> pd.DataFrame:
    """Return how the weight of each scale spreads over hop distances.

    Every row of an adjacency is divided by its sum; the share of hop d is what the row gives to the
    joints at d hops, averaged over the rows.

    Args:
        scales: non-negative adjacencies, receiver first, as `graph.scale_adjacencies` returns them.

    Shapes:
        scales: (K+1, V, V) -> table with K+1 rows `k` and a column per hop; rows sum to 1.

    Raises:
        ValueError: the joints do not match the skeleton, or a weight is negative.

    Example:
        >>> from msg3d_lab import graph, skeletons
        >>> body = skeletons.get("ntu25")
        >>> scales = graph.scale_adjacencies(body.adjacency, 3)
        >>> hop_share_table(scales, body).loc[2].round(2).tolist()[:4]
        [0.38, 0.0, 0.62, 0.0]
    """
    scales, V = np.asarray(scales, dtype=float), skeleton.num_joints
    if scales.ndim != 3 or scales.shape[1:] != (V, V) or (scales < 0).any():
        raise ValueError(
            f"expected non-negative adjacencies (K+1, {V}, {V}) for {skeleton.label}, "
            f"found {scales.shape}, smallest weight {scales.min(initial=0):g}"
        )
    shares = hop_shares(scales, hop_distance(skeleton.adjacency)).mean(axis=2)
    return pd.DataFrame(shares).rename_axis(index="k", columns="hops away")


@styled
def share_heatmap(
    shares: pd.DataFrame,
    *,
    color: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw shares as a heatmap with the percentages written in it; centred at 0 if any is negative.

    Cells below half a percent have no number.

    Args:
        shares: rows by columns, such as `hop_share_table(...)` or
            `scale_shares(model, x).pivot(index="graph", columns="scale", values="share")`. Empty
            cells (NaN) stay white.
        color: of shares that are all 0 or more; see `style.sequential`.
    """
    percent = 100 * shares.astype(float)
    rows, columns = percent.shape
    ax = new_axes(ax, (0.5 * columns + 3.2, 0.4 * rows + 1.2))
    cmap, norm = signed_scale(percent.fillna(0).to_numpy())
    if color is not None and norm.vmin == 0:
        cmap = sequential(color)
    texts = percent.map(lambda v: f"{v:.0f}".replace("-", "−") if abs(v) >= 0.5 else "")
    cells = draw_heatmap(ax, percent, cmap=cmap, norm=norm, texts=texts)
    ax.set(xlabel=shares.columns.name or "", ylabel=shares.index.name or "", title=title or "")
    if max(len(str(name)) for name in shares.columns) > 5:  # wider than a cell
        for text in ax.get_xticklabels():
            text.set(rotation=45, ha="right", rotation_mode="anchor")
    add_colorbar(cells, ax, "share (%)", shrink=0.82)
    return ax


@styled
def hop_bars(shares: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw how the weight or the reach of layers spreads over hops: a bar per column and hop.

    Args:
        shares: a row per hop, a column per graph to compare; shares from 0 to 1, such as
            `receptive_field_by_hop(model).groupby("hops")[["designed", "learned"]].mean()`.
    """
    ax = new_axes(ax, (6.4, 3.4))
    colors = series_colors([str(name) for name in shares.columns])
    width = 0.8 / len(colors)
    for i, (name, color) in enumerate(zip(shares.columns, colors, strict=True)):
        place = np.arange(len(shares)) + (i - (len(colors) - 1) / 2) * width
        ax.bar(place, 100 * shares[name], width=width, color=color, label=str(name))
    ax.set_xticks(range(len(shares)), [str(hop) for hop in shares.index])
    ax.set(xlabel="hops away", ylabel="share of the weight (%)", title=title or "")
    add_grid(ax)
    ax.legend()
    return ax


@styled
def hop_figure(
    skeleton: Skeleton, k: int, *, focus: int, normalization: Normalization = "symmetric"
) -> Figure:
    """Draw what one joint receives at scale k: by the power, by the k-adjacency, and by hops.

    Args:
        k: the scale, 0 or more.
        focus: the receiving joint.
        normalization: of the adjacencies; see `graph.normalize`.

    Raises:
        ValueError: k is negative, or there is no such joint.
    """
    distance = _distances(focus, skeleton)
    rows = _focus_rows(skeleton, [k], focus, normalization)
    figure, axes = new_figure((9.6, 3.9), 1, 3, width_ratios=[1, 1, 1.15])
    *bodies, bars = axes[0]
    formulas = (f"$A^{{{k}}}$", f"$A_{{({k})}}$")
    for ax, (kind, name), formula in zip(bodies, _NAMES.items(), formulas, strict=True):
        style = {"color": _COLORS[kind], "title": f"{name}, {formula}"}
        body_weights(rows[kind][0], skeleton, focus=focus, vmax=_LARGEST, **style, ax=ax)
    hops = np.unique(distance[np.isfinite(distance)]).astype(int)
    share = {
        name: [rows[kind][0][distance == d].sum() for d in hops] for kind, name in _NAMES.items()
    }
    hop_bars(pd.DataFrame(share, index=hops), ax=bars)
    bars.set_ylim(0, 100)
    add_figure_title(
        figure, f"What the {skeleton.joints[focus]} (ringed) receives at scale k = {k}"
    )
    return figure


@styled
def disentangled_figure(skeleton: Skeleton, *, focus: int) -> Figure:
    """Draw from which joints one joint receives at each scale: powers above, MS-G3D below.

    Up to five scales, spread evenly from 1 to the farthest joint. The README's figure is this one,
    for the left wrist of "ntu25", saved at 110 dpi.

    Args:
        focus: the receiving joint.

    Raises:
        ValueError: there is no such joint.
    """
    distance = _distances(focus, skeleton)
    farthest = max(distance[np.isfinite(distance)].max(), 1)
    hops = np.unique(np.linspace(1, farthest, 5).round()).astype(int).tolist()
    rows = _focus_rows(skeleton, hops, focus, "symmetric")
    figure, axes = new_figure((1.95 * len(hops) + 0.7, 5.0), 2, len(hops))
    heading = f"What the {skeleton.joints[focus]} (ringed) receives at scale k"
    figure.suptitle(f"{heading}: larger and darker dots have more weight", fontsize=12.5)
    for line, (kind, name) in zip(axes, _NAMES.items(), strict=True):
        for ax, k, weights in zip(line, hops, rows[kind], strict=True):
            dots: Any = {"vmax": _LARGEST, "color": _COLORS[kind]}
            body_weights(weights, skeleton, focus=focus, **dots, ax=ax)
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
        raise ValueError(f"a scale k is a number of hops, 0 or more, found {min(hops)}")
    rows: dict[Aggregation, np.ndarray] = {}
    for kind in _NAMES:
        scales = scale_adjacencies(
            skeleton.adjacency, max(hops) + 1, aggregation=kind, normalization=normalization
        )
        row = scales[list(hops), focus]
        rows[kind] = row / row.sum(axis=1, keepdims=True)
    return rows


def _distances(focus: int, skeleton: Skeleton) -> np.ndarray:
    """Hops from a joint to every joint; raises ValueError if there is no such joint."""
    if not 0 <= focus < skeleton.num_joints:
        raise ValueError(
            f"focus is a joint of {skeleton.label}, 0 to {skeleton.num_joints - 1}, found {focus}"
        )
    return hop_distance(skeleton.adjacency)[focus]
