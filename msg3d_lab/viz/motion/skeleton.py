"""Bodies: where joints are drawn, a pose, a clip as a filmstrip, a clip as a player.

Coordinates may be 3D in any of the frames the library uses (z up after `prepare_3d`, y up as a
Kinect records) or 2D in the image (x, y downwards, score). Which one it is follows from the layout:
a layout with an `up` line is 3D, and the axis that line points along is its vertical.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any

import networkx as nx
import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from msg3d_lab.graph import to_networkx
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.html import template
from msg3d_lab.viz.style import (
    CENTER,
    LEFT,
    MUTED,
    RIGHT,
    new_axes,
    new_figure,
    signed_scale,
    styled,
)

__all__ = ["VIEWS", "body_layout", "draw_person", "filmstrip", "player_html", "pose", "to_view"]

# Degrees the camera goes round the body, and up.
VIEWS = {"front": (0.0, 0.0), "corner": (30.0, 12.0), "side": (90.0, 0.0), "top": (0.0, 90.0)}
_SIDE_COLORS = (CENTER, LEFT, RIGHT)
_HIDDEN = np.iinfo(np.int16).min
# OpenPose and HRNet score key points from 0 to 1; below this they are guesses.
_SMALLEST_SCORE = 0.1


def body_layout(skeleton: Skeleton) -> np.ndarray:
    """Return where to draw each joint: an upright body that faces the reader, feet at 0, head at 1.

    The library's own layouts have hand-made poses; others are laid out by networkx.

    Shapes:
        (V, 2), x to the right, y up. The performer's left is on the right.
    """
    known = _poses().get(skeleton.name, {})
    placed = {joint: (float(x), float(y)) for joint, (x, y) in known.items()}
    for left, right in skeleton.mirror:
        if skeleton.joints[left] in placed:
            x, y = placed[skeleton.joints[left]]
            placed[skeleton.joints[right]] = (-x, y)
    if all(joint in placed for joint in skeleton.joints):
        return np.array([placed[joint] for joint in skeleton.joints])
    return _networkx_layout(skeleton)


def to_view(
    keypoints: np.ndarray, skeleton: Skeleton, *, view: str | tuple[float, float] = "front"
) -> tuple[np.ndarray, np.ndarray]:
    """Turn coordinates so that they can be drawn.

    Only rotations, no reflection: left stays left. "front" looks at a prepared body from the front,
    and at a recorded one from where the camera stood.

    Args:
        keypoints: (..., V, C); the leading axes may be persons and frames.
        skeleton: the joint layout.
        view: a name in `VIEWS`, or (degrees round the body, degrees up). 2D is always as it is.

    Shapes:
        (..., V, C) -> points (..., V, 3): right, up, towards the viewer; and seen (..., V), false
        for joints of an absent person (all zeros) or with a low 2D score.

    Raises:
        ValueError: wrong joints or channels, or an unknown view.
    """
    keypoints = np.asarray(keypoints, dtype=float)
    V, C = skeleton.num_joints, keypoints.shape[-1] if keypoints.ndim else 0
    if keypoints.ndim < 2 or keypoints.shape[-2] != V or C not in (2, 3):
        raise ValueError(
            f"expected keypoints (..., {V}, 2 or 3) for {skeleton.label}, found {keypoints.shape}"
        )
    if isinstance(view, str) and view not in VIEWS:
        raise ValueError(f"unknown view {view!r}: expected {', '.join(VIEWS)}, or two angles")
    absent = np.all(keypoints == 0, axis=(-2, -1), keepdims=True)[..., 0]
    present = np.broadcast_to(~absent, keypoints.shape[:-1])
    if skeleton.up is None or C == 2:
        seen = present & (keypoints[..., 2] > _SMALLEST_SCORE) if C == 3 else present
        flat = np.zeros((*keypoints.shape[:-1], 3))
        flat[..., 0], flat[..., 1] = keypoints[..., 0], -keypoints[..., 1]
        return flat, seen
    start, end = skeleton.up
    line = (keypoints[..., end, :] - keypoints[..., start, :]).reshape(-1, 3).mean(axis=0)
    x, y, z = np.moveaxis(keypoints, -1, 0)
    # `prepare_3d` turns the right shoulder to +x, so that the body faces +y; a Kinect's x points to
    # its own left, its z away from it. Both of these are rotations, with determinant 1.
    upright = np.stack((-x, z, y) if abs(line[2]) > abs(line[1]) else (-x, y, -z), axis=-1)
    return upright @ _rotation(*(VIEWS[view] if isinstance(view, str) else view)).T, present


@styled
def pose(
    keypoints: np.ndarray,
    skeleton: Skeleton,
    *,
    view: str | tuple[float, float] = "front",
    legend: bool = False,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the bodies of one frame: left in blue, right in orange, a second person hollow.

    Args:
        keypoints: (V, C), or (M, V, C) for several persons; absent ones are left out.
        skeleton: the joint layout.
        view: see `to_view`.
        legend: whether to say which colour is left and which is right.
        title: what it shows.
        ax: where to draw; without it on a new figure.

    Raises:
        ValueError: as in `to_view`.
    """
    points, seen = to_view(keypoints, skeleton, view=view)
    ax = new_axes(ax, (3.4, 3.8))
    V = skeleton.num_joints
    bodies = zip(points.reshape(-1, V, 3), seen.reshape(-1, V), strict=True)
    for person, (xyz, ok) in enumerate(bodies):
        draw_person(ax, xyz, ok, skeleton, hollow=person > 0)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.margins(0.06)
    ax.set_title(title or "")
    if legend:
        ax.legend(
            handles=_side_legend(), loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, fontsize=8
        )
    return ax


