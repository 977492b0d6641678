from __future__ import annotations

import gc
import hashlib
import os
import pickle
import re
import tracemalloc
from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msg3d_lab import skeletons
from msg3d_lab.data import datasets
from msg3d_lab.data.clips import Clip, LeftOut, check_clip
from msg3d_lab.data.formats.openmmlab import read_clips
from msg3d_lab.data.formats.registry import import_dataset
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
    split = {"xsub_train": [NAMES[0], NAMES[2]], "xview_train": NAMES[1:3]}
    return {"split": split | {"xsub_val": [], "xview_val": []}, "annotations": annotations}


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
    split = {"xsub_train": NAMES[:1], "xsub_val": NAMES[1:2], "xview_train": [], "xview_val": []}
    return {"split": split, "annotations": annotations}


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
    assert (found.skeleton.name, found.channels, len(found.clips)) == ("ntu25", 3, 4)
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


def left_out(found):
    return [clip for clip in found.clips if isinstance(clip, LeftOut)]


@pytest.mark.parametrize("document", [document_3d(), document_2d()])
def test_recordings_without_a_person_are_left_out(save, document):
    document["annotations"][1]["keypoint"][:] = 0
    found = read_clips(save(document), dataset=NTU60)
    assert len(found.clips) == len(document["annotations"])
    assert left_out(found) == [LeftOut(NAMES[1], "nobody in any frame")]
    assert "left_out" not in found.preparation


def test_a_slice_of_clips_pickles_with_its_own_coordinates_only(save):
    rng = np.random.default_rng(0)
    document = document_3d()
    for annotation in document["annotations"]:
        annotation["keypoint"] = rng.standard_normal((2, 300, 25, 3)).astype(np.float16)
        annotation["total_frames"] = 300
    for protocol in (2, 4):
        clips = read_clips(save(document, protocol), dataset=NTU60).clips
        assert len(pickle.dumps(clips[2:3])) < document["annotations"][2]["keypoint"].nbytes + 3000
        again = pickle.loads(pickle.dumps(clips[1:3]))
        np.testing.assert_array_equal(again[1].keypoints, clips[2].keypoints)
        assert [clip.id for clip in again] == NAMES[1:3]
        assert isinstance(clips, Sequence)
        with pytest.raises(IndexError):
            clips[4]


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
    split = {key: [] for key in ("xsub_train", "xsub_val", "xset_train", "xset_val")}
    source = save({"split": {**split, "all": raw.files}, "annotations": annotations})
    out = tmp_path / "ntu.arrow"
    store = open_store(import_dataset(source, dataset="ntu120", out=out, progress=False))
    assert len(store) == store.splits["all"] == 49
    for i, name in enumerate(store.ids):
        expected = prepare_3d(raw[name].astype(np.float32), store.skeleton)
        np.testing.assert_array_equal(store.keypoints(i), expected)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1, 2], "not an OpenMMLab annotation file"),
        ({"annotations": []}, "not an OpenMMLab annotation file"),
        ({"split": {}, "annotations": []}, "expected a list of annotations"),
        ({"split": {}, "annotations": {"a": 1}}, "expected a list of annotations"),
        ({"split": [], "annotations": [1]}, "expected a dict of at most 100 splits"),
        ({"split": {key: [] for key in range(101)}, "annotations": [1]}, "at most 100 splits"),
        ({"split": {"a": "xyz"}, "annotations": [1]}, "split a to be a list of names"),
        ({"split": {"a": [["x"]]}, "annotations": [1]}, "split a to be a list of names"),
        ({"split": {}, "annotations": [1, 2]}, "none of its 2 annotations .* annotation 0: expect"),
        ({"split": {}, "annotations": [{"frame_dir": "a"}]}, "the first, a: expected .* 'label'"),
    ],
)
def test_a_file_that_is_no_such_file_is_refused(save, tmp_path, document, message):
    source = save(document)
    with pytest.raises(ValueError, match=message):
        import_dataset(source, dataset="ntu60", out=tmp_path / "out.arrow", progress=False)
    assert list(tmp_path.iterdir()) == [source]


