"""A pose, and a clip as a filmstrip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.elements import (
    SHARE,
    add_colorbar,
    add_figure_title,
    draw_bones,
    draw_values,
    write_beside,
)
from msg3d_lab.viz.motion.layout import joint_sides, to_view
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

_SIDE_COLORS = (CENTER, LEFT, RIGHT)


@styled
def pose(
    keypoints: np.ndarray,
    skeleton: Skeleton,
    *,
    view: str | tuple[float, float] = "front",
    names: Sequence[str] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the bodies of one frame: left in blue, right in orange, a second person hollow.

    Args:
        keypoints: (V, C), or (M, V, C) for several persons; absent ones are left out.
        view: see `to_view`.
        names: of the bodies, written above each.
    """
    points, seen = to_view(keypoints, skeleton, view=view)
    ax = new_axes(ax, (3.4, 3.8))
    V = skeleton.num_joints
    bodies = zip(points.reshape(-1, V, 3), seen.reshape(-1, V), strict=True)
    for person, (xyz, ok) in enumerate(bodies):
        draw_person(ax, xyz, ok, skeleton, hollow=person > 0)
        if names is not None and ok.any():
            x, top = xyz[ok, 0].mean(), xyz[ok, 1].max()
            write_beside(ax, names[person], (x, top), (0, 8), ha="center", va="bottom", size=8)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.margins(0.06)
    ax.set_title(title or "", pad=6 if names is None else 18)
    return ax


@styled
def filmstrip(
    clip: np.ndarray,
    skeleton: Skeleton,
    *,
    frames: int = 6,
    view: str | tuple[float, float] = "front",
    values: np.ndarray | None = None,
    title: str | None = None,
) -> Figure:
    """Draw evenly spaced frames of a clip side by side, at one scale.

    Args:
        clip: (M, T, V, C).
        frames: how many; all of them if the clip is shorter.
        view: see `to_view`.
        values: (M, T, V), or (T, V) the same for all persons, such as importance: joints are
            coloured and sized by them. Default: left, right and middle have their colours.

    Raises:
        ValueError: not a clip, values that do not match it, no frame, or as in `to_view`.
    """
    clip = check_clip(clip)
    if frames < 1:
        raise ValueError(f"frames is the number of pictures, 1 or more, found {frames}")
    chosen = np.unique(np.linspace(0, clip.shape[1] - 1, frames).round().astype(int))
    points, seen = to_view(clip[:, chosen], skeleton, view=view)
    extent = points[seen] if seen.any() else np.zeros((1, 3))
    low, high = extent[:, :2].min(axis=0), extent[:, :2].max(axis=0)
    pad = (0.06 if values is None else 0.09) * max(*(high - low), 1e-6)
    aspect = float(np.clip((high - low + 2 * pad)[0] / (high - low + 2 * pad)[1], 0.45, 1.6))
    height = min(2.8, 11 / (aspect * len(chosen)))
    bar = 0 if values is None else 0.9  # inches
    size = (aspect * height * len(chosen) + 0.2 + bar, height + (0.65 if title else 0.4))
    figure, axes = new_figure(size, 1, len(chosen))
    if values is not None:
        values = check_values(values, clip)
        cmap, norm = signed_scale(values)
    for column, (ax, frame) in enumerate(zip(axes.flat, chosen, strict=True)):
        for person, ok in enumerate(seen[:, column]):
            xy = points[person, column, :, :2]
            if values is None:
                draw_person(ax, xy, ok, skeleton, hollow=person > 0)
            else:
                draw_bones(ax, skeleton, xy, seen=ok, width=1.8)
                own = values[person, frame][ok]
                draw_values(ax, xy[ok], own, cmap=cmap, norm=norm, largest=105)
        ax.set(xlim=(low[0] - pad, high[0] + pad), ylim=(low[1] - pad, high[1] + pad))
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.set_title(f"frame {frame}", fontsize=9, fontweight="normal", color=MUTED, loc="center")
    if values is not None:
        add_colorbar(ScalarMappable(norm, cmap), axes, SHARE, size=8, shrink=0.85)
    add_figure_title(figure, title, size=11)
    return figure


def draw_person(
    ax: Axes, xyz: np.ndarray, ok: np.ndarray, skeleton: Skeleton, *, hollow: bool
) -> None:
    """Draw one body's joints and bones in the colours of left, right and middle.

    The second person is hollow: thin lines and hollow joints.

    Shapes:
        xyz: (V, 2), or (V, 3) of which the first two are used; ok: (V,) which joints are drawn.
    """
    sides = joint_sides(skeleton)
    for i, j in skeleton.edges:
        if ok[i] and ok[j]:
            color = _SIDE_COLORS[max(sides[i], sides[j])]
            width = 1.1 if hollow else 2.2
            ax.plot(*xyz[[i, j], :2].T, color=color, lw=width, solid_capstyle="round", zorder=1)
    size = np.where([joint == "head" for joint in skeleton.joints], 42.0, 9.0)
    colors = np.array(_SIDE_COLORS)[sides]
    face = "white" if hollow else colors[ok]
    x, y = xyz[ok, :2].T
    style: Any = {"facecolors": face, "edgecolors": colors[ok], "linewidths": 1, "zorder": 2}
    ax.scatter(x, y, s=size[ok], **style)


def check_clip(clip: np.ndarray) -> np.ndarray:
    """Return a clip as a float array; raise ValueError unless it is (M, T, V, C)."""
    clip = np.asarray(clip, dtype=float)
    if clip.ndim != 4 or 0 in clip.shape:
        raise ValueError(f"expected a clip (M, T, V, C), found shape {clip.shape}")
    return clip


def check_values(values: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """Return values per joint and frame as (M, T, V); raise ValueError if they do not match."""
    shape, values = clip.shape[:3], np.asarray(values, dtype=float)
    if values.shape not in (shape, shape[1:]) or not np.isfinite(values).all():
        raise ValueError(f"expected finite values {shape} or {shape[1:]}, found {values.shape}")
    return np.broadcast_to(values, shape)
