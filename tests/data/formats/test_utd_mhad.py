from __future__ import annotations

import io
import re
import zipfile

import numpy as np
import pytest
import scipy.io

from msg3d_lab.data.clips import LeftOut
from msg3d_lab.data.datasets import DATASETS
from msg3d_lab.data.formats import utd_mhad
from msg3d_lab.data.formats.registry import import_dataset
from msg3d_lab.data.store import open_store

HEAD, RIGHT_HAND = (-0.0151838, 0.5333300, -0.0602586), (0.2352472, -0.3320051, -0.0964148)
NAMES = {"a1_s1_t1": 0, "a10_s2_t4": 9, "a27_s7_t3": 26}


def read_clips(source):
    return utd_mhad.read_clips([source], dataset=DATASETS["utd-mhad"])


def joints_of(name, frames=5):
    rng = np.random.default_rng(list(name.encode()))
    return rng.standard_normal((20, 3, frames))


def matlab(compress=True, **variables):
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=compress)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "Skeleton"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}_skeleton.mat").write_bytes(matlab(d_skel=joints_of(name)))
    (folder / "a1_s1_t1_inertial.mat").write_bytes(matlab(d_iner=np.ones((4, 6))))
    (folder / "readme.txt").write_text("not a clip")
    return folder


def zipped(folder, **replaced):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            clip = file.stem.removesuffix("_skeleton")
            archive.writestr(f"Skeleton/{file.name}", replaced.get(clip, file.read_bytes()))
    return path


@pytest.mark.parametrize("pack", [lambda folder: folder, zipped], ids=["folder", "zip"])
def test_clips_of_a_folder_and_of_a_zip(folder, pack):
    found = read_clips(pack(folder))
    assert (found.skeleton.name, found.channels, len(found.clips)) == ("utd-mhad20", 3, 3)
    clips = {clip.id: clip for clip in found.clips}
    assert {name: clip.label for name, clip in clips.items()} == NAMES
    assert [clips[n].splits for n in NAMES] == [("xsub_train",), ("xsub_val",), ("xsub_train",)]
    assert [clips[n].subject for n in NAMES] == [1, 2, 7]
    for name, clip in clips.items():
        raw = joints_of(name)
        assert clip.keypoints.shape == (1, 5, 20, 3)
        for t in range(5):  # the spine (row 2) of frame 0 is the origin
            np.testing.assert_allclose(clip.keypoints[0, t], raw[:, :, t] - raw[2, :, 0], atol=1e-6)


def test_import_of_a_folder(folder, tmp_path):
    out = import_dataset(folder, dataset="utd-mhad", out=tmp_path / "s.arrow", progress=False)
    store = open_store(out)
    assert store.splits == {"xsub_train": 2, "xsub_val": 1}
    assert (len(store.label_names), store.label_names[26][:5]) == (27, "squat")
    assert (store.preparation["name"], store.preparation["joint"]) == ("center_on", 2)
    assert store.skeleton.joints[2] == "spine"


GOOD = matlab(d_skel=joints_of("a10_s2_t4"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "not a MATLAB file of version 5, or damaged"),
        (GOOD[:-40], "not a MATLAB file of version 5, or damaged"),
        (matlab(skel=np.ones((20, 3, 2))), r"expected d_skel \(20, 3, frames\), found \(\)"),
        (
            matlab(d_skel=np.ones((25, 3, 2))),
            r"d_skel \(20, 3, frames\), found \(25, 3, 2",
        ),
        (matlab(d_skel=np.ones((20, 3))), r"found \(20, 3\)"),
        (matlab(d_skel=np.ones((20, 3, 0))), r"found \(20, 3, 0\)"),
    ],
)
def test_a_broken_file_is_left_out_with_its_reason(folder, tmp_path, content, message):
    source = zipped(folder, a10_s2_t4=content)
    out = import_dataset(source, dataset="utd-mhad", out=tmp_path / "s.arrow", progress=False)
    store = open_store(out)
    assert store.ids == ["a1_s1_t1", "a27_s7_t3"]
    (row,) = store.left_out.itertuples(index=False)
    assert (row.id, row.reason) == ("a10_s2_t4", "cannot be read")
    assert re.search(message, row.detail), row.detail


def test_a_nan_is_left_out(folder, tmp_path):
    bad = joints_of("a10_s2_t4")
    bad[3, 1, 2] = np.nan
    source = zipped(folder, a10_s2_t4=matlab(d_skel=bad))
    out = import_dataset(source, dataset="utd-mhad", out=tmp_path / "s.arrow", progress=False)
    (row,) = open_store(out).left_out.itertuples(index=False)
    assert (row.reason, "1 coordinates are NaN" in row.detail) == ("cannot be used", True)


@pytest.mark.parametrize("name", ["a28_s1_t1", "a0_s1_t1", "a1_s9_t1", "a1_s1_t5"])
def test_numbers_that_do_not_exist_are_left_out(folder, name):
    (folder / f"{name}_skeleton.mat").write_bytes(GOOD)
    (out,) = [entry for entry in read_clips(folder).clips if entry.id == name]
    assert isinstance(out, LeftOut)
    assert "expected action 1 to 27" in out.detail


def test_a_folder_or_zip_without_clips_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no UTD-MHAD clips"):
        read_clips(tmp_path)


@pytest.mark.shared
def test_the_real_data_set(shared_dir, tmp_path):
    source = shared_dir / "data" / "utd-mhad" / "utd-mhad-skeleton.zip"
    out = import_dataset(source, dataset="utd-mhad", out=tmp_path / "s.arrow", progress=False)
    store = open_store(out)
    assert store.left_out.empty
    assert store.splits == {"xsub_train": 431, "xsub_val": 430}
    assert (store.frames.min(), store.frames.max(), int(store.frames.sum())) == (41, 125, 58299)
    assert set(np.bincount(store.labels)) == {31, 32}
    assert set(store.samples["subject"][store.indices("xsub_train")]) == {1, 3, 5, 7}
    assert store.fingerprint == "b24a9658dc22"
    place = store.skeleton.joints.index
    # A few coordinates, in metres from the spine of frame 0: the head above, the right hand at +x.
    first = store.keypoints(store.ids.index("a1_s1_t1"))[0]
    np.testing.assert_allclose(first[0, place("head")], HEAD, atol=1e-6)
    np.testing.assert_allclose(first[-1, place("right hand")], RIGHT_HAND, atol=1e-6)

    def all_of(label, joint):
        clips = np.flatnonzero(store.labels == label)
        return [store.keypoints(int(i))[0][:, place(joint)] for i in clips]

    # Everybody stands upright, feet down, the right side at +x.
    for label in range(27):
        heads, feet = all_of(label, "head"), all_of(label, "left foot")
        assert all((h[:, 1] > f[:, 1]).all() for h, f in zip(heads, feet, strict=True))
    # Class 0 is done with the right arm; class 8 is a circle clockwise as the performer sees it:
    # its signed area in the plane of the camera (x to the performer's right, y up) is negative.
    paths = [[np.linalg.norm(np.diff(p, axis=0), axis=1).sum() for p in all_of(0, hand)]
             for hand in ("right hand", "left hand")]  # fmt: skip
    assert (np.array(paths[0]) > 2 * np.array(paths[1])).all()
    for label, sign in ((8, -1), (9, 1)):
        for path in all_of(label, "right hand"):
            x, y = path[:, 0], path[:, 1]
            assert np.sign(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) == sign
