"""Fixtures of own recordings: layouts, a table, a folder of arrays."""

import numpy as np
import pytest
from made_recordings import NAMES, write_labels

from msg3d_lab import skeletons


@pytest.fixture(scope="session")
def layout():
    return skeletons.from_dict(
        {
            "name": "four",
            "joints": list(NAMES),
            "edges": [["hip", "chest"], ["chest", "left hand"], ["chest", "right hand"]],
            "center": "chest",
            "align": {"z": ["hip", "chest"], "x": ["right hand", "left hand"]},
        }
    )


@pytest.fixture(scope="session")
def flat_layout(layout):
    """Without directions to align by."""
    return skeletons.from_dict(
        {"name": "flat", "joints": list(NAMES), "edges": [[0, 1], [1, 2], [1, 3]], "center": 1}
    )


@pytest.fixture
def write(tmp_path):
    """Write a CSV table and labels for its samples."""

    def write(table, **samples):
        path = tmp_path / "clips.csv"
        table.to_csv(path, index=False)
        named = samples or dict.fromkeys(table["sample"].astype(str).unique(), "walk")
        write_labels(tmp_path / "labels.csv", **named)
        return path

    return write


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "clips"
    path.mkdir()

    def make(**arrays):
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
        write_labels(path / "labels.csv", **dict.fromkeys(arrays, "walk"))
        return path

    return make
