"""What ablations found: accuracy by scales, differences with their intervals, cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from msg3d_lab.viz.style import CATEGORIES, FAINT, INK, MUTED, new_axes, styled

__all__ = ["accuracy_by_scales", "cost_accuracy", "forest_plot"]

_COSTS = {
    "macs": ("multiply-accumulates per clip (millions)", 1e6),
    "flops": ("floating-point operations per clip (millions)", 1e6),
    "parameters": ("parameters (thousands)", 1e3),
    "training_minutes": ("minutes of training", 1.0),
}
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LEVEL = 0.05


@styled
def accuracy_by_scales(
    runs: pd.DataFrame,
    *,
    x: str = "K",
    line: str = "aggregation",
    xlabel: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the accuracy against the number of scales, with the spread of the seeds.

    A small point is a run; a line joins the means over seeds, a bar goes from the worst to the best
    seed. Lines stand a little beside each other, so that bars do not hide one another.

    Args:
        runs: a row per run: columns `x`, `line` and top1, a share of 1. Runs without one are left
            out.
        x: the column of the horizontal axis, numbers.
        line: the column whose values are a line each.
        xlabel: of the axis; the column's name if left out.
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: a column is missing, or there is no run with a top1.
    """
    missing = [name for name in (x, line, "top1") if name not in runs]
    known = runs.dropna(subset=["top1"]) if not missing else runs
    if missing or known.empty:
        raise ValueError(
            f"expected runs with columns {x}, {line}, top1 and at least one top1, found "
            f"{len(runs)} runs, missing columns {missing}"
        )
    ax = new_axes(ax, (6.4, 3.8))
    values = sorted(known[x].unique())
    names = list(dict.fromkeys(known[line]))
    gap = min(np.diff(values), default=1.0)
    for number, name in enumerate(names):
        color, marker = CATEGORIES[number % 6], _MARKERS[number % 6]
        own = known[known[line] == name]
        percent = 100 * own["top1"]
        aside = 0.1 * gap * (number - (len(names) - 1) / 2)
        spread = percent.groupby(own[x]).agg(["mean", "min", "max"])
        at = spread.index.to_numpy(float) + aside
        ax.vlines(at, spread["min"], spread["max"], color=color, lw=2, alpha=0.45)
        ax.plot(at, spread["mean"], color=color, marker=marker, ms=7, lw=1.8, label=str(name))
        ax.plot(own[x] + aside, percent, ls="", marker=".", ms=5, color=INK, alpha=0.55, zorder=4)
    ax.xaxis.set_major_locator(FixedLocator(values))
    ax.grid(axis="y", color=FAINT, lw=0.7)
    ax.set_axisbelow(True)
    ax.margins(x=0.06, y=0.12)
    ax.legend(title=line.replace("_", " "), loc="best")
    label = x.replace("_", " ") if xlabel is None else xlabel
    ax.set(xlabel=label, ylabel="top-1 accuracy (%)", title=title or "")
    return ax


