"""The arrays of CTR-GCN: made-up clips are padded by its rules, written and read again."""

from __future__ import annotations

import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msg3d_lab import skeletons
from msg3d_lab.data import datasets
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import Dataset
from msg3d_lab.data.formats.own.options import OwnData
from msg3d_lab.data.formats.padded import ctrgcn as ctrgcn_npz
from msg3d_lab.data.formats.padded.ctrgcn import read_clips
from msg3d_lab.data.formats.registry import import_dataset
from msg3d_lab.data.preprocess import prepare_3d

NTU60, NTU120 = datasets.DATASETS["ntu60"], datasets.DATASETS["ntu120"]
NTU = skeletons.get("ntu25")


def walk(persons, frames, seed=0):
    """(M, T, 25, 3) in the camera's frame."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((persons, frames, 25, 3))
    start = rng.standard_normal((persons, 1, 25, 3)) + np.array([0.3, 0.1, 3])
    return (start + 0.05 * np.cumsum(steps, axis=1)).astype(np.float32)


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
    assert left_out[3].detail == "its row of y_train is not one 1 and zeros"
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
        ({"x_train": np.zeros((1, 5, 75), np.float32)}, "differ in joints or classes"),
        ({"x_train": np.zeros((1, 0, 150), np.float32)}, r"found x_train \(1, 0, 150\)"),
        ({"x_train": np.zeros((1, 750), np.float32)}, "expected 3 dimensions"),
        ({"x_train": np.zeros((1, 5, 150), np.int32)}, "in C order, found int32"),
        ({"x_train": np.array([None])}, "in C order, found object"),
        ({"y_train": np.zeros((2, 60))}, r"found x_train \(1, 5, 150\) and y_train \(2, 60\)"),
        ({"y_train": np.zeros((1, 120))}, "differ in joints or classes"),
        ({"y_train": np.array(["a"])}, "in C order, found <U1"),
    ],
)
def test_arrays_that_are_others_are_refused(tmp_path, changes, message):
    path = write_npz(tmp_path / "NTU60_CS.npz", [walk(1, 5)], [walk(1, 5)], frames=5, **changes)
    with pytest.raises(ValueError, match=message):
        read_clips(path, dataset=NTU60)


def test_another_data_set_is_refused(tmp_path):
    path = write_npz(tmp_path / "NTU60_CS.npz", [walk(1, 5)], [walk(1, 5)], frames=5)
    with pytest.raises(ValueError, match=r"NTU120_CSet.npz \(ntu120\) for ntu120; rename it"):
        read_clips(path, dataset=NTU120)
    with pytest.raises(ValueError, match="not of nw-ucla"):
        import_dataset(path, dataset="nw-ucla", out=tmp_path / "out.arrow")
    with pytest.raises(FileNotFoundError):
        read_clips(tmp_path / "NTU60_CV.npz", dataset=NTU60)


def with_header(text):
    header = text.encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def zipped(path, header, size, *, method=zipfile.ZIP_DEFLATED):
    """An .npz whose x_train has this header and so many zeros."""
    write_npz(path, [walk(1, 5)], [walk(1, 5)], frames=5)
    with zipfile.ZipFile(path) as archive:
        others = {n: archive.read(n) for n in archive.namelist() if n != "x_train.npy"}
    with zipfile.ZipFile(path, "w", method) as archive:
        with archive.open("x_train.npy", "w", force_zip64=True) as file:
            file.write(with_header(header))
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))
        for name, content in others.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("clips", [10**12, 1, 0])
def test_an_npz_whose_header_claims_another_length_is_refused(tmp_path, clips):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({clips}, 5, 150)}}"
    path = zipped(tmp_path / "NTU60_CS.npz", header, 1 << 20, method=zipfile.ZIP_STORED)
    with pytest.raises(ValueError, match="x_train has another length than its header says"):
        read_clips(path, dataset=NTU60)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_in_the_coordinates_ends_the_import(tmp_path, save):
    path = write_npz(tmp_path / "NTU60_CS.npz", *CLIPS, save=save)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"NTU60_CS\.npz is damaged: .* get it again"):
        list(read_clips(path, dataset=NTU60).clips)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The bytes of two small files, stored and compressed, and where to write damaged ones."""
    path = tmp_path_factory.mktemp("small") / "NTU60_CS.npz"
    contents = []
    for save in (np.savez, np.savez_compressed):
        write_npz(path, [walk(1, 3)], [walk(2, 2)], frames=5, save=save)
        contents.append(path.read_bytes())
    return path, contents


