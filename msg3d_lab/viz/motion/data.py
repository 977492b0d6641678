"""What a data set holds and what the network gets to see of it: lengths, classes, frames chosen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from msg3d_lab.viz.style import CATEGORIES, FAINT, INK, MUTED, new_axes, new_figure, styled

__all__ = ["chosen_frames", "class_plot", "length_plot", "sampling_figure", "sampling_plot"]

_SKIPPED = ("#eef0f2", "#d3d8dd")  # of segments in turn
_STEPS = [digit * 10**power for power in range(9) for digit in (1, 2, 5)]
_LONGEST_NAME = 46  # characters of a class name; the longest of NTU RGB+D has 60


def chosen_frames(indices: np.ndarray, *, num_frames: int) -> np.ndarray:
    """Unroll the frames of clips along the recording, which is repeated where a clip wraps around.

    Args:
        indices: (clips, L) frame numbers, each clip in playing order.
        num_frames: n, the recording's length.

    Returns:
        (clips, X) bool: whether column x, frame x % n, is chosen. X is n, or where the farthest
        clip ends if one wraps around.

    Raises:
        ValueError: not such an array, or a frame that the recording does not have.

    Example:
        >>> chosen_frames([[0, 1, 2, 0]], num_frames=3)
        array([[ True,  True,  True,  True]])
    """
    indices = np.asarray(indices)
    if indices.ndim != 2 or 0 in indices.shape or indices.dtype.kind not in "iu":
        raise ValueError(
            f"expected frame numbers (clips, clip length), found shape {indices.shape}, "
            f"{indices.dtype}"
        )
    if indices.min() < 0 or indices.max() >= num_frames:
        raise ValueError(
            f"a recording of {num_frames} frames has frames 0 to {num_frames - 1}, found "
            f"{indices.min()} to {indices.max()}"
        )
    back = np.diff(indices, axis=1, prepend=indices[:, :1]) < 0
    if num_frames == 1:  # every step is a new round, though the number never falls
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
    segments: bool | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw which frames of a recording each clip takes: a row per clip, a dark cell per frame.

    Where a clip wraps around, the recording is drawn again to the right of itself.

    Args:
        indices: (clips, L) frame numbers, as `uniform_sample` gives them.
        num_frames: n, the recording's length.
        segments: whether to draw the L segments that give one frame each; by default where there
            are any, for n >= 2L.
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: as in `chosen_frames`.
    """
    chosen = chosen_frames(indices, num_frames=num_frames)
    (rows, width), clip_len = chosen.shape, np.shape(indices)[1]
    ax = new_axes(ax, (9, 0.34 * rows + 0.9))
    cells = np.zeros(chosen.shape, dtype=int)
    if num_frames >= 2 * clip_len if segments is None else segments:
        edges = np.arange(clip_len + 1) * num_frames // clip_len
        cells[:] = np.searchsorted(edges, np.arange(width) % num_frames, side="right") % 2
    cells[chosen] = 2
    outline = float(np.clip(80 / width - 0.35, 0, 0.8))  # none where cells are narrow
    for row in range(rows):  # one by one, for air between them
        ax.pcolormesh(
            np.arange(width + 1) - 0.5,
            [row - 0.36, row + 0.36],
            cells[[row]],
            cmap=ListedColormap([*_SKIPPED, CATEGORIES[0]]),
            vmin=0,
            vmax=2,
            edgecolors="white" if outline else "none",
            linewidth=outline,
        )
    for start in range(num_frames, width, num_frames):
        ax.axvline(start - 0.5, color=CATEGORIES[1], lw=1.6)
        ax.annotate(
            "again",
            (start - 0.5, -0.5),
            (4, 1),
            textcoords="offset points",
            fontsize=8,
            color=CATEGORIES[1],
        )
    ax.set(xlim=(-0.5, width - 0.5), ylim=(rows - 0.5, -0.5))
    ax.set_title(title or "", pad=17 if width > num_frames else None)
    ax.set_yticks(range(rows), [f"clip {row}" for row in range(rows)])
    ax.set_xlabel("frame of the recording")
    step = next(s for s in _STEPS if 12 * s >= width)
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
        clips: recording length n -> (clips, L) frame numbers, as `uniform_sample` gives them; L is
            the same for all.
        title: what it shows.

    Raises:
        ValueError: no recording, clips of different lengths, or as in `chosen_frames`.
    """
    lengths = {np.shape(indices)[-1] for indices in clips.values()}
    if len(lengths) != 1:
        raise ValueError(f"expected clips of one length L, found lengths {sorted(lengths)}")
    clip_len = lengths.pop()
    heights = [0.3 * len(indices) + 1.05 for indices in clips.values()]
    figure, axes = new_figure(
        (9.4, sum(heights) + 0.35 * bool(title)), len(clips), 1, height_ratios=heights
    )
    for ax, (num_frames, indices) in zip(axes.flat, clips.items(), strict=True):
        if num_frames < clip_len:
            how = f"fewer than {clip_len}, so each clip goes round, from a start of its own"
        elif num_frames < 2 * clip_len:
            how = f"each clip leaves out {num_frames - clip_len} of them at random places"
        else:
            how = f"in {clip_len} segments (shaded in turn), one random frame of each"
        sampling_plot(indices, num_frames=num_frames, title=f"{num_frames} frames, {how}", ax=ax)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


@styled
def length_plot(
    frames: np.ndarray,
    *,
    persons: np.ndarray | None = None,
    clip_len: int | None = None,
    bins: int = 30,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how long the clips of a data set are, by number of persons, with the median marked.

    Args:
        frames: (clips,) lengths.
        persons: (clips,) number of persons; with it the bars are split.
        clip_len: L, the frames a network sees; L and 2L are marked, where sampling changes.
        bins: number of bars, at most; their width is a whole number of frames.
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: no clips, or not one number of persons per clip.
    """
    frames = np.asarray(frames)
    persons = np.zeros(len(frames), dtype=int) if persons is None else np.asarray(persons)
    if frames.ndim != 1 or not len(frames) or persons.shape != frames.shape:
        raise ValueError(
            f"expected a length per clip, and as many numbers of persons, found shapes "
            f"{frames.shape} and {persons.shape}"
        )
    ax = new_axes(ax, (7.2, 3.6))
    low, high = int(frames.min()), int(frames.max())
    step = max(1, -(-(high + 1 - low) // bins))
    edges = np.arange(low, high + 1 + step, step) - 0.5
    groups = [int(count) for count in np.unique(persons)]
    ax.hist(
        [frames[persons == count] for count in groups],
        bins=edges.tolist(),
        stacked=True,
        color=[CATEGORIES[(0, 4, 2)[i % 3]] for i in range(len(groups))],
        label=[f"{count} person{'s' * (count != 1)}" for count in groups],
        edgecolor="white",
        linewidth=0.6,
    )
    median = float(np.median(frames))
    marks = [(median, f"median {median:g}", True)]
    if clip_len is not None:
        marks += [(n * clip_len, f"{n}L = {n * clip_len}".removeprefix("1"), False) for n in (1, 2)]
    top, (_, right) = ax.get_ylim()[1], ax.get_xlim()
    late = 0.1 * low + 0.9 * max(right, *(x for x, _, _ in marks))
    for level, (x, text, strong) in enumerate(sorted(marks)):
        ax.axvline(x, color=INK if strong else MUTED, lw=1.6, ls="-" if strong else "--")
        # At three heights, so that marks close to each other can still be read.
        ax.annotate(
            text,
            (x, top * (1.21 - 0.09 * (level % 3))),
            (-4 if x > late else 4, 0),
            textcoords="offset points",
            ha="right" if x > late else "left",
            va="top",
            fontsize=9,
            fontweight="bold" if strong else "normal",
            color=INK if strong else MUTED,
        )
    ax.set_ylim(0, top * 1.22)
    ax.grid(axis="y", color=FAINT, lw=0.7)
    ax.set_axisbelow(True)
    ax.set(xlabel="length (frames)", ylabel="clips", title=title or "")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    if len(groups) > 1:
        ax.legend(
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=len(groups),
            fontsize=9,
            borderaxespad=0.2,
        )
    return ax


@styled
def class_plot(counts: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw how many clips each class has in each part of a split.

    Args:
        counts: one row per class, by name, one column per part, such as "train" and "val".
        title: what it shows.
        ax: where to draw; without it on a new figure that is as high as the classes need.

    Raises:
        ValueError: no classes or parts, or a negative count.
    """
    if counts.empty or (counts < 0).to_numpy().any():
        raise ValueError(
            f"expected counts of 0 or more, a row per class and a column per part, found "
            f"{counts.shape[0]} rows and {counts.shape[1]} columns"
        )
    K = len(counts)
    per_class = float(np.clip(12 / K, 0.1, 0.27))
    ax = new_axes(ax, (7.6, per_class * K + 1.1))
    done = np.zeros(K)
    for i, part in enumerate(counts):
        values = counts[part].to_numpy(dtype=float)
        ax.barh(
            range(K),
            values,
            left=done,
            height=0.78,
            color=CATEGORIES[(0, 4, 2, 3)[i % 4]],
            label=f"{part} ({int(values.sum()):,})",
        )
        done += values
    size = float(np.clip(72 * per_class * 0.8, 5.5, 9))
    for row, total in enumerate(done):
        ax.annotate(
            f"{total:,.0f}",
            (total, row),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=MUTED,
        )
    ax.set_yticks(range(K), [_shortened(str(name)) for name in counts.index], fontsize=size)
    ax.set(ylim=(K - 0.4, -0.6), xlabel="clips", title=title or "")
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=FAINT, lw=0.7)
    ax.set_axisbelow(True)
    ax.margins(x=0.08)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=counts.shape[1], fontsize=9)
    return ax


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1].rstrip()}…"
