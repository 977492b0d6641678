from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from msg3d_lab import skeletons
from msg3d_lab.data import datasets
from msg3d_lab.data.importing import import_dataset
from msg3d_lab.data.openmmlab import read_clips
from msg3d_lab.data.preprocess import prepare_2d, prepare_3d
from msg3d_lab.data.store import open_store

NTU60 = datasets.get("ntu60")
NAMES = ["S001C001P001R001A001", "S002C003P003R002A060", "S017C002P008R001A010", "other"]


def document_3d():
    rng = np.random.default_rng(0)
    annotations = [
        {
            "frame_dir": name,
            "total_frames": 4 + i,
            "label": 10 * i,
            "keypoint": rng.standard_normal((1 + i % 2, 4 + i, 25, 3)).astype(np.float16),
        }
        for i, name in enumerate(NAMES)
    ]
    split = {"xsub_train": [NAMES[0], NAMES[2]], "xview_train": NAMES[1:3], "xsub_val": ["gone"]}
    return {"split": split, "annotations": annotations}


def document_2d():
    rng = np.random.default_rng(1)
    annotations = [
        {
            "frame_dir": name,
            "total_frames": 5,
            "label": i,
            "img_shape": (1080, 1920),
            "original_shape": (1080, 1920),
            "keypoint": rng.uniform(0, 1000, (1 + i % 2, 5, 17, 2)).astype(np.float16),
            "keypoint_score": rng.uniform(0, 1, (1 + i % 2, 5, 17)).astype(np.float16),
        }
        for i, name in enumerate(NAMES[:2])
    ]
    return {"split": {"xsub_train": NAMES[:1], "xsub_val": NAMES[1:2]}, "annotations": annotations}


@pytest.fixture
def save(tmp_path):
    def _save(document, protocol=4):
        path = tmp_path / "ntu.pkl"
        path.write_bytes(pickle.dumps(document, protocol))
        return path

    return _save


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_3d_clips_are_prepared_and_described(save, protocol):
    document = document_3d()
    found = read_clips(save(document, protocol), dataset=NTU60)
    assert (found.skeleton.name, found.channels, found.count) == ("ntu25", 3, 4)
    assert found.preparation["name"] == "prepare_3d"
    assert not found.preparation["scored"]
    clips = list(found.clips)
    assert [c.id for c in clips] == NAMES
    assert [c.label for c in clips] == [0, 10, 20, 30]
    for clip, annotation in zip(clips, document["annotations"], strict=True):
        expected = prepare_3d(annotation["keypoint"].astype(np.float32), skeletons.get("ntu25"))
        np.testing.assert_array_equal(clip.keypoints, expected)
    numbers = [(c.setup, c.camera, c.subject) for c in clips]
    assert numbers == [(1, 1, 1), (2, 3, 3), (17, 2, 8), (None, None, None)]
    assert [set(c.splits) for c in clips] == [
        {"xsub_train"},
        {"xview_train"},
        {"xsub_train", "xview_train"},
        set(),
    ]


def test_2d_clips_get_their_scores_as_a_third_channel(save):
    document = document_2d()
    found = read_clips(save(document), dataset=NTU60)
    assert (found.skeleton.name, found.channels) == ("coco17", 3)
    assert found.preparation["scored"]
    for clip, a in zip(found.clips, document["annotations"], strict=True):
        expected = prepare_2d(a["keypoint"], a["keypoint_score"], (1080, 1920))
        np.testing.assert_array_equal(clip.keypoints, expected)
        assert clip.keypoints[..., 2].min() >= 0


def test_clips_without_a_person_are_left_out_and_named(save):
    document = document_3d()
    document["annotations"][1]["keypoint"][:] = 0
    found = read_clips(save(document), dataset=NTU60)
    assert found.count == 3
    assert [c.id for c in found.clips] == [NAMES[0], *NAMES[2:]]
    assert found.preparation["left_out"] == [NAMES[1]]


def test_import_makes_a_store_with_the_files_splits(save, tmp_path):
    source, out = save(document_2d()), tmp_path / "ntu60-2d.arrow"
    store = open_store(import_dataset(source, dataset="ntu60", out=out, progress=False))
    assert store.scored
    assert store.splits == {"xsub_train": 1, "xsub_val": 1}
    assert store.label_names == list(NTU60.label_names)
    assert store.samples["subject"].tolist() == [1, 3]


