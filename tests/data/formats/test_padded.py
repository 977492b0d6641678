"""The field's padded arrays: made-up clips are padded by their rules, written and read again."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msg3d_lab import skeletons
from msg3d_lab.data import datasets
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats import npy_header, padded
from msg3d_lab.data.formats.padded import read_clips
from msg3d_lab.data.formats.replayed import cut_replay
from msg3d_lab.data.preprocess import prepare_3d

NTU60, NTU120 = datasets.get("ntu60"), datasets.get("ntu120")
NTU = skeletons.get("ntu25")
TRAIN = ["S001C002P001R001A001", "S002C003P002R002A060", "S003C002P004R001A010"]
VAL = ["S001C002P003R001A002", "S017C001P040R002A050"]


def walk(persons, frames, seed=0):
    """(M, T, 25, 3) in the camera's frame."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((persons, frames, 25, 3))
    start = rng.standard_normal((persons, 1, 25, 3)) + np.array([0.3, 0.1, 3])
    return (start + 0.05 * np.cumsum(steps, axis=1)).astype(np.float32)


# 2s-AGCN and MS-G3D


def replayed(clip, frames=300):
    """Padded by 2s-AGCN's rule: each person on its own, then centred frame by frame."""
    result = np.zeros((2, frames, 25, 3), dtype=np.float32)
    for m, person in enumerate(clip):
        present = person.any(axis=(1, 2))
        if not present[0]:
            person = person[present]
        last = np.flatnonzero(person.any(axis=(1, 2)))
        if len(last):
            length = last[-1] + 1
            result[m] = person[np.arange(frames) % length]
    seen = result.any(axis=-1, keepdims=True)
    return (result - result[:1, :, 1:2]) * seen


def write_arrays(folder, train, val, names=(TRAIN, VAL), frames=300, protocol=4, labels=None):
    folder.mkdir(parents=True, exist_ok=True)
    for part, clips, ids in zip(("train", "val"), (train, val), names, strict=True):
        arrays = np.stack([replayed(clip, frames).transpose(3, 1, 2, 0) for clip in clips])
        np.save(folder / f"{part}_data_joint.npy", arrays)
        found = [int(name[17:20]) - 1 for name in ids] if labels is None else labels
        with (folder / f"{part}_label.pkl").open("wb") as file:
            pickle.dump(([f"{name}.skeleton" for name in ids], found), file, protocol)
    return folder


@pytest.fixture
def arrays(tmp_path):
    train = [walk(1, 80), walk(2, 299, 1), walk(2, 300, 2)]
    val = [walk(1, 1, 3), walk(2, 150, 4)]
    return write_arrays(tmp_path / "xsub", train, val), train, val


def test_replayed_clips_get_their_length_back(arrays):
    folder, train, val = arrays
    found = read_clips(folder, dataset=NTU60)
    assert (found.count, found.skeleton.name, found.channels) == (5, "ntu25", 3)
    assert isinstance(found.clips, Sequence)
    for clip, name, raw in zip(found.clips, TRAIN + VAL, train + val, strict=True):
        assert clip.id == name
        np.testing.assert_array_equal(
            clip.keypoints, replayed(raw, raw.shape[1])[: len(raw)], err_msg=name
        )
        assert clip.keypoints.dtype == np.float32
        assert clip.splits == datasets.ntu_splits(name)
        assert clip.label == int(name[17:]) - 1
    assert (found.clips[1].setup, found.clips[1].camera, found.clips[1].subject) == (2, 3, 2)


@given(
    st.integers(1, 299), st.integers(1, 2), st.sampled_from([300, 64]), st.integers(0, 2**32 - 1)
)
def test_cut_replay_undoes_the_padding_of_any_clip(frames, persons, room, seed):
    frames = min(frames, room)
    raw = walk(persons, frames, seed)
    cut = cut_replay(replayed(raw, room))
    np.testing.assert_array_equal(cut, replayed(raw, frames)[:persons])


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(0, 40))
def test_cut_replay_finds_the_smallest_period(frames, more):
    """Against a slow loop, with frames of few kinds, so that there are many near misses."""
    text = [1 + frames[i % len(frames)] for i in range(len(frames) + more)]
    expected = next(n for n in range(1, len(text) + 1) if text[n:] == text[:-n])
    clip = np.array(text, dtype=np.float32).reshape(1, -1, 1, 1) * np.ones((1, 1, 25, 3))
    assert cut_replay(clip).shape == (1, expected, 25, 3)


