"""The four streams of a clip, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.elements import add_figure_title
from msg3d_lab.viz.motion.layout import joint_sides, to_view
from msg3d_lab.viz.motion.skeleton import draw_person
from msg3d_lab.viz.style import (
    CENTER,
    FAINT,
    INK,
    LEFT,
    MUTED,
    RIGHT,
    diverging,
    new_figure,
    styled,
)

_MEANING = {
    "joint": "position of the joint",
    "bone": "from the parent joint to the joint",
    "joint_motion": "joint: next frame minus this one",
    "bone_motion": "bone: next frame minus this one",
}


@styled
def streams_figure(
    streams: Mapping[str, np.ndarray],
    skeleton: Skeleton,
    *,
    title: str | None = None,
) -> Figure:
    """Draw a clip's streams side by side: the frame with most motion, and a coordinate over time.

    Above, a stream's vectors are arrows; motion is small and drawn larger, by the factor written
    below. In the lower row, each heatmap has a row per joint and a column per frame, with colours
    centred at 0: the height of a 3D clip (z after `prepare_3d`), the y of a 2D one.

    Args:
        streams: stream name -> (M, T, V, C), as `make_stream` returns them; "joint" must be there.
            The first person is drawn.
    """
    joint = np.asarray(streams["joint"][0], dtype=float)
    T, _, C = joint.shape
    # The third channel of a 2D layout is a score.
    dimensions = 2 if skeleton.up is None or C == 2 else 3
    moved = np.linalg.norm(np.diff(joint[..., :dimensions], axis=0), axis=-1).sum(axis=-1)
    frame = int(moved.argmax()) if T > 1 else 0
    order, groups = _by_part(skeleton)
    figure, axes = new_figure(
        (2.65 * len(streams) + 0.8, 6.6), 2, len(streams), height_ratios=[1, 1.45]
    )
    for column, (name, stream) in enumerate(streams.items()):
        above, below = axes[:, column]
        x = np.asarray(stream, dtype=float)[0]
        vectors = np.where(np.arange(C) < dimensions, x[frame], 0)
        _draw_vectors(above, joint[frame], vectors, skeleton, stream=name)
        above.set_title(name.replace("_", " "))
        values = x[:, order, dimensions - 1].T
        limit = float(np.percentile(np.abs(values), 99.5)) or 1.0
        image = below.imshow(
            values,
            cmap=diverging(),
            vmin=-limit,
            vmax=limit,
            aspect="auto",
            interpolation="nearest",
        )
        below.axvline(frame, color=INK, lw=0.8, ls=":")
        _part_ticks(below, groups, labels=column == 0)
        below.set_xlabel("frame")
        below.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        unit = "z (m" if dimensions == 3 else "y (units of the clip"
        label = unit + (" per frame)" if name.endswith("motion") else ")")
        style: Any = {"location": "bottom", "pad": 0.02, "aspect": 25, "extend": "both"}
        bar = figure.colorbar(image, ax=below, label=label, **style)
        bar.outline.set_visible(False)
        bar.locator = MaxNLocator(4, symmetric=True)
        bar.update_ticks()
    add_figure_title(figure, title)
    return figure


def _draw_vectors(
    ax: Axes, joint: np.ndarray, vectors: np.ndarray, skeleton: Skeleton, *, stream: str
) -> None:
    """Draw one frame of a stream: the joints themselves, or arrows at them."""
    start = joint - vectors if stream == "bone" else joint
    size = float(np.linalg.norm(vectors, axis=-1).max())
    reach = float(np.ptp(joint, axis=0).max()) or 1.0
    times = _round_down(0.35 * reach / size) if stream.endswith("motion") and size > 0 else 1.0
    points, seen = to_view(np.stack([joint, start, start + times * vectors]), skeleton)
    if stream == "joint":
        draw_person(ax, points[0], seen[0], skeleton, hollow=False)
    else:
        lines = [points[0, list(edge), :2] for edge in skeleton.edges]
        ax.add_collection(LineCollection(lines, colors=FAINT, linewidths=2, zorder=0))
        colors = [(CENTER, LEFT, RIGHT)[side] for side in joint_sides(skeleton)]
        ax.quiver(
            *points[1, :, :2].T,
            *(points[2] - points[1])[:, :2].T,
            color=colors,
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.018,
            units="inches",
            headwidth=5,
            headlength=5,
            headaxislength=4.5,
            minlength=0,
            zorder=2,
        )
        ax.update_datalim(points[:, :, :2].reshape(-1, 2))
    note = _MEANING[stream] + (f"\n(arrows {times:g} times as long)" if times != 1 else "")
    ax.text(
        0.5, -0.02, note, transform=ax.transAxes, ha="center", va="top", fontsize=8.5, color=MUTED
    )
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_axis_off()
    ax.margins(0.06)


def _round_down(value: float) -> float:
    """The largest of 1, 2, 5, 10, 20, ... up to the value; at least 1."""
    if value < 1:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(power * max(step for step in (1, 2, 5) if step * power <= value))


def _by_part(skeleton: Skeleton) -> tuple[list[int], list[tuple[str, int]]]:
    """Joints in the order of the parts, those of no part last; and each part's name and size."""
    parts = {name: list(joints) for name, joints in skeleton.parts.items()}
    named = {joint for joints in parts.values() for joint in joints}
    rest = [joint for joint in range(skeleton.num_joints) if joint not in named]
    if rest:
        parts["other" if parts else "joints"] = rest
    order = [joint for joints in parts.values() for joint in joints]
    return order, [(name, len(joints)) for name, joints in parts.items()]


def _part_ticks(ax: Axes, groups: Sequence[tuple[str, int]], *, labels: bool) -> None:
    edges = np.cumsum([0, *(size for _, size in groups)]) - 0.5
    for edge in edges[1:-1]:
        ax.axhline(edge, color="white", lw=2)
    ax.set_yticks((edges[1:] + edges[:-1]) / 2, [name for name, _ in groups] if labels else [])
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)
