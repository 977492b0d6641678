"""Cost of the network by layer, and measured times."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from msg3d_lab.viz.elements import check_columns, write_beside
from msg3d_lab.viz.style import CATEGORIES, INK, MUTED, new_axes, styled


@styled
def cost_bars(parts: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw each layer's fraction of the network's multiply-accumulates, in percent.

    Args:
        parts: one row per layer, in running order: `name`, `macs`, and `kind`, which gives the
            colour.
    """
    check_columns(parts, "name", "kind", "macs", rows="layer")
    values = parts["macs"].to_numpy(dtype=float)
    ax = new_axes(ax, (7, 0.27 * len(parts) + 1))
    share = 100 * values / values.sum()
    places = np.arange(len(parts))
    for number, kind in enumerate(dict.fromkeys(parts["kind"])):
        own = (parts["kind"] == kind).to_numpy()
        color = CATEGORIES[number % len(CATEGORIES)]
        whole = share[own].sum()
        label = f"{kind}, {whole:.0f} %" if whole >= 0.5 else None
        ax.barh(places[own], share[own], color=color, height=0.74, label=label)
    ax.legend(title="kind of layer", loc="upper right")
    for place, part, value in zip(places, share, values, strict=True):
        text = f"{part:.1f} %  ({_short(value)})"
        write_beside(ax, text, (part, place), (4, 0), size=8)
    ax.set_yticks(places, [str(name) for name in parts["name"]])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.3 * share.max())
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="share of the multiply-accumulates (%)", title=title or "")
    return ax


@styled
def timing_bars(timings: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw median times with their range, and the speed of each relative to the first.

    Args:
        timings: one row per workload, its name in the index: `median ms`, `from` and `to`.
    """
    check_columns(timings, "median ms", "from", "to", rows="workload")
    ax = new_axes(ax, (7, 0.45 * len(timings) + 1))
    median, low, high = (timings[c].to_numpy(dtype=float) for c in ("median ms", "from", "to"))
    places = np.arange(len(timings))
    ax.barh(places, median, color=np.where(places == 0, MUTED, CATEGORIES[0]), height=0.66)
    ax.hlines(places, low, high, color=INK, lw=1.4)
    for place, value, end in zip(places, median, np.maximum(median, high), strict=True):
        speed = f"{median[0] / value:.2f}x as fast" if place else ""
        text = f"{_milliseconds(value)}  {speed}"
        write_beside(ax, text, (end, place), (5, 0))
    ax.set_yticks(places, [str(label) for label in timings.index])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.4 * float(np.maximum(median, high).max()))
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="milliseconds, median and range", title=title or "")
    return ax


def _short(value: float) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def _milliseconds(value: float) -> str:
    return f"{value / 1e3:.2f} s" if value >= 1e3 else f"{value:.3g} ms"
