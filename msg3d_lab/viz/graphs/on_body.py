"""Graphs on the body: joints, weights of joints, and learned edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from msg3d_lab.graph import window_frames
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.elements import add_colorbar, draw_bones, draw_values, write_beside
from msg3d_lab.viz.graphs.matrices import frame_name
from msg3d_lab.viz.motion.layout import body_layout
from msg3d_lab.viz.style import (
    CENTER,
    FAINT,
    INK,
    LEFT,
    MARK,
    MUTED,
    diverging,
    new_axes,
    sequential,
    styled,
)

_EDGE_COLUMNS = ("receiver", "sender", "receiver_frame", "sender_frame", "mean")
_BODY_HEIGHT, _WIDEST = 2.9, 9.0  # inches
_LEVEL = 0.05  # adjusted p-values below are significant
_LABEL_GAP = 0.048  # of the body's height: two lines of text


@styled
def body_graph(skeleton: Skeleton, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the body graph, facing the reader, with the joints' names."""
    ax = new_axes(ax, (6.6, 4.8))
    xy = body_layout(skeleton)
    draw_bones(ax, skeleton, xy)
    ax.scatter(xy[:, 0], xy[:, 1], s=36, color=CENTER, zorder=3)
    middle = xy[:, 0].mean()
    for name, (x, y) in zip(skeleton.joints, xy, strict=True):
        side = 1 if x >= middle - 1e-9 else -1
        write_beside(ax, name, (x, y), (7 * side, 0), ha="left" if side > 0 else "right", size=8)
    ax.set_title(title or "")
    ax.margins(x=0.22, y=0.04)
    return ax


