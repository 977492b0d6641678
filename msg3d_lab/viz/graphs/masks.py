"""Learned graphs as matrices, and shares by hop and by scale.

Weights have no unit; signed values have a map centred at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from msg3d_lab.viz.graphs.adjacency import adjacency_heatmap
from msg3d_lab.viz.graphs.edges import mark_frames
from msg3d_lab.viz.style import (
    CATEGORIES,
    FAINT,
    INK,
    diverging,
    new_axes,
    new_figure,
    sequential,
    styled,
)

__all__ = [
    "hop_bars",
    "learned_graph_figure",
    "mask_figure",
    "share_heatmap",
]


@styled
def learned_graph_figure(
    A: np.ndarray,
    A_res: np.ndarray,
    *,
    joints: Sequence[str] | None = None,
    blocks: int | None = None,
    dilation: int = 1,
    title: str | None = None,
) -> Figure:
    """Draw an adjacency as designed, what training added to it, and what the network uses.

    The second panel has a colour scale of its own, given beside it, as masks are small.

    Args:
        A: (V, V), designed.
        A_res: (V, V), learned.
        joints: names for the ticks.
        blocks: rows per frame in a window's graph, as in `adjacency_heatmap`.
        dilation: frames between two steps of the window, `LearnedGraph.window_dilation`.
        title: what they are of.

    Raises:
        ValueError: the two have different shapes, or as in `adjacency_heatmap`.
    """
    A, A_res = np.asarray(A, dtype=float), np.asarray(A_res, dtype=float)
    if A.shape != A_res.shape:
        raise ValueError(f"A and A_res must have one shape, found {A.shape} and {A_res.shape}")
    size = (15.6, 5.6) if joints is not None else (11.4, 3.7)
    figure, axes = new_figure(size, 1, 3)
    limit = float(np.abs(A).max())
    panels = (("designed, A", A, limit), ("added, A_res", A_res, None), ("used", A + A_res, None))
    for ax, (name, matrix, vmax) in zip(axes.flat, panels, strict=True):
        adjacency_heatmap(
            matrix, joints=joints, blocks=blocks, dilation=dilation, vmax=vmax, title=name, ax=ax
        )
    for ax in axes.flat[1:]:
        ax.set_ylabel("")
        if joints is not None:
            ax.set_yticklabels([])
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


@styled
def mask_figure(
    masks: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    columns: int = 5,
    blocks: int | None = None,
    dilation: int = 1,
    vmax: float | None = None,
    title: str | None = None,
) -> Figure:
    """Draw the learned masks of all scales with one colour scale, centred at 0.

    Args:
        masks: (K+1, V, V), as `LearnedGraph.A_res` holds them.
        names: one per mask; by default the scales, k = 0 and so on.
        columns: panels per row.
        blocks: rows per frame in a window's graph.
        dilation: frames between two steps of the window, `LearnedGraph.window_dilation`.
        vmax: the value at the ends of the colours; by default the 99.5th percentile of the sizes,
            so that a few edges do not bleach all others. The scale's arrows say that it is passed.
        title: what they are of.

    Raises:
        ValueError: not (K+1, V, V), or not a name per mask.
    """
    masks = np.asarray(masks, dtype=float)
    if masks.ndim != 3 or masks.shape[1] != masks.shape[2] or not len(masks):
        raise ValueError(f"expected masks (K+1, V, V), found shape {masks.shape}")
    names = [f"k = {k}" for k in range(len(masks))] if names is None else list(names)
    if len(names) != len(masks):
        raise ValueError(f"expected {len(masks)} names, one per mask, found {len(names)}")
    limit = float(np.quantile(np.abs(masks), 0.995) if vmax is None else vmax) or 1.0
    columns = min(columns, len(masks))
    rows = -(-len(masks) // columns)
    panel = 2.05 if columns > 2 and blocks is None else 2.9
    size = (panel * columns + 1.1, (panel + 0.25) * rows + 0.35 + 0.3 * bool(title))
    figure, axes = new_figure(size, rows, columns)
    for ax, name, mask in zip(axes.flat, names, masks, strict=False):
        # A mask without a negative weight would be taken for an unsigned one.
        image = ax.imshow(mask, cmap=diverging(), vmin=-limit, vmax=limit, interpolation="nearest")
        ax.set_title(name)
        ax.spines[:].set_visible(True)
        ax.tick_params(length=2, labelsize=8)
        if blocks is not None:
            mark_frames(ax, len(mask), blocks, dilation=dilation)
        ax.label_outer()
    for ax in axes.flat[len(masks) :]:
        ax.set_axis_off()
    extend: Any = "both" if np.abs(masks).max() > limit else "neither"
    bar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02, extend=extend)
    bar.set_label("learned weight (unitless)")
    bar.outline.set_visible(False)
    node = "joint" if blocks is None else "joints of each step"
    figure.supylabel(f"receives ({node})", fontsize=10)
    figure.supxlabel(f"sends ({node})", fontsize=10)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


@styled
def hop_bars(
    shares: pd.DataFrame,
    *,
    label: str = "share of the weight (%)",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how a layer's weight, or its reach, spreads over hops: a bar per column and hop.

    Args:
        shares: a row per hop, a column per graph to compare; shares from 0 to 1, such as
            `receptive_field_by_hop(model).groupby("hops")[["designed", "learned"]].mean()`.
        label: what the shares are of.
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: no column, more than there are colours, or a negative share.
    """
    count = shares.shape[1]
    if not 1 <= count <= len(CATEGORIES):
        raise ValueError(f"expected 1 to {len(CATEGORIES)} columns to compare, found {count}")
    values = shares.to_numpy(dtype=float)
    if (values < 0).any():
        raise ValueError(f"shares are 0 or more, found {values.min():g}")
    ax = new_axes(ax, (6.4, 3.4))
    width = 0.8 / count
    for i, (name, color) in enumerate(zip(shares.columns, CATEGORIES, strict=False)):
        place = np.arange(len(shares)) + (i - (count - 1) / 2) * width
        ax.bar(place, 100 * values[:, i], width=width, color=color, label=str(name))
    ax.set_xticks(range(len(shares)), [str(hop) for hop in shares.index])
    ax.set(xlabel="hops away", ylabel=label, title=title or "")
    ax.grid(axis="y", color=FAINT, lw=0.7)
    ax.set_axisbelow(True)
    ax.legend()
    return ax


