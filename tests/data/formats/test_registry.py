from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msg3d_lab.cli import main
from msg3d_lab.data.formats import registry
from msg3d_lab.data.formats.ntu.bodies import Track
from msg3d_lab.data.formats.ntu.skeleton_file import format_skeleton
from msg3d_lab.data.formats.parallel import Chunks
from msg3d_lab.data.formats.registry import import_dataset, left_out_path
from msg3d_lab.data.store import open_store


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
    with pytest.raises(ValueError, match="the format of nw-ucla, not of ntu60"):
        import_dataset(ucla, dataset="ntu60", out=tmp_path / "a.arrow")
    source = tmp_path / "ntu.pkl"
    source.write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match="the format of ntu60 and ntu120, not of nw-ucla"):
        import_dataset(source, dataset="nw-ucla", out=tmp_path / "a.arrow")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"",
            "of no format that can be imported: expected raw NTU .* an OpenMMLab annotation pickle",
        ),
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


def raw_text(rng, frames):
    """A raw recording of one person who shakes about, for good."""
    joints = rng.standard_normal((frames, 25, 3)).round(5)
    track = Track(7, np.arange(frames), np.zeros(frames, np.int64), joints)
    return format_skeleton([track], frames)


def raw_zip(path, count, *, frames=20):
    """Made-up raw NTU recordings: one person who shakes about."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(count):
            name = f"S001C00{1 + i % 3}P{1 + i // 180 % 40:03d}R001A{1 + i // 3 % 60:03d}"
            text = raw_text(rng, frames)
            if i % 100 == 50:
                text = text[: len(text) // 2]
            archive.writestr(f"nturgb+d_skeletons/{name}.skeleton", text)
    return path


def test_import_of_several_sources_and_of_options(tmp_path):
    first = raw_zip(tmp_path / "a.zip", 4)
    (tmp_path / "folder").mkdir()
    text = raw_text(np.random.default_rng(1), 20)
    (tmp_path / "folder" / "S018C001P001R001A061.skeleton").write_bytes(text)
    out = import_dataset(
        [first, tmp_path / "folder"],
        dataset="ntu120",
        out=tmp_path / "s.arrow",
        bodies="energy",
        progress=False,
    )
    store = open_store(out)
    assert (len(store), store.ids[-1]) == (5, "S018C001P001R001A061")
    assert store.preparation["bodies"] == "energy"
    assert not (tmp_path / "s.arrow.left-out.csv").exists()


def test_import_refuses_options_of_another_format(ucla, tmp_path):
    out = tmp_path / "a.arrow"
    with pytest.raises(ValueError, match=r"bodies is not an option of NW-UCLA's .*takes prepare"):
        import_dataset(ucla, dataset="nw-ucla", out=out, bodies="energy")
    with pytest.raises(ValueError, match="image_size is not an option of NW-UCLA's"):
        import_dataset(ucla, dataset="nw-ucla", out=out, image_size=(2, 2))
    with pytest.raises(ValueError, match="bodies is not an option of recordings of your own"):
        import_dataset(ucla, dataset="mine", out=out, layout="ntu25", bodies="energy")
    with pytest.raises(ValueError, match="expected one source of this format, found 2"):
        import_dataset([ucla, ucla.parent / "download.zip"], dataset="nw-ucla", out=out)
    with pytest.raises(ValueError, match="of different formats"):
        import_dataset([ucla, raw_zip(tmp_path / "r.zip", 1)], dataset="ntu60", out=out)
    with pytest.raises(FileNotFoundError, match=r"no joint layout x\.yaml: expected"):
        import_dataset(ucla, dataset="mine", out=out, layout="x.yaml")
    assert not out.exists()


def test_import_refuses_names_and_numbers_that_cannot_be(ucla, tmp_path):
    with pytest.raises(ValueError, match="at least one worker, found 0"):
        import_dataset(ucla, dataset="nw-ucla", workers=0)
    with pytest.raises(ValueError, match=r"found '\.\./m'"):
        import_dataset(ucla, dataset="../m", layout="ntu25")
    with pytest.raises(ValueError, match="at least one file or folder"):
        import_dataset([], dataset="nw-ucla")
    with pytest.raises(ValueError, match="of your own, give their joint layout with --layout"):
        import_dataset(ucla, dataset="mine")


def test_the_table_of_what_was_left_out_is_of_this_import(tmp_path):
    folder, out = tmp_path / "raw", tmp_path / "s.arrow"
    folder.mkdir()
    good = raw_text(np.random.default_rng(0), 20)
    (folder / "S001C001P001R001A001.skeleton").write_bytes(good)
    bad = folder / "S001C001P001R001A002.skeleton"
    bad.write_bytes(good[:100])
    import_dataset(folder, dataset="ntu60", out=out, progress=False)
    assert "A002" in left_out_path(out).read_text()
    out.unlink()
    bad.write_bytes(good)
    import_dataset(folder, dataset="ntu60", out=out, progress=False)
    assert not left_out_path(out).exists()


def test_chunks_of_a_changed_source_or_importer_are_not_used(tmp_path, monkeypatch):
    """Also if names and sizes of the files are as they were when the import was interrupted."""
    monkeypatch.setattr(registry, "_MIN_PARALLEL", 1)
    folder, out = tmp_path / "raw", tmp_path / "s.arrow"
    folder.mkdir()
    paths = [folder / f"S001C001P001R001A{i:03d}.skeleton" for i in range(1, 4)]
    for path in paths:
        path.write_bytes(raw_text(np.random.default_rng(1), 20))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    def chunk_folders():
        """Import, but stop when all has been read."""
        with monkeypatch.context() as patch:
            patch.setattr(registry, "write_entries", interrupted)
            with pytest.raises(KeyboardInterrupt):
                import_dataset(folder, dataset="ntu60", out=out, workers=1, progress=False)
        return len(list(tmp_path.glob(".s.arrow.*")))

    assert [chunk_folders(), chunk_folders()] == [1, 1]
    newer = replace(registry.IMPORTERS[0], version=2)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "IMPORTERS", (newer,))
        assert chunk_folders() == 2
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b".1", b".2"))
        os.utime(path, ns=(1, 1))
    import_dataset(folder, dataset="ntu60", out=out, workers=1, progress=False)
    monkeypatch.undo()
    whole = import_dataset(folder, dataset="ntu60", out=tmp_path / "t.arrow", progress=False)
    assert open_store(out).fingerprint == open_store(whole).fingerprint


SCRIPT = """
import sys
from msg3d_lab.cli import main
from msg3d_lab.data.formats import parallel, registry