def test_cut_replay_leaves_one_frame_of_a_person_who_stands_still():
    assert cut_replay(np.ones((2, 300, 25, 3))).shape == (2, 1, 25, 3)


def test_cut_replay_leaves_a_clip_that_fills_the_array():
    clip = walk(2, 300)
    np.testing.assert_array_equal(cut_replay(clip), clip)
    clip[:, -1] = clip[:, 0]  # a period of 299
    assert cut_replay(clip).shape[1] == 299


def test_cut_replay_cuts_zeros_that_follow_and_looks_for_no_period_then():
    clip = np.zeros((2, 300, 25, 3), dtype=np.float32)
    clip[0, :40] = np.tile(walk(1, 10), (1, 4, 1, 1))[0]
    assert cut_replay(clip).shape == (1, 40, 25, 3)
    clip[1, :50] = walk(1, 50, 1)[0]
    assert cut_replay(clip).shape == (2, 50, 25, 3)
    assert cut_replay(np.zeros_like(clip)).shape == (0, 0, 25, 3)


def test_cut_replay_goes_by_the_main_person():
    """A second person who leaves is replayed in the frames that are left."""
    raw = walk(2, 100)
    raw[1, 60:] = 0
    cut = cut_replay(replayed(raw))
    assert cut.shape == (2, 100, 25, 3)
    assert cut[1, 60:].any()
    np.testing.assert_array_equal(cut[:, :60], replayed(raw, 100)[:, :60])


def test_cut_replay_takes_whoever_is_there_for_the_main_person():
    clip = np.zeros((2, 300, 25, 3))
    clip[1] = np.tile(walk(1, 100), (1, 3, 1, 1))[0]
    assert cut_replay(clip).shape == (1, 100, 25, 3)


def test_cut_replay_takes_no_time_for_a_clip_made_to_take_it():
    clip = np.ones((1, 20_000, 1, 1))
    clip[0, -1] = 2
    assert cut_replay(clip).shape[1] == 20_000


def test_recordings_without_a_person_are_left_out(tmp_path):
    folder = write_arrays(tmp_path / "x", [walk(1, 9)] * 3, [np.zeros((1, 9, 25, 3)), walk(1, 9)])
    assert read_clips(folder, dataset=NTU60).clips[3] == LeftOut(VAL[0], "nobody in any frame")


def test_replayed_clips_pickle_and_slice_small(arrays):
    clips = read_clips(arrays[0], dataset=NTU60).clips
    assert len(pickle.dumps(clips)) < 1500
    part = pickle.loads(pickle.dumps(clips[1:3]))
    assert [clip.id for clip in part] == TRAIN[1:]
    np.testing.assert_array_equal(part[1].keypoints, clips[2].keypoints)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("path", ["{}.skeleton", "../data/raw/{}.skeleton", "D:\\raw\\{}", "{}"])
def test_names_lose_folders_and_suffixes(tmp_path, protocol, path):
    folder = write_arrays(tmp_path / "x", [walk(1, 5)] * 3, [walk(1, 5)] * 2, protocol=protocol)
    for part, names in (("train", TRAIN), ("val", VAL)):
        labels = [np.int64(int(name[17:]) - 1) for name in names]
        content = pickle.dumps(([path.format(name) for name in names], labels), protocol)
        (folder / f"{part}_label.pkl").write_bytes(content)
    clips = read_clips(folder, dataset=NTU60).clips
    assert [clip.id for clip in clips] == TRAIN + VAL
    assert [clip.label for clip in clips] == [0, 59, 9, 1, 49]


def test_a_label_pickle_of_python_2_is_read(tmp_path):
    folder = write_arrays(tmp_path / "x", [walk(1, 5)], [walk(1, 5)], (TRAIN[:1], VAL[:1]))
    (folder / "train_label.pkl").write_bytes(
        b"((lp0\nS'S001C002P001R001A001.skeleton'\np1\na(lp2\nI0\natp3\n."
    )
    assert read_clips(folder, dataset=NTU60).clips[0].id == TRAIN[0]


