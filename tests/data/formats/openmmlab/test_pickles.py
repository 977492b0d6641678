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
from hypothesis import given, settings
from hypothesis import strategies as st

from msg3d_lab import skeletons
from msg3d_lab.data import datasets
from msg3d_lab.data.clips import Clip, LeftOut, check_clip
from msg3d_lab.data.datasets import Dataset
from msg3d_lab.data.formats.openmmlab.pickles import read_clips
from msg3d_lab.data.formats.own.options import OwnData
from msg3d_lab.data.formats.registry import import_dataset
from msg3d_lab.data.preprocess import prepare_2d, prepare_3d
from msg3d_lab.data.store import open_store

NTU60 = datasets.DATASETS["ntu60"]
NAMES = ["S001C001P001R001A001", "S002C003P003R002A060", "S017C002P008R001A010", "other"]
LABELS = [0, 59, 9, 30]  # of the actions in the names


def document_3d():
    rng = np.random.default_rng(0)
    annotations = [
        {
            "frame_dir": name,
            "total_frames": 4 + i,
            "label": LABELS[i],
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
            "label": LABELS[i],
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
    assert [c.label for c in clips] == LABELS
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
        ({"annotations": []}, "not an OpenMMLab annotation file: .* found a dict with annotations"),
        ({"split": {}, "annotations": {"a": 1}}, "not an OpenMMLab annotation file"),
        ([{}], r"annotation 0: expected 'frame_dir', a text, found none"),
        ({"split": [], "annotations": [{}]}, "expected a dict of splits, found a list of 0"),
        ({"split": {"a": "xyz"}, "annotations": [{}]}, "split a to be a list of names"),
        ({"split": {"a": [["x"]]}, "annotations": [{}]}, "split a to be a list of names"),
        (
            {"split": {}, "annotations": [{}, 2]},
            "none of its 2 annotations .* annotation 0: expect",
        ),
        ({"split": {}, "annotations": [{"frame_dir": "a"}]}, "the first, a: expected .* 'label'"),
    ],
)
def test_a_file_that_is_no_such_file_is_refused(save, tmp_path, document, message):
    source = save(document)
    with pytest.raises(ValueError, match=message):
        import_dataset(source, dataset="ntu60", out=tmp_path / "out.arrow", progress=False)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("label", None, "'label'"),
        ("label", "walk", "'label'"),
        ("label", 1.5, "'label'"),
        ("label", -1, "a whole number 'label' from 0, found int -1"),
        ("keypoint", None, "an array 'keypoint' .* found none"),
        ("keypoint", np.ones((5, 17)), r"'keypoint' .* found an array \(5, 17\) of float64"),
        ("keypoint", np.ones((2, 5, 17, 4)), r"joints, 2 or 3\), found an array \(2, 5, 17, 4\)"),
        ("keypoint", [[1.0]], r"an array 'keypoint' .* found a list of 1"),
        ("keypoint", [[[[1.0, 2.0], [1.0]]]], "found a list of 1"),
        ("keypoint", np.ones((2, 5, 25, 3), np.float32), r"joints of coco17 .* \(2, 5, 25, 3\)"),
        ("keypoint_score", np.ones((2, 4, 17)), r"'keypoint_score' \(2, 5, 17\) .* \(2, 4, 17\)"),
        ("keypoint_score", np.ones((2, 17, 5)), "expected 'keypoint_score'"),
        ("img_shape", "1080x1920", r"'img_shape' \(height, width\).* found text '1080x1920'"),
        ("img_shape", (0, 10), "expected 'img_shape'"),
        ("img_shape", (float("nan"), 10), "expected 'img_shape'"),
        ("total_frames", 9, r"'total_frames' is int 9, 'keypoint' is \(2, 5, 17, 2\)"),
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


@pytest.mark.parametrize("name", [None, "", 7, "x" * 300, "half \ud800"])
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

EXPECTED = {
    "ntu60": "xsub_train, xsub_val or xview_train, xview_val",
    "ntu120": "xsub_train, xsub_val or xset_train, xset_val",
}