if __name__ == "__main__":
    registry._MIN_PARALLEL = 1
    parallel.Chunks.__init__.__kwdefaults__["chunk_size"] = 8
    main(sys.argv[1:])
"""


def test_an_import_killed_in_the_shell_continues_there(tmp_path, monkeypatch, capsys):
    """Kill the command alone: the processes it started end, and it continues when called again."""
    source, out = raw_zip(tmp_path / "raw.zip", 420), tmp_path / "s.arrow"
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(SCRIPT)
    words = ["data", "import", str(source), "--dataset", "ntu60", "--out", str(out)]

    def chunks():
        return {p.name: p.stat().st_mtime_ns for p in tmp_path.glob(".s.arrow.*/*.arrow")}

    with log.open("w") as file:
        command = [sys.executable, str(script), *words, "--workers", "2"]
        running = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        deadline = time.monotonic() + 120
        while len(chunks()) < 5 and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        running.kill()
        running.wait()
    while os.system(f"pgrep -g {running.pid} > /dev/null") == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    before = chunks()
    assert 5 <= len(before) < 53, log.read_text()
    assert not out.exists()

    monkeypatch.setattr(registry, "_MIN_PARALLEL", 1)
    monkeypatch.setitem(Chunks.__init__.__kwdefaults__, "chunk_size", 8)
    with monkeypatch.context() as patch:
        patch.setattr(Chunks, "remove", lambda self: None)  # to see which ones were written
        main([*words, "--workers", "1"])
    shown = capsys.readouterr()
    assert f"{8 * len(before)}/420" in shown.err  # where the bar begins
    after = chunks()
    assert len(after) == 53
    assert {name: after[name] for name in before} == before
    monkeypatch.undo()
    whole = import_dataset(source, dataset="ntu60", out=tmp_path / "t.arrow", progress=False)
    store = open_store(out)
    assert store.fingerprint == open_store(whole).fingerprint
    assert len(store) + len(store.left_out) == 420
    reasons = store.left_out["reason"].value_counts().to_dict()
    assert reasons == {"cannot be read": 4, "on the authors' list of missing skeletons": 1}
    assert "4 cannot be read" in shown.out


@pytest.fixture(scope="module")
def small_raw_zip(tmp_path_factory):
    """A zip of three recordings and its store."""
    folder = tmp_path_factory.mktemp("whole")
    path = raw_zip(folder / "raw.zip", 3, frames=12)
    out = import_dataset(path, dataset="ntu60", out=folder / "s.arrow", progress=False)
    return path.read_bytes(), open_store(out)


@settings(max_examples=20)
@given(where=st.floats(0, 1, exclude_max=True), flip=st.just(0) | st.integers(1, 255))
def test_a_damaged_raw_zip_never_gives_a_wrong_clip(small_raw_zip, tmp_path_factory, where, flip):
    content, whole = bytearray(small_raw_zip[0]), small_raw_zip[1]
    folder = tmp_path_factory.mktemp("damage")
    path = folder / "raw.zip"
    place = int(where * len(content))
    if flip:
        content[place] ^= flip
    else:
        del content[place:]
    path.write_bytes(content)
    try:
        import_dataset(path, dataset="ntu60", out=folder / "s.arrow", progress=False)
    except ValueError:
        assert not (folder / "s.arrow").exists()
        return
    store = open_store(folder / "s.arrow")
    for i, name in enumerate(store.ids):
        expected = whole.clip(whole.ids.index(name))
        np.testing.assert_array_equal(store.keypoints(i), expected.keypoints)
        assert store.clip(i).label == expected.label
    assert set(whole.ids) - set(store.ids) <= set(store.left_out["id"])
