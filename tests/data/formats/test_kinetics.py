"""Kinetics-Skeleton: made-up clips in the layout that ST-GCN distributes."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from msg3d_lab import skeletons
from msg3d_lab.data import datasets
from msg3d_lab.data.clips import Clip, LeftOut, check_clip
from msg3d_lab.data.formats import kinetics
from msg3d_lab.data.formats.own.options import OwnData
from msg3d_lab.data.formats.registry import import_dataset
from msg3d_lab.data.store import open_store, write_store

KINETICS = datasets.DATASETS["kinetics400"]
NAMES = ["abseiling", "air drumming", "answering questions"]


def read_clips(source, **options):
    sources = source if isinstance(source, list) else [source]
    return kinetics.read_clips(sources, **options)


def person(rng, low=0.05):
    """As in the files: three decimals; a joint that was not found is 0, 0 with score 0."""
    pose, score = rng.uniform(0.01, 1, 36).round(3), rng.uniform(low, 1, 18).round(3)
    lost = rng.random(18) < 0.2
    score[lost] = 0
    pose[np.repeat(lost, 2)] = 0
    return {"pose": pose.tolist(), "score": score.tolist()}


def recording(seed, frames=6, persons=(0, 1, 2, 7)):
    rng = np.random.default_rng(seed)
    return [
        {"frame_index": 1 + t, "skeleton": [person(rng) for _ in range(rng.choice(persons))]}
        for t in range(frames)
    ]


def made(clips=4, **options):
    """(split, id) -> document, and the label files."""
    documents, labels = {}, {"kinetics_train": {}, "kinetics_val": {}}
    for i in range(clips):
        split, label = ("kinetics_train", "kinetics_val")[i % 2], i % 3
        frames = recording(i, **options)
        frames[0]["skeleton"] = frames[0]["skeleton"] or [person(np.random.default_rng(i))]
        documents[split, f"-clip_{i}"] = {
            "data": frames,
            "label": NAMES[label],
            "label_index": label,
        }
        labels[split][f"-clip_{i}"] = {
            "has_skeleton": True,
            "label": NAMES[label],
            "label_index": label,
        }
    return documents, labels


@pytest.fixture
def save(tmp_path):
    def _save(documents, labels, zipped=False, root="kinetics-skeleton"):
        files = {f"{split}/{name}.json": d for (split, name), d in documents.items()}
        files |= {f"{split}_label.json": d for split, d in labels.items() if d is not None}
        if zipped:
            with zipfile.ZipFile(tmp_path / "kinetics.zip", "w") as archive:
                for name, document in files.items():
                    archive.writestr(f"{root}/{name}", as_text(document))
            return tmp_path / "kinetics.zip"
        for name, document in files.items():
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(as_text(document), encoding="utf-8")
        return tmp_path / root

    return _save


def as_text(document):
    return document if isinstance(document, str) else json.dumps(document)


def by_the_feeder(frames, persons_in=5, persons_out=2):
    """What ST-GCN's feeder makes of the frames, one number after the other: (2, T, 18, 3)."""
    result = np.zeros((persons_out, len(frames), 18, 3), dtype=np.float32)
    for t, frame in enumerate(frames):
        seen = frame["skeleton"][:persons_in]
        for m, one in enumerate(sorted(seen, key=lambda p: -np.sum(p["score"]))[:persons_out]):
            for v in range(18):
                x, y, score = one["pose"][2 * v], one["pose"][2 * v + 1], one["score"][v]
                result[m, t, v] = (x - 0.5, -(y - 0.5), score) if score else 0
    return result


@pytest.mark.parametrize("zipped", [False, True])
def test_clips_are_as_the_feeder_of_st_gcn_makes_them(save, zipped):
    documents, labels = made(6)
    found = read_clips(save(documents, labels, zipped), dataset=KINETICS)
    assert (len(found.clips), found.skeleton.name, found.channels) == (6, "openpose18", 3)
    assert found.label_names == tuple(NAMES)
    assert found.preparation["scored"]
    clips = {clip.id: clip for clip in found.clips}
    for (split, name), document in documents.items():
        clip, expected = clips[name], by_the_feeder(document["data"])
        assert (clip.label, clip.splits) == (document["label_index"], (split,))
        assert clip.keypoints.dtype == np.float32
        np.testing.assert_array_equal(clip.keypoints, expected[: len(clip.keypoints)])
        assert not expected[len(clip.keypoints) :].any()
        check_clip(clip, num_joints=18, channels=3, num_classes=3)


