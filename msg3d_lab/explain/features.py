"""Features: the joints, body parts or time segments of a clip that importance is given to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from msg3d_lab.skeletons import Skeleton

GROUPINGS = ("joint", "part", "segment", "joint_x_segment")


@dataclass(frozen=True)
class Features:
    """The parts of a clip that importance is given to.

    Args:
        names: one per feature.
        index: (T, V) int64, the feature of each joint in each frame; the same for all persons.
    """

    names: tuple[str, ...]
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of the values of each feature.

        Shapes:
            values: (N, M, T, V) -> (N, features)
        """
        flat = values.sum(dim=1).flatten(1)
        where = torch.as_tensor(self.index, device=flat.device).flatten()
        return flat.new_zeros(len(flat), len(self)).index_add(1, where, flat)


def make_features(
    by: str, skeleton: Skeleton, *, num_frames: int, num_segments: int = 8
) -> Features:
    """Divide a clip into features.

    Args:
        by: "joint" (in all frames), "part" (the layout's body parts), "segment" (all joints in a
            segment of frames) or "joint_x_segment".
        num_frames: T, the frames that the network sees.
        num_segments: number of time segments; their lengths differ by one frame at most.

    Raises:
        ValueError: unknown `by`; more segments than frames; a layout without parts, or with a
            joint in two of them.

    Example:
        >>> from msg3d_lab import skeletons
        >>> make_features("part", skeletons.get("ntu25"), num_frames=32).names
        ('torso', 'left arm', 'right arm', 'left leg', 'right leg')
    """
    if by not in GROUPINGS:
        raise ValueError(f"importance by {by!r}: expected one of {', '.join(GROUPINGS)}")
    T, V, S = num_frames, skeleton.num_joints, num_segments
    if T < 1 or ("segment" in by and not 1 <= S <= T):
        raise ValueError(f"expected 1 to {T} segments of {T} frames, found {S}")
    segment = np.arange(T) * S // T
    starts = np.searchsorted(segment, np.arange(S + 1))
    spans = [
        f"frame {a}" if b - a == 1 else f"frames {a} to {b - 1}"
        for a, b in zip(starts.tolist(), starts[1:].tolist(), strict=False)
    ]
    joint = np.broadcast_to(np.arange(V), (T, V))
    if by == "joint":
        return Features(skeleton.joints, joint.copy())
    if by == "part":
        names, part = joint_parts(skeleton)
        return Features(names, np.broadcast_to(part, (T, V)).copy())
    if by == "segment":
        return Features(tuple(spans), np.repeat(segment[:, None], V, axis=1))
    names = tuple(f"{name}, {span}" for name in skeleton.joints for span in spans)
    return Features(names, joint * S + segment[:, None])


def replace_features(x: Tensor, baseline: Tensor, kept: Tensor, features: Features) -> Tensor:
    """Replace features, those with a 0 in `kept`, by the baseline.

    Shapes:
        x, baseline: (N, M, T, V, C); kept: (N, features) -> (N, M, T, V, C)
    """
    index = torch.as_tensor(features.index, device=x.device)
    keep = kept.to(torch.bool)[:, index][:, None, :, :, None]
    return torch.where(keep, x, baseline)


def joint_parts(skeleton: Skeleton) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the body parts, and the part of each joint: (P,), (V,) int64.

    Joints of no part come last, as "other".

    Raises:
        ValueError: a layout without parts, or with a joint in two of them.
    """
    names, part = list(skeleton.parts), np.full(skeleton.num_joints, -1)
    for number, joints in enumerate(skeleton.parts.values()):
        taken = [skeleton.joints[v] for v in joints if part[v] >= 0]
        if taken:
            raise ValueError(f"{skeleton.label}: {', '.join(taken)} in more than one body part")
        part[list(joints)] = number
    if not names:
        raise ValueError(
            f"{skeleton.label} has no body parts: add `parts` to its layout file, or choose joints"
        )
    if (part < 0).any():
        part[part < 0] = len(names)
        names.append("other")
    return tuple(names), part
