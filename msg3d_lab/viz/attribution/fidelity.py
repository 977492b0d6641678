"""How well importance stands up: deletion and insertion curves, differences with intervals."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes

from msg3d_lab.viz.style import CATEGORIES, INK, MUTED, new_axes, styled

__all__ = ["deletion_plot", "difference_plot"]


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
        curves: of `analysis.fidelity.curve_table`; may hold several methods.
        kind: which of the two.
        by: the column that lines differ in: "order", or "method" (of "important first", with the
            random order once).
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: unknown `kind`, no column `by`, or more lines than there are colours.
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
        raise ValueError(f"{len(lines)} lines are too many to tell apart: choose up to 7")
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
    done = "replaced by the baseline" if kind == "deletion" else "put back on the baseline"
    ax.set(
        xlabel=f"share of features {done} (unitless)",
        ylabel="probability of the class (unitless)",
        xlim=(0, 1),
        ylim=(0, 1.02),
        title=title or "",
    )
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


@styled
def difference_plot(
    table: pd.DataFrame,
    *,
    names: tuple[str, str] = ("a", "b"),
    unit: str = "share of importance (unitless)",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw differences with their intervals, one row per feature, the largest difference first.

    Args:
        table: columns difference, low, high, e.g. of `analysis.patterns.compare` or `symmetry`.
        names: of the two that are compared, first minus second.
        unit: of the values.
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: a column is missing.
    """
    missing = {"difference", "low", "high"} - set(table.columns)
    if missing:
        raise ValueError(f"expected columns difference, low and high; {sorted(missing)} missing")
    table = table.sort_values("difference", kind="stable")
    ax = new_axes(ax, (5.2, 0.21 * len(table) + 1.0))
    outside = (table["low"] > 0) | (table["high"] < 0)
    for row, (_, line) in enumerate(table.iterrows()):
        color = INK if outside.iloc[row] else MUTED
        ax.plot([line["low"], line["high"]], [row, row], color=color, lw=1.4)
        face = color if outside.iloc[row] else "white"
        ax.plot(line["difference"], row, "o", ms=4.5, mec=color, mfc=face)
    ax.axvline(0, color=MUTED, lw=0.8, ls=":")
    ax.set_yticks(range(len(table)), [str(name) for name in table.index])
    ax.tick_params(axis="y", labelsize=8, length=0)
    ax.set(xlabel=f"{names[0]} minus {names[1]}: {unit}", ylim=(-0.7, len(table) - 0.3))
    ax.set_title(title or "")
    return ax
