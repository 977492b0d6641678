"""Which frames of a recording a clip takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from msg3d_lab.viz.elements import add_figure_title, write_beside
from msg3d_lab.viz.style import CATEGORIES, new_axes, new_figure, styled

_SEGMENT_COLORS = ("#eef0f2", "#d3d8dd")
_TICK_STEPS = [digit * 10**power for power in range(9) for digit in (1, 2, 5)]


def chosen_frames(indices: np.ndarray, *, num_frames: int) -> np.ndarray:
    """Unroll the frames of clips along the recording, which is repeated where a clip wraps around.

    Shapes:
        (clips, L) frame numbers in playing order, of n frames -> (clips, X) bool: whether column x,
        frame x % n, is chosen. X is n, or the end of the longest clip if one wraps around.

    Example:
        >>> chosen_frames([[0, 1, 2, 0]], num_frames=3)
        array([[ True,  True,  True,  True]])
    """
    indices = np.asarray(indices)
    back = np.diff(indices, axis=1, prepend=indices[:, :1]) < 0
    if num_frames == 1:  # every step wraps around, though the number never falls
        back[:, 1:] = True
    unrolled = indices + num_frames * back.cumsum(axis=1)
    chosen = np.zeros((len(indices), max(num_frames, int(unrolled.max()) + 1)), dtype=bool)
    np.put_along_axis(chosen, unrolled, True, axis=1)
    return chosen


@styled
def sampling_plot(
    indices: np.ndarray,
    *,
    num_frames: int,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw which frames of a recording each clip takes: a row per clip, a dark cell per frame.

    From n = 2L frames on, where sampling takes a frame of each of L segments, these are shaded in
    turn. If a clip wraps around, the recording is drawn again at its right.

    Args:
        indices: (clips, L) frame numbers, as `uniform_sample` returns them.
        num_frames: n, the recording's length.
    """
    chosen = chosen_frames(indices, num_frames=num_frames)
    (rows, width), clip_len = chosen.shape, np.shape(indices)[1]
    ax = new_axes(ax, (9, 0.34 * rows + 0.9))
    cells = np.zeros(chosen.shape, dtype=int)
    if num_frames >= 2 * clip_len:
        edges = np.arange(clip_len + 1) * num_frames // clip_len
        cells[:] = np.searchsorted(edges, np.arange(width) % num_frames, side="right") % 2
    cells[chosen] = 2
    outline = float(np.clip(80 / width - 0.35, 0, 0.8))  # none if cells are narrow
    for row in range(rows):  # one at a time, with space between them
        ax.pcolormesh(
            np.arange(width + 1) - 0.5,
            [row - 0.36, row + 0.36],
            cells[[row]],
            cmap=ListedColormap([*_SEGMENT_COLORS, CATEGORIES[0]]),
            vmin=0,
            vmax=2,
            edgecolors="white" if outline else "none",
            linewidth=outline,
        )
    for start in range(num_frames, width, num_frames):
        ax.axvline(start - 0.5, color=CATEGORIES[1], lw=1.6)
        place = (start - 0.5, -0.5)
        write_beside(ax, "again", place, (4, 1), va="baseline", size=8, color=CATEGORIES[1])
    ax.set(xlim=(-0.5, width - 0.5), ylim=(rows - 0.5, -0.5))
    ax.set_title(title or "", pad=17 if width > num_frames else None)
    ax.set_yticks(range(rows), [f"clip {row}" for row in range(rows)])
    ax.set_xlabel("frame of the recording")
    step = next(s for s in _TICK_STEPS if 12 * s >= width)
    # A tick just before the recording starts again would lie on the 0 that follows it.
    last = num_frames - (step // 2 if width > num_frames else 0)
    ticks = [x for x in range(width) if x % num_frames % step == 0 and x % num_frames < last]
    ax.set_xticks(ticks, [f"{x % num_frames}" for x in ticks])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    return ax


@styled
def sampling_figure(clips: Mapping[int, np.ndarray], *, title: str | None = None) -> Figure:
    """Draw which frames are taken from recordings of several lengths, one panel each.

    Args:
        clips: recording length n -> (clips, L) frame numbers, as `uniform_sample` returns them; L
            is the same for all.
    """
    (clip_len,) = {np.shape(indices)[-1] for indices in clips.values()}
    heights = [0.3 * len(indices) + 1.05 for indices in clips.values()]
    figure, axes = new_figure(
        (9.4, sum(heights) + 0.35 * bool(title)), len(clips), 1, height_ratios=heights
    )
    for ax, (num_frames, indices) in zip(axes.flat, clips.items(), strict=True):
        if num_frames < clip_len:
            how = f"fewer than {clip_len}, so each clip wraps around, from its own start"
        elif num_frames < 2 * clip_len:
            how = f"each clip leaves out {num_frames - clip_len} of them at random places"
        else:
            how = f"in {clip_len} segments (shaded in turn), one random frame of each"
        sampling_plot(indices, num_frames=num_frames, title=f"{num_frames} frames, {how}", ax=ax)
    add_figure_title(figure, title)
    return figure
