"""Deletion and insertion curves of attribution methods."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes

from msg3d_lab.viz.style import CATEGORIES, MUTED, new_axes, styled

__all__ = ["deletion_plot"]


@styled
def deletion_plot(
    curves: pd.DataFrame,
    *,
    kind: Literal["deletion", "insertion"] = "deletion",
    by: str = "order",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw deletion or insertion curves: means over clips, with a band of two standard errors.

    Args:
        curves: as `explain.fidelity.curve_table` returns; may hold several methods.
        kind: which of the two.
        by: the column that lines differ in: "order", or "method" ("important first" of each, and
            the random order once).
        title: of the Axes.
        ax: where to draw. Default: a new figure.

    Raises:
        ValueError: unknown `kind`, no column `by`, or more lines than colours.
    """
    if kind not in ("deletion", "insertion") or by not in curves:
        raise ValueError(f"expected deletion or insertion and a column, found {kind!r} and {by!r}")
    rows = curves[curves["kind"] == kind]
    lines = [(str(name), group) for name, group in rows.groupby(by, sort=False)]
    if by == "method":
        first = rows["order"] == "important first"
        lines = [(str(name), group) for name, group in rows[first].groupby(by, sort=False)]
        one = rows[(rows["order"] == "random") & (rows["method"] == rows["method"].iloc[0])]
        lines.append(("random order", one))
    if len(lines) > len(CATEGORIES) + 1:
        raise ValueError(f"expected up to 7 lines, found {len(lines)}")
    ax = new_axes(ax, (5.6, 3.5))
    styles = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1))]
    for number, (name, group) in enumerate(lines):
        mean = group.groupby("share")["probability"].mean()
        error = group.groupby("share")["probability"].sem().fillna(0)
        plain = name.startswith("random")
        color = MUTED if plain else CATEGORIES[number % len(CATEGORIES)]
        style: Any = (0, (1, 2)) if plain else styles[number % len(styles)]
        shown = name.replace("_", " ")
        ax.plot(mean.index, mean, color=color, ls=style, lw=1.8, label=shown)
        low, high = mean - 2 * error, mean + 2 * error
        ax.fill_between(mean.index, low, high, color=color, alpha=0.12, linewidth=0)
    done = "replaced by the baseline" if kind == "deletion" else "put back"
    ax.set(
        xlabel=f"share of features {done} (unitless)",
        ylabel="probability of the class (unitless)",
        xlim=(0, 1),
        ylim=(0, 1.02),
        title=title or "",
    )
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax
