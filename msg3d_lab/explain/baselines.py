"""Baselines: what replaces a joint when its importance is measured.

The importance of a joint depends on what replaces it, so every baseline has a name and every result
records it. Absent persons (all zeros) stay absent in every baseline.
"""

from __future__ import annotations

import torch
from torch import Tensor

BASELINES = ("mean_pose", "first_frame", "removed")


def mean_pose(x: Tensor) -> Tensor:
    """Return the mean pose of clips, over the frames in which a person is present.

    Shapes:
        x: (N, M, T, V, C) -> (M, V, C), one pose per person; zeros for a person who never appears.
    """
    present = _present(x)
    count = present.sum(dim=(0, 2)).clamp(min=1)
    return (x * present[..., None, None]).sum(dim=(0, 2)) / count[:, None, None]


def make_baseline(x: Tensor, name: str, *, pose: Tensor | None = None) -> Tensor:
    """Return clips whose features replace those of `x`.

    Args:
        x: the network's input.
        name: "mean_pose": `pose` in every frame. "first_frame": each person holds the pose of the
            first frame in which they are present, so that motion is removed. "removed": zeros, as
            augmentation hides joints (`joint_masking`, `frame_masking`) and as prepared recordings
            mark missing joints. Zero is also a position (the body's centre in the first frame), so
            that a network trained without hidden joints sees an unusual pose.
        pose: for "mean_pose", see `mean_pose`; best that of the training clips. Default: the mean
            pose of `x`.

    Shapes:
        x: (N, M, T, V, C), pose: (M, V, C) -> (N, M, T, V, C)

    Raises:
        ValueError: an unknown name.
    """
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}: expected one of {', '.join(BASELINES)}")
    present = _present(x)[..., None, None]
    if name == "removed":
        return torch.zeros_like(x)
    if name == "first_frame":
        # argmax returns the first maximum: the first frame in which the person is present.
        first = present.to(torch.uint8).argmax(dim=2, keepdim=True)
        held = x.gather(2, first.expand(-1, -1, 1, *x.shape[3:]))
        return held.expand_as(x) * present
    pose = mean_pose(x) if pose is None else pose.to(x)
    return pose[None, :, None].expand_as(x) * present


def _present(x: Tensor) -> Tensor:
    """(N, M, T) bool: whether a person is present in a frame."""
    return (x != 0).any(dim=-1).any(dim=-1)
