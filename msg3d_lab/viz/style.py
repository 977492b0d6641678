"""The style of every figure: colours that colour-blind readers can tell apart, fonts, sizes.

Figures have an opaque white background, so that they stay readable on a dark page.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import cycle
from typing import Any, ParamSpec, TypeVar, cast

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from PIL import Image  # comes with matplotlib

INK = "#1b1f24"
MUTED = "#5f6771"
FAINT = "#d5d9de"
# Okabe and Ito's palette (jfly.uni-koeln.de/color): safe for the common forms of colour blindness.
LEFT = "#0072b2"
RIGHT = "#d55e00"
CENTER = "#3f4750"
ACCENT = "#d55e00"
MARK = "#e69f00"  # what is chosen, here and in the widgets
CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
# The two aggregations have the same colours in every figure.
DISENTANGLED = CATEGORIES[0]
POWERS = CATEGORIES[1]
_FIXED = {"disentangled": DISENTANGLED, "powers": POWERS, "adjacency powers": POWERS}

RC: Any = {
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "axes.facecolor": "white",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function under this style, without touching the caller's settings."""

    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        interactive = mpl.is_interactive()
        try:
            with mpl.rc_context(RC):
                try:
                    return draw(*args, **kwargs)
                finally:
                    interactive = mpl.is_interactive()
        finally:
            # A notebook's first figure loads the backend, which turns interactive mode on; leaving
            # the context would turn it off again, and no later figure would be shown.
            mpl.interactive(interactive)

    return wrapped


def new_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return `ax`, or the Axes of a new figure of this size in inches."""
    if ax is not None:
        return ax
    _, ax = plt.subplots(figsize=size, layout="constrained")
    return ax


def new_figure(
    size: tuple[float, float], rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its Axes as a (rows, columns) array.

    The figure is closed in pyplot, so that a notebook shows it once, as the cell's result, and no
    figure stays open.
    """
    figure, axes = plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, **options
    )
    plt.close(figure)
    return figure, axes


def closed_figure(ax: Axes) -> Figure:
    """Return the figure of an Axes, closed in pyplot as that of `new_figure`."""
    figure: Any = ax.figure
    plt.close(figure)
    return cast(Figure, figure)


def series_colors(names: Sequence[str]) -> list[str]:
    """Return a colour per line or bar: fixed for the two aggregations, else in order."""
    taken = {_FIXED[name] for name in names if name in _FIXED}
    free = cycle([color for color in CATEGORIES if color not in taken])
    return [_FIXED[name] if name in _FIXED else next(free) for name in names]


def sequential(color: str | None = None) -> Colormap:
    """Return the map of weights and shares, from near white to near black, perceptually uniform.

    With a colour, such as `DISENTANGLED`, it goes from near white over it, as in the widgets.
    """
    if color is not None:
        own, ink = np.array(to_rgb(color)), np.array(to_rgb(INK))
        stops: Any = [(0.0, 0.86 + 0.14 * own), (0.7, own), (1.0, 0.55 * own + 0.45 * ink)]
        return LinearSegmentedColormap.from_list(f"lab_{color}", stops).with_extremes(bad="white")
    # The darkest end would hide the ring and the text drawn on a joint.
    colors = sns.color_palette("mako_r", 256)[:232]
    return LinearSegmentedColormap.from_list("lab_sequential", colors).with_extremes(bad="white")


def diverging() -> Colormap:
    """Return the map of signed values; draw it with its centre at 0."""
    vlag: Colormap = sns.color_palette("vlag", as_cmap=True)
    return vlag.with_extremes(bad="white")


def signed_scale(values: np.ndarray, *, limit: float | None = None) -> tuple[Colormap, Normalize]:
    """Return a colour map and its ends: diverging and centred at 0 if any value is negative.

    The colours end at the absolute value `limit`, by default the largest.
    """
    limit = float(np.abs(values).max(initial=0) if limit is None else limit) or 1.0
    signed = bool((values < 0).any())
    return (diverging() if signed else sequential()), Normalize(-limit if signed else 0, limit)


def png(figure: Figure, *, dpi: int = 160, palette: bool = False) -> bytes:
    """Return the figure as the bytes of a PNG file.

    Args:
        figure: what is drawn.
        dpi: dots per inch.
        palette: keep 255 colours only, in a third of the bytes.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    if not palette:
        return buffer.getvalue()
    few = Image.open(buffer).convert("RGB").quantize(255)
    small = io.BytesIO()
    few.save(small, format="png", optimize=True)
    return small.getvalue()
