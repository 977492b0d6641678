from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msg3d_lab import skeletons
from msg3d_lab.data import store as module
from msg3d_lab.data.clips import Clip
from msg3d_lab.data.store import open_store, write_store

NTU = skeletons.get("ntu25")
FACTS = {
    "dataset": "test",
    "skeleton": NTU,
    "label_names": ["stand", "walk"],
    "channels": 3,
    "preparation": {"name": "none", "options": [1, 2]},
}


def clip(clip_id="a", persons=1, frames=2, label=0, **facts):
    rng = np.random.default_rng([persons, frames, *clip_id.encode()])
    keypoints = rng.standard_normal((persons, frames, 25, 3), dtype=np.float32)
    return Clip(clip_id, keypoints, label, **facts)


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=12),
    batch=st.integers(1, 4000),
)
def test_store_gives_back_what_was_written(tmp_path_factory, sizes, batch):
    clips = [
        clip(f"clip {i} é", m, t, i % 2, splits=("x",) * (i % 3), subject=i or None, camera=m)
        for i, (m, t) in enumerate(sizes)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BATCH_FLOATS", batch)  # so that there are several record batches
        path = write_store(tmp_path_factory.mktemp("store") / "s.arrow", iter(clips), **FACTS)
    store = open_store(path)
    assert len(store) == len(clips)
    assert store.ids == [c.id for c in clips]
    np.testing.assert_array_equal(store.labels, [c.label for c in clips])
    for i, written in enumerate(clips):
        np.testing.assert_array_equal(store.keypoints(i), written.keypoints)
    samples = store.samples
    assert list(samples.columns) == [
        *("id", "label", "subject", "camera", "setup", "persons", "frames", "splits")
    ]
    assert samples["subject"].isna().tolist() == [c.subject is None for c in clips]
    assert samples["setup"].isna().all()
    assert samples["splits"].tolist() == [list(c.splits) for c in clips]
    assert samples[["persons", "frames"]].to_numpy().tolist() == [list(size) for size in sizes]


def test_store_keeps_what_holds_for_the_whole_data_set(tmp_path):
    write_store(tmp_path / "s.arrow", [clip()], **FACTS, synthetic=True)
    store = open_store(tmp_path / "s.arrow")
    assert store.dataset == "test"
    assert store.skeleton == NTU
    assert (store.label_names, store.num_classes) == (["stand", "walk"], 2)
    assert store.channels == 3
    assert store.preparation == FACTS["preparation"]
    assert store.synthetic
    assert not store.scored
    assert "test, 1 clips" in repr(store)


def test_keypoints_are_a_read_only_view_of_the_file(tmp_path):
    store = open_store(write_store(tmp_path / "s.arrow", [clip("a"), clip("b")], **FACTS))
    view = store.keypoints(1)
    assert view.dtype == np.float32
    assert view.flags.c_contiguous
    assert np.shares_memory(view, store.keypoints(1))
    with pytest.raises(ValueError, match="read-only"):
        view[:] = 0


def test_store_pickles_as_its_path(tmp_path, monkeypatch):
    write_store(tmp_path / "s.arrow", [clip(frames=500)], **FACTS)
    monkeypatch.chdir(tmp_path)
    store = open_store("s.arrow")
    pickled = pickle.dumps(store)
    assert len(pickled) < 500
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(pickle.loads(pickled).keypoints(0), store.keypoints(0))


def test_splits_and_indices(tmp_path):
    clips = [clip("a", splits=("t", "u")), clip("b"), clip("c", splits=("u",))]
    store = open_store(write_store(tmp_path / "s.arrow", clips, **FACTS))
    assert store.splits == {"t": 1, "u": 2}
    np.testing.assert_array_equal(store.indices("u"), [0, 2])
    assert store.indices("u").dtype == np.int64
    store.indices("u")[:] = 7  # a caller's change is the caller's own
    np.testing.assert_array_equal(store.indices("u"), [0, 2])
    with pytest.raises(ValueError, match="no split 'v': expected one of t, u"):
        store.indices("v")


def test_fingerprint_tells_stores_apart_but_not_copies(tmp_path):
    def fingerprint(name, clips, **facts):
        return open_store(write_store(tmp_path / name, clips, **(FACTS | facts))).fingerprint

    first = fingerprint("a", [clip("a"), clip("b")])
    assert len(first) == 12
    assert first == fingerprint("b", [clip("a"), clip("b")])
    others = {
        fingerprint("c", [clip("b"), clip("a")]),
        fingerprint("d", [clip("a"), clip("b", label=1)]),
        fingerprint("e", [clip("a", frames=1), clip("b", frames=3)]),
        fingerprint("f", [clip("a"), clip("b")], preparation={"sha256": "0"}),
        fingerprint("g", [clip("a"), clip("b")], dataset="other"),
    }
    assert len(others) == 5
    assert first not in others


def broken(**changes):
    return dataclasses.replace(clip("bad"), **changes)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (broken(id="a"), "id 'a' occurs twice"),
        (broken(label=2), "clip bad: label 2 is outside 0..1"),
        (broken(keypoints=np.zeros((1, 2, 17, 3), np.float32)), r"clip bad: expected .* found \(1"),
        (broken(keypoints=np.zeros((1, 0, 25, 3), np.float32)), "clip bad: expected"),
        (broken(keypoints=np.full((1, 2, 25, 3), np.nan)), "clip bad: 150 coordinates are NaN"),
    ],
)
def test_write_store_refuses_a_bad_clip_and_leaves_nothing_behind(tmp_path, bad, message):
    with pytest.raises(ValueError, match=message):
        write_store(tmp_path / "s.arrow", [clip("a"), bad], **FACTS)
    assert not list(tmp_path.iterdir())


