"""Curves of a training: accuracy, loss and learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from msg3d_lab.viz.elements import add_figure_title, add_grid, check_columns, write_beside
from msg3d_lab.viz.style import ACCENT, CATEGORIES, FAINT, INK, MUTED, new_axes, new_figure, styled

Quantity = Literal["top1", "loss"]
_DASHES = ("--", "-", ":", "-.")


@styled
def learning_curve(
    metrics: pd.DataFrame,
    *,
    quantity: Quantity = "top1",
    epochs: int | None = None,
    marks: Mapping[str, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the accuracy or the loss per epoch, on training and validation or test clips.

    Args:
        metrics: a run's `metrics.csv`: columns `epoch`, `train_<quantity>` and, once they were
            evaluated, `val_<quantity>` or `test_<quantity>`. Epochs without evaluation are NaN and
            skipped. Accuracies are fractions.
        quantity: "top1" or "loss".
        epochs: of the whole training: the axis goes from 0 to there. Default: as far as the rows.
        marks: moments to mark, in epochs, by name, such as "killed".
    """
    check_columns(metrics, "epoch", f"train_{quantity}")
    ax = new_axes(ax, (6, 3.6))
    factor = 100 if quantity == "top1" else 1
    ends: list[tuple[float, float, str, str]] = []
    # The stronger line, on top, for validation or test.
    styles = (
        ("train", "training", CATEGORIES[0], 1.5, "--", None),
        ("val", "validation", CATEGORIES[1], 2.2, "-", "o"),
        ("test", "test", CATEGORIES[1], 2.2, "-", "o"),
    )
    for part, name, color, width, dash, marker in styles:
        line = metrics.filter(["epoch", f"{part}_{quantity}"]).dropna()
        if line.shape[1] < 2 or line.empty:
            continue
        x, y = line.to_numpy(dtype=float).T
        y = y * factor
        few = marker if len(x) <= 40 else None
        ax.plot(x, y, color=color, lw=width, ls=dash, marker=few, ms=4, label=part)
        last = f"{y[-1]:.1f} %" if quantity == "top1" else f"{y[-1]:.2f}"
        ends.append((x[-1], y[-1], f"{name} {last}", color))
    add_grid(ax)
    if quantity == "top1":
        ax.set_ylim(0, 104)
        ax.set_yticks(range(0, 101, 20))
    else:
        ax.set_ylim(bottom=0)
    if epochs is not None:
        ax.set_xlim(0, 1.02 * epochs)
    for name, epoch in (marks or {}).items():
        ax.axvline(epoch, color=MUTED, lw=1.2, ls=":")
        across = ("data", "axes fraction")
        write_beside(ax, name, (epoch, 0.04), (3, 0), size=8, boxed=True, coordinates=across)
    _label_ends(ax, ends)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    label = "top-1 accuracy (%)" if quantity == "top1" else "loss"
    ax.set(xlabel="epoch", ylabel=label, title=title or "")
    return ax


@styled
def training_figure(
    metrics: pd.DataFrame,
    *,
    epochs: int | None = None,
    marks: Mapping[str, float] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw a run: accuracy, loss and learning rate, epoch by epoch.

    Args:
        metrics, epochs, marks: as in `learning_curve`; metrics with `lr`.
    """
    check_columns(metrics, "lr")
    figure, axes = new_figure((10.4, 3.6), 1, 3, width_ratios=[3, 3, 2])
    accuracy, loss, rate = axes[0]
    learning_curve(metrics, epochs=epochs, marks=marks, title="Accuracy", ax=accuracy)
    learning_curve(metrics, quantity="loss", epochs=epochs, marks=marks, title="Loss", ax=loss)
    rate.plot(metrics["epoch"], metrics["lr"], color=MUTED, lw=1.8)
    add_grid(rate)
    rate.set(xlabel="epoch", title="Learning rate", xlim=accuracy.get_xlim())
    rate.set_ylim(bottom=0)
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    add_figure_title(figure, title)
    return figure


@styled
def learning_rate_curve(
    curve: pd.DataFrame,
    *,
    marks: Mapping[str, float] | None = None,
    diverged: float | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a learning rate range test: the loss against a growing rate.

    Args:
        curve: columns `lr`, `loss`, `smoothed`; a row per step.
        marks: rates to mark, by name, such as "steepest descent"; NaN is left out.
        diverged: the rate from which the loss no longer falls: what is beyond is shaded.
    """
    check_columns(curve, "lr", "loss", "smoothed")
    ax = new_axes(ax, (6, 3.6))
    ax.plot(curve["lr"], curve["loss"], color=FAINT, lw=1.2, label="each step")
    ax.plot(curve["lr"], curve["smoothed"], color=CATEGORIES[0], lw=2.2, label="smoothed")
    start, low = float(curve["smoothed"].iloc[0]), float(curve["smoothed"].min())
    fall = max(start - low, 1e-3)
    # The last losses may be huge; the range shown follows from the fall of the loss.
    ax.set_ylim(max(0.0, low - fall), start + 2.5 * fall)
    ax.set_xscale("log")
    add_grid(ax)
    known = {name: rate for name, rate in (marks or {}).items() if np.isfinite(rate)}
    if diverged is not None and np.isfinite(diverged):
        right = max(float(curve["lr"].max()), diverged)
        ax.axvspan(diverged, right, color=ACCENT, alpha=0.12, lw=0, label="diverges")
    for number, (name, rate) in enumerate(sorted(known.items(), key=lambda mark: mark[1])):
        ax.axvline(rate, color=INK, lw=1.2, ls=_DASHES[number % len(_DASHES)])
        place, across = (4, -11 - 13 * number), ("data", "axes fraction")
        text = f"{name} {rate:.2g}"
        write_beside(ax, text, (rate, 1), place, va="baseline", boxed=True, coordinates=across)
    ax.legend(loc="lower left", fontsize=9, frameon=True, edgecolor="none", framealpha=0.9)
    ax.set(xlabel="learning rate (log scale)", ylabel="loss", title=title or "")
    return ax


@styled
def overfit_curve(curve: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw how a network overfits a few clips: loss and accuracy by step.

    Args:
        curve: columns `step`, `loss`, `top1` (a fraction).
    """
    check_columns(curve, "step", "loss", "top1")
    ax = new_axes(ax, (6, 3.6))
    loss, top1 = CATEGORIES[0], CATEGORIES[1]
    ax.plot(curve["step"], curve["loss"], color=loss, lw=2.2)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("step")
    ax.set_ylabel("loss", color=loss, fontweight="bold")
    ax.set_title(title or "")
    right = ax.twinx()
    right.plot(curve["step"], 100 * curve["top1"], color=top1, lw=1.5, ls="--")
    right.set_ylim(0, 104)
    right.set_ylabel("clips right (%), dashed", color=top1, fontweight="bold")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def _label_ends(ax: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Write each line's name at the right, without one name on another."""
    low, high = ax.get_ylim()
    gap = 0.08 * (high - low)
    places = np.array([y for _, y, _, _ in ends])
    order = np.argsort(places)
    for below, above in pairwise(order):
        places[above] = max(places[above], places[below] + gap)
    overflow = max(places.max(initial=low) - high, 0) if len(places) else 0
    right = ax.get_xlim()[1]
    for (_, _, text, color), y in zip(ends, places - overflow, strict=True):
        write_beside(ax, text, (right, y), (4, 0), color=color, bold=True)