def test_y_points_up_and_the_middle_of_the_image_is_the_origin(save):
    documents, labels = made(1, persons=(1,))
    one = documents["kinetics_train", "-clip_0"]["data"][0]["skeleton"][0]
    one["pose"][:4], one["score"][:2] = [0.5, 0.5, 1.0, 0.0], [0.9, 0.8]
    (clip,) = read_clips(save(documents, labels), dataset=KINETICS).clips
    np.testing.assert_array_equal(
        clip.keypoints[0, 0, :2], np.float32([[0, 0, 0.9], [0.5, 0.5, 0.8]])
    )
    assert clip.keypoints.shape == (1, 6, 18, 3)


def test_the_places_of_frames_are_kept(save):
    documents, labels = made(1, frames=5, persons=(1,))
    frames = documents["kinetics_train", "-clip_0"]["data"]
    for frame, index in zip(frames, (7, 3, 12, 4, 9), strict=True):
        frame["frame_index"] = index
    (clip,) = read_clips(save(documents, labels), dataset=KINETICS).clips
    assert clip.keypoints.shape[1] == 10
    present = clip.keypoints[0].any(axis=(1, 2))
    assert np.flatnonzero(present).tolist() == [0, 1, 4, 6, 9]
    np.testing.assert_array_equal(clip.keypoints[:, 0], by_the_feeder(frames[1:2])[:1, 0])


def test_recordings_without_a_person_are_left_out(save):
    documents, labels = made(4)
    labels["kinetics_train"]["-clip_0"]["has_skeleton"] = False
    for frame in documents["kinetics_val", "-clip_1"]["data"]:
        frame["skeleton"] = []
    for frame in documents["kinetics_train", "-clip_2"]["data"]:
        for one in frame["skeleton"]:
            one["pose"], one["score"] = [0] * 36, [0] * 18
    documents["kinetics_val", "-clip_3"]["data"] = []
    found = list(read_clips(save(documents, labels), dataset=KINETICS).clips)
    assert [(one.id, one.reason) for one in found] == [
        (f"-clip_{i}", "nobody in any frame") for i in range(4)
    ]


def test_a_clip_that_the_label_file_does_not_have_is_left_out(save):
    documents, labels = made(3)
    del labels["kinetics_train"]["-clip_2"]
    entry = read_clips(save(documents, labels), dataset=KINETICS).clips[2]
    assert entry == LeftOut("-clip_2", "not in the label file", "kinetics_train_label.json")


@pytest.mark.parametrize("zipped", [False, True])
def test_a_clip_of_the_label_file_without_a_recording_is_left_out(save, zipped):
    documents, labels = made(4)
    del documents["kinetics_val", "-clip_1"], documents["kinetics_train", "-clip_2"]
    labels["kinetics_train"]["-clip_2"]["has_skeleton"] = False  # nobody in it: nothing is lost
    documents["kinetics_train", "-clip_1"] = documents["kinetics_train", "-clip_0"]
    found = read_clips(save(documents, labels, zipped), dataset=KINETICS)
    lost = LeftOut(
        "-clip_1", "in the label file, but without a recording", "kinetics_val_label.json"
    )
    assert len(found.clips) == 4
    assert [clip.id for clip in found.clips] == ["-clip_0", "-clip_1", "-clip_3", "-clip_1"]
    assert found.clips[1] == LeftOut(
        "-clip_1", "not in the label file", "kinetics_train_label.json"
    )
    assert found.clips[3] == found.clips[3:][0] == lost


def test_a_clip_that_claims_another_class_is_left_out(save):
    documents, labels = made(2)
    documents["kinetics_val", "-clip_1"]["label_index"] = 2
    entry = read_clips(save(documents, labels), dataset=KINETICS).clips[1]
    assert entry.reason == "cannot be read"
    assert entry.detail == "'label_index' is 2, in kinetics_val_label.json 1"


def test_one_split_alone_is_enough(save):
    documents, labels = made(6)
    documents = {key: value for key, value in documents.items() if key[0] == "kinetics_val"}
    labels["kinetics_train"] = None
    found = read_clips(save(documents, labels), dataset=KINETICS)
    assert {clip.splits for clip in found.clips} == {("kinetics_val",)}


def test_splits_may_come_in_several_zips(save, tmp_path):
    documents, labels = made(6)
    zips = []
    for split in labels:
        part = {key: value for key, value in documents.items() if key[0] == split}
        path = save(part, {split: labels[split]}, zipped=True, root=".")
        zips.append(path.rename(tmp_path / f"{split}.zip"))
    found = read_clips(zips, dataset=KINETICS)
    assert sorted(clip.id for clip in found.clips) == sorted(name for _, name in documents)
    assert found.preparation["source"] == "kinetics_train.zip, kinetics_val.zip"


