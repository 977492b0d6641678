"""The figures of a table of importance, for print."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msg3d_lab.analysis import patterns
from msg3d_lab.analysis.features import Features
from msg3d_lab.analysis.saved import Importance
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.export import save_figure
from msg3d_lab.viz.fidelity import difference_plot
from msg3d_lab.viz.importance import class_clustermap, importance_body, joint_time_heatmap

__all__ = ["figures_of", "write_figures"]


def figures_of(importance: Importance, skeleton: Skeleton) -> dict[str, Figure | Axes]:
    """Draw what a table of importance can show.

    Args:
        importance: the table.
        skeleton: the joint layout.

    Returns:
        By name: `body` (by joint), `classes` (classes x features, with two or more of both),
        `symmetry` (by joint, where the layout has a left and a right), `time` (by joint x segment).
    """
    note = " (synthetic)" if importance.facts.get("synthetic") else ""
    name = (
        f"{importance.facts.get('method', 'importance').replace('_', ' ')}, n = {len(importance)}"
    )
    by = importance.facts.get("by", "joint")
    drawn: dict[str, Figure | Axes] = {}
    if by == "joint":
        mean = patterns.shares(importance.values).mean(axis=0)
        drawn["body"] = importance_body(mean, skeleton, title=f"All classes: {name}{note}")
        if skeleton.mirror:
            drawn["symmetry"] = difference_plot(
                patterns.symmetry(importance.values, skeleton),
                names=("left", "right"),
                title=f"Left and right: {name}{note}",
            )
    if by == "joint_x_segment":
        table = patterns.joint_time(importance.values, features_of(importance, skeleton), skeleton)
        drawn["time"] = joint_time_heatmap(table, title=f"All classes: {name}{note}")
    else:
        matrix: pd.DataFrame = patterns.class_matrix(
            importance.values,
            importance.classes,
            names=importance.names,
            label_names=importance.label_names,
        )
        if min(matrix.shape) > 1:
            drawn["classes"] = class_clustermap(matrix, title=f"By class: {name}{note}")
    return drawn


def write_figures(importance: Importance, skeleton: Skeleton, folder: str | Path) -> list[Path]:
    """Write the figures as PDF and SVG into a folder.

    Args:
        importance: the table.
        skeleton: the joint layout.
        folder: where; made if it is not there.

    Returns:
        The files.

    Raises:
        FileExistsError: a figure is there already.
    """
    written = []
    for name, figure in figures_of(importance, skeleton).items():
        width = "single" if name == "body" else "double"
        written += save_figure(figure, Path(folder) / name, width=width)  # type: ignore[arg-type]
        if isinstance(figure, Axes):
            plt.close(figure.figure.figure)
    return written


def features_of(importance: Importance, skeleton: Skeleton) -> Features:
    """The features a table was made with."""
    from msg3d_lab.analysis.features import make_features

    facts = importance.facts
    return make_features(
        facts["by"],
        skeleton,
        num_frames=facts["clip_len"],
        num_segments=facts["num_segments"] or 1,
    )
