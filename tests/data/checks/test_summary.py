from __future__ import annotations

import json

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.checks import describe_store
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.registry import import_dataset
from msg3d_lab.data.store import open_store, write_store


def test_describe_store_says_what_is_in_a_store(tmp_path):
    def clip(i, persons, frames, splits):
        return Clip(f"c{i}", np.ones((persons, frames, 17, 3), np.float32), i % 2, splits)

    left_out = [LeftOut(f"x{i}", "too dark", "night" if i else "") for i in range(5)]
    store = open_store(
        write_store(
            tmp_path / "s.arrow",
            [clip(0, 1, 4, ("t",)), *left_out, clip(1, 2, 9, ("t", "v")), clip(2, 1, 5, ())],
            dataset="made-up",
            skeleton=skeletons.get("coco17"),
            label_names=["a", "b", "c"],
            channels=3,
            preparation={
                "name": "prepare_2d",
                "scored": True,
                "sha256": "0123456789abcdef99",
            },
            synthetic=True,
        )
    )
    text = describe_store(store)
    lines = dict(line.split(":", 1) for line in text.splitlines())
    lines = {name: value.strip() for name, value in lines.items()}
    assert lines["data set"].startswith("made-up (SYNTHETIC")
    assert lines["layout"] == "coco17, 17 joints, 3 channels (x, y, score)"
    assert lines["clips"] == "3 of 2 classes out of 3, 1 to 2 per class"
    assert lines["splits"] == "t 2, v 1"
    assert lines["persons"] == "2 with 1, 1 with 2"
    assert lines["frames"] == "4 to 9, median 5"
    assert lines["preparation"] == "prepare_2d, scored True"
    assert lines["source hash"] == "0123456789abcdef"
    assert lines["left out"] == ""
    assert lines["  5 too dark"] == "x0, x1 (night), x2 (night), ..."
    assert lines["fingerprint"] == store.fingerprint
    assert str(store.path) in lines["file"]


def test_describe_store_says_synthetic_only_of_what_is(tmp_path):
    clip = {"skeletons": np.ones((3, 20, 3)).tolist(), "label": 1}
    (tmp_path / "a01_s01_e00_v01.json").write_text(json.dumps(clip))
    out = import_dataset(tmp_path, dataset="nw-ucla", out=tmp_path / "a.arrow", progress=False)
    text = describe_store(open_store(out))
    assert "SYNTHETIC" not in text
    assert "3 channels (x, y, z)" in text
    assert "xview_train 1" in text
    assert "left out" not in text


def test_describe_store_names_what_is_missing_of_ntu(tmp_path):
    clip = Clip("S001C001P001R001A001", np.ones((1, 2, 25, 3), np.float32), 0, ("xsub_train",))
    facts = {"skeleton": skeletons.get("ntu25"), "channels": 3, "preparation": {}}
    path = write_store(
        tmp_path / "s.arrow", [clip], dataset="ntu60", label_names=["drink"], **facts
    )
    text = describe_store(open_store(path))
    assert "NTU RGB+D 60 has 56,880 recordings, 56,578 of them usable; the source has 1, 1" in text
    assert "no recording is of setup 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17" in text


def test_describe_store_counts_no_recordings_without_ntu_names(tmp_path):
    """CTR-GCN's are called by split and position."""
    names = [f"xsub_train_{i:05d}" for i in range(20)]
    points = np.ones((1, 2, 25, 3), np.float32)
    path = write_store(
        tmp_path / "s.arrow",
        [Clip(name, points, 0, ("xsub_train",)) for name in names],
        dataset="ntu60",
        label_names=["drink"],
        skeleton=skeletons.get("ntu25"),
        channels=3,
        preparation={},
    )
    text = describe_store(open_store(path))
    assert "note:" not in text
    assert "the source has" not in text