@styled
def share_heatmap(
    shares: pd.DataFrame,
    *,
    label: str = "share (%)",
    vmax: float | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw shares as a heatmap with the percentages written in it; centred at 0 if any is negative.

    Args:
        shares: rows by columns, such as
            `scale_shares(model, x).pivot(index="graph", columns="scale", values="share")`. Empty
            cells (nan) stay white.
        label: what the values are.
        vmax: the share at the end of the colours; by default the largest.
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: an empty table.
    """
    values = 100 * shares.to_numpy(dtype=float)
    if not np.isfinite(values).any():
        raise ValueError("expected a table of shares, found none")
    signed = bool((values < 0).any())
    limit = float(np.nanmax(np.abs(values)) if vmax is None else 100 * vmax) or 1.0
    rows, columns = values.shape
    ax = new_axes(ax, (0.5 * columns + 3.2, 0.4 * rows + 1.2))
    cmap = diverging() if signed else sequential()
    image = ax.imshow(
        np.ma.masked_invalid(values),
        cmap=cmap,
        vmin=-limit if signed else 0,
        vmax=limit,
        aspect="auto",
    )
    for (row, column), share in np.ndenumerate(values):
        if np.isfinite(share):
            dark = _luminance(cmap(image.norm(share))) < 0.5
            text = f"{share:.0f}".replace("-", "\N{MINUS SIGN}")
            color = "white" if dark else INK
            ax.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    ax.set_xticks(range(columns), [str(name) for name in shares.columns])
    ax.set_yticks(range(rows), [str(name) for name in shares.index])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel=str(shares.columns.name or ""), title=title or "")
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.82, pad=0.02, label=label)
    bar.outline.set_visible(False)
    return ax


def _luminance(color: Any) -> float:
    red, green, blue = to_rgb(color)
    return 0.3 * red + 0.6 * green + 0.1 * blue
