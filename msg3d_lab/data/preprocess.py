"""Preparation of coordinates at import: centring, alignment, scaling of pixels.

Sources: PreNormalize3D and PreNormalize2D of mmaction2 (`mmaction/datasets/transforms/
pose_transforms.py`) and pyskl (`pyskl/datasets/pipelines/pose_related.py`); the author's
`data_gen/preprocess.py`; CTR-GCN's feeder for NW-UCLA (`feeders/feeder_ucla.py`).
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
    (low, high), (right, left) = _check_aligned(keypoints, skeleton)
    order, frames = order_persons(keypoints)
    clip = keypoints[order][:, frames].astype(np.float64)
    if clip.shape[1] == 0:
        return clip.astype(np.float32)
    seen = (clip != 0).any(axis=-1, keepdims=True)

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


def prepare_paper(keypoints: np.ndarray, skeleton: Skeleton, *, clip_len: int = 300) -> np.ndarray:
    """Centre every frame of a 3D clip on its first person, and align it by the first frame.

    What the author's own script does, which made the data of the paper's numbers. Each person is
    repeated separately: a person who is not there in frame 0 loses the frames without it, frames
    after a person's last one are filled from its first one on. Then the upper joint of
    `skeleton.up` of person 0 is subtracted in every frame, and the clip is rotated by frame 0 as in
    `prepare_3d`. Unlike there, persons keep their order, and the way that person 0 goes is gone.

    Args:
        keypoints: coordinates; a joint at exactly zero counts as not seen and stays zero.
        skeleton: a layout with `up` and `across`.
        clip_len: the frames that a network sees.

    Shapes:
        keypoints: (M, T, V, 3) -> (M, T', V, 3). Where all persons have as many frames, T' is that
            number; else clip_len, or more if somebody has more. Repeated from its start to
            clip_len frames ("replay"), the result is the author's array either way. T' = 0 if
            nobody is in any frame.

    Units: as given (metres for Kinect).

    Returns:
        float32, computed in float64.

    Raises:
        ValueError: another shape, or a layout without `up` and `across`.

    Source: kenziyuliu/MS-G3D, `data_gen/preprocess.py`, which computes in float32: up to 3e-6 m
        from this.
    """
    (low, high), (right, left) = _check_aligned(keypoints, skeleton)
    persons = [_without_gaps(person) for person in keypoints.astype(np.float64)]
    lengths = {len(person) for person in persons if len(person)}
    frames = 0 if not lengths else lengths.pop() if len(lengths) == 1 else max(clip_len, *lengths)
    clip = np.zeros((len(persons), frames, *keypoints.shape[2:]))
    for own, person in zip(clip, persons, strict=True):
        if len(person):
            own[:] = person[np.arange(frames) % len(person)]
    if not frames:
        return clip.astype(np.float32)
    seen = (clip != 0).any(axis=-1, keepdims=True)
    clip = (clip - clip[:1, :, high : high + 1]) * seen
    clip = clip @ _rotation(clip[0, 0, high] - clip[0, 0, low], np.array([0.0, 0, 1])).T
    clip = clip @ _rotation(clip[0, 0, right] - clip[0, 0, left], np.array([1.0, 0, 0])).T
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
    keypoints: np.ndarray,
    scores: np.ndarray,
    image_size: tuple[int, int],
    *,
    min_score: float | None = None,
) -> np.ndarray:
    """Scale pixels to [-1, 1] and append the score as a third channel.

    x' = (x - w/2) / (w/2), y' = (y - h/2) / (h/2).

    Args:
        keypoints: pixels.
        scores: confidence of each joint.
        image_size: (height, width), the order of OpenMMLab's `img_shape`.
        min_score: joints with this score or less go to (0, 0), as in pyskl, whose threshold is
            0.01; their score stays. Default: no joints, as in mmaction2.

    Shapes:
        keypoints (M, T, V, 2), scores (M, T, V) -> (M, T, V, 3)

    Raises:
        ValueError: shapes that do not match, or an empty image.

    Source: mmaction2's PreNormalize2D. As there, a joint that was not found (pixel (0, 0), score 0)
        goes to (-1, -1) with score 0: its published 2D network was trained on such data. pyskl's,
        with `min_score`, on (0, 0), the middle of the image.
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
    if min_score is not None:
        xy[scores <= min_score] = 0
    return np.concatenate([xy, scores[..., None]], axis=-1).astype(np.float32)


def prepare_kinetics(xy: np.ndarray, scores: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Scale pixels to [-0.5, 0.5] with y up; a joint with score 0 goes to zero.

    Shapes:
        xy (..., V, 2), scores (..., V) -> (..., V, 3); image_size is (height, width).

    Source: ST-GCN, `feeder/feeder_kinetics.py`.
    """
    height, width = image_size
    centered = np.where((scores != 0)[..., None], (xy / (width, height) - 0.5) * (1, -1), 0)
    return np.concatenate([centered, scores[..., None]], axis=-1)


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


def _without_gaps(person: np.ndarray) -> np.ndarray:
    """The frames of a person that are repeated: (T, V, 3) -> (T', V, 3)."""
    there = np.flatnonzero(person.any(axis=(1, 2)))
    if not len(there):
        return person[:0]
    return person[there] if there[0] else person[: there[-1] + 1]


def _check_aligned(
    keypoints: np.ndarray, skeleton: Skeleton
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Check a 3D clip and its layout; return the joints of `up` and `across`."""
    _check_shape(keypoints, skeleton.num_joints, 3)
    if skeleton.up is None or skeleton.across is None:
        raise ValueError(
            f"layout {skeleton.name} has no `align` entry: the preparation needs the joints that "
            "point up (align.z) and across (align.x)"
        )
    return skeleton.up, skeleton.across


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