@styled
def filmstrip(
    clip: np.ndarray,
    skeleton: Skeleton,
    *,
    frames: int = 6,
    view: str | tuple[float, float] = "front",
    title: str | None = None,
) -> Figure:
    """Draw evenly spaced frames of a clip side by side, at one scale.

    Args:
        clip: (M, T, V, C).
        skeleton: the joint layout.
        frames: how many; all of them when the clip is shorter.
        view: see `to_view`.
        title: what it shows.

    Raises:
        ValueError: not a clip, no frame wanted, or as in `to_view`.
    """
    clip = _clip(clip)
    if frames < 1:
        raise ValueError(f"frames counts the pictures and must be 1 or more, found {frames}")
    chosen = np.unique(np.linspace(0, clip.shape[1] - 1, frames).round().astype(int))
    points, seen = to_view(clip[:, chosen], skeleton, view=view)
    extent = points[seen] if seen.any() else np.zeros((1, 3))
    low, high = extent[:, :2].min(axis=0), extent[:, :2].max(axis=0)
    pad = 0.06 * max(*(high - low), 1e-6)
    aspect = float(np.clip((high - low + 2 * pad)[0] / (high - low + 2 * pad)[1], 0.45, 1.6))
    height = min(2.8, 11 / (aspect * len(chosen)))
    size = (aspect * height * len(chosen) + 0.2, height + (0.65 if title else 0.4))
    figure, axes = new_figure(size, 1, len(chosen))
    for column, (ax, frame) in enumerate(zip(axes.flat, chosen, strict=True)):
        for person in range(len(clip)):
            hollow = person > 0
            draw_person(ax, points[person, column], seen[person, column], skeleton, hollow=hollow)
        ax.set(xlim=(low[0] - pad, high[0] + pad), ylim=(low[1] - pad, high[1] + pad))
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.set_title(f"frame {frame}", fontsize=9, fontweight="normal", color=MUTED, loc="center")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def player_html(
    clip: np.ndarray,
    skeleton: Skeleton,
    *,
    title: str,
    fps: float = 30,
    values: np.ndarray | None = None,
    label: str = "share of importance (unitless)",
) -> str:
    """Return a clip as a moving figure: one piece of HTML for a page or `IPython.display.HTML`.

    Play, pause, scrub, change speed; drag a 3D clip (or Shift with the arrow keys) to look at it
    from elsewhere. Everything is inside, nothing is fetched; several fit on one page. It starts
    paused for readers who ask for reduced motion.

    Args:
        clip: (M, T, V, C).
        skeleton: the joint layout.
        title: what it shows; read out to readers who cannot see it.
        fps: frames per second of the recording.
        values: (M, T, V), or (T, V) for all persons alike: joints are coloured and sized by them,
            signed values with 0 in the middle of the colours; always on white, as dark joints
            would vanish on a dark page.
        label: what the values are, with their unit.

    Raises:
        ValueError: not a clip, values that are not finite or not the clip's, or fps is not
            positive.
    """
    clip = _clip(clip)
    if not fps > 0:
        raise ValueError(f"fps must be above 0, found {fps}")
    points, seen = to_view(clip, skeleton)
    M, T, V, _ = points.shape
    extent = points[seen] if seen.any() else np.zeros((1, 3))
    middle = (extent.min(axis=0) + extent.max(axis=0)) / 2
    reach = float(np.abs(extent - middle).max()) or 1.0
    # 16 bits resolve a ten-thousandth of the body, in a third of the bytes of JSON numbers.
    units = np.where(seen[..., None], (points - middle) / reach * 32000, _HIDDEN).round()
    record = {
        "shape": [M, T, V],
        "edges": [list(edge) for edge in skeleton.edges],
        "side": [int(side) for side in _sides(skeleton)],
        "head": skeleton.joints.index("head") if "head" in skeleton.joints else -1,
        "fps": fps,
        "flat": skeleton.up is None or clip.shape[-1] == 2,
        "coordinates": base64.b64encode(units.astype("<i2").tobytes()).decode(),
    }
    legend = None if values is None else _add_values(record, values, label)
    content = json.dumps(record, separators=(",", ":"))
    return template("msg3d_lab.viz.motion", "player.html").render(
        title=title,
        legend=legend,
        frames=T,
        flat=record["flat"],
        # "<" could end the script element early; JSON has another spelling for it.
        record=content.replace("<", "\\u003c"),
        key=hashlib.sha256((title + content).encode()).hexdigest()[:10],
    )