@pytest.mark.parametrize(("dataset", "other"), [("ntu60", "ntu120"), ("ntu120", "ntu60")])
@pytest.mark.parametrize("make", [document_2d, document_3d])
def test_a_file_of_the_other_ntu_is_refused(save, tmp_path, make, dataset, other):
    """Else the store would miss a protocol, or the clips of classes that NTU60 does not have."""
    document = make()
    document["split"] = dict.fromkeys(SPLITS[other].split(", "), NAMES[:2])
    source = save(document)
    message = (
        rf"ntu\.pkl has the splits {SPLITS[other]}: expected {EXPECTED[dataset]} for {dataset}; is "
        rf"it {other}\? Then import it as that"
    )
    with pytest.raises(ValueError, match=message):
        import_dataset(source, dataset=dataset, out=tmp_path / "out.arrow", progress=False)
    assert list(tmp_path.iterdir()) == [source]
    assert len(read_clips(source, dataset=datasets.DATASETS[other]).clips)


def test_one_protocol_is_enough(save):
    document = document_3d()
    document["split"] = {"xsub_train": NAMES[:1], "xsub_val": NAMES[1:2]}
    assert len(read_clips(save(document), dataset=NTU60).clips) == 4


def test_a_file_without_a_protocol_is_refused(save):
    document = document_3d()
    del document["split"]["xview_val"], document["split"]["xsub_val"]
    with pytest.raises(
        ValueError, match=r"xsub_train, xview_train: expected .* for ntu60; .* --dataset NAME"
    ) as error:
        read_clips(save(document), dataset=NTU60)
    assert "is it" not in str(error.value)
    with pytest.raises(ValueError, match="has the splits 7: expected"):
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


@settings(max_examples=40)
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


# --- own recordings -----------------------------------------------------------------------------

OWN = Dataset("mine", title="mine", layouts=(), label_names=(), protocols=())


def own_annotation(i, *, joints=17, channels=2, **changes):
    rng = np.random.default_rng(i)
    annotation = {
        "frame_dir": f"v_{i}",
        "label": i % 3,
        "total_frames": 6,
        "img_shape": (480, 640),
        "keypoint": rng.uniform(50, 400, (1, 6, joints, channels)).astype(np.float32),
        "keypoint_score": rng.uniform(0.5, 1, (1, 6, joints)).astype(np.float32),
        **changes,
    }
    return {key: value for key, value in annotation.items() if value is not None}


def own_document(**changes):
    annotations = [own_annotation(i, **changes) for i in range(6)]
    return {"split": {"train1": ["v_0", "v_1"], "test1": ["v_5"]}, "annotations": annotations}


def in_3d(**changes):
    return own_document(channels=3, img_shape=None, keypoint_score=None, **changes)


def notes(found):
    return "; ".join(found.notes)


def test_own_pickles_keep_their_splits_and_the_layout_is_said(save, tmp_path):
    source, out = save(own_document()), tmp_path / "out.arrow"
    store = open_store(import_dataset(source, dataset="mine", out=out, progress=False))
    assert (store.splits, store.skeleton.name) == ({"test1": 1, "train1": 2}, "coco17")
    assert store.label_names == ["class 0", "class 1", "class 2"]
    assert "layout coco17 by the number of joints, 17 in 2D" in store.preparation["notes"][0]
    named = read_clips(source, dataset=OWN, own=OwnData(layout="coco17"))
    assert "layout" not in notes(named)
    for i, clip in enumerate(named.clips):
        np.testing.assert_array_equal(clip.keypoints, store.keypoints(i))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (own_document(joints=25), "25 joints in 2D, and ntu25 would be of another dimension"),
        (own_document(joints=5), r"5 joints in 2D, and none of the library has as many \(.*ntu25"),
        (in_3d(joints=5), "5 joints in 3D, and none of the library"),
    ],
)
def test_a_layout_that_is_not_clear_is_asked_for(save, document, message):
    with pytest.raises(ValueError, match=message + r".* --layout"):
        read_clips(save(document), dataset=OWN)


def test_a_named_layout_must_have_the_joints(save):
    with pytest.raises(ValueError, match="has 17 joints, the layout ntu25 has 25"):
        read_clips(save(own_document()), dataset=OWN, own=OwnData(layout="ntu25"))
    found = read_clips(save(own_document(joints=25)), dataset=OWN, own=OwnData(layout="ntu25"))
    assert found.preparation["name"] == "prepare_2d"


