"""Accuracy of a network by confidence and by class, confusions, and differences of two networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from msg3d_lab.viz.elements import add_colorbar, add_grid, check_columns, draw_heatmap, write_beside
from msg3d_lab.viz.style import ACCENT, CATEGORIES, FAINT, INK, MUTED, new_axes, sequential, styled

_MANY = 30  # classes; with more, bars have no numbers


@styled
def reliability_diagram(
    table: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the accuracy against the confidence of the predictions.

    On the diagonal both are equal; below it the network is overconfident. The bars at the bottom
    are the fraction of samples in each bin of confidence.

    Args:
        table: a row per bin: low, high, samples, confidence, accuracy; fractions.
    """
    check_columns(table, "low", "high", "samples", "confidence", "accuracy")
    ax = new_axes(ax, (4.6, 4.3))
    low, high, count, sure, right = (
        table[name].to_numpy(dtype=float)
        for name in ("low", "high", "samples", "confidence", "accuracy")
    )
    share = count / count.sum()
    heights = 0.25 * share / share.max()
    ax.bar((low + high) / 2, heights, high - low, color=FAINT, ec="white", label="samples per bin")
    ax.plot([0, 1], [0, 1], color=MUTED, lw=1, ls="--", label="as right as it says")
    ax.vlines(sure, right, sure, color=ACCENT, lw=2, alpha=0.7, label="calibration error")
    ax.plot(sure, right, color=CATEGORIES[0], lw=1.6, marker="o", ms=5, label="this network")
    error = float((share * np.abs(sure - right)).sum())
    ticks = np.linspace(0, 1, 6)
    ax.set_xticks(ticks, [f"{100 * tick:.0f}" for tick in ticks])
    ax.set_yticks(ticks, [f"{100 * tick:.0f}" for tick in ticks])
    ax.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal", title=title or "")
    ax.set_ylabel("accuracy (%)")
    ax.legend(loc="upper left", fontsize=8)
    ax.set_xlabel(
        "confidence (%)\n"
        f"calibration error {100 * error:.1f} %: confidence {100 * (share * sure).sum():.1f} %, "
        f"accuracy {100 * (share * right).sum():.1f} %"
    )
    return ax


