"""Recordings: which body is tracked when, and a clip before and after preparation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.elements import add_figure_title, add_grid, write_beside
from msg3d_lab.viz.motion.layout import to_view, vertical_axis
from msg3d_lab.viz.motion.skeleton import draw_person
from msg3d_lab.viz.style import ACCENT, CATEGORIES, INK, MUTED, new_axes, new_figure, styled

_MINUS = "\N{MINUS SIGN}"
_DROPPED: Any = {"facecolor": "white", "edgecolor": MUTED, "hatch": "////"}
_BAR = 0.42  # height; bodies are 1 apart


def true_spans(values: np.ndarray) -> list[tuple[int, int]]:
    """Return where a row of truth values is true: (start, stop) pairs, stop excluded.

    Example:
        >>> true_spans([True, True, False, True])
        [(0, 2), (3, 4)]
    """
    steps = np.flatnonzero(np.diff(np.asarray(values, dtype=int), prepend=0, append=0))
    return [(int(start), int(stop)) for start, stop in steps.reshape(-1, 2)]


def body_outcomes(
    bodies: Sequence[int], *, kept: Sequence[Sequence[int]], dropped: Sequence[tuple[int, str]]
) -> list[tuple[tuple[int, ...], str]]:
    """Return for each body which persons it becomes (some rules allow two), or why none.

    Example:
        >>> body_outcomes([7, 8, 9], kept=[[7, 8]], dropped=[(9, "short")])
        [((0,), 'person 0, part 1 of 2'), ((0,), 'person 0, part 2 of 2'), ((), 'dropped, short')]
    """
    reasons = dict(dropped)
    outcomes: list[tuple[tuple[int, ...], str]] = []
    for body in bodies:
        texts = {
            m: f"person {m}"
            + f", part {list(parts).index(body) + 1} of {len(parts)}" * (len(parts) > 1)
            for m, parts in enumerate(kept)
            if body in parts
        }
        why = f"dropped, {reasons.get(body, 'no reason given')}"
        outcomes.append((tuple(texts), " and ".join(texts.values()) or why))
    return outcomes


@styled
def body_timeline(
    frames: Mapping[int, np.ndarray],
    *,
    num_frames: int,
    kept: Sequence[Sequence[int]],
    dropped: Sequence[tuple[int, str]],
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw in which frames each body of a recording is tracked, and which person it becomes.

    Bodies of the same person have the same colour; dropped ones are hatched. A bar of two colours
    is a body that becomes part of two persons.

    Args:
        frames: number of the body -> the frames it is tracked in.
        num_frames: the recording's length.
        kept: for each person, the bodies it is made of.
        dropped: (body, reason) of the others.
    """
    seen = np.zeros((len(frames), num_frames), dtype=bool)
    for row, own in zip(seen, frames.values(), strict=True):
        row[own] = True
    ax = new_axes(ax, (8.6, 0.52 * len(frames) + 1.0))
    outcomes = body_outcomes(list(frames), kept=kept, dropped=dropped)
    for place, (persons, text) in enumerate(outcomes):
        bars = [(start - 0.5, stop - start) for start, stop in true_spans(seen[place])]
        styles = [{"color": CATEGORIES[(0, 2, 3, 4)[person % 4]]} for person in persons]
        for i, style in enumerate(styles or [_DROPPED]):
            height = _BAR / max(len(styles), 1)
            ax.broken_barh(bars, (place - 0.02 + i * height, height), linewidth=1, **style)
        start, stop = bars[0][0], sum(bars[-1])
        late = start > 0.6 * num_frames
        write_beside(
            ax,
            text,
            (stop if late else start, place - 0.02),
            (0, 2.5),
            ha="right" if late else "left",
            va="bottom",
            bold=bool(persons),
            color=INK if persons else MUTED,
        )
    ax.set(xlim=(-0.5, num_frames - 0.5), ylim=(len(frames) - 0.4, -0.55))
    ax.set(xlabel="frame of the recording", title=title or "")
    ax.set_yticks(np.arange(len(frames)) + 0.19, _short_names(list(frames)))
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    add_grid(ax, "x")
    ax.spines["left"].set_visible(False)
    return ax


