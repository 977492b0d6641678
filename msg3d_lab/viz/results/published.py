"""Published accuracies beside measured ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from msg3d_lab.viz.elements import add_grid, check_columns, write_beside
from msg3d_lab.viz.style import CATEGORIES, MUTED, new_axes, styled


@styled
def published_plot(
    table: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw each published accuracy, and beside it what was measured, or that it was not.

    Args:
        table: a row per number: columns data, streams, source, published and measured, in percent,
            and sd over seeds; NaN where there is none. Rows of one data set go together.
        title: of the Axes.
        ax: where to draw. Default: a new figure.

    Raises:
        ValueError: no rows, or a column is missing.
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
    sources = table["source"].fillna("measured").str.extract("^([^ ,]+)")[0]
    ax.set_yticks(places, table["streams"] + "  (" + sources + ")")
    ax.tick_params(axis="y", length=0, labelsize=8)
    add_grid(ax, "x")
    ax.set_ylim(-0.8, lines[-1] + 0.8)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)
    ax.set_xlabel("top-1 accuracy (%)")
    ax.set_title(title or "", pad=26)
    return ax
