"""Small stores of generated clips, for the tests of this folder."""

from __future__ import annotations

import numpy as np
import pytest

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip
from msg3d_lab.data.store import open_store, write_store

LENGTHS = (1, 2, 7, 12, 15, 16, 23, 24, 40, 61, 5, 9, 30)


@pytest.fixture
def write(tmp_path):
    """Write clips of one layout to a store and open it."""

    def _write(clips, layout="ntu25", channels=3, name="test.arrow", **preparation):
        path = write_store(
            tmp_path / name,
            clips,
            dataset="test",
            skeleton=skeletons.get(layout),
            label_names=["stand", "walk", "run"],
            channels=channels,
            preparation=preparation,
        )
        return open_store(path)

    return _write


def _clips(num_joints, channels=3):
    rng = np.random.default_rng(5)
    for i, frames in enumerate(LENGTHS):
        keypoints = rng.standard_normal((1 + i % 3, frames, num_joints, channels), dtype=np.float32)
        keypoints[-1, frames // 2 :] = 0 if len(keypoints) > 1 else keypoints[-1, frames // 2 :]
        yield Clip(f"clip{i:02d}", keypoints, i % 3, ("all", "val" if i % 4 == 0 else "train"))


@pytest.fixture
def store(write):
    """ntu25, 3D: 13 clips of 1 to 61 frames and 1 to 3 persons, the last of which leaves."""
    return write(_clips(25))


@pytest.fixture
def scored_store(write):
    """coco17, 2D with scores."""
    return write(_clips(17), layout="coco17", scored=True, name="scored.arrow")


@pytest.fixture
def ucla_store(write):
    """nw-ucla20 with one person."""
    clips = (Clip(c.id, c.keypoints[:1], c.label, c.splits) for c in _clips(20))
    return write(clips, layout="nw-ucla20", name="ucla.arrow")
