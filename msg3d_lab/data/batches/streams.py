"""The four streams: joint, bone, joint motion and bone motion.

bone[v] = x[v] - x[parent of v]; motion[t] = x[t + 1] - x[t], and zero for the last frame. In 2D
with scores, the score of a bone or a motion is the mean of the two scores it is computed from; the
author's script for Kinetics subtracts the scores of bones as well.

Sources: Shi et al., CVPR 2019 (2s-AGCN), for bones; mmaction2's `GenSkeFeat`.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from msg3d_lab.skeletons import Skeleton

Stream = Literal["joint", "bone", "joint_motion", "bone_motion"]
BoneScores = Literal["mean", "difference"]
STREAMS: tuple[str, ...] = get_args(Stream)


def make_stream(
    clip: np.ndarray, stream: str, skeleton: Skeleton, *, scored: bool = False
) -> np.ndarray:
    """Compute a stream of whole clips.

    Do this before frames are sampled, so that motion is to the next frame of the recording.

    Args:
        clip: prepared keypoints.
        stream: "joint" (the clip itself), "bone", "joint_motion" or "bone_motion".
        skeleton: the clip's layout; its parents define the bones.
        scored: whether the last channel is a confidence score; see `Store.scored`.

    Shapes:
        clip: (..., T, V, C) -> (..., T, V, C)

    Raises:
        ValueError: unknown stream, or a number of joints that is not the layout's.
    """
    if stream not in STREAMS:
        raise ValueError(f"unknown stream {stream!r}: expected one of {', '.join(STREAMS)}")
    if clip.ndim < 3 or clip.shape[-2] != skeleton.num_joints:
        raise ValueError(
            f"expected a clip (..., T, {skeleton.num_joints}, C) for layout {skeleton.name}, "
            f"found {clip.shape}"
        )
    if stream.startswith("bone"):
        clip = bones(clip, skeleton, scored=scored)
    if stream.endswith("motion"):
        clip = motion_along_frames(clip, scored=scored)
    return clip


def bones(x: np.ndarray, skeleton: Skeleton, *, scored: bool) -> np.ndarray:
    """Subtract each joint's parent: (..., V, C) -> (..., V, C)."""
    numbers = np.arange(x.shape[-2] * x.shape[-1]).reshape(x.shape[-2:])
    places = numbers[list(skeleton.parents)].ravel()
    # NumPy is faster with an index per number than with one per joint, and without bounds checks.
    flat = x.reshape(*x.shape[:-2], -1)
    parents = flat.take(places, axis=-1, mode="clip").reshape(x.shape)
    score = (x[..., -1] + parents[..., -1]) / 2 if scored else None
    bone = np.subtract(x, parents, out=parents)
    if score is not None:
        bone[..., -1] = score
    return bone


def motion(x: np.ndarray, after: np.ndarray, last: np.ndarray, *, scored: bool) -> np.ndarray:
    """Subtract each frame from the one after it; `last` ones become zero, also in their score.

    Shapes:
        x, after: (..., T, V, C); last: (T,), or with leading dimensions that broadcast.
    """
    moved = after - x
    if scored:
        moved[..., -1] = (x[..., -1] + after[..., -1]) / 2
    moved[np.broadcast_to(last, x.shape[:-2])] = 0
    return moved


def motion_along_frames(x: np.ndarray, *, scored: bool) -> np.ndarray:
    """Subtract each frame from the next; the last becomes zero: (..., T, V, C) -> same."""
    after = np.concatenate([x[..., 1:, :, :], x[..., -1:, :, :]], axis=-3)
    last = np.arange(x.shape[-3]) == x.shape[-3] - 1
    return motion(x, after, last, scored=scored)
