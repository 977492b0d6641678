"""The arrays of 2s-AGCN and MS-G3D: made-up clips are padded by their rules and read again."""

from __future__ import annotations

import io
import pickle
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msg3d_lab.data import datasets
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import Dataset
from msg3d_lab.data.formats.own.options import OwnData
from msg3d_lab.data.formats.padded import agcn as agcn_arrays
from msg3d_lab.data.formats.padded.agcn import cut_repetition, read_clips

NTU60, NTU120 = datasets.DATASETS["ntu60"], datasets.DATASETS["ntu120"]
TRAIN = ["S001C002P001R001A001", "S002C003P002R002A060", "S003C002P004R001A010"]
VAL = ["S001C002P003R001A002", "S017C001P040R002A050"]


def walk(persons, frames, seed=0):
    """(M, T, 25, 3) in the camera's frame."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((persons, frames, 25, 3))
    start = rng.standard_normal((persons, 1, 25, 3)) + np.array([0.3, 0.1, 3])
    return (start + 0.05 * np.cumsum(steps, axis=1)).astype(np.float32)


def repeated(clip, frames=300):
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
        arrays = np.stack([repeated(clip, frames).transpose(3, 1, 2, 0) for clip in clips])
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


def test_clips_get_their_length_back(arrays):
    folder, train, val = arrays
    found = read_clips(folder, dataset=NTU60)
    assert (len(found.clips), found.skeleton.name, found.channels) == (5, "ntu25", 3)
    assert isinstance(found.clips, Sequence)
    for clip, name, raw in zip(found.clips, TRAIN + VAL, train + val, strict=True):
        assert clip.id == name
        np.testing.assert_array_equal(
            clip.keypoints, repeated(raw, raw.shape[1])[: len(raw)], err_msg=name
        )
        assert clip.keypoints.dtype == np.float32
        assert clip.splits == datasets.ntu_splits(name)
        assert clip.label == int(name[17:]) - 1
    assert (found.clips[1].setup, found.clips[1].camera, found.clips[1].subject) == (2, 3, 2)


@settings(max_examples=30)
@given(
    st.integers(1, 299), st.integers(1, 2), st.sampled_from([300, 64]), st.integers(0, 2**32 - 1)
)
def test_cut_repetition_undoes_the_padding_of_any_clip(frames, persons, room, seed):
    frames = min(frames, room)
    raw = walk(persons, frames, seed)
    cut = cut_repetition(repeated(raw, room))
    np.testing.assert_array_equal(cut, repeated(raw, frames)[:persons])


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(0, 40))
def test_cut_repetition_finds_the_smallest_period(frames, more):
    """Against a slow loop, with frames of few kinds, so that there are many near misses."""
    text = [1 + frames[i % len(frames)] for i in range(len(frames) + more)]
    expected = next(n for n in range(1, len(text) + 1) if text[n:] == text[:-n])
    clip = np.array(text, dtype=np.float32).reshape(1, -1, 1, 1) * np.ones((1, 1, 25, 3))
    assert cut_repetition(clip).shape == (1, expected, 25, 3)


def test_cut_repetition_leaves_one_frame_of_a_person_who_stands_still():
    assert cut_repetition(np.ones((2, 300, 25, 3))).shape == (2, 1, 25, 3)


def test_cut_repetition_leaves_a_clip_that_fills_the_array():
    clip = walk(2, 300)
    np.testing.assert_array_equal(cut_repetition(clip), clip)
    clip[:, -1] = clip[:, 0]  # a period of 299
    assert cut_repetition(clip).shape[1] == 299


def test_cut_repetition_cuts_zeros_that_follow_and_looks_for_no_period_then():
    clip = np.zeros((2, 300, 25, 3), dtype=np.float32)
    clip[0, :40] = np.tile(walk(1, 10), (1, 4, 1, 1))[0]
    assert cut_repetition(clip).shape == (1, 40, 25, 3)
    clip[1, :50] = walk(1, 50, 1)[0]
    assert cut_repetition(clip).shape == (2, 50, 25, 3)
    assert cut_repetition(np.zeros_like(clip)).shape == (0, 0, 25, 3)


def test_cut_repetition_goes_by_all_persons():
    """A second person who leaves is repeated separately: 100 and 60 frames have no common end."""
    raw = walk(2, 100)
    raw[1, 60:] = 0
    padded = repeated(raw)
    np.testing.assert_array_equal(cut_repetition(padded), padded)
    raw[1, 50:] = 0  # both fit into 100 frames
    padded = repeated(raw)
    np.testing.assert_array_equal(cut_repetition(padded), padded[:, :100])


def test_cut_repetition_takes_whoever_is_there_for_the_main_person():
    clip = np.zeros((2, 300, 25, 3))
    clip[1] = np.tile(walk(1, 100), (1, 3, 1, 1))[0]
    assert cut_repetition(clip).shape == (1, 100, 25, 3)


def test_recordings_without_a_person_are_left_out(tmp_path):
    folder = write_arrays(tmp_path / "x", [walk(1, 9)] * 3, [np.zeros((1, 9, 25, 3)), walk(1, 9)])
    assert read_clips(folder, dataset=NTU60).clips[3] == LeftOut(VAL[0], "nobody in any frame")


def test_clips_pickle_and_slice_small(arrays):
    clips = read_clips(arrays[0], dataset=NTU60).clips
    assert len(pickle.dumps(clips)) < 5000
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
    assert len(read_clips(folder, dataset=NTU60).clips) == 3
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


BAD = r"joint\.npy is not an \.npy file of numbers, or it is cut short or damaged"
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
        (npy(np.ones((2, 3, 4, 18, 2), np.float32)), "arrays differ in channels or joints"),
        (npy(np.ones((2, 3, 4, 25, 2), np.int32)), "expected numbers in C order, found int32"),
        (npy(np.ones((2, 25, 4, 3, 2), np.float32).transpose(4, 3, 2, 1, 0)), "in C order"),
        (npy(np.asfortranarray(np.ones((2, 3, 4, 25, 2), np.float32))), "in C order"),
        (npy(np.array([None, {}]), allow_pickle=True), "Python objects"),
        (("val_data_joint.npy", WHOLE[:-1]), "cut short or damaged"),
        (("val_data_joint.npy", WHOLE[:50]), BAD),
        (("val_data_joint.npy", b""), BAD),
        (
            ("val_data_joint.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f"),
            BAD,
        ),
        (
            ("val_data_joint.npy", b"PK\x03\x04" + bytes(99)),
            BAD,
        ),
        (with_header("(" * 9000), BAD),
        (with_header("-" * 9000 + "1"), BAD),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), BAD),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 99999, 25, 2)}"),
            BAD,
        ),
        (
            with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**60},)}}"),
            BAD,
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


def test_arrays_are_read_in_bounded_memory(tmp_path):
    clips = [walk(1, 100, i) for i in range(60)]
    train = [f"S001C002P001R001A{i:03d}" for i in range(1, 61)]
    val = [name.replace("P001", "P003") for name in train]
    folder = write_arrays(tmp_path / "xsub", clips, clips, names=(train, val))
    assert (folder / "train_data_joint.npy").stat().st_size > 10e6
    tracemalloc.start()
    assert all(isinstance(clip, Clip) for clip in read_clips(folder, dataset=NTU60).clips)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6


def test_is_source_knows_folders(tmp_path, arrays):
    assert agcn_arrays.is_source(arrays[0])
    assert not any(
        agcn_arrays.is_source(path)
        for path in (tmp_path, arrays[0] / "train_data_joint.npy", tmp_path / "none")
    )


# --- own recordings -----------------------------------------------------------------------------

OWN = Dataset("mine", title="mine", layouts=(), label_names=(), protocols=())


@pytest.fixture
def own(tmp_path):
    """Write arrays of own data: part -> (clips, names, labels), clips (M, T, V, C)."""

    def write(array="data.npy", **parts):
        for part, (clips, names, labels) in parts.items():
            np.save(tmp_path / f"{part}_{array}", np.stack(clips).transpose(0, 4, 2, 3, 1))
            (tmp_path / f"{part}_label.pkl").write_bytes(pickle.dumps((names, labels)))
        return tmp_path

    return write


def flat(persons=1, frames=9, joints=17, channels=3, seed=0):
    return np.random.default_rng(seed).uniform(0.1, 0.4, (persons, frames, joints, channels))


@pytest.mark.parametrize("array", ["data.npy", "data_joint.npy"])
def test_own_arrays_keep_names_parts_and_coordinates(own, array):
    clips = [flat(3, seed=i) for i in range(3)]
    train = clips[:2], ["v1.2_walk.json", "b"], [0, 2]
    folder = own(array, train=train, test=(clips[2:], ["c"], [1]))
    assert agcn_arrays.is_source(folder)
    found = read_clips(folder, dataset=OWN)
    assert [c.id for c in found.clips] == ["v1.2_walk", "b", "c"]
    assert [c.splits for c in found.clips] == [("train",), ("train",), ("test",)]
    assert [c.label for c in found.clips] == [0, 2, 1]
    for clip, raw in zip(found.clips, clips, strict=True):
        np.testing.assert_array_equal(clip.keypoints, np.float32(raw))
    assert (found.skeleton.name, found.preparation["scored"]) == ("coco17", True)
    assert found.label_names == ("class 0", "class 1", "class 2")
    assert "taken as x, y, score" in "; ".join(found.notes)


def test_own_arrays_take_a_layout_class_names_and_a_preparation(own, layout, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("4 wave\n9 jump\n")
    folder = own(train=([flat(1, joints=4)] * 2, ["a", "b"], [9, 4]))
    found = read_clips(folder, dataset=OWN, own=OwnData(layout=layout, labels=names))
    assert (found.label_names, [c.label for c in found.clips]) == (("wave", "jump"), [1, 0])
    assert (found.preparation["name"], found.notes) == ("arrays", ())
    found = read_clips(folder, dataset=OWN, own=OwnData(layout=layout, prepare="center"))
    assert not found.clips[0].keypoints[0, 0, layout.center].any()
    with pytest.raises(ValueError, match="has 4 joints, the layout ntu25 has 25"):
        read_clips(folder, dataset=OWN, own=OwnData(layout="ntu25"))
    with pytest.raises(ValueError, match="4 joints in 3D, and none of the library"):
        read_clips(folder, dataset=OWN)


def test_own_arrays_without_their_labels_or_of_two_kinds_are_refused(own):
    folder = own(train=([flat()], ["a"], [0]), val=([flat(joints=18)], ["b"], [0]))
    with pytest.raises(ValueError, match=r"differ in channels or joints: train_data\.npy \(1, 3"):
        read_clips(folder, dataset=OWN)
    (folder / "val_label.pkl").unlink()
    with pytest.raises(FileNotFoundError, match=r"no val_label\.pkl: each part has an array and a"):
        read_clips(folder, dataset=OWN)


def test_labels_that_contradict_the_names_are_refused(tmp_path):
    clips = [walk(1, 5)] * 3, [walk(1, 5)] * 2
    folder = write_arrays(tmp_path / "x", *clips)
    (folder / "val_label.pkl").write_bytes(pickle.dumps((VAL, [1, 0])))
    with pytest.raises(ValueError, match=r"labels of 1 of 5 .* action 50, .* found label 0"):
        read_clips(folder, dataset=NTU60)
