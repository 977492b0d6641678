"""What a data set holds: lengths of clips, and clips per class."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from msg3d_lab.viz.elements import add_grid, shorten, write_beside
from msg3d_lab.viz.style import CATEGORIES, INK, MUTED, new_axes, styled

_BINS = 30
_LONGEST_NAME = 46  # characters of a class name; the longest of NTU RGB+D has 60


@styled
def length_histogram(
    frames: np.ndarray,
    *,
    persons: np.ndarray | None = None,
    clip_len: int | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the lengths of the clips of a data set, by number of persons, with the median marked.

    Args:
        frames: (clips,) lengths.
        persons: (clips,) number of persons, to split the bars by.
        clip_len: L, the frames a network sees; L and 2L are marked, where sampling changes.
    """
    frames = np.asarray(frames)
    persons = np.zeros(len(frames), dtype=int) if persons is None else np.asarray(persons)
    ax = new_axes(ax, (7.2, 3.6))
    low, high = int(frames.min()), int(frames.max())
    step = max(1, -(-(high + 1 - low) // _BINS))  # a whole number of frames
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
        write_beside(
            ax,
            text,
            (x, top * (1.21 - 0.09 * (level % 3))),
            (-4 if x > late else 4, 0),
            ha="right" if x > late else "left",
            va="top",
            bold=strong,
            color=INK if strong else MUTED,
        )
    ax.set_ylim(0, top * 1.22)
    add_grid(ax)
    ax.set(xlabel="length (frames)", ylabel="clips", title=title or "")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    if len(groups) > 1:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(groups), fontsize=9)
    return ax


@styled
def class_counts(counts: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw how many clips each class has in each part of a split.

    Args:
        counts: one row per class, by name, one column per part, such as "train" and "val".
    """
    K = len(counts)
    per_class = float(np.clip(12 / K, 0.1, 0.27))
    ax = new_axes(ax, (7.6, per_class * K + 1.1))
    done = np.zeros(K)
    for i, part in enumerate(counts):
        values = counts[part].to_numpy(dtype=float)
        color, label = CATEGORIES[(0, 4, 2, 3)[i % 4]], f"{part} ({int(values.sum()):,})"
        ax.barh(range(K), values, left=done, height=0.78, color=color, label=label)
        done += values
    size = float(np.clip(72 * per_class * 0.8, 5.5, 9))
    for row, total in enumerate(done):
        write_beside(ax, f"{total:,.0f}", (total, row), (3, 0), size=size, color=MUTED)
    names = [shorten(str(name), _LONGEST_NAME) for name in counts.index]
    ax.set_yticks(range(K), names, fontsize=size)
    ax.set(ylim=(K - 0.4, -0.6), xlabel="clips", title=title or "")
    ax.tick_params(axis="y", length=0)
    add_grid(ax, "x")
    ax.margins(x=0.08)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=counts.shape[1], fontsize=9)
    return ax
