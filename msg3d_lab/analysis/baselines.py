"""What stands in for a joint when it is taken away.

Whether a joint matters can only be asked against something that takes its place, and the answer
depends on it; so every baseline has a name, and every result carries that name. None of them puts
a person where there is none: absent persons, all zero, stay as they are.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["BASELINES", "Baseline", "make_baseline", "mean_pose"]

Baseline = Literal["mean_pose", "first_frame", "removed"]
BASELINES: tuple[str, ...] = get_args(Baseline)


def mean_pose(x: Tensor) -> Tensor:
    """Return the mean pose of a set of clips, over the frames in which somebody is there.

    Shapes:
        x: (N, M, T, V, C) -> (M, V, C), one pose per place of a person; zeros for a place that
        nobody takes.

    Raises:
        ValueError: `x` is no batch of clips.
    """
    there = _present(x)
    count = there.sum(dim=(0, 2)).clamp(min=1)
    return (x * there[..., None, None]).sum(dim=(0, 2)) / count[:, None, None]


def make_baseline(x: Tensor, name: str, *, pose: Tensor | None = None) -> Tensor:
    """Return the clips that stand for "nothing of this".

    Args:
        x: the network's input.
        name: "mean_pose": `pose` in every frame. "first_frame": each person holds the pose of the
            first frame in which they are seen, so that what is taken away is motion. "removed":
            zeros, as augmentation hides joints (`joint_masking`, `frame_masking`) and as sensors'
            prepared recordings mark what was not seen. Zero is also a place, the body's middle in
            the first frame, so a network that never saw hidden joints takes it for a strange pose.
        pose: for "mean_pose": of a set of clips (see `mean_pose`), best of the training clips; the
            mean over `x` itself if left out.

    Shapes:
        x: (N, M, T, V, C), pose: (M, V, C) -> (N, M, T, V, C)

    Raises:
        ValueError: an unknown name, or a pose of another shape.
    """
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}: expected one of {', '.join(BASELINES)}")
    there = _present(x)[..., None, None]
    if name == "removed":
        return torch.zeros_like(x)
    if name == "first_frame":
        # argmax gives the first of the largest: the first frame in which the person is there.
        first = there.to(torch.uint8).argmax(dim=2, keepdim=True)
        held = x.gather(2, first.expand(-1, -1, 1, *x.shape[3:]))
        return held.expand_as(x) * there
    pose = mean_pose(x) if pose is None else pose.to(x)
    expected = (x.shape[1], *x.shape[3:])
    if tuple(pose.shape) != expected:
        raise ValueError(
            f"expected a pose {expected} (persons, joints, channels), found {tuple(pose.shape)}"
        )
    return pose[None, :, None].expand_as(x) * there


def _present(x: Tensor) -> Tensor:
    """Who is there when: (N, M, T) bool."""
    if x.ndim != 5:
        raise ValueError(f"expected clips (N, M, T, V, C), found {tuple(x.shape)}")
    return (x != 0).any(dim=-1).any(dim=-1)
