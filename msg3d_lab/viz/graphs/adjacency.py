"""Adjacencies as heatmaps and on the body.

In every matrix a row receives and a column sends, as in `msg3d_lab.graph`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.graphs.edges import frame_names, mark_frames
from msg3d_lab.viz.motion.skeleton import body_layout
from msg3d_lab.viz.style import (
    ACCENT,
    CENTER,
    FAINT,
    MUTED,
    diverging,
    new_axes,
    new_figure,
    sequential,
    styled,
)

__all__ = [
    "adjacency_heatmap",
    "body_graph",
    "body_heat",
    "scales_figure",
    "window_heat",
]

_WEIGHT = "weight (unitless)"


@styled
def adjacency_heatmap(
    A: np.ndarray,
    *,
    joints: Sequence[str] | None = None,
    blocks: int | None = None,
    dilation: int = 1,
    vmax: float | None = None,
    colorbar: bool = True,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw an adjacency as a heatmap; cells that are exactly 0 stay white.

    A matrix with negative entries (a learned residual) gets a diverging map centred at 0.

    Args:
        A: (V, V).
        joints: names for the ticks, one per row.
        blocks: rows per frame in a window's graph; lines are drawn between frames.
        dilation: frames between two steps of the window.
        vmax: value at the end of the colours; by default the largest.
        colorbar: whether to draw the scale.
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: `A` is not square, `joints` has another length, or `blocks` does not divide V.
    """
    A = _square(A)
    V = len(A)
    if joints is not None and len(joints) != V:
        raise ValueError(f"expected {V} joint names, one per row, found {len(joints)}")
    if blocks is not None and (blocks < 1 or V % blocks):
        raise ValueError(f"blocks counts the joints per frame and must divide {V}, found {blocks}")
    signed = bool((A < 0).any())
    limit = float(np.abs(A).max() if vmax is None else vmax) or 1.0
    ax = new_axes(ax, (6.4, 5.4) if joints is not None else (4.6, 3.9))
    image = ax.imshow(
        np.ma.masked_equal(A, 0),
        cmap=diverging() if signed else sequential(),
        vmin=-limit if signed else 0,
        vmax=limit,
        interpolation="nearest",
    )
    ax.spines[:].set_visible(True)
    ax.set(xlabel="sends", ylabel="receives", title=title or "")
    if joints is not None:
        ax.set_xticks(range(V), joints, rotation=90)
        ax.set_yticks(range(V), joints)
        ax.tick_params(labelsize=8 if V <= 25 else 6, length=0)
    elif blocks is not None:
        mark_frames(ax, V, blocks, dilation=dilation)
        ax.tick_params(length=0)
    else:
        ticks = range(0, V, 5) if V <= 50 else range(0, V, 20)
        ax.set_xticks(ticks)
        ax.set_yticks(ticks)
        ax.tick_params(length=2)
    if colorbar:
        bar = ax.figure.colorbar(image, ax=ax, shrink=0.82, pad=0.02, label=_WEIGHT)
        bar.outline.set_visible(False)
    return ax