def test_parts_that_are_the_splits_of_no_protocol_are_refused(tmp_path):
    clips = [walk(1, 5)] * 3, [walk(1, 5)] * 2
    folder = write_arrays(tmp_path / "x", *clips, names=([*TRAIN[:2], VAL[0]], [TRAIN[2], VAL[1]]))
    with pytest.raises(
        ValueError, match=r"no protocol of ntu60: by xsub, .* S001C002P003R001A002 is"
    ):
        read_clips(folder, dataset=NTU60)
    # The parts are those of NTU60's X-View and not of its X-Sub.
    names = ["S001C002P001R001A001", "S001C003P003R001A001"], ["S001C001P001R001A001"]
    folder = write_arrays(tmp_path / "y", [walk(1, 5)] * 2, [walk(1, 5)], names=names)
    assert read_clips(folder, dataset=NTU60).count == 3
    with pytest.raises(ValueError, match="no protocol of ntu120"):
        read_clips(folder, dataset=NTU120)


@pytest.mark.parametrize("name", ["train_data_joint.npy", "val_label.pkl"])
def test_a_missing_file_is_named(arrays, name):
    (arrays[0] / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        read_clips(arrays[0], dataset=NTU60)


def label_file(content):
    return "val_label.pkl", pickle.dumps(content)


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return "val_data_joint.npy", file.getvalue()


def with_header(text):
    header = text.encode()
    return "val_data_joint.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


WHOLE = npy(np.ones((2, 3, 4, 25, 2), np.float32))[1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (label_file([1, 2]), "expected a list of names"),
        (label_file(5), "expected a pair"),
        (label_file((VAL, [1])), "2 names and 1 labels, the array beside it has 2 clips"),
        (label_file((VAL * 2, [1, 2] * 2)), "the array beside it has 2 clips"),
        (label_file((VAL, ["1", "2"])), "one of whole numbers"),
        (label_file((["walk", "run"], [1, 2])), "expected a name such as"),
        (("val_label.pkl", b"cos\nsystem\n(S'true'\ntR."), r"was refused: .* os\.system"),
        (("val_label.pkl", b""), "cut short or damaged"),
        (npy(np.ones((2, 3, 4, 18, 2), np.float32)), r"expected an array \(clips, 3, frames, 25"),
        (npy(np.ones((2, 3, 4, 25, 2), np.int32)), "expected numbers in C order, found int32"),
        (npy(np.ones((2, 25, 4, 3, 2), np.float32).transpose(4, 3, 2, 1, 0)), "in C order"),
        (npy(np.asfortranarray(np.ones((2, 3, 4, 25, 2), np.float32))), "in C order"),
        (npy(np.array([None, {}]), allow_pickle=True), "in C order, found object"),
        (("val_data_joint.npy", WHOLE[:-1]), "cut short or damaged: its header claims 4800 bytes"),
        (("val_data_joint.npy", WHOLE + b"1"), "cut short or damaged: its header claims 4800"),
        (("val_data_joint.npy", WHOLE[:50]), "joint.npy: not a .npy file, or damaged"),
        (("val_data_joint.npy", b""), "joint.npy: not a .npy file, or damaged"),
        (
            ("val_data_joint.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f"),
            "joint.npy: not a .npy file, or damaged",
        ),
        (
            ("val_data_joint.npy", b"PK\x03\x04" + bytes(99)),
            "joint.npy: not a .npy file, or damaged",
        ),
        (with_header("(" * 9000), "joint.npy: not a .npy file, or damaged"),
        (with_header("-" * 9000 + "1"), "joint.npy: not a .npy file, or damaged"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "impossible"),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 99999, 25, 2)}"),
            "expected an array",
        ),
        (
            with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**60},)}}"),
            "impossible shape",
        ),
    ],
)
def test_a_bad_file_in_the_folder_is_refused(arrays, damage, message):
    name, content = damage
    (arrays[0] / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_clips(arrays[0], dataset=NTU60)
    assert len(str(error.value)) < 600


def test_an_array_that_is_cut_later_leaves_its_clips_out(arrays):
    clips = read_clips(arrays[0], dataset=NTU60).clips
    path = arrays[0] / "train_data_joint.npy"
    path.write_bytes(path.read_bytes()[:-10])
    assert clips[2] == LeftOut(TRAIN[2], "cannot be read", "train_data_joint.npy is cut short")
    assert isinstance(clips[1], Clip)


@given(st.data())
def test_one_wrong_byte_in_a_folder_is_left_out_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("byte")
    names = TRAIN[:1], VAL[:1]
    write_arrays(folder, [walk(1, 3)], [walk(2, 2)], names=names, frames=5)
    path = folder / data.draw(st.sampled_from(["train_data_joint.npy", "val_label.pkl"]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, min(len(content), 200) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = list(read_clips(folder, dataset=NTU60).clips)
    except ValueError:
        return
    assert all(isinstance(clip, (Clip, LeftOut)) for clip in found)


# CTR-GCN


def centered(clip, *, twice=False):
    """By CTR-GCN's rule: joint 1 of the first frame of the first person is the origin."""
    present = clip.any(axis=(2, 3), keepdims=True)
    first = np.flatnonzero(present[0])[0]
    clip = (clip - clip[0, first, 1]) * present
    return np.repeat(clip, 2, axis=0) if twice and len(clip) == 1 else clip


def rows(clips, frames=300, *, twice=False):
    result = np.zeros((len(clips), frames, 150), dtype=np.float32)
    for row, clip in zip(result, clips, strict=True):
        if clip.any():
            for m, person in enumerate(centered(clip, twice=twice)):
                row[: len(person), 75 * m : 75 * (m + 1)] = person.reshape(-1, 75)
    return result


def one_hot(labels, classes):
    return np.eye(classes)[labels]


def write_npz(path, train, test, *, classes=60, save=np.savez, twice=False, frames=300, **changes):
    arrays = {
        "x_train": rows(train, frames, twice=twice),
        "y_train": one_hot([i % classes for i in range(len(train))], classes),
        "x_test": rows(test, frames, twice=twice),
        "y_test": one_hot([(classes - 1 - i) % classes for i in range(len(test))], classes),
    }
    save(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


CLIPS = [walk(1, 80), walk(2, 299, 1), walk(2, 300, 2)], [walk(1, 1, 3), walk(2, 150, 4)]
FILES = [
    ("NTU60_CS", NTU60, "xsub"),
    ("NTU60_CV", NTU60, "xview"),
    ("NTU120_CSub", NTU120, "xsub"),
    ("NTU120_CSet", NTU120, "xset"),
]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(("name", "dataset", "protocol"), FILES)
def test_clips_of_an_npz_are_prepared_as_from_other_sources(
    tmp_path, name, dataset, protocol, save
):
    classes = len(dataset.label_names)
    path = write_npz(
        tmp_path / f"{name}.npz", *CLIPS, classes=classes, save=save, twice=classes == 120
    )
    found = read_clips(path, dataset=dataset)
    assert (found.count, found.skeleton.name, found.channels) == (5, "ntu25", 3)
    assert found.preparation["name"] == "prepare_3d"
    clips = list(found.clips)
    assert [clip.id for clip in clips] == [
        *(f"{protocol}_train_{i:05d}" for i in range(3)),
        *(f"{protocol}_val_{i:05d}" for i in range(2)),
    ]
    assert [clip.label for clip in clips] == [0, 1, 2, classes - 1, classes - 2]
    assert [clip.splits for clip in clips] == [(f"{protocol}_train",)] * 3 + [
        (f"{protocol}_val",)
    ] * 2
    for clip, raw in zip(clips, CLIPS[0] + CLIPS[1], strict=True):
        np.testing.assert_allclose(clip.keypoints, prepare_3d(raw, NTU), atol=3e-6)


def test_the_joint_at_the_origin_counts_as_seen(tmp_path):
    """When the second person is seen longer, the first one's joint 1 is moved with the rest."""
    raw = walk(2, 20)
    raw[0, 15:] = 0
    path = write_npz(tmp_path / "NTU60_CS.npz", [raw], [raw])
    for clip in read_clips(path, dataset=NTU60).clips:
        np.testing.assert_allclose(clip.keypoints, prepare_3d(raw, NTU), atol=3e-6)
        assert clip.keypoints[1, 0, 1].any()


def test_rows_of_zeros_and_broken_labels_are_left_out(tmp_path):
    labels = np.zeros((4, 60))
    labels[0, 3] = labels[2, 5] = labels[2, 6] = 1
    labels[3, 7] = 0.5
    path = write_npz(
        tmp_path / "NTU60_CS.npz",
        [np.zeros((1, 5, 25, 3)), *[walk(1, 5)] * 3],
        [walk(1, 5)],
        y_train=labels,
    )
    *left_out, clip = read_clips(path, dataset=NTU60).clips
    assert left_out[0] == LeftOut("xsub_train_00000", "nobody in any frame")
    assert [(one.id, one.reason) for one in left_out[1:]] == [
        (f"xsub_train_0000{i}", "cannot be read") for i in (1, 2, 3)
    ]
    assert left_out[3].detail == "its row of y_train.npy is not one 1 and zeros"
    assert (clip.id, clip.label) == ("xsub_val_00000", 59)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, bool])
def test_labels_may_be_of_any_kind_of_number(tmp_path, kind):
    path = write_npz(
        tmp_path / "NTU60_CS.npz", [walk(1, 5)], [walk(1, 5)], y_train=one_hot([7], 60).astype(kind)
    )
    assert next(iter(read_clips(path, dataset=NTU60).clips)).label == 7


@pytest.mark.parametrize("name", ["ntu.npz", "NTU60.npz", "NTU120_CSub.npz"])
def test_an_npz_of_another_name_says_how_to_name_it(tmp_path, name):
    path = write_npz(tmp_path / name, [walk(1, 5)], [walk(1, 5)])
    with pytest.raises(ValueError, match=r"expected NTU60_CS\.npz, NTU60_CV\.npz .* rename it"):
        read_clips(path, dataset=NTU60)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None}, r"x_test\.npy"),
        ({"y_train": None}, r"y_train\.npy"),
        (
            {"x_train": np.zeros((1, 5, 75), np.float32)},
            r"expected x_train.npy \(clips, frames, 15",
        ),
        (
            {"x_train": np.zeros((1, 0, 150), np.float32)},
            r"expected x_train.npy \(clips, frames, 15",
        ),
        ({"x_train": np.zeros((1, 750), np.float32)}, "expected 3 dimensions"),
        ({"x_train": np.zeros((1, 5, 150), np.int32)}, "in C order, found int32"),
        ({"x_train": np.array([None])}, "in C order, found object"),
        ({"y_train": np.zeros((2, 60))}, r"expected y_train.npy \(1, 60\)"),
        ({"y_train": np.zeros((1, 120))}, r"expected y_train.npy \(1, 60\)"),
        ({"y_train": np.array(["a"])}, "in C order, found <U1"),
    ],
)
def test_arrays_that_are_others_are_refused(tmp_path, changes, message):
    path = write_npz(tmp_path / "NTU60_CS.npz", [walk(1, 5)], [walk(1, 5)], frames=5, **changes)
    with pytest.raises(ValueError, match=message):
        read_clips(path, dataset=NTU60)


