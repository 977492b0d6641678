"""Adjacencies and learned masks as heatmaps.

In every matrix a row receives and a column sends, as in `msg3d_lab.graph`. Weights have no unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from msg3d_lab.viz.elements import add_colorbar, add_figure_title, hide_axes
from msg3d_lab.viz.style import (
    MUTED,
    diverging,
    new_axes,
    new_figure,
    sequential,
    signed_scale,
    styled,
)

__all__ = [
    "adjacency_heatmap",
    "frame_name",
    "frame_names",
    "learned_graph_figure",
    "mask_figure",
    "scales_figure",
]


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

    A matrix with negative entries (such as a residual mask) gets a diverging map centred at 0.

    Args:
        A: (V, V).
        joints: names for the ticks, one per row.
        blocks: rows per frame in a window's graph; lines are drawn between frames.
        dilation: frames between two steps of the window.
        vmax: value at the end of the colours. Default: the largest.
        colorbar: whether to draw the colour bar.
        title: of the Axes.
        ax: where to draw. Default: a new figure.

    Raises:
        ValueError: `A` is not square, `joints` has another length, or `blocks` does not divide V.
    """
    A = _check_square(A)
    V = len(A)
    if joints is not None and len(joints) != V:
        raise ValueError(f"expected {V} joint names, one per row, found {len(joints)}")
    if blocks is not None and (blocks < 1 or V % blocks):
        raise ValueError(f"blocks is the joints per frame and must divide {V}, found {blocks}")
    cmap, norm = signed_scale(A, limit=vmax)
    ax = new_axes(ax, (6.4, 5.4) if joints is not None else (4.6, 3.9))
    zeros_masked = np.ma.masked_equal(A, 0)
    image = ax.imshow(zeros_masked, cmap=cmap, norm=norm, interpolation="nearest")
    ax.spines[:].set_visible(True)
    ax.set(xlabel="sends", ylabel="receives", title=title or "")
    if joints is not None:
        ax.set_xticks(range(V), joints, rotation=90)
        ax.set_yticks(range(V), joints)
        ax.tick_params(labelsize=8 if V <= 25 else 6, length=0)
    elif blocks is not None:
        _mark_frames(ax, V, blocks, dilation=dilation)
        ax.tick_params(length=0)
    else:
        ticks = range(0, V, 5) if V <= 50 else range(0, V, 20)
        ax.set_xticks(ticks)
        ax.set_yticks(ticks)
        ax.tick_params(length=2)
    if colorbar:
        add_colorbar(image, ax, "weight (unitless)", shrink=0.82)
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
        columns: panels per row. Default: all in one row, up to 5.
        blocks: rows per frame in windows' graphs, as in `adjacency_heatmap`.
        dilation: frames between two steps of the windows.
        vmax: value at the end of the colours. Default: the largest off the diagonals, because
            self-loops would leave everything else pale.

    Raises:
        ValueError: no matrix, or one that is not square.
    """
    if not matrices:
        raise ValueError("expected at least one adjacency, found none")
    panels = {title: _check_square(A) for title, A in matrices.items()}
    off_diagonal = [(A * ~np.eye(len(A), dtype=bool)).max() for A in panels.values()]
    limit = float(max(off_diagonal) if vmax is None else vmax) or 1.0
    zeros_masked = {title: np.ma.masked_equal(A, 0) for title, A in panels.items()}
    return _draw_grid(
        zeros_masked,
        columns=min(len(panels), 5) if columns is None else columns,
        blocks=blocks,
        dilation=dilation,
        cmap=sequential(),
        norm=Normalize(0, limit),
        label="weight (unitless)",
    )


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
    """Draw an adjacency as designed, its residual mask, and their sum, which the network uses.

    Masks are small, so that the second panel has its own colour scale.

    Args:
        A: (V, V), designed.
        A_res: (V, V), learned.
        joints: names for the ticks.
        blocks: rows per frame in a window's graph, as in `adjacency_heatmap`.
        dilation: frames between two steps of the window, `LearnedGraph.window_dilation`.
        title: of the figure.

    Raises:
        ValueError: the two have different shapes, or as in `adjacency_heatmap`.
    """
    A, A_res = np.asarray(A, dtype=float), np.asarray(A_res, dtype=float)
    if A.shape != A_res.shape:
        raise ValueError(f"A and A_res must have one shape, found {A.shape} and {A_res.shape}")
    figure, axes = new_figure((15.6, 5.6) if joints is not None else (11.4, 3.7), 1, 3)
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
    add_figure_title(figure, title)
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
    """Draw the residual masks of all scales with one colour scale, centred at 0.

    Args:
        masks: (K+1, V, V), such as `LearnedGraph.A_res`.
        names: one per mask. Default: the scales, k = 0 and so on.
        columns: panels per row.
        blocks: rows per frame in a window's graph.
        dilation: frames between two steps of the window, `LearnedGraph.window_dilation`.
        vmax: value at the ends of the colours. Default: the 99.5th percentile of the absolute
            values, because a few large edges would leave all others pale. The colour bar's arrows
            show that values lie beyond.
        title: of the figure.

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
    return _draw_grid(
        dict(zip(names, masks, strict=True)),
        columns=min(columns, len(masks)),
        blocks=blocks,
        dilation=dilation,
        cmap=diverging(),
        norm=Normalize(-limit, limit),
        label="learned weight (unitless)",
        title=title,
    )