def test_write_store_refuses_no_clips(tmp_path):
    with pytest.raises(ValueError, match="no clips"):
        write_store(tmp_path / "s.arrow", [], **FACTS)
    assert not list(tmp_path.iterdir())


def test_write_store_leaves_nothing_behind_when_the_source_fails(tmp_path):
    def clips():
        yield clip()
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        write_store(tmp_path / "s.arrow", clips(), **FACTS)
    assert not list(tmp_path.iterdir())


def test_write_store_does_not_overwrite(tmp_path):
    path = tmp_path / "s.arrow"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"s\.arrow exists already"):
        write_store(path, [clip()], **FACTS)
    assert path.read_text() == "mine"


def test_open_store_says_how_to_make_one_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="msg3d-lab data import"):
        open_store(tmp_path / "none.arrow")


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99, "last byte"])
def test_open_store_refuses_a_file_that_is_cut_short(tmp_path, keep):
    path = write_store(tmp_path / "s.arrow", [clip(frames=50)], **FACTS)
    content = path.read_bytes()
    path.write_bytes(content[: -1 if keep == "last byte" else int(keep * len(content))])
    with pytest.raises(ValueError, match=r"s\.arrow is not a store .* import the data set again"):
        open_store(path)


@pytest.mark.parametrize("metadata", [None, {b"msg3d_lab.store": b'{"version": 99}'}, {b"x": b"y"}])
def test_open_store_refuses_other_arrow_files(tmp_path, metadata):
    table = pa.table({"id": ["a"], "keypoints": [[1.0]]}).replace_schema_metadata(metadata)
    with pa.ipc.new_file(str(tmp_path / "s.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match="is not a store"):
        open_store(tmp_path / "s.arrow")


def test_open_store_refuses_coordinates_of_the_wrong_length(tmp_path):
    path = write_store(tmp_path / "s.arrow", [clip(frames=3)], **FACTS)
    table = pa.ipc.open_file(str(path)).read_all()
    changed = table.set_column(6, "frames", pa.array([4], pa.int32()))
    with pa.ipc.new_file(str(tmp_path / "t.arrow"), changed.schema) as writer:
        writer.write_table(changed)
    with pytest.raises(ValueError, match="lengths that the clips claim"):
        open_store(tmp_path / "t.arrow")


def test_package_does_not_import_what_is_slow():
    slow = ("pandas", "pyarrow", "matplotlib")  # torch: msg3d_lab itself needs it
    code = f"import sys, msg3d_lab.data; print([m for m in {slow} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