@pytest.mark.parametrize(
    ("path", "dataset", "message"),
    [("NTU60_CS.npz", datasets.get("nw-ucla"), "those of ntu60 or ntu120, not nw-ucla")],
)
def test_another_data_set_is_refused(tmp_path, path, dataset, message):
    write_npz(tmp_path / path, [walk(1, 5)], [walk(1, 5)])
    with pytest.raises(ValueError, match=message):
        read_clips(tmp_path / path, dataset=dataset)
    with pytest.raises(FileNotFoundError):
        read_clips(tmp_path / "NTU60_CV.npz", dataset=NTU60)


def zipped(path, header, size, *, method=zipfile.ZIP_DEFLATED):
    """An .npz whose x_train has this header and so many zeros."""
    write_npz(path, [walk(1, 5)], [walk(1, 5)], frames=5)
    with zipfile.ZipFile(path) as archive:
        others = {n: archive.read(n) for n in archive.namelist() if n != "x_train.npy"}
    with zipfile.ZipFile(path, "w", method) as archive:
        with archive.open("x_train.npy", "w", force_zip64=True) as file:
            file.write(with_header(header)[1])
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))
        for name, content in others.items():
            archive.writestr(name, content)
    return path


def test_an_npz_that_would_burst_is_refused(tmp_path):
    shape = f"({(64 << 20) // 3000 + 1}, 5, 150)"
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
    path = zipped(tmp_path / "NTU60_CS.npz", header, 64 << 20)
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match=r"x_train\.npy would unpack to 67\d+ bytes"):
        read_clips(path, dataset=NTU60)


