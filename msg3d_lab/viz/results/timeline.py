"""Class probabilities over the time of a long recording, with the segments found in it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from msg3d_lab.viz.elements import add_figure_title, add_grid, check_columns, write_beside
from msg3d_lab.viz.style import CATEGORIES, FAINT, MUTED, new_figure, styled

_LINES = len(CATEGORIES)


@styled
def timeline_figure(
    curves: pd.DataFrame, segments: pd.DataFrame, *, title: str | None = None
) -> Figure:
    """Draw the probability of each class over time, and the segments below.

    The classes of the segments have a colour; the others are thin grey lines.

    Args:
        curves: `ClassCurves.table()`: columns frame, seconds and one per class, probabilities.
        segments: `ClassCurves.segments()`: columns class, start_s, stop_s, probability.
    """
    check_columns(curves, "frame", "seconds")
    seconds = curves["seconds"].to_numpy(dtype=float)
    classes = curves.drop(columns=["frame", "seconds"])
    found = list(dict.fromkeys(segments["class"]))
    longest = (segments["stop_s"] - segments["start_s"]).groupby(segments["class"]).sum()
    colored = sorted(found, key=lambda name: -longest[name])[:_LINES]
    colors = dict(zip(colored, CATEGORIES, strict=False))
    figure, axes = new_figure((9, 4.4), rows=2, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
    top, bottom = axes[:, 0]
    for name, values in classes.items():
        if name not in colors:
            top.plot(seconds, 100 * values, color=FAINT, lw=0.8, zorder=1)
    for name, color in colors.items():
        top.plot(seconds, 100 * classes[name], color=color, lw=2, label=name, zorder=2)
    add_grid(top)
    top.set(ylim=(0, 104), ylabel="probability (%)")
    if colors:
        top.legend(loc="upper left", bbox_to_anchor=(1, 1), title="class", alignment="left")
    for _, row in segments.iterrows():
        length = row["stop_s"] - row["start_s"]
        color = colors.get(row["class"], MUTED)
        bottom.barh(0, length, left=row["start_s"], height=0.8, color=color, edgecolor="white")
        if length > 0.06 * max(seconds[-1], 1e-9):
            text = f"{row['class']}\n{100 * row['probability']:.0f} %"
            place = (row["start_s"] + length / 2, 0)
            write_beside(bottom, text, place, ha="center", size=7, boxed=True)
    bottom.set(yticks=[], xlabel="time (s)", ylabel="segments", ylim=(-0.6, 0.6))
    bottom.set_xlim(0, float(np.max(seconds, initial=0)) or 1)
    add_figure_title(figure, title)
    return figure