NESTED = [0]
for _ in range(100):
    NESTED = [NESTED, NESTED]


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("label", None, "'label'"),
        ("label", "walk", "'label'"),
        ("label", NESTED, "'label'"),
        ("label", 1.5, "'label'"),
        ("keypoint", np.ones((5, 17, 2), np.float16), "an array 'keypoint'"),
        ("keypoint", np.ones((2, 5, 17, 2), np.int64), "an array 'keypoint'"),
        ("keypoint", [[1.0]], "an array 'keypoint'"),
        ("keypoint", np.ones((2, 5, 25, 3), np.float32), r"joints of coco17 .* \(2, 5, 25, 3\)"),
        ("keypoint_score", None, r"'keypoint_score' \(2, 5, 17\)"),
        ("keypoint_score", np.ones((2, 4, 17)), "expected 'keypoint_score'"),
        ("img_shape", None, "expected 'img_shape'"),
        ("img_shape", (0, 10), "expected 'img_shape'"),
        ("img_shape", (float("nan"), 10), "expected 'img_shape'"),
        ("img_shape", NESTED, "expected 'img_shape'"),
        ("total_frames", 9, r"'total_frames' is 9, 'keypoint' is \(2, 5, 17, 2\)"),
        ("total_frames", NESTED, "'total_frames' is no number"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_left_out(save, where, value, message):
    document = document_2d()
    if value is None:
        del document["annotations"][1][where]
    else:
        document["annotations"][1][where] = value
    found = read_clips(save(document), dataset=NTU60)
    ((clip_id, reason, detail),) = map(astuple, left_out(found))
    assert (clip_id, reason) == (NAMES[1], "cannot be read")
    assert re.search(message, detail)
    assert found.clips[0].id == NAMES[0]


@pytest.mark.parametrize("name", [None, "", 7, "x" * 300, "half \ud800", NESTED])
def test_an_annotation_without_a_name_is_left_out_by_its_number(save, name):
    document = document_3d()
    document["annotations"][2]["frame_dir"] = name
    entry, lost = left_out(read_clips(save(document), dataset=NTU60))
    assert (entry.id, entry.reason) == ("annotation 2", "cannot be read")
    assert lost == LeftOut(NAMES[2], "in a split, but without an annotation")


def test_clips_of_another_layout_than_most_are_left_out(save):
    document = document_3d()
    document["annotations"][0]["keypoint"] = np.ones((1, 4, 20, 3), np.float16)
    found = read_clips(save(document), dataset=NTU60)
    assert found.skeleton.name == "ntu25"
    (entry,) = left_out(found)
    assert (entry.id, entry.reason) == (NAMES[0], "cannot be read")
    assert "expected the joints of ntu25" in entry.detail


def test_an_unknown_layout_is_refused(save):
    document = document_3d()
    for annotation in document["annotations"]:
        annotation["keypoint"] = annotation["keypoint"][:, :, :18]
    with pytest.raises(ValueError, match="18 joints with 3 coordinates each: expected 17 with 2"):
        read_clips(save(document), dataset=NTU60)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, -1e300])
@pytest.mark.parametrize("make", [document_2d, document_3d])
def test_coordinates_that_are_not_finite_do_not_pass(save, make, value):
    document = make()
    keypoint = document["annotations"][1]["keypoint"].astype(np.float64)
    keypoint[0, 0] = value
    document["annotations"][1]["keypoint"] = keypoint
    joints = keypoint.shape[2]
    clip = read_clips(save(document), dataset=NTU60).clips[1]
    with pytest.raises(ValueError, match=r"NaN|infinite"):
        check_clip(clip, num_joints=joints, channels=3, num_classes=60)


def test_annotations_cannot_share_their_coordinates_without_bounds(save):
    """An array in the file that a million annotations share would fill the disk with clips."""
    document = document_3d()
    shared = np.ones((1, 300, 25, 3), np.float16)
    document["annotations"] = [
        {"frame_dir": str(i), "label": 0, "keypoint": shared} for i in range(1000)
    ]
    with pytest.raises(ValueError, match="too many of them share their coordinates"):
        read_clips(save(document), dataset=NTU60)


def test_splits_may_be_arrays(save):
    document = document_3d()
    names = [f"S001C001P001R001A{i:03d}" for i in range(100, 199)] + NAMES[1:2]
    document["split"] |= {"xsub_train": [], "xview_train": ()}
    document["split"] |= {"xsub_val": np.array(names), "xview_val": (NAMES[1], NAMES[1])}
    clips = read_clips(save(document), dataset=NTU60).clips
    assert [clip.splits for clip in clips[:4]] == [(), ("xsub_val", "xview_val"), (), ()]
    assert [clip.id for clip in clips[4:]] == names[:-1]


def test_names_of_a_split_without_an_annotation_are_left_out(save, tmp_path):
    document = document_3d()
    document["split"]["xsub_val"] = ["gone", "gone", "half \ud800"]
    document["split"]["xview_val"] = ["gone", "x" * 300]
    source = save(document)
    found = read_clips(source, dataset=NTU60)
    reason = "in a split, but without an annotation"
    assert len(found.clips) == 7
    assert [(one.id, one.reason) for one in left_out(found)] == [
        ("gone", reason),
        (r"'half \ud800'", reason),
        ("'" + "x" * 254, reason),
    ]
    out = import_dataset(source, dataset="ntu60", out=tmp_path / "out.arrow", progress=False)
    assert set(open_store(out).left_out["reason"]) == {reason}