def test_own_3d_is_aligned_where_the_layout_can(save, flat_layout):
    found = read_clips(save(in_3d(joints=25)), dataset=OWN)
    assert (found.skeleton.name, found.preparation["name"]) == ("ntu25", "prepare_3d")
    found = read_clips(save(in_3d(joints=4)), dataset=OWN, own=OwnData(layout=flat_layout))
    assert (found.preparation["name"], found.channels) == ("center", 3)
    (clip, *_) = found.clips
    assert not clip.keypoints[0, 0, flat_layout.center].any()


def test_a_third_number_that_is_no_score_is_a_coordinate(save, flat_layout):
    source = save(in_3d())  # up to 400
    with pytest.raises(ValueError, match="17 joints in 3D, and coco17 would be of another dim"):
        read_clips(source, dataset=OWN)
    scored = own_document(channels=3, keypoint_score=None)
    for annotation in scored["annotations"]:
        annotation["keypoint"][..., 2] /= 400
    assert read_clips(save(scored), dataset=OWN).preparation["scored"]


def test_old_lists_get_the_split_of_their_file_and_come_together(tmp_path):
    document = own_document()["annotations"]
    paths = [tmp_path / "own_train.pkl", tmp_path / "own-test.pkl", tmp_path / "one.pkl"]
    for path, part in zip(paths, (document[:3], document[3:5], document[5]), strict=True):
        path.write_bytes(pickle.dumps(part))
    clips = list(read_clips(paths, dataset=OWN).clips)
    assert [clip.splits for clip in clips] == [("train",)] * 3 + [("test",)] * 2 + [()]
    assert "no file has splits: name files" in notes(read_clips(paths[2], dataset=OWN))
    store = import_dataset(paths, dataset="mine", out=tmp_path / "o.arrow", progress=False)
    assert open_store(store).splits == {"test": 2, "train": 3}


def test_old_lists_of_ntu_get_the_splits_of_their_names(tmp_path):
    document = document_3d()["annotations"][:3]
    paths = [tmp_path / f"xsub_{part}.pkl" for part in ("train", "val")]
    for path, part in zip(paths, (document[::2], document[1:2]), strict=True):
        path.write_bytes(pickle.dumps(part))
    for clip in read_clips(paths, dataset=NTU60).clips:
        assert clip.splits == datasets.ntu_splits(clip.id)


def test_what_people_write_is_read_as_what_they_mean(save):
    """Lists, whole numbers, NumPy's numbers, sizes with channels, one person, x y score."""
    document = own_document()
    plain = [clip.keypoints for clip in read_clips(save(document), dataset=OWN).clips]
    a = document["annotations"]
    a[0] |= {"keypoint": a[0]["keypoint"].tolist(), "total_frames": np.int64(6)}
    a[1] |= {
        "label": np.int64(1),
        "frame_dir": np.str_("v_1"),
        "img_shape": [480, np.int32(640), 3],
    }
    a[2] |= {"keypoint_score": a[2]["keypoint_score"][..., None], "label": np.float32(2)}
    a[3] |= {"keypoint": a[3]["keypoint"][0], "img_shape": np.array([480, 640])}
    a[4]["keypoint"] = np.concatenate([a[4]["keypoint"], a[4].pop("keypoint_score")[..., None]], -1)
    a[5]["original_shape"] = a[5].pop("img_shape")
    found = read_clips(save(document), dataset=OWN)
    for clip, expected in zip(found.clips, plain, strict=True):
        np.testing.assert_allclose(clip.keypoints, expected, atol=1e-6)
    assert "without an axis of persons, taken as one person: 1 annotations" in notes(found)
    assert "taken as x, y, score: 1 annotations" in notes(found)
    assert "no 'img_shape', so 'original_shape' was taken: 1 annotations" in notes(found)


def test_whole_pixels_and_missing_scores(save):
    document = own_document(keypoint_score=None)
    for annotation in document["annotations"]:
        annotation["keypoint"] = annotation["keypoint"].astype(np.int32)
        annotation["keypoint"][0, 0, 3] = 0
    found = read_clips(save(document), dataset=OWN)
    assert "no 'keypoint_score', so 1 for joints that were seen: 6 annotations" in notes(found)
    for clip in found.clips:
        scores = clip.keypoints[..., 2]
        assert scores[0, 0, 3] == 0
        assert scores.sum() == scores.size - 1