def heading(keypoints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Return the horizontal direction that a body faces, at right angles to its shoulders.

    Shapes:
        (V, 3), in a camera's frame (y up) or prepared (z up) -> (3,), of length 1; zeros if the
        shoulders coincide.

    Raises:
        ValueError: the layout has no `up` and `across`.
    """
    if skeleton.up is None or skeleton.across is None:
        raise ValueError(
            f"layout {skeleton.name} has no `align` entry, which tells where a body faces"
        )
    keypoints = np.asarray(keypoints, dtype=float)
    up = np.zeros(3)
    up[vertical_axis(keypoints, skeleton)] = 1
    right, left = skeleton.across
    facing = np.cross(up, keypoints[right] - keypoints[left])
    length = float(np.linalg.norm(facing))
    return facing / length if length > 1e-9 else np.zeros(3)


@styled
def preparation_figure(
    before: np.ndarray,
    after: np.ndarray,
    skeleton: Skeleton,
    *,
    title: str | None = None,
) -> Figure:
    """Draw a 3D clip as recorded and as prepared, from the front and from above.

    Each panel shows the body in the first frame with a person, the path of every joint over the
    clip (thin), and from above an arrow where the first person faces. Ticks are the arrays'
    coordinates, in metres.

    Args:
        before: (M, T, V, 3) in the camera's frame.
        after: (M, T', V, 3) prepared.
        skeleton: a layout with `up` and `across`.

    Raises:
        ValueError: no person; or as in `heading` and `to_view`.
    """
    figure, axes = new_figure((8.8, 7.6), 2, 2, height_ratios=[1, 1])
    for column, (name, clip) in enumerate((("Before", before), ("After", after))):
        clip = np.asarray(clip, dtype=float)
        present = np.flatnonzero(clip.any(axis=(0, 2, 3)))
        if not len(present):
            raise ValueError("expected a person in one frame at least, found none")
        for ax, view in zip(axes[:, column], ("front", "top"), strict=True):
            _draw_view(ax, clip, skeleton, frame=int(present[0]), view=view)
            where = "from the front" if view == "front" else "from above"
            ax.set_title(f"{name}, {where}")
    add_figure_title(figure, title)
    return figure


def _short_names(bodies: Sequence[int]) -> list[str]:
    """Names of bodies; long numbers by their last four digits, if those are unique."""
    ends = [str(body)[-4:] for body in bodies]
    long = max(len(str(body)) for body in bodies) > 6
    if not long or len(set(ends)) < len(ends):
        return [f"body {body}" for body in bodies]
    return [f"body …{end}" for end in ends]


def _draw_view(ax: Axes, clip: np.ndarray, skeleton: Skeleton, *, frame: int, view: str) -> None:
    """Draw a frame and the joints' paths; label the axes with the clip's own coordinates."""
    points, seen = to_view(clip, skeleton, view=view)
    for person in range(len(clip)):
        paths = np.where(seen[person, ..., None], points[person, ..., :2], np.nan).swapaxes(0, 1)
        ax.add_collection(
            LineCollection(list(paths), colors=MUTED, linewidths=0.5, alpha=0.45, zorder=0)
        )
        draw_person(ax, points[person, frame], seen[person, frame], skeleton, hollow=person > 0)
    recorded = vertical_axis(clip, skeleton) == 1
    # On the page, right is -x in both frames. Up is the vertical or, from above, the direction away
    # from the camera: z of a recording, -y after preparation.
    minus = FuncFormatter(lambda value, _: f"{0 - round(value, 6):g}".replace("-", _MINUS))
    ax.xaxis.set_major_formatter(minus)
    if view == "front":
        ax.set(xlabel="x (m)", ylabel="y, up (m)" if recorded else "z, up (m)")
    else:
        ax.set(xlabel="x (m)", ylabel="z, away from the camera (m)" if recorded else "y (m)")
        if not recorded:
            ax.yaxis.set_major_formatter(minus)
        _draw_heading(ax, clip, skeleton, frame=frame)
    name, marker = ("camera", "^") if recorded else ("origin", "+")
    if view == "top" or not recorded:
        ax.plot(0, 0, marker=marker, ms=9, mew=2, color=ACCENT, ls="none", zorder=4)
        write_beside(
            ax, name, (0, 0), (9, -12), va="baseline", size=8.5, color=ACCENT, boxed=True, zorder=4
        )
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.1)
    add_grid(ax, "both")


def _draw_heading(ax: Axes, clip: np.ndarray, skeleton: Skeleton, *, frame: int) -> None:
    """Draw an arrow, seen from above, from the first person's shoulders to where they face."""
    first = int(clip[:, frame].any(axis=(1, 2)).argmax())
    moved = np.stack([clip, clip + 0.55 * heading(clip[first, frame], skeleton)])
    points, _ = to_view(moved, skeleton, view="top")
    start, end = points[:, first, frame, list(skeleton.across or ())].mean(axis=1)[:, :2]
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 2}, zorder=5)
    ax.update_datalim([end])
    # The word stands at the arrow's head.
    right, up = 11 * (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
    ha: Any = "left" if right > 4 else "right" if right < -4 else "center"
    write_beside(ax, "faces", end, (right, up), ha=ha, size=8.5, bold=True, zorder=5)