@settings(max_examples=20)
@given(st.floats(0, 0.999))
def test_an_npz_that_is_cut_short_is_refused(small, share):
    path, (content, _) = small
    path.write_bytes(content[: int(share * len(content))])
    assert not ctrgcn_npz.is_source(path)
    with pytest.raises(ValueError, match="cut short or damaged"):
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


def test_an_npz_is_read_in_bounded_memory(tmp_path):
    clips = [walk(1, 100, i) for i in range(60)]
    path = write_npz(tmp_path / "NTU60_CS.npz", clips, clips)
    assert path.stat().st_size > 20e6
    tracemalloc.start()
    assert all(isinstance(clip, Clip) for clip in read_clips(path, dataset=NTU60).clips)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6


def test_is_source_knows_its_files(tmp_path):
    assert ctrgcn_npz.is_source(
        write_npz(tmp_path / "any.npz", [walk(1, 3)], [walk(1, 3)], frames=5)
    )
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros(3))
    text = tmp_path / "text.npz"
    text.write_text("PK")
    assert not any(ctrgcn_npz.is_source(p) for p in (tmp_path, other, text, tmp_path / "none"))


# --- own recordings -----------------------------------------------------------------------------

OWN = Dataset("mine", title="mine", layouts=(), label_names=(), protocols=())


def own_npz(path, clips, *, classes=3):
    """Clips (M, T, V, C) of one shape as rows; the last one is the test part."""
    x = np.stack([c.swapaxes(0, 1).reshape(c.shape[1], -1) for c in clips]).astype(np.float32)
    y = one_hot([i % classes for i in range(len(clips))], classes)
    np.savez(path, x_train=x[:-1], y_train=y[:-1], x_test=x[-1:], y_test=y[-1:])
    return path


@pytest.mark.parametrize(("persons", "channels"), [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)])
def test_own_npz_of_any_layout(tmp_path, persons, channels):
    rng = np.random.default_rng(0)
    clips = [rng.uniform(0.1, 1, (persons, 7, 17, channels)) for _ in range(4)]
    clips[1][-1] = 0
    path = own_npz(tmp_path / "mine.npz", clips)
    found = read_clips(path, dataset=OWN, own=OwnData(layout="coco17"))
    assert (found.channels, found.preparation["scored"]) == (channels, channels == 3)
    assert f"{persons} persons x 17 joints x {channels} channels" in found.notes[0]
    *train, test = found.clips
    assert (train[0].splits, test.splits) == (("train",), ("val",))
    np.testing.assert_array_equal(test.keypoints, np.float32(clips[3]))
    if persons > 1:
        assert len(train[1].keypoints) == persons - 1
    else:
        assert train[1] == LeftOut("train_00001", "nobody in any frame")


def test_own_npz_names_layout_and_classes(tmp_path):
    path = own_npz(tmp_path / "mine.npz", [np.ones((2, 5, 25, 3))] * 2)
    names = tmp_path / "names.txt"
    names.write_text("wave\njump\nsit\n")
    found = read_clips(path, dataset=OWN, own=OwnData(labels=names))
    assert (found.skeleton.name, found.label_names) == ("ntu25", ("wave", "jump", "sit"))
    with pytest.raises(ValueError, match="rows of 150 numbers, which are not persons x 17 joints"):
        read_clips(path, dataset=OWN, own=OwnData(layout="coco17"))
    out = import_dataset(path, dataset="mine", out=tmp_path / "o.arrow", progress=False)
    assert out.is_file()