@styled
def class_accuracy(
    table: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the recall of each class, the lowest at the top.

    Args:
        table: a row per class, indexed by its name: samples, recall (fractions; NaN is left out)
            and optionally low and high, the recall's interval, and taken_for, the class it is most
            often confused with.
    """
    check_columns(table, "samples", "recall")
    table = table.dropna(subset="recall").sort_values("recall", kind="stable")
    check_columns(table, "samples", "recall")
    ax = new_axes(ax, (6.4, _height(len(table))))
    recall = 100 * table["recall"].to_numpy(dtype=float)
    places = np.arange(len(table))
    mean = float(recall.mean())
    for below, color, name in (
        (True, ACCENT, "below the mean"),
        (False, CATEGORIES[0], "the mean or above"),
    ):
        own = (recall < mean) == below
        if own.any():
            ax.barh(places[own], recall[own], color=color, alpha=0.85, label=name)
    ends = recall
    if {"low", "high"} <= set(table):
        low, high = 100 * table[["low", "high"]].to_numpy(dtype=float).T
        ax.hlines(places, low, high, color=INK, lw=1, label="95 % interval")
        ends = np.maximum(recall, high)
    ax.axvline(mean, color=INK, lw=1, ls="--", label=f"mean of the classes, {mean:.1f} %")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)
    if len(table) <= _MANY:
        mistaken = table["taken_for"] if "taken_for" in table else [""] * len(table)
        for place, value, end, other in zip(places, recall, ends, mistaken, strict=True):
            text = f"{value:.0f}" + (f"  taken for {other}" if other and value < mean else "")
            write_beside(ax, text, (end, place), (3, 0), size=8, boxed=True)
    _name_classes(ax, table)
    ax.set(xlim=(0, 100), xlabel="recall (%)")
    ax.set_title(title or "", pad=36)  # above the legend
    return ax


@styled
def class_differences(
    table: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the difference in recall of two networks per class, the largest gain at the top.

    Bars are differences in percentage points, lines their intervals. A star marks a significant
    difference, corrected for the number of classes (`p_holm` below 0.05).

    Args:
        table: a row per class, indexed by its name: samples, difference, low, high (fractions) and
            p_holm.
    """
    names = "samples", "difference", "low", "high", "p_holm"
    check_columns(table, *names)
    table = table.sort_values("difference", ascending=False, kind="stable")
    ax = new_axes(ax, (6.4, _height(len(table))))
    delta, low, high, p = (table[name].to_numpy(dtype=float) for name in names[1:])
    places = np.arange(len(table))
    colors = [CATEGORIES[0] if d >= 0 else ACCENT for d in delta]
    ax.barh(places, 100 * delta, color=colors, alpha=0.85)
    ax.hlines(places, 100 * low, 100 * high, color=INK, lw=1, label="95 % interval")
    ax.axvline(0, color=INK, lw=1)
    reach = max(1.0, 112 * float(np.abs([low, high, delta]).max()))
    for place in np.flatnonzero(p < 0.05):
        end = 100 * (max(high[place], 0) if delta[place] >= 0 else min(low[place], 0))
        side = 1 if delta[place] >= 0 else -1
        write_beside(ax, "*", (end, place), (5 * side, -3), ha="center", size=12, bold=True)
    _name_classes(ax, table)
    ax.legend(loc="lower right", fontsize=8)
    ax.set(xlim=(-reach, reach), title=title or "")
    ax.set_xlabel("recall of a minus recall of b (points)\n← b is better          a is better →")
    return ax


@styled
def confusion_matrix(
    counts: np.ndarray,
    *,
    labels: Sequence[str],
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often each class was predicted as each class, in percent of the true class.

    Cells below half a percent stay white.

    Args:
        counts: (K, K): row = true class, column = predicted class.
        labels: class names.
    """
    counts, K = np.asarray(counts, dtype=float), len(labels)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    side = float(np.clip(0.42 * K, 2.2, 11))
    ax = new_axes(ax, (side + 2.2, side + 1.7))
    many, table = K > _MANY, pd.DataFrame(share, list(labels), list(labels))
    texts = table.map(lambda v: f"{100 * v:.0f}" if v >= 0.005 else "")
    cells = draw_heatmap(
        ax,
        table.where(table >= 0.005),
        cmap=sequential(),
        norm=Normalize(0, 1),
        texts=None if many else texts,
        size=float(np.clip(9.5 - 0.1 * K, 6, 9)),
    )
    ax.hlines(range(1, K), 0, K, color=FAINT, lw=0.5)
    ax.vlines(range(1, K), 0, K, color=FAINT, lw=0.5)
    ax.set_aspect("equal")
    slanted: Any = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(np.arange(K) + 0.5, labels, **({"rotation": 90} if many else slanted))
    ax.tick_params(labelsize=9 if K <= 15 else 8 if K <= 30 else 6 if K <= 70 else 4.5)
    title = "Predictions in percent of the true class" if title is None else title
    ax.set(xlabel="predicted class", ylabel="true class", title=title)
    if many:
        add_colorbar(cells, ax, "fraction of the true class")
    return ax


def _height(count: int) -> float:
    return max(1.2, count * (0.26 if count <= _MANY else 0.19)) + 0.9


def _name_classes(ax: Axes, table: pd.DataFrame) -> None:
    """Write each class and its number of samples beside its bar, the first at the top."""
    count = len(table)
    labels = [f"{name}  (n={n})" for name, n in zip(table.index, table["samples"], strict=True)]
    ax.set_yticks(range(count), labels)
    ax.set_ylim(count - 0.4, -0.6)
    ax.tick_params(axis="y", length=0, labelsize=9 if count <= _MANY else 7)
    add_grid(ax, "x")
