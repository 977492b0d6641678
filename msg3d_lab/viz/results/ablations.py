"""Results of ablations: accuracy by number of scales, differences with intervals, cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from msg3d_lab.viz.elements import add_grid, check_columns, write_beside
from msg3d_lab.viz.style import CATEGORIES, FAINT, INK, MUTED, new_axes, series_colors, styled

_MARKERS = ("o", "s", "^", "D", "v", "P")
_LEVEL = 0.05


@styled
def accuracy_by_scales(
    runs: pd.DataFrame,
    *,
    xlabel: str = "K",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the accuracy against the number of scales, with the spread over seeds.

    A small point is a run; a line joins the means over seeds, a bar goes from the lowest to the
    highest seed. Lines are shifted sideways a little, so that bars do not hide each other.

    Args:
        runs: a row per run: columns K (a number), aggregation and top1, a fraction. Runs without
            top1 are left out.
        xlabel: what K is.
    """
    known = _rows_with(runs, ("K", "aggregation", "top1"), "top1")
    ax = new_axes(ax, (6.4, 3.8))
    values = sorted(known["K"].unique())
    names = list(dict.fromkeys(known["aggregation"]))
    gap = min(np.diff(values), default=1.0)
    colors = series_colors([str(name) for name in names])
    for number, (name, color) in enumerate(zip(names, colors, strict=True)):
        marker = _MARKERS[number % len(_MARKERS)]
        own = known[known["aggregation"] == name]
        percent = 100 * own["top1"]
        aside = 0.1 * gap * (number - (len(names) - 1) / 2)
        spread = percent.groupby(own["K"]).agg(["mean", "min", "max"])
        at = spread.index.to_numpy(float) + aside
        ax.vlines(at, spread["min"], spread["max"], color=color, lw=2, alpha=0.45)
        ax.plot(at, spread["mean"], color=color, marker=marker, ms=7, lw=1.8, label=str(name))
        ax.plot(own["K"] + aside, percent, ls="", marker=".", ms=5, color=INK, alpha=0.55, zorder=4)
    ax.xaxis.set_major_locator(FixedLocator(values))
    add_grid(ax)
    ax.margins(x=0.06, y=0.12)
    ax.legend(title="aggregation", loc="best")
    ax.set(xlabel=xlabel, ylabel="top-1 accuracy (%)", title=title or "")
    return ax


@styled
def forest_plot(table: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw every difference with its interval and its p-values, alone and corrected.

    Filled points are significant (corrected p-value below 0.05).

    Args:
        table: a row per variant, named by the index: columns compare_with, difference, low, high
            (fractions), p and p_holm (corrected after Holm), and optionally group, which puts rows
            together under its name. Rows without a difference are left out.
    """
    columns = ("compare_with", "difference", "low", "high", "p", "p_holm")
    rows = _rows_with(table, columns, "difference")
    named = rows["group"] if "group" in rows else pd.Series("", rows.index)
    groups = named.astype(object).fillna("")  # a table that was read from a CSV has no empty names
    rows = rows.iloc[np.argsort(pd.factorize(groups)[0], kind="stable")]
    groups = groups.loc[rows.index]
    # A group's name takes a line above its rows.
    headed = groups.ne(groups.shift()).to_numpy() & groups.ne("").to_numpy()
    lines = np.arange(len(rows)) + np.cumsum(headed)
    count = int(lines[-1]) + 1
    ax = new_axes(ax, (8.8, 1.3 + 0.34 * count))
    numbers = rows[["difference", "low", "high"]].to_numpy(float)
    difference, low, high = 100 * numbers.T
    places = count - 1 - lines
    significant = rows["p_holm"].to_numpy(float) < _LEVEL
    ax.axvline(0, color=MUTED, lw=1)
    ax.hlines(places, low, high, color=CATEGORIES[0], lw=2)
    for filled, face in ((True, CATEGORIES[0]), (False, "white")):
        chosen = significant == filled
        ax.plot(
            difference[chosen], places[chosen], ls="", marker="o", ms=8, mec=CATEGORIES[0],
            mew=1.6, mfc=face, zorder=3,
        )  # fmt: skip
    beside = ("axes fraction", "data")
    texts = [
        [f"{mean:+.1f}".replace("-", "−"), _p_text(p), _p_text(corrected)]
        for mean, p, corrected in zip(difference, rows["p"], rows["p_holm"], strict=True)
    ]
    columns_at = (1.02, 1.14, 1.25)
    for text, at in zip(("diff.", "p", "Holm"), columns_at, strict=True):
        write_beside(ax, text, (at, count - 0.35), size=8, color=MUTED, coordinates=beside)
    for place, row in zip(places, texts, strict=True):
        for text, at in zip(row, columns_at, strict=True):
            write_beside(ax, text, (at, place), coordinates=beside)
    for place, group in zip(places[headed], groups[headed], strict=True):
        write_beside(ax, group, (0.01, place + 1), bold=True, coordinates=beside)
    names = [f"{name} − {row['compare_with']}" for name, row in rows.iterrows()]
    ax.set_yticks(places, names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    add_grid(ax, "x")
    ax.set_ylim(-0.7, count - 0.2)
    ax.set(xlabel="difference in top-1 (percentage points, 95 % interval)", title=title or "")
    return ax


@styled
def cost_accuracy(table: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the accuracy of each variant against its multiply-accumulates per clip.

    The line joins the variants that are more accurate than all cheaper ones. Bars are one standard
    deviation over seeds.

    Args:
        table: a row per variant, named by the index: columns top1, sd and macs.
    """
    rows = _rows_with(table, ("top1", "sd", "macs"), "top1", "macs")
    ax = new_axes(ax, (7.4, 4.4))
    rows = rows.sort_values(["macs", "top1"], ascending=[True, False])
    x, y = rows["macs"].to_numpy(float) / 1e6, 100 * rows["top1"].to_numpy(float)
    best = y > np.concatenate([[-np.inf], np.maximum.accumulate(y)[:-1]])
    ax.errorbar(
        x, y, yerr=100 * rows["sd"].fillna(0).to_numpy(float), ls="", ecolor=FAINT, elinewidth=2
    )
    ax.plot(x[best], y[best], color=CATEGORIES[1], lw=1.4, label="more accurate than all cheaper")
    ax.plot(x, y, ls="", marker="o", ms=6, color=CATEGORIES[0], zorder=3)
    if x.min() > 0 and x.max() > 20 * x.min():
        ax.set_xscale("log")
    ax.margins(x=0.14, y=0.1)
    add_grid(ax, "both")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=9)
    label = "multiply-accumulates per clip (millions)"
    ax.set(xlabel=label, ylabel="top-1 accuracy (%)", title=title or "")
    _name_points(ax, x, y, [str(name) for name in rows.index])
    return ax