@styled
def forest_plot(table: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw every difference with its interval and its corrected p-value.

    A filled point is a difference that its p-value supports (below 0.05), a hollow one is not.

    Args:
        table: a row per variant, named by the index: columns compare_with, difference, low, high
            (shares of 1) and p_holm. Rows without a difference are left out.
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: a column is missing, or there is no difference.
    """
    wanted = ["compare_with", "difference", "low", "high", "p_holm"]
    missing = [name for name in wanted if name not in table]
    rows = table.dropna(subset=["difference"]) if not missing else table
    if missing or rows.empty:
        raise ValueError(
            f"expected a table with columns {', '.join(wanted)} and at least one difference, found "
            f"{len(table)} rows, missing columns {missing}"
        )
    ax = new_axes(ax, (8.2, 1.1 + 0.36 * len(rows)))
    numbers = rows[["difference", "low", "high"]].to_numpy(float)
    difference, low, high = 100 * numbers.T
    places = np.arange(len(rows))[::-1]
    supported = rows["p_holm"].to_numpy(float) < _LEVEL
    ax.axvline(0, color=MUTED, lw=1)
    ax.hlines(places, low, high, color=CATEGORIES[0], lw=2)
    for sure, face in ((True, CATEGORIES[0]), (False, "white")):
        chosen = supported == sure
        ax.plot(
            difference[chosen], places[chosen], ls="", marker="o", ms=8, mec=CATEGORIES[0],
            mew=1.6, mfc=face, zorder=3,
        )  # fmt: skip
    for place, mean, p in zip(places, difference, rows["p_holm"], strict=True):
        tail = "p unknown" if np.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
        ax.annotate(
            f"{mean:+.1f}   {tail}".replace("-", "−"),
            (1.02, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
    names = [f"{name} − {row['compare_with']}" for name, row in rows.iterrows()]
    ax.set_yticks(places, names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x", color=FAINT, lw=0.7)
    ax.set_axisbelow(True)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.set(xlabel="difference in top-1 (percentage points, 95 % interval)", title=title or "")
    return ax


@styled
def cost_accuracy(
    table: pd.DataFrame,
    *,
    cost: str = "macs",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the accuracy of each variant against what it costs.

    The line joins the variants that nothing cheaper reaches. Bars are one sd over the seeds.

    Args:
        table: a row per variant, named by the index: columns top1, sd and the cost.
        cost: "macs", "flops", "parameters" or "training_minutes".
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: an unknown cost, a column is missing, or no row has both numbers.
    """
    if cost not in _COSTS:
        raise ValueError(f"expected a cost of {', '.join(_COSTS)}, found {cost!r}")
    missing = [name for name in ("top1", "sd", cost) if name not in table]
    rows = table.dropna(subset=["top1", cost]) if not missing else table
    if missing or rows.empty:
        raise ValueError(
            f"expected a table with columns top1, sd, {cost} and at least one row with both, found "
            f"{len(table)} rows, missing columns {missing}"
        )
    ax = new_axes(ax, (7.4, 4.4))
    label, unit = _COSTS[cost]
    rows = rows.sort_values([cost, "top1"], ascending=[True, False])
    x, y = rows[cost].to_numpy(float) / unit, 100 * rows["top1"].to_numpy(float)
    best = y > np.concatenate([[-np.inf], np.maximum.accumulate(y)[:-1]])
    ax.errorbar(
        x, y, yerr=100 * rows["sd"].fillna(0).to_numpy(float), ls="", ecolor=FAINT, elinewidth=2
    )
    ax.plot(x[best], y[best], color=CATEGORIES[1], lw=1.4, label="nothing cheaper is as accurate")
    ax.plot(x, y, ls="", marker="o", ms=6, color=CATEGORIES[0], zorder=3)
    if x.min() > 0 and x.max() > 20 * x.min():
        ax.set_xscale("log")
    ax.margins(x=0.14, y=0.1)
    ax.grid(color=FAINT, lw=0.7)
    ax.set_axisbelow(True)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=9)
    ax.set(xlabel=label, ylabel="top-1 accuracy (%)", title=title or "")
    _name_points(ax, x, y, [str(name) for name in rows.index])
    return ax


def _name_points(ax: Axes, x: np.ndarray, y: np.ndarray, names: list[str]) -> None:
    """Write each point's name beside it, moved up where another name is; equal points share one."""
    shared: dict[tuple[float, float], list[str]] = {}
    for place, name in zip(zip(x, y, strict=True), names, strict=True):
        shared.setdefault(place, []).append(name)
    height, letter = 0.042, 0.0125  # of the axes, about
    taken: list[tuple[float, float, float]] = []
    ax.get_xlim(), ax.get_ylim()  # settles the limits, which the transform needs
    to_axes = ax.transData + ax.transAxes.inverted()
    for place, own in sorted(shared.items(), key=lambda item: item[0][1]):
        text = ", ".join(own)
        left, bottom = to_axes.transform(place)
        right = left + letter * len(text)
        for other_left, other_right, other in sorted(taken, key=lambda box: box[2]):
            if left < other_right and other_left < right and abs(bottom - other) < height:
                bottom = other + height
        taken.append((left, right, bottom))
        ax.annotate(
            text, (left, bottom), (6, 0), xycoords="axes fraction", textcoords="offset points",
            fontsize=8, va="center",
        )  # fmt: skip
