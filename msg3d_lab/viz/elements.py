"""Elements that several figures share: titles, grids, colour bars, texts, bodies."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

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
    """Write a text beside a point (x, y), at an offset in points of a font.

    `boxed` gives it a white background; `coordinates` are matplotlib's `xycoords`.
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


def draw_heatmap(
    ax: Axes,
    table: pd.DataFrame,
    *,
    cmap: Colormap,
    norm: Normalize,
    texts: pd.DataFrame | None = None,
    size: float = 8,
) -> ScalarMappable:
    """Draw a table as a heatmap, with texts of this size in its cells; gaps (NaN) stay white."""
    sns.heatmap(
        table, annot=texts, fmt="", annot_kws={"size": size}, cmap=cmap, norm=norm, cbar=False,
        xticklabels=True, yticklabels=True, ax=ax,
    )  # fmt: skip
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0)
    cells: Any = ax.collections[0]
    return cells


def draw_bones(
    ax: Axes,
    skeleton: Skeleton,
    xy: np.ndarray,
    *,
    seen: np.ndarray | None = None,
    width: float = 2.5,
) -> None:
    """Draw the edges of a body in grey, those between joints that are seen, and hide the axes.

    Shapes:
        xy: (V, 2), seen: (V,) bool; all joints by default.
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

    The value `norm.vmax` has the largest dot, of this area in points squared.

    Shapes:
        xy: (n, 2), values: (n,)
    """
    relative = np.clip(np.abs(values) / float(norm.vmax or 1.0), 0, 1)
    smallest = 0.06 * largest
    style: Any = {"edgecolors": MUTED, "linewidths": 0.6, "zorder": 3}
    area = smallest + (largest - smallest) * relative
    ax.scatter(xy[:, 0], xy[:, 1], s=area, c=values, cmap=cmap, norm=norm, **style)


def shorten(name: str, length: int) -> str:
    """Return a name, cut to this many characters with an ellipsis."""
    return name if len(name) <= length else name[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
