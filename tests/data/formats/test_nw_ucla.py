from __future__ import annotations

import json
import re
import zipfile

import numpy as np
import pandas as pd
import pytest

from msg3d_lab import skeletons
from msg3d_lab.data.clips import LeftOut
from msg3d_lab.data.datasets import DATASETS
from msg3d_lab.data.formats import nw_ucla
from msg3d_lab.data.formats.registry import import_dataset
from msg3d_lab.data.preprocess import prepare_3d
from msg3d_lab.data.store import open_store


def read_clips(source):
    return nw_ucla.read_clips([source], dataset=DATASETS["nw-ucla"])


NAMES = {"a01_s01_e00_v01": 1, "a08_s02_e03_v02": 7, "a12_s10_e01_v03": 10}


def document(name, frames=4):
    rng = np.random.default_rng(list(name.encode()))
    joints = rng.standard_normal((frames, 20, 3)).round(6).tolist()
    return {"file_name": name, "skeletons": joints, "label": NAMES[name]}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "all_sqe"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.json").write_text(json.dumps(document(name)))
    (folder / "readme.txt").write_text("not a clip")
    (folder / "._a01_s01_e00_v01.json").write_text("nor this")
    return folder


def zipped(folder, **replaced):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.writestr(f"all_sqe/{file.name}", replaced.get(file.stem, file.read_bytes()))
    return path


@pytest.mark.parametrize("pack", [lambda folder: folder, zipped], ids=["folder", "zip"])
def test_clips_of_a_folder_and_of_a_zip(folder, pack):
    found = read_clips(pack(folder))
    assert (found.skeleton.name, found.channels, len(found.clips)) == ("nw-ucla20", 3, 3)
    clips = list(found.clips)
    assert [c.id for c in clips] == list(NAMES)
    assert [c.label for c in clips] == [0, 6, 9]
    assert [c.splits for c in clips] == [
        ("xview_train", "view1to2_train", "view2to1_val"),
        ("xview_train", "view1to2_val", "view2to1_train"),
        ("xview_val",),
    ]
    assert [(c.subject, c.camera, c.setup) for c in clips] == [
        (1, 1, None),
        (2, 2, None),
        (10, 3, None),
    ]
    for clip in clips:
        raw = np.array(document(clip.id)["skeletons"])
        assert clip.keypoints.shape == (1, 4, 20, 3)
        np.testing.assert_allclose(clip.keypoints[0], raw - raw[0, 1], atol=1e-6)


def test_the_source_hash_tells_sources_apart(folder):
    first = read_clips(folder).preparation["sha256"]
    assert first == read_clips(folder).preparation["sha256"]
    (folder / "a08_s02_e03_v02.json").write_text(json.dumps(document("a08_s02_e03_v02", 5)))
    assert first != read_clips(folder).preparation["sha256"]


def test_import_of_a_folder(folder, tmp_path):
    out = import_dataset(folder, dataset="nw-ucla", out=tmp_path / "s.arrow", progress=False)
    store = open_store(out)
    assert store.splits == {
        **{"xview_train": 2, "xview_val": 1, "view1to2_train": 1, "view1to2_val": 1},
        **{"view2to1_train": 1, "view2to1_val": 1},
    }
    assert store.label_names[6] == "donning"
    assert store.preparation["name"] == "center_on"


def test_import_aligned_to_the_body(folder, tmp_path):
    options = {"dataset": "nw-ucla", "out": tmp_path / "s.arrow", "progress": False}
    store = open_store(import_dataset(folder, prepare="align", **options))
    assert store.preparation["name"] == "prepare_3d"
    raw = np.array(document(store.ids[0])["skeletons"])[None]
    np.testing.assert_array_equal(store.keypoints(0), prepare_3d(raw, skeletons.get("nw-ucla20")))
    with pytest.raises(ValueError, match="center or align of NW-UCLA, found 'paper'"):
        import_dataset(folder, prepare="paper", **options | {"out": tmp_path / "p.arrow"})