def test_rubbish_of_other_systems_is_not_taken_for_clips(save, tmp_path):
    source = save(*made(2), zipped=True)
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr("__MACOSX/kinetics_train/._-clip_0.json", b"\0\1")
        archive.writestr("kinetics-skeleton/notes.json", "{}")
    assert len(read_clips(source, dataset=KINETICS).clips) == 2


def test_clips_pickle_and_slice_small(save):
    found = read_clips(save(*made(40), zipped=True), dataset=KINETICS)
    part = found.clips[10:14]
    _ = part[0]
    assert len(pickle.dumps(part)) < 2000
    again = pickle.loads(pickle.dumps(part))
    assert [clip.id for clip in again] == [clip.id for clip in found.clips][10:14]
    np.testing.assert_array_equal(again[3].keypoints, found.clips[13].keypoints)


def test_clips_make_a_store_with_the_names_of_the_label_files(save, tmp_path):
    found = read_clips(save(*made(6)), dataset=KINETICS)
    path = write_store(
        tmp_path / datasets.default_store("kinetics400", "openpose18"),
        found.clips,
        dataset="kinetics400",
        skeleton=found.skeleton,
        label_names=found.label_names,
        channels=found.channels,
        preparation=found.preparation,
    )
    store = open_store(path)
    assert path.name == "kinetics400.arrow"
    assert (len(store), store.label_names, store.scored) == (6, NAMES, True)
    assert store.splits == {"kinetics_train": 3, "kinetics_val": 3}


def test_the_data_set_brings_no_names_of_its_own():
    assert KINETICS.label_names == ()
    assert set(KINETICS.layouts) <= set(skeletons.names())


@pytest.mark.parametrize("missing", ["kinetics_train", "kinetics_val"])
def test_a_missing_label_file_is_named(save, missing):
    documents, labels = made(4)
    labels[missing] = None
    with pytest.raises(ValueError, match=f"but no {missing}_label.json: download it"):
        read_clips(save(documents, labels), dataset=KINETICS)


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected clips in folders kinetics_train and kin"):
        read_clips(tmp_path, dataset=KINETICS)
    with pytest.raises(FileNotFoundError):
        read_clips(tmp_path / "none", dataset=KINETICS)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"-clip_0": 1}',
        '{"-clip_0": {"has_skeleton": true, "label": "a"}}',
        '{"-clip_0": {"has_skeleton": true, "label": "a", "label_index": -1}}',
        '{"-clip_0": {"has_skeleton": true, "label": ["a"], "label_index": 0}}',
    ],
)
def test_a_bad_label_file_is_refused_by_name(save, content):
    documents, labels = made(2)
    with pytest.raises(
        ValueError, match=r"kinetics_train_label\.json is not a label file"
    ) as error:
        read_clips(save(documents, labels | {"kinetics_train": content}), dataset=KINETICS)
    assert len(str(error.value)) < 700


def test_a_class_with_two_names_is_refused(save):
    documents, labels = made(4)
    labels["kinetics_val"]["-clip_1"]["label"] = "archery"
    labels["kinetics_val"]["-clip_3"]["label_index"] = 1
    with pytest.raises(ValueError, match="class 1 is called 'archery' and 'abseiling'"):
        read_clips(save(documents, labels), dataset=KINETICS)


def test_a_class_without_a_name_is_refused(save):
    documents, labels = made(1)
    labels["kinetics_train"]["-clip_0"]["label_index"] = 3
    with pytest.raises(ValueError, match="no name for class 0"):
        read_clips(save(documents, labels), dataset=KINETICS)


def with_frame(**changes):
    return [{"frame_index": 1, "skeleton": [person(np.random.default_rng(0)) | changes]}]


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ("[]", "expected 'data'"),
        ("{}", "expected 'data'"),
        ("", "Invalid JSON"),
        ({"data": [1]}, "expected 'data'"),
        ({"data": [{"frame_index": 1, "skeleton": {"a": 1}}]}, "expected 'data'"),
        ({"data": [{"frame_index": "1", "skeleton": []}]}, "data.0.frame_index: .* integer"),
        ({"data": with_frame(pose=[0.5] * 35)}, "skeleton.0.pose: .* at least 36 items"),
        ({"data": with_frame(pose=[None] * 36)}, "pose.0: .* number"),
        ({"data": with_frame(pose=[float("nan")] * 36)}, "36 numbers are NaN or infinite"),
        ({"data": [*with_frame(), {"frame_index": 10**6, "skeleton": []}]}, "at most 10000"),
        ({"data": with_frame(), "label_index": "1"}, "label_index: .* integer"),
    ],
)
def test_a_clip_that_cannot_be_read_is_left_out(save, content, detail):
    documents, labels = made(3)
    documents["kinetics_val", "-clip_1"] = content
    clips = read_clips(save(documents, labels), dataset=KINETICS).clips
    assert [type(clip) for clip in clips] == [Clip, LeftOut, Clip]
    assert (clips[1].id, clips[1].reason) == ("-clip_1", "cannot be read")
    assert re.search(detail, clips[1].detail)
    assert len(clips[1].detail) < 400