@pytest.mark.parametrize("clips", [10**12, 1, 0])
def test_an_npz_whose_header_claims_another_length_is_refused(tmp_path, clips):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({clips}, 5, 150)}}"
    path = zipped(tmp_path / "NTU60_CS.npz", header, 1 << 20, method=zipfile.ZIP_STORED)
    with pytest.raises(ValueError, match=r"x_train\.npy has another length than its header says"):
        read_clips(path, dataset=NTU60)


def test_other_compressions_are_refused(tmp_path):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 5, 150)}"
    path = zipped(tmp_path / "NTU60_CS.npz", header, 1 << 20, method=zipfile.ZIP_LZMA)
    with pytest.raises(ValueError, match="in a way that NumPy does not write"):
        read_clips(path, dataset=NTU60)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_in_the_coordinates_ends_the_import(tmp_path, save):
    path = write_npz(tmp_path / "NTU60_CS.npz", *CLIPS, save=save)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"NTU60_CS\.npz is damaged: .* get it again"):
        list(read_clips(path, dataset=NTU60).clips)


@given(st.data())
def test_one_wrong_byte_in_an_npz_is_left_out_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("byte") / "NTU60_CS.npz"
    save = data.draw(st.sampled_from([np.savez, np.savez_compressed]))
    write_npz(path, [walk(1, 3)], [walk(2, 2)], frames=5, save=save)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = list(read_clips(path, dataset=NTU60).clips)
    except ValueError:
        return
    assert all(isinstance(clip, (Clip, LeftOut)) for clip in found)


