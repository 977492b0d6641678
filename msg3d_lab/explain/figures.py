"""Figures of a table of importance, and clips of it as players."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msg3d_lab.data.batches.sampling import choose_test_frames
from msg3d_lab.data.store import Store
from msg3d_lab.explain import patterns
from msg3d_lab.explain.clips import playback_fps
from msg3d_lab.explain.features import Features, make_features
from msg3d_lab.explain.tables import Importance
from msg3d_lab.files import write_aside
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.attribution.importance import (
    class_clustermap,
    difference_plot,
    importance_body,
    joint_time_heatmap,
)
from msg3d_lab.viz.export import save_figure
from msg3d_lab.viz.motion.player import player_html

_PLAYERS = 3  # clips in clips.html


def importance_figures(importance: Importance, skeleton: Skeleton) -> dict[str, Figure | Axes]:
    """Draw the figures that a table of importance allows.

    Returns:
        By name: `body` (by joint), `classes` (classes x features, with two or more of both),
        `symmetry` (by joint, if the layout has a left and a right), `time` (by joint x segment).
    """
    note = " (synthetic)" if importance.facts.get("synthetic") else ""
    method = importance.facts.get("method", "importance").replace("_", " ")
    name = f"{method}, n = {len(importance)}{note}"
    by = importance.facts.get("by", "joint")
    drawn: dict[str, Figure | Axes] = {}
    if by == "joint":
        mean = patterns.shares(importance.values).mean(axis=0)
        drawn["body"] = importance_body(mean, skeleton, title=f"All classes: {name}")
        if skeleton.mirror:
            drawn["symmetry"] = difference_plot(
                patterns.symmetry(importance.values, skeleton),
                names=("left", "right"),
                title=f"Left and right: {name}",
            )
    if by == "joint_x_segment":
        table = patterns.joint_time(importance.values, _features(importance, skeleton), skeleton)
        drawn["time"] = joint_time_heatmap(table, title=f"All classes: {name}")
    else:
        matrix = patterns.class_matrix(
            importance.values,
            importance.classes,
            names=importance.names,
            label_names=importance.label_names,
        )
        if min(matrix.shape) > 1:
            drawn["classes"] = class_clustermap(
                matrix, cluster_columns=by != "segment", title=f"By class: {name}"
            )
    return drawn


def write_figures(
    importance: Importance, skeleton: Skeleton, folder: str | Path, *, data: Store | None = None
) -> list[Path]:
    """Write the figures as PDF and SVG into a new folder, which appears when all are complete.

    With the clips' store and importance by time segment, the first clips are also written as
    players, in clips.html. Returns the files.

    Raises:
        FileExistsError: the folder exists.
    """
    written = []
    with write_aside(folder) as aside:
        aside.mkdir()
        for name, figure in importance_figures(importance, skeleton).items():
            width = "single" if name == "body" else "double"
            written += save_figure(figure, aside / name, width=width)  # type: ignore[arg-type]
            if isinstance(figure, Axes):
                plt.close(figure.figure.figure)
        if data is not None and "segment" in importance.facts.get("by", "joint"):
            players = [importance_player(importance, i, data) for i in importance.ids[:_PLAYERS]]
            written.append(aside / "clips.html")
            head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Importance</title>'
            written[-1].write_text("\n".join([head, *players, "</html>"]), encoding="utf-8")
    return [Path(folder) / file.name for file in written]


def importance_player(importance: Importance, name: str, data: Store) -> str:
    """Return a clip as a player whose joints are coloured and sized by their importance over time.

    Frames are those that the network saw; joints are drawn as recorded, whatever the stream.

    Args:
        importance: a table by segment, or by joint and segment.
        name: the clip's id.
        data: the clips' store.

    Raises:
        ValueError: importance without time, or a clip that is not in the table or the store.
    """
    facts = importance.facts
    if "segment" not in facts["by"]:
        raise ValueError(f"expected importance by segment or joint_x_segment, found {facts['by']}")
    one = importance.select_ids([name])
    if name not in data.ids:
        raise ValueError(f"{name} is not in {data.path}")
    clip = data.keypoints(data.ids.index(name))
    (frames,) = choose_test_frames(
        clip.shape[1], sampling=facts["sampling"], clip_len=facts["clip_len"]
    )
    label, note = one.label_names[one.classes[0]], " (synthetic)" * data.synthetic
    return player_html(
        clip[:, frames],
        data.skeleton,
        title=f"{name}{note}: {label}, {facts['method'].replace('_', ' ')}",
        values=patterns.shares(one.values)[0][_features(importance, data.skeleton).index],
        fps=playback_fps(frames, clip.shape[1]),
    )


def _features(importance: Importance, skeleton: Skeleton) -> Features:
    """The features that a table was computed for."""
    facts = importance.facts
    return make_features(
        facts["by"],
        skeleton,
        num_frames=facts["clip_len"],
        num_segments=facts["num_segments"] or 1,
    )