@styled
def body_weights(
    weights: np.ndarray,
    skeleton: Skeleton,
    *,
    focus: int | None = None,
    vmax: float | None = None,
    color: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a weight per joint on the body: larger and darker dots are larger weights.

    Args:
        weights: (V,), 0 or more; a joint with exactly 0 is a small grey dot.
        focus: the joint that receives these weights (the row of an adjacency); it gets a ring.
        vmax: weight of the largest dot. Default: the largest weight.
        color: of the dots; see `style.sequential`.
    """
    ax = new_axes(ax, (3.6, 3.8))
    xy = body_layout(skeleton)
    norm = Normalize(0, float(weights.max() if vmax is None else vmax) or 1.0)
    _draw_weights(ax, skeleton, xy, weights, norm=norm, focus=focus, color=color)
    ax.set_title(title or "")
    return ax


@styled
def window_weights(
    weights: np.ndarray,
    skeleton: Skeleton,
    *,
    focus: tuple[int, int],
    dilation: int = 1,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a weight per joint and window step, one body per step, linked to the focus joint.

    Args:
        weights: (window_size, V): a row of the window's adjacency, folded.
        focus: (step, joint) that receives these weights.
        dilation: frames between two steps of the window.
    """
    steps = len(weights)
    ax = new_axes(ax, (2.2 * steps + 0.4, 2.7))
    norm = Normalize(0, float(np.max(weights)) or 1.0)
    xy = body_layout(skeleton)
    width = np.ptp(xy[:, 0]) * 1.25
    start = xy[focus[1]] + np.array([focus[0] * width, 0])
    names = [frame_name(frame) for frame in window_frames(steps, dilation)]
    for step, row in enumerate(weights):
        own = xy + np.array([step * width, 0])
        ring = focus[1] if step == focus[0] else None
        _draw_weights(ax, skeleton, own, row, norm=norm, focus=ring, largest=110)
        if step != focus[0]:
            # Curved, so that links to the same joint of other frames do not lie on bones.
            bow = "arc3,rad=-0.18" if step > focus[0] else "arc3,rad=0.18"
            arrow: dict[str, Any] = {"arrowstyle": "-", "color": LEFT, "lw": 1, "alpha": 0.75}
            for v in np.flatnonzero(row):
                ax.annotate(
                    "", own[v], start, arrowprops={**arrow, "connectionstyle": bow}, zorder=2
                )
        place = (own[:, 0].mean(), -0.08)
        write_beside(ax, f"frame {names[step]}", place, ha="center", va="top", color=MUTED)
    ax.set_title(title or "")
    return ax


@styled
def learned_edges(
    edges: pd.DataFrame,
    skeleton: Skeleton,
    *,
    frames: Sequence[int] | None = None,
    quantity: str = "change of the weight",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw learned edges as arrows from the sending to the receiving joint, also across frames.

    Wider and stronger coloured arrows are larger changes. Solid arrows are significant (adjusted
    p-value below 0.05), dashed ones are not; without a test, all are solid and the legend says so.

    Args:
        edges: rows of `analysis.mask_change`, such as `analysis.strongest_edges` returns.
        frames: the window's frames, one body each. Default: the frames of the edges.
        quantity: what `mean` is, for the colour bar.
    """
    if frames is None:
        frames = sorted({*edges["receiver_frame"], *edges["sender_frame"]}) or [0]
    xy = body_layout(skeleton)
    width = float(np.ptp(xy[:, 0])) * 1.15 or 1.0
    across = width * (len(frames) - 1) + float(np.ptp(xy[:, 0]))
    inches = min(_BODY_HEIGHT, _WIDEST / max(across, 1e-6))
    ax = new_axes(ax, (across * inches + 3.0, inches + 0.9))
    bodies = [xy + np.array([column * width, 0]) for column in range(len(frames))]
    for own, frame in zip(bodies, frames, strict=True):
        draw_bones(ax, skeleton, own, width=2.2)
        ax.scatter(own[:, 0], own[:, 1], s=11, color=MUTED, zorder=2)
        if len(frames) > 1:
            place = (own[:, 0].mean(), xy[:, 1].min() - 0.06)
            write_beside(ax, frame_name(frame), place, ha="center", va="top", size=10, color=MUTED)
    limit = float(edges["mean"].abs().max() if len(edges) else 0) or 1.0
    p_values = edges["p_holm"] if "p_holm" in edges else pd.Series(np.nan, index=edges.index)
    tested = bool(p_values.notna().any())
    solid = p_values < _LEVEL if tested else p_values.isna()
    nodes = _draw_arrows(ax, edges, skeleton, bodies, frames, limit=limit, solid=solid)
    _draw_names(ax, skeleton, bodies, nodes)
    ax.margins(x=0.1, y=0.05)
    ax.set_title(title or "")
    scale = ScalarMappable(Normalize(-limit, limit), _arrow_colors())
    add_colorbar(scale, ax, f"{quantity} (unitless)")
    lines: list[tuple[str, Any]] = [("sends to" + " (not tested)" * bool(len(edges)), "-")]
    if tested:
        lines = [(f"p < {_LEVEL:g}, adjusted", "-"), ("not significant", (0, (4, 2)))]
    ax.legend(
        handles=[Line2D([], [], color=INK, lw=1.6, ls=ls, label=name) for name, ls in lines],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.04),
        ncols=len(lines),
        fontsize=8.5,
    )
    return ax


def _draw_weights(
    ax: Axes,
    skeleton: Skeleton,
    xy: np.ndarray,
    weights: np.ndarray,
    *,
    norm: Normalize,
    focus: int | None,
    color: str | None = None,
    largest: float = 210,
) -> None:
    """Draw a body with a dot per weight, and a ring around the focus joint."""
    draw_bones(ax, skeleton, xy)
    ax.margins(0.09)
    none = weights == 0
    ax.scatter(xy[none, 0], xy[none, 1], s=10, color=FAINT, zorder=3)
    cmap = sequential(color)
    draw_values(ax, xy[~none], weights[~none], cmap=cmap, norm=norm, largest=largest)
    if focus is not None:
        size = 14 + (largest - 14) * min(weights[focus] / float(norm.vmax or 1), 1) + 90
        style: Any = {"facecolors": "none", "edgecolors": MARK, "linewidths": 2.2, "zorder": 4}
        ax.scatter(xy[focus, 0], xy[focus, 1], s=size, **style)


def _arrow_colors() -> Colormap:
    """The diverging map without its pale middle, which would not be seen on white."""
    both = np.concatenate([np.linspace(0, 0.3, 128), np.linspace(0.7, 1, 128)])
    return ListedColormap(diverging()(both), name="lab_arrows")


def _draw_arrows(
    ax: Axes,
    edges: pd.DataFrame,
    skeleton: Skeleton,
    bodies: Sequence[np.ndarray],
    frames: Sequence[int],
    *,
    limit: float,
    solid: pd.Series,
) -> set[tuple[int, int]]:
    """Draw the arrows; return the nodes (body, joint) at their ends."""
    colors, number = _arrow_colors(), {name: v for v, name in enumerate(skeleton.joints)}
    repeats: dict[tuple[Any, ...], int] = {}
    ends: set[tuple[int, int]] = set()
    rows = zip(*(edges[column] for column in _EDGE_COLUMNS), solid, strict=True)
    # The strongest are drawn last, on top.
    for receiver, sender, to, start, change, sure in reversed(list(rows)):
        nodes = (frames.index(start), number[sender]), (frames.index(to), number[receiver])
        places = [bodies[column][v] for column, v in nodes]
        ends.update(nodes)
        # The same edge at another scale gets another arc.
        repeats[nodes] = repeats.get(nodes, -1) + 1
        relative = float(np.clip(change / limit, -1, 1))
        color, line_width = colors((relative + 1) / 2), 0.8 + 1.7 * abs(relative)
        if nodes[0] == nodes[1]:  # a self-loop
            ax.plot(
                *places[0],
                marker="o",
                markersize=10,
                markerfacecolor="none",
                markeredgecolor=color,
                markeredgewidth=line_width,
            )
            continue
        ax.add_patch(
            FancyArrowPatch(
                *places,
                connectionstyle=f"arc3,rad={0.22 + 0.13 * repeats[nodes]}",
                arrowstyle="-|>,head_length=5,head_width=2.6",
                color=color,
                linewidth=line_width,
                linestyle="-" if sure else (0, (4, 2)),
                shrinkA=3,
                shrinkB=3,
                zorder=3,
            )
        )
    return ends


def _draw_names(
    ax: Axes, skeleton: Skeleton, bodies: Sequence[np.ndarray], nodes: set[tuple[int, int]]
) -> None:
    """Write the names of joints beside them, without one name on another."""
    xy = bodies[0]
    middle, last = xy[:, 0].mean(), dict[tuple[int, int], float]()
    for column, v in sorted(nodes, key=lambda node: (-xy[node[1], 1], node)):
        x, y = bodies[column][v]
        side = 1 if xy[v, 0] >= middle - 1e-9 else -1
        height = min(y + 0.02, last.get((column, side), np.inf) - _LABEL_GAP)
        last[column, side] = height
        ax.scatter(x, y, s=24, color=CENTER, zorder=2.5)
        ha: Any = "left" if side > 0 else "right"
        place = (x + 0.03 * side, height)
        write_beside(ax, skeleton.joints[v], place, ha=ha, size=8, boxed=True, zorder=5)
