"""Preparation of coordinates at import: centring, alignment, scaling of pixels.

Sources: PreNormalize3D and PreNormalize2D of mmaction2 (`mmaction/datasets/transforms/
pose_transforms.py`); CTR-GCN's feeder for NW-UCLA (`feeders/feeder_ucla.py`).
"""

from __future__ import annotations

import numpy as np

from msg3d_lab.skeletons import Skeleton

_ZERO = 1e-8  # as np.isclose, which is ten times as slow
_SMALL = 1e-6  # a shorter vector has no direction, and is not rotated


def prepare_3d(keypoints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Centre and align a 3D clip by the first frame of its main person.

    The person seen in most frames comes first, and frames without that person are dropped. The
    upper joint of `skeleton.up` (the middle of the spine) in frame 0 becomes the origin. Then the
    clip is rotated so that the line `up` points along z, and after that so that `across` (right
    minus left shoulder) points along x, each by the smallest such rotation. Where a joint of these
    is not seen in frame 0, the first frame is taken in which it is (for a line: both its joints);
    a step whose joints are never seen is left out.

    Args:
        keypoints: coordinates; a joint at exactly zero counts as not seen and stays zero.
        skeleton: a layout with `up` and `across`.

    Shapes:
        keypoints: (M, T, V, 3) -> (M, T', V, 3), T' <= T; T' = 0 if nobody is in any frame.

    Units: as given (metres for Kinect).

    Returns:
        float32, computed in float64.

    Raises:
        ValueError: another shape, or a layout without `up` and `across`.

    Source: mmaction2's PreNormalize3D, which supports one or two persons, and takes frame 0 even if
        the joints are not seen there (zero). With more persons, the one seen in most frames comes
        first here and the others keep their order.
    """
    _check_shape(keypoints, skeleton.num_joints, 3)
    if skeleton.up is None or skeleton.across is None:
        raise ValueError(
            f"layout {skeleton.name} has no `align` entry: prepare_3d needs the joints that point "
            "up (align.z) and across (align.x)"
        )
    order, frames = order_persons(keypoints)
    clip = keypoints[order][:, frames].astype(np.float64)
    if clip.shape[1] == 0:
        return clip.astype(np.float32)
    seen = (clip != 0).any(axis=-1, keepdims=True)
    low, high = skeleton.up
    right, left = skeleton.across

    def first(*joints: int) -> int | None:
        """The first frame in which the main person's joints are all seen."""
        found = np.flatnonzero(seen[0][:, list(joints)].all(axis=(1, 2)))
        return int(found[0]) if len(found) else None

    t = first(high)
    if t is not None:
        clip = (clip - clip[0, t, high]) * seen
    t = first(low, high)
    if t is not None:
        clip = clip @ _rotation(clip[0, t, high] - clip[0, t, low], np.array([0.0, 0, 1])).T
    t = first(right, left)
    if t is not None:
        clip = clip @ _rotation(clip[0, t, right] - clip[0, t, left], np.array([1.0, 0, 0])).T
    return clip.astype(np.float32)


def longest_first(keypoints: np.ndarray) -> list[int]:
    """Return the persons' numbers by the number of frames in which they are seen, most first.

    Persons seen equally long keep their order.

    Shapes:
        keypoints: (M, T, V, C), coordinates without scores.
    """
    present = np.invert(is_zero(keypoints).all(axis=(2, 3))).sum(axis=1)
    return [int(m) for m in np.argsort(-present, kind="stable")]


def zero_unseen(keypoints: np.ndarray, axes: int) -> np.ndarray:
    """Return keypoints with zeros for joints whose coordinates are NaN, and for scores of NaN.

    Args:
        keypoints: coordinates, a score may follow them.
        axes: how many coordinates there are.

    Shapes:
        keypoints: (..., C) -> (..., C); the same array if nothing is NaN.
    """
    if not np.isnan(keypoints).any():
        return keypoints
    unseen = np.isnan(keypoints[..., :axes]).any(axis=-1, keepdims=True)
    return np.where(unseen | np.isnan(keypoints), 0, keypoints)


def order_persons(keypoints: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Find the person seen in most frames.

    Returns:
        The persons' numbers with that one first, and (T,) whether it is in each frame.
    """
    present = np.invert(is_zero(keypoints).all(axis=(2, 3)))  # (M, T)
    main = int(present.sum(axis=1).argmax())
    return [main, *(m for m in range(len(keypoints)) if m != main)], present[main]


def prepare_2d(
    keypoints: np.ndarray, scores: np.ndarray, image_size: tuple[int, int]
) -> np.ndarray:
    """Scale pixels to [-1, 1] and append the score as a third channel.

    x' = (x - w/2) / (w/2), y' = (y - h/2) / (h/2).

    Args:
        keypoints: pixels.
        scores: confidence of each joint.
        image_size: (height, width), the order of OpenMMLab's `img_shape`.

    Shapes:
        keypoints (M, T, V, 2), scores (M, T, V) -> (M, T, V, 3)

    Raises:
        ValueError: shapes that do not match, or an empty image.

    Source: mmaction2's PreNormalize2D. As there, a joint that was not found (pixel (0, 0), score 0)
        goes to (-1, -1) with score 0: the published 2D networks were trained on such data.
    """
    _check_shape(keypoints, keypoints.shape[2] if keypoints.ndim == 4 else 0, 2)
    if scores.shape != keypoints.shape[:3]:
        raise ValueError(
            f"expected scores {keypoints.shape[:3]} to go with keypoints {keypoints.shape}, "
            f"found {scores.shape}"
        )
    height, width = image_size
    if height <= 0 or width <= 0:
        raise ValueError(f"expected an image size (height, width) above 0, found {image_size}")
    half = np.array([width / 2, height / 2])
    xy = (keypoints - half) / half  # in float64, as half is
    return np.concatenate([xy, scores[..., None]], axis=-1).astype(np.float32)


def center_on(keypoints: np.ndarray, joint: int) -> np.ndarray:
    """Subtract the position of the first person's `joint` in frame 0; absent persons stay zero.

    Shapes:
        keypoints: (M, T, V, C) -> (M, T, V, C)

    Source: CTR-GCN's NW-UCLA feeder, with joint 1 (spine).
    """
    present = keypoints.any(axis=(2, 3), keepdims=True)
    centered = keypoints.astype(np.float64) - keypoints[0, 0, joint].astype(np.float64)
    return (centered * present).astype(np.float32)


def is_zero(values: np.ndarray) -> np.ndarray:
    """Where `np.isclose(values, 0)`: bool, of the same shape."""
    return np.abs(values) <= _ZERO


def _check_shape(keypoints: np.ndarray, num_joints: int, channels: int) -> None:
    if keypoints.ndim != 4 or keypoints.shape[2:] != (num_joints, channels) or not len(keypoints):
        raise ValueError(
            f"expected keypoints (M, T, {num_joints or 'V'}, {channels}) with at least one person, "
            f"found {keypoints.shape}"
        )


def _rotation(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest rotation that makes `source` parallel to the unit vector `target`.

    Rodrigues' formula: R = cos I + sin [u]x + (1 - cos) u u^T about the unit axis u. The identity
    if the direction or the axis vanishes (also for opposite directions: the axis is undefined).
    """
    length = float(np.linalg.norm(source))
    (a, b, c), (d, e, f) = source.tolist(), target.tolist()
    axis = np.array([b * f - c * e, c * d - a * f, a * e - b * d])  # np.cross takes 40 us
    if length < _SMALL or np.abs(axis).sum() < _SMALL:
        return np.eye(3)
    cosine, sine = float(source @ target) / length, float(np.linalg.norm(axis)) / length
    x, y, z = unit = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return cosine * np.eye(3) + sine * cross + (1 - cosine) * np.outer(unit, unit)
