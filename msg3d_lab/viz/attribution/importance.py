"""Importance of joints: on the body, over time, per class, between groups, and by deletion.

Importance is signed: red speaks for a class, blue against it, and 0 is in the middle of the
colours. If no value is negative, the colours go from light to dark.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.elements import (
    SHARE,
    add_colorbar,
    add_figure_title,
    check_columns,
    draw_bones,
    draw_heatmap,
    draw_values,
    shorten,
)
from msg3d_lab.viz.motion.layout import body_layout
from msg3d_lab.viz.style import CATEGORIES, INK, MUTED, new_axes, signed_scale, styled

_LONGEST_NAME = 44  # characters of a class name


@styled
def importance_body(
    values: np.ndarray,
    skeleton: Skeleton,
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the importance of each joint on the body: colour is the value, area its absolute value.

    Args:
        values: (V,), signed or not.
    """
    values = np.asarray(values, dtype=float)
    cmap, norm = signed_scale(values)
    ax = new_axes(ax, (3.9, 3.8))
    xy = body_layout(skeleton)
    draw_bones(ax, skeleton, xy)
    draw_values(ax, xy, values, cmap=cmap, norm=norm)
    ax.margins(0.09)
    ax.set_title(title or "")
    add_colorbar(ScalarMappable(norm, cmap), ax, SHARE, size=8)
    return ax


@styled
def joint_time_heatmap(
    table: pd.DataFrame,
    *,
    planted: np.ndarray | None = None,
    unit: str = SHARE,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw importance by joint (rows) and time segment (columns).

    Args:
        table: joints x time segments, such as `explain.patterns.joint_time` returns.
        planted: bool, of the table's shape: cells known to carry the action get a dot.
        unit: what the values are, beside their colours.
    """
    cmap, norm = signed_scale(table.to_numpy(dtype=float))
    ax = new_axes(ax, (5.4, 0.19 * len(table) + 1.2))
    short = {"frames ": "", "frame ": "", " to ": "\N{EN DASH}"}
    spans = pd.Series(table.columns).replace(short, regex=True)
    cells = draw_heatmap(ax, table.set_axis(spans, axis=1), cmap=cmap, norm=norm)
    if planted is not None:
        rows, columns = np.nonzero(planted)
        ax.scatter(columns + 0.5, rows + 0.5, s=7, color=INK, linewidths=0)
    ax.tick_params(labelsize=8)
    dots = "; dots: planted" if planted is not None else ""
    label = f"frames of the clip, as the network saw it{dots}"
    ax.set(xlabel=label, ylabel="", title=title or "")
    add_colorbar(cells, ax, unit, size=8)
    return ax


@styled
def class_clustermap(
    table: pd.DataFrame,
    *,
    cluster_columns: bool = True,
    title: str | None = None,
) -> Figure:
    """Draw classes x joints (or parts), with similar rows and columns next to each other.

    Average linkage of Euclidean distances, seaborn's clustermap. Names of classes longer than 44
    characters are cut. The 60 classes of NTU60 fit on a page; draw the 120 of NTU120 in halves.

    Args:
        table: such as `explain.patterns.class_matrix` returns.
        cluster_columns: whether to reorder the features too; not for time segments, which have an
            order.
    """
    cmap, norm = signed_scale(table.to_numpy(dtype=float))
    rows, columns = table.shape
    names = [shorten(str(name), _LONGEST_NAME) for name in table.index]
    # Inches. Printed text is at least 6 points, so that it takes more of a small page.
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
    plt.setp(grid.ax_heatmap.get_yticklabels(), rotation=0)  # seaborn rotates short names
    figure: Figure = grid.figure
    # The colour bar, below the names of the features.
    figure.subplots_adjust(
        left=0.01, right=1 - beside / size[0], bottom=1.85 / size[1], top=1 - 0.4 / size[1]
    )
    place = grid.ax_heatmap.get_position()
    strip = (place.x0, 0.6 / size[1], min(place.width, 3.0 / size[0]), 0.11 / size[1])
    bar = figure.colorbar(
        ScalarMappable(norm, cmap), cax=figure.add_axes(strip), orientation="horizontal"
    )
    bar.set_label(SHARE, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    add_figure_title(figure, title, size=11, y=1 - 0.07 / size[1])
    plt.close(figure)
    return figure


@styled
def difference_plot(
    table: pd.DataFrame,
    *,
    names: tuple[str, str] = ("a", "b"),
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw differences with their intervals, one row per feature, the largest difference on top.

    Filled dots have an interval that excludes 0.

    Args:
        table: columns difference, low, high, such as `explain.patterns.compare` or `symmetry`
            return.
        names: of the two that are compared, first minus second.
    """
    check_columns(table, "difference", "low", "high", rows="feature")
    table = table.sort_values("difference", kind="stable")
    ax = new_axes(ax, (5.2, 0.21 * len(table) + 1.0))
    numbers = table[["difference", "low", "high"]].to_numpy(dtype=float)
    for row, (value, low, high) in enumerate(numbers):
        color, face = (INK, INK) if low > 0 or high < 0 else (MUTED, "white")
        ax.plot([low, high], [row, row], color=color, lw=1.4)
        ax.plot(value, row, "o", ms=4.5, mec=color, mfc=face)
    ax.axvline(0, color=MUTED, lw=0.8, ls=":")
    ax.set_yticks(range(len(table)), [str(name) for name in table.index])
    ax.tick_params(axis="y", labelsize=8, length=0)
    ax.set(xlabel=f"{names[0]} minus {names[1]}: {SHARE}", ylim=(-0.7, len(table) - 0.3))
    ax.set_title(title or "")
    return ax


@styled
def deletion_plot(
    curves: pd.DataFrame,
    *,
    by: str = "order",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw deletion curves: means over clips, with a band of two standard errors.

    Args:
        curves: as `explain.fidelity.curve_table` returns; may hold several methods.
        by: the column that lines differ in: "order", or "method" ("important first" of each, and
            the random order once).
    """
    check_columns(curves, by)
    rows = curves[curves["kind"] == "deletion"]
    lines = list(rows.groupby(by, sort=False))
    if by == "method":
        lines = list(rows[rows["order"] == "important first"].groupby(by, sort=False))
        one = rows[(rows["order"] == "random") & (rows["method"] == rows["method"].iloc[0])]
        lines.append(("random order", one))
    ax = new_axes(ax, (5.6, 3.5))
    styles = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1))]
    for number, (name, group) in enumerate(lines):
        plain = str(name).startswith("random")
        sns.lineplot(
            group,
            x="share",
            y="probability",
            errorbar=("se", 2),
            err_kws={"alpha": 0.12},
            color=MUTED if plain else CATEGORIES[number % len(CATEGORIES)],
            ls=(0, (1, 2)) if plain else styles[number % len(styles)],
            lw=1.8,
            label=str(name).replace("_", " "),
            ax=ax,
        )
    ax.set(
        xlabel="share of features replaced by the baseline (unitless)",
        ylabel="probability of the class (unitless)",
        xlim=(0, 1),
        ylim=(0, 1.02),
        title=title or "",
    )
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax
