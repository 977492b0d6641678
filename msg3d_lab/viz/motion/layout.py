"""Where joints are drawn: an upright layout of the body, and views of recorded coordinates.

Coordinates may be 3D in any of the frames the library uses (z up after `prepare_3d`, y up as a
Kinect records) or 2D in the image (x, y downwards, score). The layout tells which: one with an `up`
line is 3D, and the axis along that line is its vertical.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import networkx as nx
import numpy as np
import yaml

from msg3d_lab.graph import to_networkx
from msg3d_lab.skeletons import Skeleton

# Degrees by which the camera goes around the body, and up.
VIEWS = {"front": (0.0, 0.0), "corner": (30.0, 12.0), "side": (90.0, 0.0), "top": (0.0, 90.0)}
# OpenPose and HRNet score joints from 0 to 1; below this they are not drawn.
_SMALLEST_SCORE = 0.1


def body_layout(skeleton: Skeleton) -> np.ndarray:
    """Return where to draw each joint: an upright body facing the reader, feet at 0, head at 1.

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
    """Rotate coordinates for drawing.

    There is no reflection: left stays left. "front" looks at a prepared body from the front, and at
    a recorded one from the camera.

    Args:
        keypoints: (..., V, C); the leading axes may be persons and frames. A fourth channel (the
            score of x, y, z) is not drawn.
        view: a name in `VIEWS`, or (degrees around the body, degrees up). 2D is not rotated.

    Shapes:
        (..., V, C) -> points (..., V, 3): right, up, towards the viewer; and seen (..., V), false
        for joints of an absent person (all zeros) or with a low 2D score.

    Raises:
        ValueError: wrong joints or channels, or an unknown view.
    """
    keypoints = np.asarray(keypoints, dtype=float)
    V, C = skeleton.num_joints, keypoints.shape[-1] if keypoints.ndim else 0
    if keypoints.ndim < 2 or keypoints.shape[-2] != V or C not in (2, 3, 4):
        raise ValueError(
            f"expected keypoints (..., {V}, 2 to 4) for {skeleton.label}, found {keypoints.shape}"
        )
    keypoints = keypoints[..., :3]
    if isinstance(view, str) and view not in VIEWS:
        raise ValueError(f"unknown view {view!r}: expected {', '.join(VIEWS)}, or two angles")
    absent = np.all(keypoints == 0, axis=(-2, -1), keepdims=True)[..., 0]
    present = np.broadcast_to(~absent, keypoints.shape[:-1])
    if skeleton.up is None or C == 2:
        seen = present & (keypoints[..., 2] > _SMALLEST_SCORE) if C == 3 else present
        # With three channels and no line of the layout that is upright, the third is a score.
        flat = np.zeros((*keypoints.shape[:-1], 3))
        flat[..., 0], flat[..., 1] = keypoints[..., 0], -keypoints[..., 1]
        return flat, seen
    x, y, z = np.moveaxis(keypoints, -1, 0)
    # `prepare_3d` turns the right shoulder to +x, so that the body faces +y; a Kinect's x points to
    # its own left, its z away from it. Both of these are rotations, with determinant 1.
    prepared = vertical_axis(keypoints, skeleton) == 2
    upright = np.stack((-x, z, y) if prepared else (-x, y, -z), axis=-1)
    return upright @ _rotation(*(VIEWS[view] if isinstance(view, str) else view)).T, present


def vertical_axis(keypoints: np.ndarray, skeleton: Skeleton) -> int:
    """Return the vertical axis of 3D coordinates: 1 as a camera records, 2 after `prepare_3d`."""
    start, end = skeleton.up or (0, 0)
    line = (keypoints[..., end, :] - keypoints[..., start, :]).reshape(-1, 3).mean(axis=0)
    return 2 if abs(line[2]) > abs(line[1]) else 1


def joint_sides(skeleton: Skeleton) -> np.ndarray:
    """Return the side of each joint: 0 in the middle, 1 left, 2 right; (V,)."""
    sides = np.zeros(skeleton.num_joints, dtype=int)
    for left, right in skeleton.mirror:
        sides[left], sides[right] = 1, 2
    return sides


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
