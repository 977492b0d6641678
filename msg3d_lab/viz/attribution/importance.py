"""Importance of joints: on the body, over time, per class.

Importance is signed: what speaks for a class is red, what speaks against it blue, 0 in the middle
of the colours. Where no value is negative, the colours go from light to dark.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.motion.skeleton import body_layout, to_view
from msg3d_lab.viz.style import (
    FAINT,
    INK,
    MUTED,
    new_axes,
    new_figure,
    signed_scale,
    styled,
)

__all__ = [
    "class_clustermap",
    "importance_body",
    "importance_filmstrip",
    "joint_time_heatmap",
]

SHARE = "share of importance (unitless)"
_SMALLEST, _LARGEST = 12.0, 230.0  # areas of dots, points squared
_LONGEST = 44  # characters of a class's name


@styled
def importance_body(
    values: np.ndarray,
    skeleton: Skeleton,
    *,
    limit: float | None = None,
    label: str = SHARE,
    colorbar: bool = True,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a value per joint on the body: colour is the value, area its size.

    Args:
        values: (V,), signed or not.
        skeleton: the joint layout.
        limit: size at the end of the colours; by default the largest.
        label: what the values are, with their unit.
        colorbar: whether to draw the scale.
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: not one finite value per joint.
    """
    values = np.asarray(values, dtype=float)
    if values.shape != (skeleton.num_joints,) or not np.isfinite(values).all():
        raise ValueError(
            f"expected {skeleton.num_joints} finite values, one per joint of {skeleton.label}, "
            f"found {values.shape}"
        )
    cmap, norm = signed_scale(values, limit=limit)
    ax = new_axes(ax, (3.9, 3.8))
    xy = body_layout(skeleton)
    for i, j in skeleton.edges:
        ax.plot(*xy[[i, j]].T, color=FAINT, lw=2.5, solid_capstyle="round", zorder=1)
    area = _area(values, norm)
    ax.scatter(xy[:, 0], xy[:, 1], s=area, c=values, cmap=cmap, norm=norm, **_DOT)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.margins(0.09)
    ax.set_title(title or "")
    if colorbar:
        _colorbar(ax, cmap, norm, label)
    return ax


@styled
def importance_filmstrip(
    clip: np.ndarray,
    values: np.ndarray,
    skeleton: Skeleton,
    *,
    frames: int = 6,
    view: str | tuple[float, float] = "front",
    label: str = SHARE,
    title: str | None = None,
) -> Figure:
    """Draw evenly spaced frames of a clip, the joints coloured and sized by their importance then.

    Args:
        clip: (M, T, V, C), the joint stream of the frames that were explained.
        values: (T, V), or (M, T, V) where persons have values of their own.
        skeleton: the joint layout.
        frames: how many.
        view: see `to_view`.
        label: what the values are, with their unit.
        title: what it shows.

    Raises:
        ValueError: clip and values do not belong together, or no frame wanted.
    """
    clip, values = np.asarray(clip, dtype=float), np.asarray(values, dtype=float)
    if clip.ndim != 4 or values.shape not in (clip.shape[:3], clip.shape[1:3]) or frames < 1:
        raise ValueError(
            f"expected a clip (M, T, V, C), values (T, V) or (M, T, V) and a frame or more, found "
            f"{clip.shape}, {values.shape} and {frames}"
        )
    values = np.broadcast_to(values, clip.shape[:3])
    chosen = np.unique(np.linspace(0, clip.shape[1] - 1, frames).round().astype(int))
    points, seen = to_view(clip[:, chosen], skeleton, view=view)
    cmap, norm = signed_scale(values)
    extent = points[seen][:, :2] if seen.any() else np.zeros((1, 2))
    low, high = extent.min(axis=0), extent.max(axis=0)
    pad = 0.09 * max(*(high - low), 1e-6)
    width = float(np.clip((high - low + 2 * pad)[0] / (high - low + 2 * pad)[1], 0.45, 1.6))
    height = min(2.6, 9.5 / (width * len(chosen)))
    size = (width * height * len(chosen) + 1.1, height + (0.7 if title else 0.45))
    figure, axes = new_figure(size, 1, len(chosen))
    for column, (ax, frame) in enumerate(zip(axes.flat, chosen, strict=True)):
        for person, ok in enumerate(seen[:, column]):
            xy, value = points[person, column, :, :2], values[person, frame]
            for i, j in skeleton.edges:
                if ok[i] and ok[j]:
                    ax.plot(*xy[[i, j]].T, color=FAINT, lw=1.8, solid_capstyle="round", zorder=1)
            area = 0.45 * _area(value, norm)
            x, y = xy[ok].T
            ax.scatter(x, y, s=area[ok], c=value[ok], cmap=cmap, norm=norm, **_DOT)
        ax.set(xlim=(low[0] - pad, high[0] + pad), ylim=(low[1] - pad, high[1] + pad))
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.set_title(f"frame {frame}", fontsize=9, fontweight="normal", color=MUTED, loc="center")
    bar = figure.colorbar(ScalarMappable(norm, cmap), ax=axes, shrink=0.85, pad=0.01)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