def test_missing_image_sizes_are_taken_from_the_others_or_asked_for(save):
    document = own_document()
    del document["annotations"][2]["img_shape"]
    found = read_clips(save(document), dataset=OWN)
    assert "1 annotations have no 'img_shape': (480, 640) was taken, as others" in notes(found)
    document["annotations"][0]["img_shape"] = (720, 1280)
    (entry,) = left_out(read_clips(save(document), dataset=OWN))
    assert (entry.id, "give --image-size HEIGHT WIDTH" in entry.detail) == ("v_2", True)
    found = read_clips(save(document), dataset=OWN, own=OwnData(image_size=(480, 640)))
    assert not left_out(found)
    assert "the image size (480, 640) was taken instead of 1 in the file" in notes(found)
    assert found.preparation["image_size"] == [480, 640]
    bare = save(own_document(img_shape=None))
    with pytest.raises(ValueError, match=r"no 'img_shape'.* give --image-size HEIGHT WIDTH"):
        read_clips(bare, dataset=OWN)
    sized = read_clips(bare, dataset=OWN, own=OwnData(image_size=(480, 640)))
    full = read_clips(save(own_document()), dataset=OWN)
    for clip, expected in zip(sized.clips, full.clips, strict=True):
        np.testing.assert_array_equal(clip.keypoints, expected.keypoints)
    centered = read_clips(bare, dataset=OWN, own=OwnData(prepare="center"))
    assert (centered.preparation["name"], centered.channels) == ("center", 3)


def test_labels_that_contradict_names_are_refused_for_ntu_only(save):
    document = document_3d()
    document["annotations"][1]["label"] = 0
    source = save(document)
    with pytest.raises(
        ValueError,
        match=r"the labels of 1 of 4 .* S002C003P003R002A060: its name says action 60, which is "
        r"label 59 of ntu60, found label 0\. For labels .* --dataset NAME --layout ntu25",
    ):
        read_clips(source, dataset=NTU60)
    found = read_clips(source, dataset=OWN, own=OwnData(layout="ntu25"))
    assert [clip.label for clip in found.clips] == [0, 0, 9, 30]
    for annotation in document["annotations"][:3]:
        annotation["label"] = int(annotation["frame_dir"][-3:])
    with pytest.raises(ValueError, match="All labels are one too high: they start at 1"):
        read_clips(save(document), dataset=NTU60)


def test_class_names_of_ntu_are_its_own(save, tmp_path):
    with pytest.raises(ValueError, match=r"ntu60 has its own class names: .*--dataset NAME"):
        read_clips(save(document_3d()), dataset=NTU60, own=OwnData(labels=tmp_path / "names.txt"))


def test_recordings_of_the_other_ntu_are_refused(save):
    document = document_3d()
    document["annotations"][3] |= {"frame_dir": "S018C001P001R001A061", "label": 60}
    with pytest.raises(ValueError, match=r"1 recordings that ntu60 does not have.* is it ntu120\?"):
        read_clips(save(document), dataset=NTU60)


def test_class_names_come_from_a_list(save, tmp_path):
    names, document = tmp_path / "names.txt", own_document()
    names.write_text("wave\njump\nsit\nstand\n")
    source = save(document)
    found = read_clips(source, dataset=OWN, own=OwnData(labels=names))
    assert found.label_names == ("wave", "jump", "sit", "stand")
    for annotation in document["annotations"]:
        annotation["label"] += 1
    assert "the labels start at 1 (labels 1 to 3)" in notes(read_clips(save(document), dataset=OWN))
    names.write_text("1 wave\n2 jump\n3 sit\n")
    found = read_clips(save(document), dataset=OWN, own=OwnData(labels=names))
    assert [clip.label for clip in found.clips] == [0, 1, 2, 0, 1, 2]
    assert found.label_names == ("wave", "jump", "sit")


def test_a_pickle_that_is_something_else_says_what(save):
    pair = save((["a"], [1]))
    with pytest.raises(ValueError, match=r"found a tuple of 2\. If it is the labels of"):
        read_clips(pair, dataset=OWN)
    with pytest.raises(ValueError, match="found a dict with a, b"):
        read_clips(save({"a": 1, "b": 2}), dataset=OWN)