SPLITS = {
    "ntu60": "xsub_train, xsub_val, xview_train, xview_val",
    "ntu120": "xset_train, xset_val, xsub_train, xsub_val",
}


@pytest.mark.parametrize(("dataset", "other"), [("ntu60", "ntu120"), ("ntu120", "ntu60")])
@pytest.mark.parametrize("make", [document_2d, document_3d])
def test_a_file_of_the_other_ntu_is_refused(save, tmp_path, make, dataset, other):
    """Else the store would miss a protocol, or the clips of classes that NTU60 does not have."""
    document = make()
    document["split"] = dict.fromkeys(SPLITS[other].split(", "), NAMES[:2])
    source = save(document)
    message = (
        rf"ntu\.pkl has the splits {SPLITS[other]}: expected {SPLITS[dataset]} for {dataset}; is "
        rf"it {other}\? Then import it as that"
    )
    with pytest.raises(ValueError, match=message):
        import_dataset(source, dataset=dataset, out=tmp_path / "out.arrow", progress=False)
    assert list(tmp_path.iterdir()) == [source]
    assert len(read_clips(source, dataset=datasets.get(other)).clips)


def test_a_file_without_a_protocol_is_refused(save):
    document = document_3d()
    del document["split"]["xview_val"]
    with pytest.raises(
        ValueError, match=r"xsub_train, xsub_val, xview_train: expected .* for ntu6"
    ) as error:
        read_clips(save(document), dataset=NTU60)
    assert "is it" not in str(error.value)
    with pytest.raises(ValueError, match="has the splits none: expected"):
        read_clips(save(document | {"split": {7: []}}), dataset=NTU60)


def test_a_file_that_differs_from_the_record_beside_it_is_refused(save, tmp_path):
    source = save(document_3d())
    found, other = hashlib.sha256(source.read_bytes()).hexdigest(), "0a" * 32
    record, out = tmp_path / "ntu.pkl.sha256", tmp_path / "out.arrow"
    record.write_text(f"{other}  ntu.pkl\n")
    with pytest.raises(ValueError, match=rf"expected {other}, found {found}\): .* Remove it and"):
        import_dataset(source, dataset="ntu60", out=out, progress=False)
    record.write_text("sha256: none\n")
    with pytest.raises(
        ValueError, match=r"ntu\.pkl\.sha256 does not start with a sha256: expected"
    ):
        import_dataset(source, dataset="ntu60", out=out, progress=False)
    assert not out.exists()
    for line in (f"{found}  ntu.pkl\n", f"{found.upper()} *ntu.pkl\n", found):
        record.write_text(line)
        assert read_clips(source, dataset=NTU60).preparation["sha256"] == found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("folder")


@given(st.data())
def test_one_wrong_byte_is_left_out_or_refused(folder, data):
    make = data.draw(st.sampled_from([document_3d, document_2d]))
    content = bytearray(pickle.dumps(make(), data.draw(st.sampled_from([2, 4]))))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "file.pkl"
    path.write_bytes(content)
    try:
        found = read_clips(path, dataset=NTU60)
    except ValueError:
        return
    for clip in found.clips:
        assert isinstance(clip, (Clip, LeftOut))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_file_is_in_memory_once_and_its_clips_one_by_one(save, protocol):
    """While it is read twice for protocol 2, which writes bytes as text."""
    document = document_3d()
    keypoint = np.tile(document["annotations"][0]["keypoint"], (1, 50, 1, 1))
    document["annotations"] = [
        {"frame_dir": f"clip{i}", "label": 0, "keypoint": keypoint + np.float16(i / 1000)}
        for i in range(200)
    ]
    path = save(document, protocol)
    size = 200 * keypoint.nbytes
    assert size > 5e6
    read_clips(path, dataset=NTU60).clips[0]  # what this imports is not counted
    tracemalloc.start()
    clips = read_clips(path, dataset=NTU60).clips
    reading = tracemalloc.get_traced_memory()[1]
    gc.collect()  # the unpickler is in a cycle with what it has read
    tracemalloc.reset_peak()
    assert all(isinstance(clip, Clip) for clip in clips[:200])
    preparing = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reading < (2.2 if protocol == 2 else 1.2) * size
    assert preparing < 1.2 * size


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
