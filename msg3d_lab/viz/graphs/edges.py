"""Learned edges on the body, and across the frames of a window."""

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

from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.motion.skeleton import body_layout
from msg3d_lab.viz.style import CENTER, FAINT, INK, MUTED, diverging, new_axes, styled

__all__ = ["frame_names", "learned_edges", "mark_frames"]

_NEEDED = ("receiver", "sender", "receiver_frame", "sender_frame", "mean")
_BODY_HEIGHT, _WIDEST = 2.9, 9.0  # inches
_LABEL_GAP = 0.048  # of the body's height: two lines of text


@styled
def learned_edges(
    edges: pd.DataFrame,
    skeleton: Skeleton,
    *,
    frames: Sequence[int] | None = None,
    alpha: float = 0.05,
    vmax: float | None = None,
    colorbar: bool = True,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw learned edges as arrows from the sending to the receiving joint, across frames too.

    The wider and stronger in colour an arrow, the larger the change. Solid arrows are significant,
    dashed ones are not; where nothing was tested, all are solid and the figure says so.

    Args:
        edges: rows of `analysis.mask_change`, as `analysis.strongest_edges` chooses them.
        skeleton: the joint layout.
        frames: the window's frames, one body each; by default those the edges join.
        alpha: adjusted p-value below which an edge is significant.
        vmax: the change of the strongest colour and widest arrow; by default the largest.
        colorbar: whether to draw the scale.
        title: what they are of.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: a column is missing, a joint is not the skeleton's, or a frame is not drawn.
    """
    missing = [column for column in _NEEDED if column not in edges]
    if missing:
        raise ValueError(f"the table of edges has no column {', '.join(missing)}: see mask_change")
    joined = sorted({*edges["receiver_frame"], *edges["sender_frame"]}) or [0]
    frames = joined if frames is None else list(frames)
    outside = set(joined) - set(frames)
    if len(edges) and outside:
        raise ValueError(f"an edge ends at frame {min(outside)}, but drawn are {frames}")
    unknown = {*edges["receiver"], *edges["sender"]} - set(skeleton.joints)
    if unknown:
        raise ValueError(f"{skeleton.label} has no joint {sorted(unknown)[0]!r}")
    xy = body_layout(skeleton)
    width = float(np.ptp(xy[:, 0])) * 1.15 or 1.0
    across = width * (len(frames) - 1) + float(np.ptp(xy[:, 0]))
    inches = min(_BODY_HEIGHT, _WIDEST / max(across, 1e-6))
    ax = new_axes(ax, (across * inches + 3.0, inches + 0.9))
    for place, frame in enumerate(frames):
        _draw_body(ax, skeleton, xy + np.array([place * width, 0]))
        if len(frames) > 1:
            x = place * width + xy[:, 0].mean()
            style: Any = {"ha": "center", "va": "top", "color": MUTED, "fontsize": 10}
            ax.text(x, xy[:, 1].min() - 0.06, _frame_name(frame), **style)
    limit = float(edges["mean"].abs().max() if vmax is None else vmax) if len(edges) else 1.0
    limit = limit or 1.0
    _draw_arrows(ax, edges, skeleton, xy, width, frames, limit, alpha)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.margins(x=0.1, y=0.05)
    ax.set_title(title or "")
    if colorbar:
        scale = ScalarMappable(Normalize(-limit, limit), _readable())
        bar = ax.figure.colorbar(scale, ax=ax, shrink=0.75, pad=0.02)
        bar.set_label("change of the weight (unitless)")
        bar.outline.set_visible(False)
    _edge_legend(ax, edges, alpha)
    return ax


def _readable() -> Colormap:
    """The diverging map without its pale middle, in which an arrow would not be seen on white."""
    both = np.concatenate([np.linspace(0, 0.3, 128), np.linspace(0.7, 1, 128)])
    return ListedColormap(diverging()(both), name="lab_arrows")


def _draw_body(ax: Axes, skeleton: Skeleton, xy: np.ndarray) -> None:
    for i, j in skeleton.edges:
        ax.plot(*xy[[i, j]].T, color=FAINT, lw=2.2, solid_capstyle="round", zorder=1)
    ax.scatter(xy[:, 0], xy[:, 1], s=11, color=MUTED, zorder=2)


def _draw_arrows(
    ax: Axes,
    edges: pd.DataFrame,
    skeleton: Skeleton,
    xy: np.ndarray,
    width: float,
    frames: Sequence[int],
    limit: float,
    alpha: float,
) -> None:
    colors, number = _readable(), {name: v for v, name in enumerate(skeleton.joints)}
    drawn: dict[tuple[Any, ...], int] = {}
    ends: dict[tuple[int, int], np.ndarray] = {}
    p_values = edges["p_holm"] if "p_holm" in edges else pd.Series(np.nan, index=edges.index)
    tested = bool(p_values.notna().any())
    rows = zip(*(edges[column] for column in _NEEDED), p_values, strict=True)
    # The strongest are drawn last, on top.
    for receiver, sender, to, start, change, p in reversed(list(rows)):
        nodes = [(frames.index(f), number[joint]) for f, joint in ((start, sender), (to, receiver))]
        places = [xy[v] + np.array([column * width, 0]) for column, v in nodes]
        ends.update(zip(nodes, places, strict=True))
        # The same two joints at another scale, or the other way round, get an arc of their own.
        times = drawn.get((*nodes,), 0)
        drawn[(*nodes,)] = times + 1
        relative = float(np.clip(change / limit, -1, 1))
        if nodes[0] == nodes[1]:  # a joint that hears itself
            ax.plot(
                *places[0],
                marker="o",
                markersize=10,
                markerfacecolor="none",
                markeredgecolor=colors((relative + 1) / 2),
                markeredgewidth=0.8 + 1.7 * abs(relative),
            )
            continue
        arrow = FancyArrowPatch(
            *places,
            connectionstyle=f"arc3,rad={0.22 + 0.13 * times}",
            arrowstyle="-|>,head_length=5,head_width=2.6",
            color=colors((relative + 1) / 2),
            linewidth=0.8 + 1.7 * abs(relative),
            linestyle="-" if not tested or p < alpha else (0, (4, 2)),
            shrinkA=3,
            shrinkB=3,
            zorder=3,
        )
        ax.add_patch(arrow)
    _draw_names(ax, skeleton, xy, width, ends)


def _draw_names(
    ax: Axes,
    skeleton: Skeleton,
    xy: np.ndarray,
    width: float,
    ends: dict[tuple[int, int], np.ndarray],
) -> None:
    """Name the joints at the ends of arrows, beside them, without one name on another."""
    middle, last = xy[:, 0].mean(), dict[tuple[int, int], float]()
    for (column, v), place in sorted(ends.items(), key=lambda item: -item[1][1]):
        side = 1 if xy[v, 0] >= middle - 1e-9 else -1
        y = min(place[1] + 0.02, last.get((column, side), np.inf) - _LABEL_GAP)
        last[column, side] = y
        ax.scatter(place[0], place[1], s=24, color=CENTER, zorder=2.5)
        ax.text(
            place[0] + 0.03 * side,
            y,
            skeleton.joints[v],
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.4},
            zorder=5,
        )


def _edge_legend(ax: Axes, edges: pd.DataFrame, alpha: float) -> None:
    tested = "p_holm" in edges and bool(edges["p_holm"].notna().any())
    lines = [Line2D([], [], color=INK, lw=1.6, label="sends to")]
    if tested:
        lines = [
            Line2D([], [], color=INK, lw=1.6, label=f"p < {alpha:g}, adjusted"),
            Line2D([], [], color=INK, lw=1.6, ls=(0, (4, 2)), label="not significant"),
        ]
    elif len(edges):
        lines[0].set_label("sends to (not tested)")
    ax.legend(
        handles=lines,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.04),
        ncols=len(lines),
        fontsize=8.5,
    )


def mark_frames(ax: Axes, nodes: int, blocks: int, *, dilation: int = 1) -> None:
    """Part a matrix of a window's nodes by lines between its frames, and name the frames.

    Args:
        ax: the matrix's.
        nodes: rows of the matrix.
        blocks: rows per frame.
        dilation: frames between two steps of the window.
    """
    steps = nodes // blocks
    for edge in range(1, steps):
        ax.axhline(edge * blocks - 0.5, color=MUTED, lw=0.7)
        ax.axvline(edge * blocks - 0.5, color=MUTED, lw=0.7)
    middles = [(step + 0.5) * blocks - 0.5 for step in range(steps)]
    names = frame_names(steps, dilation=dilation)
    ax.set_xticks(middles, names)
    ax.set_yticks(middles, names)


def frame_names(steps: int, *, dilation: int = 1) -> list[str]:
    """Name the frames of a window's steps, counted from its middle: t-1, t, t+1.

    Frames are those of the layer's input: behind a stride of two each is two of the clip. Of the
    (steps - 1) * dilation frames that a window reaches, half, rounded down, come before its middle,
    which with an even number of steps may be between two of them.

    Source: the padding of `msg3d_lab.model.kernels.graph_conv.Window`.
    """
    before = (steps - 1) * dilation // 2
    return [_frame_name(step * dilation - before) for step in range(steps)]


def _frame_name(offset: int) -> str:
    return "t" if offset == 0 else f"t{offset:+d}".replace("-", "\N{MINUS SIGN}")