# --- pyskl's Kinetics-400 -----------------------------------------------------------------------


def kpfile_document(folder, counts):
    """A table of contents and two kpfiles; `counts`: for each recording, skeletons per frame."""
    rng = np.random.default_rng(3)
    annotations, files = [], ({}, {})
    for i, persons in enumerate(counts):
        frames = np.repeat(3 * np.arange(len(persons)), persons)
        points = rng.uniform(10, 300, (len(frames), 17, 3)).astype(np.float16)
        points[..., 2] = rng.uniform(0.1, 1, points.shape[:2])
        files[i % 2][f"clip{i}"] = {"keypoint": points}
        annotations.append(
            {
                "frame_dir": f"clip{i}",
                "label": i,
                "img_shape": (320, 480),
                "total_frames": 40,
                "raw_file": f"data/k400/kp/{i % 2}.pkl",
                "frame_inds": frames,
                "box_score": np.ones(len(frames), np.float16),
                "valid": {"0.5": 3},
            }
        )
    for i, content in enumerate(files):
        (folder / "kp").mkdir(exist_ok=True)
        (folder / "kp" / f"{i}.pkl").write_bytes(pickle.dumps(content))
    split = {"train": [a["frame_dir"] for a in annotations], "val": []}
    return {"split": split, "annotations": annotations}, files


def by_decompress_pose(points, frames, most=2):
    """pyskl's DecompressPose, a skeleton after the other: frames squeezed, the best `most` kept."""
    numbers = sorted(set(frames.tolist()))
    rows = {n: [p for p, f in zip(points, frames, strict=True) if f == n] for n in numbers}
    if max(map(len, rows.values())) > most:
        rows = {n: sorted(r, key=lambda p: -p[:, 2].astype(float).sum()) for n, r in rows.items()}
    persons = min(most, max(map(len, rows.values())))
    result = np.zeros((persons, len(numbers), 17, 3))
    for t, n in enumerate(numbers):
        for m, one in enumerate(rows[n][:persons]):
            result[m, t] = one
    return result


def test_kpfiles_are_read_as_pyskl_reads_them(save, tmp_path):
    counts = [(1, 2, 0, 1), (3, 1, 4), (1, 1, 1, 1, 1), (0, 2, 2)]
    document, files = kpfile_document(tmp_path, counts)
    found = read_clips(save(document), dataset=OWN)
    assert [clip.id for clip in found.clips] == ["clip0", "clip2", "clip1", "clip3"]
    for clip in found.clips:
        i = int(clip.id[-1])
        points = files[i % 2][clip.id]["keypoint"]
        raw = by_decompress_pose(points, document["annotations"][i]["frame_inds"])
        expected = prepare_2d(raw[..., :2], raw[..., 2], (320, 480))
        np.testing.assert_allclose(clip.keypoints, expected, atol=1e-6)
        assert (clip.label, clip.splits) == (i, ("train",))
    assert "skeletons from kpfiles" in notes(found)


def test_kpfiles_that_are_missing_or_other_ones_are_said(save, tmp_path):
    document, files = kpfile_document(tmp_path, [(1, 2), (1, 1), (2,), (1,)])
    files[1]["clip3"]["keypoint"] = files[1]["clip3"]["keypoint"][..., :2]
    (tmp_path / "kp" / "1.pkl").write_bytes(pickle.dumps(files[1]))
    document["annotations"][2]["frame_inds"] = np.arange(7)
    source = save(document)
    details = {one.id: one.detail for one in left_out(read_clips(source, dataset=OWN))}
    assert "'frame_inds' has 7 numbers, 'keypoint' (2, 17, 3)" in details["clip2"]
    assert "(N, 17, 3), found an array (1, 17, 2)" in details["clip3"]
    (tmp_path / "kp" / "0.pkl").unlink()
    lost = [one for one in left_out(read_clips(source, dataset=OWN)) if one.id != "clip3"]
    assert {one.reason for one in lost} == {"its kpfile is not there"}
    (tmp_path / "kp" / "1.pkl").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"none of its 2 kpfiles is there, .* expected them"
    ):
        read_clips(source, dataset=OWN)
