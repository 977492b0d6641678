"""Elements that several figures share: titles, grids, colour bars, numbers in cells, bodies."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.style import FAINT, INK, MUTED

SHARE = "share of importance (unitless)"  # the label of normalised attributions
_BOX: Any = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}


def check_columns(table: pd.DataFrame, *columns: str, rows: str = "row") -> None:
    """Raise ValueError unless a table has these columns and at least one row."""
    missing = [name for name in columns if name not in table]
    if missing or table.empty:
        raise ValueError(
            f"expected a table with columns {', '.join(columns)} and at least one {rows}, found "
            f"{len(table)} rows, missing columns {missing}"
        )


def add_figure_title(
    figure: Figure, title: str | None, *, size: float = 12, y: float | None = None
) -> None:
    """Write a title above a figure, at the left."""
    if title:
        figure.suptitle(title, x=0.01, y=y, ha="left", fontsize=size, fontweight="bold")


def add_grid(ax: Axes, axis: Literal["both", "x", "y"] = "y") -> None:
    """Draw faint grid lines behind the data."""
    ax.grid(axis=axis, color=FAINT, lw=0.7)
    ax.set_axisbelow(True)


def add_colorbar(
    mappable: ScalarMappable,
    ax: Axes | np.ndarray,
    label: str,
    *,
    size: float = 10,
    shrink: float = 0.75,
    extend: Literal["neither", "both", "min", "max"] = "neither",
) -> Colorbar:
    """Draw a colour bar beside one Axes, or beside an array of them."""
    figure = ax.flat[0].figure if isinstance(ax, np.ndarray) else ax.figure
    bar = figure.colorbar(mappable, ax=ax, shrink=shrink, pad=0.02, extend=extend)
    bar.set_label(label, fontsize=size)
    bar.ax.tick_params(labelsize=min(size, 9))
    bar.outline.set_visible(False)
    return bar


def write_beside(
    ax: Axes,
    text: str,
    point: Any,
    offset: tuple[float, float] = (0, 0),
    *,
    ha: Literal["left", "center", "right"] = "left",
    va: Literal["top", "center", "bottom", "baseline"] = "center",
    size: float = 9,
    color: str = INK,
    bold: bool = False,
    boxed: bool = False,
    coordinates: Any = "data",
    zorder: float | None = None,
) -> None:
    """Write a text beside a point.

    Args:
        ax: where to write.
        text: the text.
        point: (x, y).
        offset: from the point, in points of a font.
        ha: which side of the text is at the point.
        va: likewise, vertically.
        size: of the font.
        color: of the text.
        bold: whether the text is bold.
        boxed: whether it gets a white background, for text on other elements.
        coordinates: of the point, as matplotlib's `xycoords`.
        zorder: above what it is drawn.
    """
    ax.annotate(
        text,
        point,
        offset,
        xycoords=coordinates,
        textcoords="offset points",
        annotation_clip=False,
        ha=ha,
        va=va,
        fontsize=size,
        color=color,
        fontweight="bold" if bold else "normal",
        bbox=_BOX if boxed else None,
        zorder=zorder,
    )


def write_cells(ax: Axes, image: AxesImage, texts: np.ndarray, *, size: float = 8) -> None:
    """Write a text into each cell of a heatmap, dark on light cells and light on dark ones.

    Args:
        ax: the heatmap's.
        image: the heatmap.
        texts: (rows, columns) of strings; empty ones are left out.
        size: of the font.
    """
    values: Any = image.get_array()
    colors = np.asarray(image.to_rgba(np.ma.getdata(values)))
    for (row, column), text in np.ndenumerate(texts):
        if text:
            red, green, blue = colors[row, column, :3]
            color = "white" if 0.3 * red + 0.6 * green + 0.1 * blue < 0.5 else INK
            ax.text(column, row, text, ha="center", va="center", fontsize=size, color=color)


def draw_bones(
    ax: Axes,
    skeleton: Skeleton,
    xy: np.ndarray,
    *,
    seen: np.ndarray | None = None,
    width: float = 2.5,
) -> None:
    """Draw the edges of a body in grey, and hide the axes.

    Args:
        ax: where to draw.
        skeleton: the joint layout.
        xy: (V, 2) positions of the joints.
        seen: (V,) bool; edges to other joints are left out. Default: all joints.
        width: of the lines.
    """
    for i, j in skeleton.edges:
        if seen is None or (seen[i] and seen[j]):
            ax.plot(*xy[[i, j]].T, color=FAINT, lw=width, solid_capstyle="round", zorder=1)
    ax.set_aspect("equal")
    ax.set_axis_off()


def draw_values(
    ax: Axes,
    xy: np.ndarray,
    values: np.ndarray,
    *,
    cmap: Colormap,
    norm: Normalize,
    largest: float = 230,
) -> None:
    """Draw a dot per joint: its colour is the value, its area grows with the absolute value.

    Args:
        ax: where to draw.
        xy: (n, 2) positions.
        values: (n,)
        cmap: the colours.
        norm: their ends; `norm.vmax` has the largest dot.
        largest: area of the largest dot, in points squared.
    """
    relative = np.clip(np.abs(values) / float(norm.vmax or 1.0), 0, 1)
    smallest = 0.06 * largest
    style: Any = {"edgecolors": MUTED, "linewidths": 0.6, "zorder": 3}
    area = smallest + (largest - smallest) * relative
    ax.scatter(xy[:, 0], xy[:, 1], s=area, c=values, cmap=cmap, norm=norm, **style)


def shorten(name: str, length: int) -> str:
    """Return a name, cut to this many characters with an ellipsis."""
    return name if len(name) <= length else name[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