@styled
def joint_time_heatmap(
    table: pd.DataFrame,
    *,
    planted: np.ndarray | None = None,
    limit: float | None = None,
    label: str = SHARE,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw importance by joint (rows) and stretch of time (columns).

    Args:
        table: joints x stretches of frames, e.g. of `analysis.patterns.joint_time`.
        planted: bool, of the table's shape: cells that are known to carry the action get a dot.
        limit: size at the end of the colours; by default the largest.
        label: what the values are, with their unit.
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: `planted` has another shape.
    """
    values = table.to_numpy(dtype=float)
    if planted is not None and np.shape(planted) != values.shape:
        raise ValueError(f"expected planted {values.shape}, found {np.shape(planted)}")
    cmap, norm = signed_scale(values, limit=limit)
    ax = new_axes(ax, (5.4, 0.19 * len(table) + 1.2))
    ax.imshow(values, cmap=cmap, norm=norm, aspect="auto", interpolation="nearest")
    if planted is not None:
        rows, columns = np.nonzero(planted)
        ax.scatter(columns, rows, s=7, color=INK, linewidths=0)
    spans = [str(name).removeprefix("frames ").removeprefix("frame ") for name in table.columns]
    ax.set_xticks(range(len(spans)), [s.replace(" to ", "\N{EN DASH}") for s in spans])
    ax.set_yticks(range(len(table)), list(table.index))
    ax.tick_params(labelsize=8, length=0)
    ax.spines[:].set_visible(False)
    dots = "; dots: planted" if planted is not None else ""
    ax.set(xlabel=f"frames of the clip, as the network saw it{dots}", title=title or "")
    _colorbar(ax, cmap, norm, label)
    return ax


@styled
def class_clustermap(
    table: pd.DataFrame,
    *,
    cluster_columns: bool = True,
    label: str = SHARE,
    title: str | None = None,
) -> Figure:
    """Draw classes x joints (or parts), rows and columns ordered so that alike ones are neighbours.

    Average linkage of Euclidean distances, seaborn's clustermap. Names of classes beyond 44
    characters are cut short. The 60 classes of NTU60 fit on a page; draw the 120 of NTU120 in
    halves.

    Args:
        table: e.g. of `analysis.patterns.class_matrix`.
        cluster_columns: whether to reorder the features, too; not for stretches of time, which
            have an order.
        label: what the values are, with their unit.
        title: what it shows.

    Raises:
        ValueError: fewer than two classes or features.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    if min(table.shape) < 2:
        raise ValueError(f"expected two classes and two features or more, found {table.shape}")
    cmap, norm = signed_scale(table.to_numpy(dtype=float))
    rows, columns = table.shape
    names = [_cut(str(name)) for name in table.index]
    # Inches. Text of print does not go below 6 points, so it takes more of a small page.
    beside = max(2.0, 0.078 * max(len(name) for name in names) + 0.1)
    above = 0.7 if cluster_columns else 0.05
    pitch = 0.25 if rows <= 30 else 0.16
    size = (0.27 * columns + 1.4 + beside, pitch * rows + 2.3 + above)
    grid = sns.clustermap(
        table.set_axis(names, axis=0),
        col_cluster=cluster_columns,
        cmap=cmap,
        norm=norm,
        figsize=size,
        dendrogram_ratio=(0.9 / size[0], above / size[1]),
        cbar_pos=None,
        xticklabels=True,
        yticklabels=True,
        tree_kws={"colors": MUTED, "linewidths": 0.8},
    )
    grid.ax_heatmap.set(xlabel="", ylabel="")
    grid.ax_heatmap.tick_params(labelsize=8, length=0)
    plt.setp(grid.ax_heatmap.get_xticklabels(), rotation=90)
    plt.setp(grid.ax_heatmap.get_yticklabels(), rotation=0)  # seaborn turns them if all are short
    figure: Figure = grid.figure
    # Below the names of the features, as wide as the map.
    figure.subplots_adjust(
        left=0.01, right=1 - beside / size[0], bottom=1.85 / size[1], top=1 - 0.4 / size[1]
    )
    place = grid.ax_heatmap.get_position()
    strip = (place.x0, 0.6 / size[1], min(place.width, 3.0 / size[0]), 0.11 / size[1])
    bar = figure.colorbar(
        ScalarMappable(norm, cmap), cax=figure.add_axes(strip), orientation="horizontal"
    )
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    if title:
        y = 1 - 0.07 / size[1]
        figure.suptitle(title, x=0.01, y=y, ha="left", fontsize=11, fontweight="bold")
    plt.close(figure)
    return figure


_DOT: dict[str, Any] = {"edgecolors": MUTED, "linewidths": 0.6, "zorder": 3}


def _cut(name: str) -> str:
    """The name, or its beginning if it would take more room than the picture."""
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _area(values: np.ndarray, norm: Normalize) -> np.ndarray:
    """Areas of dots: linear in the size of the value."""
    relative = np.clip(np.abs(values) / float(norm.vmax or 1.0), 0, 1)
    return np.asarray(_SMALLEST + (_LARGEST - _SMALLEST) * relative)


def _colorbar(ax: Axes, cmap: Colormap, norm: Normalize, label: str) -> None:
    bar = ax.figure.colorbar(ScalarMappable(norm, cmap), ax=ax, shrink=0.75, pad=0.02)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