def frame_names(steps: int, *, dilation: int = 1) -> list[str]:
    """Return the names of the frames of a window's steps, counted from its middle: t-1, t, t+1.

    Frames are those of the layer's input: after a stride of two, each is two of the clip. Of the
    (steps - 1) * dilation frames between the first and the last step, half, rounded down, come
    before t. With an even number of steps, t may be between two of them.

    Source: the padding of `msg3d_lab.model.kernels.graph_conv.Window`.
    """
    before = (steps - 1) * dilation // 2
    return [frame_name(step * dilation - before) for step in range(steps)]


def frame_name(offset: int) -> str:
    """Return the name of a frame by its distance from t."""
    return "t" if offset == 0 else f"t{offset:+d}".replace("-", "\N{MINUS SIGN}")


def _draw_grid(
    panels: Mapping[str, np.ndarray],
    *,
    columns: int,
    blocks: int | None,
    dilation: int,
    cmap: Colormap,
    norm: Normalize,
    label: str,
    title: str | None = None,
) -> Figure:
    """Draw matrices in a grid, with one colour bar."""
    rows = -(-len(panels) // columns)
    panel = 2.05 if columns > 2 and blocks is None else 2.9
    size = (panel * columns + 1.1, (panel + 0.25) * rows + 0.35 + 0.3 * bool(title))
    figure, axes = new_figure(size, rows, columns)
    for ax, (name, matrix) in zip(axes.flat, panels.items(), strict=False):
        image = ax.imshow(matrix, cmap=cmap, norm=norm, interpolation="nearest")
        ax.set_title(name)
        ax.spines[:].set_visible(True)
        ax.tick_params(length=2, labelsize=8)
        if blocks is not None:
            _mark_frames(ax, len(matrix), blocks, dilation=dilation)
        ax.label_outer()
    hide_axes(axes.flat[len(panels) :])
    beyond = max(np.abs(matrix).max() for matrix in panels.values()) > float(norm.vmax or 0)
    extend: Literal["neither", "both", "max"] = "both" if norm.vmin else "max"
    add_colorbar(image, axes, label, shrink=0.7, extend=extend if beyond else "neither")
    node = "joint" if blocks is None else "joints of each step"
    figure.supylabel(f"receives ({node})", fontsize=10)
    figure.supxlabel(f"sends ({node})", fontsize=10)
    add_figure_title(figure, title)
    return figure


def _mark_frames(ax: Axes, nodes: int, blocks: int, *, dilation: int) -> None:
    """Draw lines between the frames of a window's matrix, and name the frames."""
    steps = nodes // blocks
    for edge in range(1, steps):
        ax.axhline(edge * blocks - 0.5, color=MUTED, lw=0.7)
        ax.axvline(edge * blocks - 0.5, color=MUTED, lw=0.7)
    middles = [(step + 0.5) * blocks - 0.5 for step in range(steps)]
    names = frame_names(steps, dilation=dilation)
    ax.set_xticks(middles, names)
    ax.set_yticks(middles, names)


def _check_square(A: np.ndarray) -> np.ndarray:
    A = np.asarray(A, dtype=float)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not len(A):
        raise ValueError(f"expected a square adjacency (V, V), found shape {A.shape}")
    return A