@styled
def scales_figure(
    matrices: Mapping[str, np.ndarray],
    *,
    columns: int | None = None,
    blocks: int | None = None,
    dilation: int = 1,
    vmax: float | None = None,
) -> Figure:
    """Draw several adjacencies with one colour scale.

    Args:
        matrices: title -> (V, V), in reading order.
        columns: panels per row; by default all in one row, up to 5.
        blocks: rows per frame in windows' graphs, as in `adjacency_heatmap`.
        dilation: frames between two steps of the windows.
        vmax: value at the end of the colours; by default the largest off the diagonals, so that the
            self-loops do not bleach everything else.

    Raises:
        ValueError: no matrix, or one that is not square.
    """
    if not matrices:
        raise ValueError("expected at least one adjacency, found none")
    panels = {title: _square(A) for title, A in matrices.items()}
    columns = min(len(panels), 5) if columns is None else columns
    rows = -(-len(panels) // columns)
    off_diagonal = [(A * ~np.eye(len(A), dtype=bool)).max() for A in panels.values()]
    limit = float(max(off_diagonal) if vmax is None else vmax) or 1.0
    panel = 2.05 if columns > 2 else 3.2
    figure, axes = new_figure((panel * columns + 0.8, (panel + 0.2) * rows + 0.2), rows, columns)
    for ax, (title, A) in zip(axes.flat, panels.items(), strict=False):
        adjacency_heatmap(
            A, blocks=blocks, dilation=dilation, vmax=limit, colorbar=False, title=title, ax=ax
        )
        ax.set(xlabel="", ylabel="")
        ax.label_outer()
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    scale = ScalarMappable(Normalize(0, limit), sequential())
    extend: Any = "max" if max(A.max() for A in panels.values()) > limit else "neither"
    bar = figure.colorbar(scale, ax=axes, shrink=0.7, pad=0.02, extend=extend, label=_WEIGHT)
    bar.outline.set_visible(False)
    figure.supylabel("receives (joint)", fontsize=10)
    figure.supxlabel("sends (joint)", fontsize=10)
    return figure


@styled
def body_graph(
    skeleton: Skeleton,
    *,
    labels: Literal["names", "numbers"] | None = "names",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the body graph, the performer facing the reader, with the joints' names or numbers."""
    ax = new_axes(ax, (6.6, 4.8))
    xy = _draw_body(ax, skeleton)
    ax.scatter(xy[:, 0], xy[:, 1], s=150 if labels == "numbers" else 36, color=CENTER, zorder=3)
    middle = xy[:, 0].mean()
    for v, (x, y) in enumerate(xy):
        if labels == "numbers":
            ax.text(x, y, str(v), color="white", fontsize=7.5, ha="center", va="center", zorder=4)
        elif labels == "names":
            side = 1 if x >= middle - 1e-9 else -1
            ax.annotate(
                skeleton.joints[v],
                (x, y),
                (7 * side, 0),
                textcoords="offset points",
                ha="left" if side > 0 else "right",
                va="center",
                fontsize=8,
            )
    ax.set_title(title or "")
    if labels == "names":
        ax.margins(x=0.22, y=0.04)
    return ax


@styled
def body_heat(
    weights: np.ndarray,
    skeleton: Skeleton,
    *,
    focus: int | None = None,
    vmax: float | None = None,
    colorbar: bool = False,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a weight per joint on the body: the larger and darker a joint, the larger its weight.

    Args:
        weights: (V,), 0 or more; a joint with exactly 0 is a small grey dot.
        skeleton: the joint layout.
        focus: the joint the weights belong to (the row of an adjacency); it gets a ring.
        vmax: weight of the largest dot; by default the largest weight.
        colorbar: whether to draw the scale.
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: not one weight per joint, or a negative one.
    """
    weights = _weights(weights, skeleton.num_joints)
    ax = new_axes(ax, (3.6, 3.8))
    limit = float(weights.max() if vmax is None else vmax) or 1.0
    xy = _draw_body(ax, skeleton)
    _draw_weights(ax, xy, weights, limit=limit)
    if focus is not None:
        _ring(ax, xy[focus], weights[focus] / limit)
    if colorbar:
        scale = ScalarMappable(Normalize(0, limit), sequential())
        bar = ax.figure.colorbar(scale, ax=ax, shrink=0.7, pad=0.02, label=_WEIGHT)
        bar.outline.set_visible(False)
    ax.set_title(title or "")
    return ax


@styled
def window_heat(
    weights: np.ndarray,
    skeleton: Skeleton,
    *,
    focus: tuple[int, int],
    dilation: int = 1,
    vmax: float | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a weight per joint and window step, one body per step, linked to the focus joint.

    Args:
        weights: (window_size, V): a row of the window's adjacency, folded.
        skeleton: the joint layout.
        focus: (step, joint) that the row belongs to.
        dilation: frames between two steps of the window.
        vmax: weight of the largest dot; by default the largest weight.
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: the shape does not match, or a weight is negative.
    """
    weights = np.asarray(weights, dtype=float)
    if weights.ndim != 2:
        raise ValueError(f"expected weights (window_size, V), found shape {weights.shape}")
    steps = len(weights)
    rows = [_weights(row, skeleton.num_joints) for row in weights]
    ax = new_axes(ax, (2.2 * steps + 0.4, 2.7))
    limit = float(weights.max() if vmax is None else vmax) or 1.0
    width = np.ptp(body_layout(skeleton)[:, 0]) * 1.25
    bodies = [_draw_body(ax, skeleton, shift=step * width) for step in range(steps)]
    start, names = bodies[focus[0]][focus[1]], frame_names(steps, dilation=dilation)
    for step, xy in enumerate(bodies):
        for v in np.flatnonzero(rows[step]):
            if step != focus[0]:
                # A small bow keeps links to the same joint of other frames apart from the bones.
                bow = "arc3,rad=-0.18" if step > focus[0] else "arc3,rad=0.18"
                arrow: dict[str, Any] = {"arrowstyle": "-", "color": ACCENT, "lw": 1, "alpha": 0.75}
                ax.annotate(
                    "", xy[v], start, arrowprops={**arrow, "connectionstyle": bow}, zorder=2
                )
        _draw_weights(ax, xy, rows[step], limit=limit, largest=110)
        ax.text(
            step * width + body_layout(skeleton)[:, 0].mean(),
            -0.08,
            f"frame {names[step]}",
            ha="center",
            va="top",
            fontsize=9,
            color=MUTED,
        )
    _ring(ax, start, rows[focus[0]][focus[1]] / limit, largest=110)
    ax.set_title(title or "")
    return ax


def _square(A: np.ndarray) -> np.ndarray:
    A = np.asarray(A, dtype=float)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not len(A):
        raise ValueError(f"expected a square adjacency (V, V), found shape {A.shape}")
    return A


def _weights(weights: np.ndarray, V: int) -> np.ndarray:
    weights = np.asarray(weights, dtype=float)
    if weights.shape != (V,) or (weights < 0).any():
        raise ValueError(
            f"expected {V} weights of 0 or more, one per joint, found shape {weights.shape}, "
            f"smallest {weights.min(initial=0):g}"
        )
    return weights


def _draw_body(ax: Axes, skeleton: Skeleton, *, shift: float = 0.0) -> np.ndarray:
    """Draw the edges; return where the joints are."""
    xy: np.ndarray = body_layout(skeleton) + np.array([shift, 0.0])
    for i, j in skeleton.edges:
        ax.plot(*xy[[i, j]].T, color=FAINT, lw=2.5, solid_capstyle="round", zorder=1)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.margins(0.09)
    return xy


def _draw_weights(
    ax: Axes, xy: np.ndarray, weights: np.ndarray, *, limit: float, largest: float = 210
) -> None:
    none = weights == 0
    ax.scatter(xy[none, 0], xy[none, 1], s=10, color=FAINT, zorder=3)
    relative = np.clip(weights[~none] / limit, 0, 1)
    ax.scatter(
        xy[~none, 0],
        xy[~none, 1],
        s=_area(relative, largest),
        c=relative,
        cmap=sequential(),
        vmin=0,
        vmax=1,
        edgecolors=MUTED,
        linewidths=0.6,
        zorder=3,
    )


def _ring(ax: Axes, xy: np.ndarray, relative: float, *, largest: float = 210) -> None:
    size = _area(np.array(min(relative, 1.0)), largest) + 90
    ax.scatter(xy[0], xy[1], s=size, facecolors="none", edgecolors=ACCENT, linewidths=1.8, zorder=4)


def _area(relative: np.ndarray, largest: float) -> np.ndarray:
    """Dot area in points squared, linear in the weight above a smallest dot that is still seen."""
    return np.asarray(14 + (largest - 14) * relative)