GOOD = document("a08_s02_e03_v02")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(GOOD)[:-20], "Expecting|delimiter"),
        ("", "Expecting value"),
        (b"\xff\xfe\x00", "decode"),
        ("[" * 100_000, "recursion"),
        ("[1, 2]", "expected a JSON object with 'skeletons'"),
        (json.dumps({"label": 7}), "expected a JSON object with 'skeletons'"),
        (json.dumps(GOOD | {"label": 8}), "'label' is 8, action 8 has label 7"),
        (json.dumps(GOOD | {"skeletons": []}), r"expected 'skeletons' \(frames, 20, 3\)"),
        (json.dumps(GOOD | {"skeletons": [[[1, 2, 3]] * 19]}), r"found \(1, 19, 3\)"),
        (json.dumps(GOOD | {"skeletons": [[[1, 2]], [[1]]]}), "inhomogeneous"),
        (json.dumps(GOOD | {"skeletons": "x"}), "could not convert"),
        (json.dumps(GOOD | {"skeletons": {"a": 1}}), "float"),
        (json.dumps(GOOD | {"skeletons": None}), "found"),
        (json.dumps(GOOD | {"skeletons": [[[10**400] * 3] * 20]}), "too large"),
    ],
)
def test_a_broken_json_is_left_out_with_its_reason(folder, tmp_path, text, message):
    source = zipped(folder, a08_s02_e03_v02=text)
    out = import_dataset(source, dataset="nw-ucla", out=tmp_path / "s.arrow", progress=False)
    store = open_store(out)
    assert store.ids == ["a01_s01_e00_v01", "a12_s10_e01_v03"]
    (row,) = store.left_out.itertuples(index=False)
    assert (row.id, row.reason) == ("a08_s02_e03_v02", "cannot be read")
    assert re.search(message, row.detail)
    table = pd.read_csv(tmp_path / "s.arrow.left-out.csv")
    assert table["id"].tolist() == ["a08_s02_e03_v02"]


def test_a_json_with_nan_is_left_out(folder, tmp_path):
    bad = json.dumps(GOOD | {"skeletons": [[[float("nan")] * 3] * 20]})
    source = zipped(folder, a08_s02_e03_v02=bad)
    out = import_dataset(source, dataset="nw-ucla", out=tmp_path / "s.arrow", progress=False)
    (row,) = open_store(out).left_out.itertuples(index=False)
    assert row.reason == "cannot be used"
    assert "60 coordinates are NaN" in row.detail


@pytest.mark.parametrize("name", ["a07_s01_e00_v01", "a01_s01_e00_v04"])
def test_an_action_or_view_that_does_not_exist_is_left_out(folder, name):
    (folder / f"{name}.json").write_text(json.dumps(GOOD))
    (out,) = [entry for entry in read_clips(folder).clips if entry.id == name]
    assert isinstance(out, LeftOut)
    assert "expected an action of" in out.detail


def test_a_folder_or_zip_without_clips_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no NW-UCLA clips"):
        read_clips(tmp_path)
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="not a zip, or it is damaged or cut short"):
        read_clips(path)


@pytest.mark.shared
def test_the_real_data_set(shared_dir, tmp_path):
    source = shared_dir / "data" / "nw-ucla" / "all_sqe.zip"
    out = import_dataset(source, dataset="nw-ucla", out=tmp_path / "s.arrow", progress=False)
    store = open_store(out)
    assert (store.splits["xview_train"], store.splits["xview_val"]) == (1020, 464)
    assert store.splits["view1to2_train"] + store.splits["view2to1_train"] == 1020
    assert (store.frames.min(), store.frames.max()) == (1, 201)
    assert set(store.labels) == set(range(10))
    assert set(store.samples["camera"][store.indices("xview_train")]) == {1, 2}
    assert set(store.samples["camera"][store.indices("xview_val")]) == {3}
    assert set(store.samples["subject"]) <= set(range(1, 11))
    with zipfile.ZipFile(source) as archive:
        for i in range(0, len(store), 50):
            raw = json.loads(archive.read(f"all_sqe/{store.ids[i]}.json"))
            joints = np.array(raw["skeletons"])
            np.testing.assert_allclose(store.keypoints(i)[0], joints - joints[0, 1], atol=1e-6)
            assert store.labels[i] == raw["label"] - 1