@given(st.floats(0, 0.999))
def test_an_npz_that_is_cut_short_is_refused(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("cut") / "NTU60_CS.npz"
    write_npz(path, [walk(1, 3)], [walk(2, 2)], frames=5)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert not padded.is_source(path)
    with pytest.raises(ValueError, match="cut short or damaged"):
        read_clips(path, dataset=NTU60)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="until /proc is there")
def test_padded_arrays_are_read_in_bounded_memory(tmp_path):
    clips = [walk(1, 100, i) for i in range(150)]
    npz = write_npz(tmp_path / "NTU60_CS.npz", clips, clips)
    names = [f"S001C002P001R001A{i:03d}" for i in range(1, 61)] * 2
    names = [name.replace("S001", f"S{1 + i // 60:03d}") for i, name in enumerate(names)]
    folder = write_arrays(
        tmp_path / "xsub",
        clips[:120],
        clips[:120],
        names=(names, [name.replace("P001", "P003") for name in names]),
    )
    program = """
import sys
from pathlib import Path
from msg3d_lab.data import datasets
from msg3d_lab.data.formats.padded import read_clips

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

before = anonymous()
found = read_clips(Path(sys.argv[1]), dataset=datasets.get("ntu60"))
print(max(anonymous() for clip in found.clips) - before)
"""
    for path in (npz, folder):
        done = subprocess.run(
            [sys.executable, "-c", program, path], capture_output=True, check=True
        )
        assert float(done.stdout) < 12


def test_is_source_knows_folders_and_files(tmp_path, arrays):
    npz = write_npz(tmp_path / "any.npz", [walk(1, 3)], [walk(1, 3)], frames=5)
    assert padded.is_source(arrays[0])
    assert padded.is_source(npz)
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros(3))
    text = tmp_path / "text.npz"
    text.write_text("PK")
    assert not any(
        padded.is_source(p) for p in (tmp_path, other, text, arrays[0] / "train_data_joint.npy")
    )
    assert not padded.is_source(tmp_path / "none")


def test_an_npz_with_a_place_outside_itself_is_refused(tmp_path):
    path = write_npz(tmp_path / "NTU60_CS.npz", [walk(1, 3)], [walk(1, 3)], frames=5)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\5\6") + 16  # where the list of contents is said to start
    content[at : at + 4] = (int.from_bytes(content[at : at + 4], "little") + 40).to_bytes(
        4, "little"
    )
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged: x_train\.npy is said to be outside the file"):
        read_clips(path, dataset=NTU60)


def test_a_disk_that_fails_is_no_damage(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(5, "Input/output error")

    path = write_npz(tmp_path / "NTU60_CS.npz", [walk(1, 3)], [walk(1, 3)], frames=5)
    clips = read_clips(path, dataset=NTU60).clips
    monkeypatch.setattr(zipfile.ZipExtFile, "read", fail)
    with pytest.raises(OSError, match="Input/output"):
        read_clips(path, dataset=NTU60)
    with pytest.raises(OSError, match="Input/output"):
        next(iter(clips))


@pytest.mark.parametrize("order", "CF")
def test_read_array_reads_what_numpy_writes(order):
    for dtype in ("<f4", ">f8", "<i2", "U3", "?"):
        array = np.arange(24).reshape(2, 3, 4).astype(dtype).copy(order)
        content = npy(array)[1]
        found = npy_header.read_array(content)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
        assert found.flags.writeable
        with pytest.raises(ValueError, match="cut short: "):
            npy_header.read_array(content[:-1])
