from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip
from msg3d_lab.data.importing import describe, import_dataset
from msg3d_lab.data.store import open_store, write_store


@pytest.fixture
def ucla(tmp_path):
    path = tmp_path / "download.zip"  # the name says nothing: the members do
    with zipfile.ZipFile(path, "w") as archive:
        clip = {"skeletons": np.ones((3, 20, 3)).tolist(), "label": 1}
        archive.writestr("x/a01_s01_e00_v01.json", json.dumps(clip))
    return path


def test_import_shows_progress_only_where_wanted(ucla, tmp_path, capsys):
    import_dataset(ucla, dataset="nw-ucla", out=tmp_path / "a.arrow", progress=False)
    assert capsys.readouterr().err == ""
    import_dataset(ucla, dataset="nw-ucla", out=tmp_path / "b.arrow")
    assert "1/1" in capsys.readouterr().err


def test_import_makes_the_folder_of_the_store(ucla, tmp_path):
    out = tmp_path / "new" / "folder" / "a.arrow"
    assert import_dataset(ucla, dataset="nw-ucla", out=out, progress=False) == out
    assert len(open_store(out)) == 1


def test_import_does_not_overwrite(ucla, tmp_path):
    out = tmp_path / "a.arrow"
    out.write_text("mine")
    ucla.write_bytes(b"not even read")
    with pytest.raises(FileExistsError, match=r"a\.arrow exists already"):
        import_dataset(ucla, dataset="nw-ucla", out=out)
    assert out.read_text() == "mine"


def test_import_refuses_a_source_of_another_data_set(ucla, tmp_path):
    with pytest.raises(ValueError, match="holds NW-UCLA clips, not ntu60"):
        import_dataset(ucla, dataset="ntu60", out=tmp_path / "a.arrow")
    source = tmp_path / "ntu.pkl"
    source.write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match="is a pickle; nw-ucla comes as"):
        import_dataset(source, dataset="nw-ucla", out=tmp_path / "a.arrow")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "of no format that can be imported: expected an OpenMMLab annotation pickle"),
        (b"hello", "of no format that can be imported"),
        (b"PK\x03\x04 and no more", "a zip that is cut short"),
    ],
)
def test_import_refuses_files_of_other_formats(tmp_path, content, message):
    source = tmp_path / "source"
    source.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        import_dataset(source, dataset="ntu60", out=tmp_path / "a.arrow")
    assert list(tmp_path.iterdir()) == [source]


def test_import_refuses_folders_and_zips_without_clips(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    archive = tmp_path / "other.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "x")
    for source in (empty, archive):
        with pytest.raises(ValueError, match="of no format that can be imported"):
            import_dataset(source, dataset="nw-ucla", out=tmp_path / "a.arrow")


def test_import_names_what_is_missing_or_unknown(tmp_path, ucla):
    with pytest.raises(FileNotFoundError, match=r"none\.zip"):
        import_dataset(tmp_path / "none.zip", dataset="nw-ucla", out=tmp_path / "a.arrow")
    with pytest.raises(ValueError, match="unknown data set 'ucla': expected one of"):
        import_dataset(ucla, dataset="ucla", out=tmp_path / "a.arrow")


def test_describe_says_what_is_in_a_store(tmp_path):
    def clip(i, persons, frames, splits):
        return Clip(f"c{i}", np.ones((persons, frames, 17, 3), np.float32), i % 2, splits)

    store = open_store(
        write_store(
            tmp_path / "s.arrow",
            [clip(0, 1, 4, ("t",)), clip(1, 2, 9, ("t", "v")), clip(2, 1, 5, ())],
            dataset="made-up",
            skeleton=skeletons.get("coco17"),
            label_names=["a", "b", "c"],
            channels=3,
            preparation={
                "name": "prepare_2d",
                "scored": True,
                "sha256": "0123456789abcdef99",
                "left_out": ["x1", "x2"],
            },
            synthetic=True,
        )
    )
    text = describe(store)
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
    assert lines["left out"] == "2 clips without a person: x1, x2"
    assert lines["fingerprint"] == store.fingerprint
    assert str(store.path) in lines["file"]


def test_describe_says_synthetic_only_of_what_is(ucla, tmp_path):
    out = import_dataset(ucla, dataset="nw-ucla", out=tmp_path / "a.arrow", progress=False)
    text = describe(open_store(out))
    assert "SYNTHETIC" not in text
    assert "3 channels (x, y, z)" in text
    assert "xview_train 1" in text
    assert "left out" not in text