def _p_text(p: float) -> str:
    return "unknown" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _rows_with(table: pd.DataFrame, columns: tuple[str, ...], *needed: str) -> pd.DataFrame:
    """The rows with a value in the needed columns; at least one."""
    check_columns(table, *columns)
    known = table.dropna(subset=list(needed))
    if known.empty:
        raise ValueError(
            f"expected at least one row with {' and '.join(needed)}, found none of {len(table)}"
        )
    return known


def _name_points(ax: Axes, x: np.ndarray, y: np.ndarray, names: list[str]) -> None:
    """Write each point's name beside it, above other names; equal points share one text."""
    shared: dict[tuple[float, float], list[str]] = {}
    for place, name in zip(zip(x, y, strict=True), names, strict=True):
        shared.setdefault(place, []).append(name)
    height, letter = 0.042, 0.0125  # of a name and a letter, as a fraction of the axes
    taken: list[tuple[float, float, float]] = []
    ax.get_xlim(), ax.get_ylim()  # computes the limits, which the transform needs
    to_axes = ax.transData + ax.transAxes.inverted()
    for place, own in sorted(shared.items(), key=lambda item: item[0][1]):
        text = ", ".join(own)
        left, point = to_axes.transform(place)
        width = letter * len(text)
        # To the right of the point, or to the left of it where that is closer to its height.
        free = [
            (_free_height(taken, start, start + width, point, height), side, start)
            for side, start in (("left", left), ("right", left - width - 0.02))
            if start >= 0
        ]
        bottom, side, start = min(free, key=lambda found: abs(found[0] - point))
        taken.append((start, start + width, bottom))
        if abs(bottom - point) > height / 2:
            ax.plot([left, left], [point, bottom], transform=ax.transAxes, color=FAINT, lw=0.8)
        ax.annotate(
            text, (left, bottom), (6 if side == "left" else -6, 0), xycoords="axes fraction",
            textcoords="offset points", ha=side, va="center", fontsize=8, color=INK,
        )  # fmt: skip


def _free_height(
    taken: list[tuple[float, float, float]], left: float, right: float, y: float, height: float
) -> float:
    """The lowest height of y or above at which nothing is written between left and right."""
    for other_left, other_right, other in sorted(taken, key=lambda box: box[2]):
        if left < other_right and other_left < right and abs(y - other) < height:
            y = other + height
    return y