@pytest.mark.shared
def test_3d_import_of_real_recordings_agrees_with_prepare_3d(save, shared_dir, tmp_path):
    raw = np.load(shared_dir / "golden" / "ntu_raw_denoised.npz")
    annotations = [
        {
            "frame_dir": n,
            "total_frames": raw[n].shape[1],
            "label": int(n[-3:]) - 1,
            "keypoint": raw[n],
        }
        for n in raw.files
    ]
    source = save({"split": {"all": raw.files}, "annotations": annotations})
    out = tmp_path / "ntu.arrow"
    store = open_store(import_dataset(source, dataset="ntu120", out=out, progress=False))
    assert len(store) == store.splits["all"] == 49
    for i, name in enumerate(store.ids):
        expected = prepare_3d(raw[name].astype(np.float32), store.skeleton)
        np.testing.assert_array_equal(store.keypoints(i), expected)


def changed(where, value):
    document = document_2d()
    if value is None:
        del document["annotations"][1][where]
    else:
        document["annotations"][1][where] = value
    return document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1, 2], "not an OpenMMLab annotation file"),
        ({"annotations": []}, "not an OpenMMLab annotation file"),
        ({"split": {}, "annotations": []}, "expected a list of annotations"),
        (changed("frame_dir", None), "annotation 1: expected a dict with 'frame_dir'"),
        (changed("label", None), r"annotation 1 \(S002.*'label'"),
        (changed("label", "walk"), r"annotation 1 \(S002.*'label'"),
        (changed("label", 60), "clip S002.*: label 60 is outside 0..59"),
        (changed("keypoint", np.ones((5, 17, 2), np.float16)), r"annotation 1 \(S002.*'keypoint'"),
        (changed("keypoint", [[1.0]]), r"annotation 1 \(S002.*'keypoint'"),
        (changed("keypoint_score", None), r"annotation 1 \(S002.*'keypoint_score' \(2, 5, 17\)"),
        (changed("keypoint_score", np.ones((2, 4, 17))), "expected 'keypoint_score'"),
        (changed("img_shape", None), "expected 'img_shape'"),
        (changed("img_shape", (0, 10)), "clip S002.*: expected an image size"),
        (changed("total_frames", 9), "'total_frames' is 9"),
        (changed("frame_dir", NAMES[0]), f"'{NAMES[0]}' occurs twice"),
        (changed("keypoint", np.full((2, 5, 17, 2), np.nan)), "clip S002.*: .* NaN"),
    ],
)
def test_a_bad_file_is_refused_and_leaves_nothing_behind(save, tmp_path, document, message):
    source = save(document)
    with pytest.raises(ValueError, match=message):
        import_dataset(source, dataset="ntu60", out=tmp_path / "out.arrow", progress=False)
    assert list(tmp_path.iterdir()) == [source]


def test_clips_of_another_layout_are_refused_by_name(save, tmp_path):
    document = document_3d()
    document["annotations"][2]["keypoint"] = np.ones((1, 6, 20, 3), np.float16)
    with pytest.raises(ValueError, match=r"clip S017.*: expected .*25, 3"):
        import_dataset(save(document), dataset="ntu60", out=tmp_path / "x.arrow", progress=False)
    for annotation in document["annotations"]:
        annotation["keypoint"] = annotation["keypoint"][:, :, :18]
    with pytest.raises(ValueError, match="18 joints with 3 coordinates each: expected 17 with 2"):
        read_clips(save(document), dataset=NTU60)


class Command:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_a_pickle_that_runs_code_is_refused(save, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = document_3d()
    document["annotations"][0]["keypoint"] = Command()
    source = save(document)
    with pytest.raises(
        ValueError, match=r"ntu\.pkl was refused: the pickle asks for posix\.system"
    ):
        import_dataset(source, dataset="ntu60", out="out.arrow", progress=False)
    assert list(tmp_path.iterdir()) == [source]


def test_a_truncated_pickle_is_refused(save, tmp_path):
    source = save(document_3d())
    source.write_bytes(source.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"ntu\.pkl .* cut short or damaged"):
        import_dataset(source, dataset="ntu60", out=tmp_path / "out.arrow", progress=False)
    assert list(tmp_path.iterdir()) == [source]
