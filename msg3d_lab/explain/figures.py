"""The figures of a table of importance, for print."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msg3d_lab.analysis import patterns
from msg3d_lab.analysis.features import Features
from msg3d_lab.analysis.saved import Importance, in_order
from msg3d_lab.data.store import Store
from msg3d_lab.explain.clips import frames_seen, pace
from msg3d_lab.files import write_aside
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.attribution.fidelity import difference_plot
from msg3d_lab.viz.attribution.importance import (
    class_clustermap,
    importance_body,
    joint_time_heatmap,
)
from msg3d_lab.viz.export import save_figure
from msg3d_lab.viz.motion.skeleton import player_html

__all__ = ["figures_of", "moving", "write_figures"]

_SHOWN = 3  # clips that move


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
            drawn["classes"] = class_clustermap(
                matrix, cluster_columns=by != "segment", title=f"By class: {name}{note}"
            )
    return drawn


def write_figures(
    importance: Importance, skeleton: Skeleton, folder: str | Path, *, data: Store | None = None
) -> list[Path]:
    """Write the figures as PDF and SVG into a folder, which appears when all of them are there.

    Args:
        importance: the table.
        skeleton: the joint layout.
        folder: where; made.
        data: the clips' store. With it and importance over time, the first clips also move, in
            clips.html, to be opened in a browser.

    Returns:
        The files.

    Raises:
        FileExistsError: the folder is there already.
    """
    written = []
    with write_aside(folder) as aside:
        aside.mkdir()
        for name, figure in figures_of(importance, skeleton).items():
            width = "single" if name == "body" else "double"
            written += save_figure(figure, aside / name, width=width)  # type: ignore[arg-type]
            if isinstance(figure, Axes):
                plt.close(figure.figure.figure)
        if data is not None and "segment" in importance.facts.get("by", "joint"):
            shown = [moving(importance, name, data) for name in importance.ids[:_SHOWN]]
            written.append(aside / "clips.html")
            head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Importance</title>'
            written[-1].write_text("\n".join([head, *shown, "</html>"]), encoding="utf-8")
    return [Path(folder) / file.name for file in written]


def moving(importance: Importance, name: str, data: Store) -> str:
    """Return a clip as a player whose joints are coloured and sized by their importance then.

    Args:
        importance: a table by segment, or by joint and segment.
        name: the clip's id.
        data: the clips' store.

    Returns:
        HTML; see `player_html`. Frames are those that the network saw, joints as recorded,
        whatever the stream.

    Raises:
        ValueError: importance without time, or a clip that is not in the table or the store.
    """
    facts = importance.facts
    if "segment" not in facts["by"]:
        raise ValueError(f"expected importance by segment or joint_x_segment, found {facts['by']}")
    one = in_order(importance, [name])
    if name not in data.ids:
        raise ValueError(f"{name} is not in {data.path}")
    clip = data.keypoints(data.ids.index(name))
    seen = frames_seen(clip.shape[1], sampling=facts["sampling"], clip_len=facts["clip_len"])
    index = features_of(importance, data.skeleton).index
    asked, note = one.label_names[one.classes[0]], " (synthetic)" * data.synthetic
    return player_html(
        clip[:, seen],
        data.skeleton,
        title=f"{name}{note}: {asked}, {facts['method'].replace('_', ' ')}",
        values=patterns.shares(one.values)[0][index],
        fps=pace(seen, clip.shape[1]),
    )


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