def test_a_clip_that_says_no_class_has_that_of_the_label_file(save):
    documents, labels = made(2)
    del documents["kinetics_val", "-clip_1"]["label_index"]
    assert read_clips(save(documents, labels), dataset=KINETICS).clips[1].label == 1


def test_a_damaged_zip_entry_is_left_out_and_a_damaged_label_file_refused(save):
    documents, labels = made(2)
    source = save(documents, labels, zipped=True)
    sound = source.read_bytes()
    source.write_bytes(sound.replace(b'"frame_index": 2', b'"frame_index": 3', 1))
    clips = read_clips(source, dataset=KINETICS).clips
    assert sorted(type(clip).__name__ for clip in clips) == ["Clip", "LeftOut"]
    source.write_bytes(sound.replace(b'{"has_skeleton"', b'{"has_sceleton"', 1))
    with pytest.raises(ValueError, match=r"label\.json is not a label file"):
        read_clips(source, dataset=KINETICS)


def test_is_source_knows_folders_and_zips(save, tmp_path):
    folder, archive = save(*made(2)), save(*made(2), zipped=True)
    for path in (folder, folder.parent, archive):
        assert kinetics._is_source(path)
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    (other / "file.json").write_text("{}")
    with zipfile.ZipFile(other / "other.zip", "w") as made_up:
        made_up.writestr("a01_s01_e00_v01.json", "{}")
    assert not any(
        kinetics._is_source(path)
        for path in (other, other / "file.json", other / "other.zip", Path("/nowhere"))
    )


# --- own recordings -----------------------------------------------------------------------------

OWN = datasets.Dataset("mine", title="mine", layouts=(), label_names=(), protocols=())


def test_labels_from_1_get_their_cause(save):
    documents, labels = made(6)
    for part in labels.values():
        for label in part.values():
            label["label_index"] += 1
    with pytest.raises(ValueError, match=r"'label_index' goes from 1 to 3 .* expected from 0 to 2"):
        read_clips(save(documents, labels), dataset=KINETICS)


def test_folders_of_other_names_are_for_own_data(save):
    documents, labels = made(6)
    source = save(documents, labels)
    for path in source.iterdir():
        path.rename(path.with_name(path.name.replace("kinetics", "my")))
    assert kinetics._is_source(source)
    with pytest.raises(ValueError, match=r"kinetics_val_label\.json .* folders my_train, my_val"):
        read_clips(source, dataset=KINETICS)
    found = read_clips(source, dataset=OWN)
    assert {clip.splits for clip in found.clips} == {("my_train",), ("my_val",)}
    assert found.label_names == tuple(NAMES)


def in_pixels(documents):
    for document in documents.values():
        for frame in document["data"]:
            for one in frame["skeleton"]:
                pixels = np.reshape(one["pose"], (-1, 2)) * (1920, 1080)
                one["pose"] = pixels.ravel().tolist()


def test_pixels_are_refused_and_read_with_the_image_size(save, tmp_path):
    documents, labels = made(6)
    plain = list(read_clips(save(documents, labels, root="plain"), dataset=KINETICS).clips)
    in_pixels(documents)
    source, out = save(documents, labels, root="pixels"), tmp_path / "out.arrow"
    with pytest.raises(
        ValueError,
        match=r"6 of 6 clips .* in pixels were taken as fractions .*--image-size HEIGHT",
    ):
        import_dataset(source, dataset="kinetics400", out=out, progress=False)
    assert not out.exists()
    found = read_clips(source, dataset=KINETICS, own=OwnData(image_size=(1080, 1920)))
    assert found.preparation["image_size"] == [1080, 1920]
    for clip, expected in zip(found.clips, plain, strict=True):
        np.testing.assert_allclose(clip.keypoints, expected.keypoints, atol=1e-6)