def _add_values(record: dict[str, Any], values: np.ndarray, label: str) -> dict[str, Any]:
    """Put a level from 0 to 254 per joint and frame, and its colours, into a player's record."""
    shape, values = tuple(record["shape"]), np.asarray(values, dtype=float)
    if values.shape not in (shape, shape[1:]) or not np.isfinite(values).all():
        raise ValueError(f"expected finite values {shape} or {shape[1:]}, found {values.shape}")
    cmap, norm = signed_scale(values)
    levels = np.broadcast_to(np.asarray(norm(values)) * 254, shape).round().astype(np.uint8)
    record["levels"] = base64.b64encode(levels.tobytes()).decode()
    record["colors"] = [to_hex(cmap(level / 254)) for level in range(255)]
    record["signed"] = bool(norm.vmin)
    ends = (norm.vmin, 0, norm.vmax) if norm.vmin else (0, norm.vmax)
    gradient = ",".join(record["colors"][::2])
    return {"label": label, "ends": [f"{end:.2g}" for end in ends], "gradient": gradient}


@cache
def _poses() -> dict[str, dict[str, list[float]]]:
    path = resources.files("msg3d_lab.viz.motion") / "poses.yaml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _networkx_layout(skeleton: Skeleton) -> np.ndarray:
    graph = to_networkx(skeleton)
    if len(graph) > 1 and nx.is_connected(graph):
        place = nx.kamada_kawai_layout(graph)
    else:
        place = nx.spring_layout(graph, seed=0)
    xy = np.array([place[v] for v in range(skeleton.num_joints)], dtype=float)
    if skeleton.up is not None:
        start, end = skeleton.up
        angle = np.pi / 2 - np.arctan2(*(xy[end] - xy[start])[::-1])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        xy = xy @ turn.T
    if skeleton.mirror and sum(xy[left, 0] - xy[right, 0] for left, right in skeleton.mirror) < 0:
        xy[:, 0] *= -1
    height = np.ptp(xy[:, 1]) or np.ptp(xy[:, 0]) or 1.0
    return np.asarray((xy - [xy[:, 0].mean(), xy[:, 1].min()]) / height)


def _rotation(azimuth: float, elevation: float) -> np.ndarray:
    """Camera angles in degrees -> the rotation of (right, up, towards the viewer)."""
    a, e = np.radians([azimuth, elevation])
    around = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    upwards = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
    return np.asarray(upwards @ around)


def _clip(clip: np.ndarray) -> np.ndarray:
    clip = np.asarray(clip, dtype=float)
    if clip.ndim != 4 or 0 in clip.shape:
        raise ValueError(f"expected a clip (M, T, V, C), found shape {clip.shape}")
    return clip


def _sides(skeleton: Skeleton) -> np.ndarray:
    """0 in the middle, 1 left, 2 right."""
    sides = np.zeros(skeleton.num_joints, dtype=int)
    for left, right in skeleton.mirror:
        sides[left], sides[right] = 1, 2
    return sides


def draw_person(
    ax: Axes, xyz: np.ndarray, ok: np.ndarray, skeleton: Skeleton, *, hollow: bool
) -> None:
    """Draw one body's joints and bones.

    Args:
        ax: where.
        xyz: (V, 2) or more, places on the page; what follows the first two is not looked at.
        ok: (V,) which joints were seen.
        skeleton: the joints.
        hollow: thin lines and hollow heads, for the second person.
    """
    sides = _sides(skeleton)
    for i, j in skeleton.edges:
        if ok[i] and ok[j]:
            color = _SIDE_COLORS[max(sides[i], sides[j])]
            width = 1.1 if hollow else 2.2
            ax.plot(*xyz[[i, j], :2].T, color=color, lw=width, solid_capstyle="round", zorder=1)
    head = [joint == "head" for joint in skeleton.joints]
    size = np.where(head, 42.0, 9.0)
    colors = np.array(_SIDE_COLORS)[sides]
    face = "white" if hollow else colors[ok]
    x, y = xyz[ok, :2].T
    look = {"facecolors": face, "edgecolors": colors[ok], "linewidths": 1, "zorder": 2}
    ax.scatter(x, y, s=size[ok], **look)


def _side_legend() -> list[Line2D]:
    colors = {"left": LEFT, "right": RIGHT}
    return [Line2D([], [], color=color, lw=2.5, label=name) for name, color in colors.items()]
