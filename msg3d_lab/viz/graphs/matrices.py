"""Adjacencies and learned masks as heatmaps.

In every matrix a row receives and a column sends, as in `msg3d_lab.graph`. Weights have no unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msg3d_lab.graph import window_frames
from msg3d_lab.viz.elements import add_colorbar
from msg3d_lab.viz.style import MUTED, new_axes, new_figure, signed_scale, styled


@styled
def adjacency_heatmap(
    A: np.ndarray,
    *,
    joints: Sequence[str] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw an adjacency as a heatmap; cells that are exactly 0 stay white.

    A matrix with negative entries (such as a residual mask) gets a diverging map centred at 0.

    Args:
        A: (V, V).
        joints: names for the ticks, one per row.
    """
    A = np.asarray(A, dtype=float)
    V = len(A)
    cmap, norm = signed_scale(A)
    ax = new_axes(ax, (6.4, 5.4) if joints is not None else (4.6, 3.9))
    zeros_masked = np.ma.masked_equal(A, 0)
    image = ax.imshow(zeros_masked, cmap=cmap, norm=norm, interpolation="nearest")
    ax.spines[:].set_visible(True)
    ax.set(xlabel="sends", ylabel="receives", title=title or "")
    if joints is not None:
        ax.set_xticks(range(V), joints, rotation=90)
        ax.set_yticks(range(V), joints)
        ax.tick_params(labelsize=8 if V <= 25 else 6, length=0)
    add_colorbar(image, ax, "weight (unitless)", shrink=0.82)
    return ax


@styled
def scales_figure(
    matrices: Mapping[str, np.ndarray],
    *,
    columns: int | None = None,
    blocks: int | None = None,
) -> Figure:
    """Draw several adjacencies, or residual masks, with one colour scale.

    The end of the colours is the largest weight off the diagonals, because self-loops would leave
    everything else pale. If a weight is negative, 0 is in the middle of the colours, and their ends
    are the 99.5th percentile of the absolute values. The colour bar's arrows show that values lie
    beyond.

    Args:
        matrices: title -> (V, V), in reading order; see `LearnedGraph.A_res` for masks.
        columns: panels per row. Default: all in one row, up to 5.
        blocks: rows per frame in windows' graphs; lines are drawn between frames.
    """
    panels = {title: np.asarray(A, dtype=float) for title, A in matrices.items()}
    values = np.concatenate([A.ravel() for A in panels.values()])
    off_diagonal = [(A * ~np.eye(len(A), dtype=bool)).max() for A in panels.values()]
    signed = (values < 0).any()
    limit = np.quantile(np.abs(values), 0.995) if signed else max(off_diagonal)
    cmap, norm = signed_scale(values, limit=float(limit))
    columns = min(len(panels), 5) if columns is None else columns
    rows = -(-len(panels) // columns)
    panel = 2.05 if columns > 2 and blocks is None else 2.9
    figure, axes = new_figure((panel * columns + 1.1, (panel + 0.25) * rows + 0.35), rows, columns)
    for ax, (name, A) in zip(axes.flat, panels.items(), strict=False):
        zeros_masked = np.ma.masked_equal(A, 0)
        image = ax.imshow(zeros_masked, cmap=cmap, norm=norm, interpolation="nearest")
        ax.set_title(name)
        ax.spines[:].set_visible(True)
        ax.tick_params(length=2, labelsize=8)
        if blocks is not None:
            names = [frame_name(frame) for frame in window_frames(len(A) // blocks)]
            middles = (np.arange(len(names)) + 0.5) * blocks - 0.5
            ax.set_xticks(middles, names)
            ax.set_yticks(middles, names)
            for edge in range(blocks, len(A), blocks):
                ax.axhline(edge - 0.5, color=MUTED, lw=0.7)
                ax.axvline(edge - 0.5, color=MUTED, lw=0.7)
        ax.label_outer()
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    beyond = np.abs(values).max() > float(norm.vmax or 0)
    extend: Literal["neither", "both", "max"] = "both" if signed else "max"
    label = "weight (unitless)"
    add_colorbar(image, axes, label, shrink=0.7, extend=extend if beyond else "neither")
    node = "joint" if blocks is None else "joints of each step"
    figure.supylabel(f"receives ({node})", fontsize=10)
    figure.supxlabel(f"sends ({node})", fontsize=10)
    return figure


def frame_name(offset: int) -> str:
    """Return the name of a frame by its distance from t."""
    return "t" if offset == 0 else f"t{offset:+d}".replace("-", "\N{MINUS SIGN}")
