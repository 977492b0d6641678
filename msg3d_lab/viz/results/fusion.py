"""Fusion of networks: accuracy against the weight, and of each part beside their fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from msg3d_lab.viz.elements import add_grid, check_columns, write_beside
from msg3d_lab.viz.style import ACCENT, CATEGORIES, INK, MUTED, new_axes, styled


@styled
def fusion_curve(
    curve: pd.DataFrame,
    *,
    names: Sequence[str] = ("first", "second"),
    weight: float | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the accuracy of the fusion of two networks against the weight of the second.

    The band is the 95 % interval over samples. Differences within a wide band mean little; choosing
    the highest point would be choosing on these very samples.

    Args:
        curve: columns weight (of the second, 0 to 1, ascending), top1, low and high; fractions.
        names: of the two.
        weight: a weight to mark; the nearest row's accuracy is written beside it.
    """
    check_columns(curve, "weight", "top1", "low", "high")
    ax = new_axes(ax, (6.4, 3.6))
    x, y = curve["weight"].to_numpy(float), 100 * curve["top1"].to_numpy(float)
    color = CATEGORIES[0]
    low, high = (100 * curve[name].to_numpy(float) for name in ("low", "high"))
    ax.fill_between(x, low, high, color=color, alpha=0.15, lw=0, label="95 % interval")
    ax.plot(x, y, color=color, lw=2.2, solid_joinstyle="round")
    sides: Any = ((0, names[0], "left", 8), (-1, names[1], "right", -8))
    for end, name, ha, dx in sides:
        ax.plot(x[end], y[end], "o", color=INK, ms=5, clip_on=False, zorder=3)
        text = f"{name} alone {y[end]:.2f} %"
        write_beside(ax, text, (x[end], y[end]), (dx, -14), ha=ha, va="baseline")
    if weight is not None:
        row = int(np.abs(x - weight).argmin())
        ax.axvline(x[row], color=ACCENT, lw=1.2, ls="--", zorder=1)
        ax.plot(x[row], y[row], "D", color=ACCENT, ms=7, clip_on=False, zorder=4)
        left = x[row] < 0.5
        write_beside(
            ax,
            f"{names[0]} {1 - x[row]:.3g}, {names[1]} {x[row]:.3g}: {y[row]:.2f} %",
            (x[row], 1),
            (6 if left else -6, -4),
            ha="left" if left else "right",
            va="top",
            bold=True,
            color=ACCENT,
            coordinates=ax.get_xaxis_transform(),
        )
    add_grid(ax)
    ax.set_xlim(0, 1)
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top + 0.12 * (top - bottom))  # room for the text at the top
    ax.legend(loc="lower center", fontsize=8)
    ax.set(xlabel=f"weight of {names[1]}", ylabel="top-1 accuracy (%)", title=title or "")
    return ax


@styled
def fusion_plot(table: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the accuracy of each part and of their fusion, with intervals, a row each.

    Args:
        table: indexed by name, the fusion last; columns "top-1 %", "low" and "high", in percent.
    """
    columns = ["top-1 %", "low", "high"]
    check_columns(table, *columns)
    ax = new_axes(ax, (6.4, 0.45 * len(table) + 1.1))
    value, low, high = table[columns].to_numpy(float).T
    rows = np.arange(len(table))[::-1]
    colors = [MUTED] * (len(table) - 1) + [ACCENT]
    ax.hlines(rows, low, high, color=colors, lw=2)
    ax.scatter(value, rows, s=[36] * (len(table) - 1) + [64], color=colors, zorder=3)
    for x, y, color in zip(value, rows, colors, strict=True):
        bold = color == ACCENT
        write_beside(
            ax, f"{x:.2f}", (x, y), (0, 6), ha="center", va="baseline", color=color, bold=bold
        )
    ax.set_yticks(rows, [str(name) for name in table.index])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, len(table) - 0.3)
    add_grid(ax, "x")
    ax.set(xlabel="top-1 accuracy (%), 95 % interval over samples", title=title or "")
    return ax
