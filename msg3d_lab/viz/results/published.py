"""Published accuracies beside measured ones, of one run or of several seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from msg3d_lab.viz.elements import add_grid, check_columns, write_beside
from msg3d_lab.viz.style import ACCENT, CATEGORIES, MUTED, new_axes, styled


@styled
def published_plot(
    table: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw each published accuracy, and beside it what was measured, or that it was not.

    Args:
        table: a row per number: columns data, streams, source, published and measured, in percent,
            and sd over seeds; NaN where there is none. Rows of one data set go together. With a
            column recipe, what was measured is named by its recipe, the rest by its source.
    """
    check_columns(table, "data", "streams", "source", "published", "measured", "sd")
    heads = table["data"].ne(table["data"].shift()).to_numpy()
    lines = np.arange(len(table)) + np.cumsum(heads)
    places = lines[-1] - lines
    ax = new_axes(ax, (8, 1.2 + 0.27 * (lines[-1] + 1)))
    published, measured, sd = (
        table[name].to_numpy(dtype=float) for name in ("published", "measured", "sd")
    )
    style: dict[str, Any] = {"ls": "", "ms": 7, "zorder": 3}
    ax.plot(published, places, marker="D", mfc="white", mec=MUTED, label="published", **style)
    ax.errorbar(
        measured, places, xerr=np.nan_to_num(sd), marker="o", color=CATEGORIES[0], elinewidth=2,
        label="measured here (bar: one standard deviation over seeds)", **style,
    )  # fmt: skip
    beside = ("axes fraction", "data")
    for place, value, other in zip(places, measured, published, strict=True):
        gap = f"{value - other:+.2f}".replace("-", "−") if np.isfinite(value - other) else ""
        text = "not run" if np.isnan(value) else f"{value:.2f}  {gap}"
        color = MUTED if np.isnan(value) else CATEGORIES[0]
        write_beside(ax, text, (1.02, place), size=8, color=color, coordinates=beside)
    for place, name in zip(places[heads], table["data"][heads], strict=True):
        write_beside(ax, name, (0.01, place + 1), bold=True, coordinates=beside)
    origins = table["source"].fillna("measured").str.extract("^([^ ,]+)")[0]
    if "recipe" in table:
        recipes = table["recipe"].str.replace(r" \(changed.*", ", changed", regex=True)
        origins = origins.where(np.isnan(measured), recipes)
    ax.set_yticks(places, table["streams"] + "  (" + origins + ")")
    ax.tick_params(axis="y", length=0, labelsize=8)
    add_grid(ax, "x")
    ax.set_ylim(-0.8, lines[-1] + 0.8)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)
    ax.set_xlabel("top-1 accuracy (%)")
    ax.set_title(title or "", pad=26)
    return ax


@styled
def seeds_plot(table: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw every seed's accuracy, the mean with its interval, and the published one; a row each.

    Args:
        table: a row per result; columns streams, measured (mean, percent), low, high, published, a
            column "seed N" per seed, and optionally "best epoch". NaN: not measured, or not
            published; such rows say "not run".
    """
    columns = ["measured", "low", "high", "published"]
    check_columns(table, "streams", *columns)
    ax = new_axes(ax, (6.8, 0.5 * len(table) + 1.5))
    mean, low, high, published = table[columns].to_numpy(float).T
    rows = np.arange(len(table))[::-1]
    ran = ~np.isnan(mean)
    ax.hlines(rows[ran], low[ran], high[ran], color=CATEGORIES[0], lw=2, label="95 % interval")
    seeds = table.filter(regex=r"^seed \d+$").to_numpy(float)
    across = np.repeat(rows, seeds.shape[1])
    ax.scatter(seeds.ravel(), across, s=16, color=MUTED, zorder=3, label="a seed")
    ax.scatter(mean, rows, s=46, color=CATEGORIES[0], zorder=4, label="mean of the last epochs")
    if "best epoch" in table:
        best = table["best epoch"].to_numpy(float)
        ax.scatter(best, rows, marker="|", s=90, color=MUTED, label="best epoch on test: no result")
    ax.scatter(
        published, rows, marker="D", s=42, facecolor="none", edgecolor=ACCENT, zorder=5,
        label="published",
    )  # fmt: skip
    for x, y in zip(mean[ran], rows[ran], strict=True):
        write_beside(ax, f"{x:.2f}", (x, y), (0, 7), ha="center", va="baseline")
    for x, y in zip(published[~ran], rows[~ran], strict=True):
        if not np.isnan(x):
            write_beside(ax, "not run", (x, y), (8, 0), ha="left", va="center", color=MUTED)
    ax.set_yticks(rows, [str(name) for name in table["streams"]])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, len(table) - 0.3)
    add_grid(ax, "x")
    ax.set(xlabel="top-1 accuracy (%)", title=title or "")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.6 / (0.5 * len(table) + 0.4)), ncols=3)
    return ax
