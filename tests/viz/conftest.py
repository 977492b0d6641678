from collections.abc import Callable

import numpy as np
import pytest

from msg3d_lab import skeletons
from msg3d_lab.viz import body_layout


@pytest.fixture(scope="session")
def body() -> skeletons.Skeleton:
    return skeletons.get("ntu25")


@pytest.fixture(scope="session")
def make_walk() -> Callable[..., np.ndarray]:
    """Make toy clips of walking: call with `num_frames` and `persons`."""
    return walking


def walking(*, num_frames: int = 60, persons: int = 1) -> np.ndarray:
    """A flat body of ntu25 swinging its limbs: (M, T, 25, 3), facing +y as after `prepare_3d`."""
    skeleton = skeletons.get("ntu25")
    xy = body_layout(skeleton)
    phase = 2 * np.pi * np.arange(num_frames) / 30
    clip = np.zeros((persons, num_frames, 25, 3), dtype=np.float32)
    for person in range(persons):
        clip[person, ..., 0] = -xy[:, 0] - 1.2 * person
        clip[person, ..., 2] = xy[:, 1]
        for part, top, sign in (
            ("left arm", "left shoulder", 1),
            ("right arm", "right shoulder", -1),
            ("left leg", "left hip", -1),
            ("right leg", "right hip", 1),
        ):
            joints = list(skeleton.parts[part])
            reach = xy[skeleton.joints.index(top), 1] - xy[joints, 1]
            angle = 0.5 * sign * np.sin(phase + person)[:, None]
            clip[person][:, joints, 1] += reach * np.sin(angle)
            clip[person][:, joints, 2] += reach * (1 - np.cos(angle))
    return clip
