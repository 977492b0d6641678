from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip, LeftOut
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
        # So that there are several record batches.
        patch.setattr("msg3d_lab.data.store._BATCH_FLOATS", batch)
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


def test_keypoints_are_read_only(tmp_path):
    store = open_store(write_store(tmp_path / "s.arrow", [clip("a"), clip("b")], **FACTS))
    view = store.keypoints(1)
    assert view.dtype == np.float32
    assert view.flags.c_contiguous
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


def test_copies_are_the_same_coordinates_under_another_name(tmp_path):
    a, b = clip("a", 2, 3), clip("b", 2, 3)
    reshaped = a.keypoints.reshape(1, 6, 25, 3)
    clips = [
        a,
        b,
        dataclasses.replace(a, id="copy", label=1),
        dataclasses.replace(a, id="one person", keypoints=reshaped),
        dataclasses.replace(a, id="nudged", keypoints=np.nextafter(a.keypoints, np.float32(9))),
    ]
    store = open_store(write_store(tmp_path / "s.arrow", clips, **FACTS))
    copied = store.copies(np.array([4, 3, 2, 1]), of=np.array([0]))
    np.testing.assert_array_equal(copied, [False, False, True, False])
    assert not store.copies(np.array([0]), of=np.array([1, 3, 4])).any()


@pytest.mark.shared
def test_copies_of_nw_ucla_are_two_actions_of_view_2(nw_ucla_store):
    """In the file that everybody has, view 3 of actions 2 and 3 is view 2 again."""
    store = nw_ucla_store
    tested = store.indices("xview_val")
    copied = store.copies(tested, of=store.indices("xview_train"))
    assert copied.sum() == 95
    actions = np.array([store.ids[i][:3] for i in tested])
    np.testing.assert_array_equal(copied, np.isin(actions, ["a02", "a03"]))
    for i in tested[copied]:
        same = store.ids.index(store.ids[i].replace("v03", "v02"))
        np.testing.assert_array_equal(store.keypoints(i), store.keypoints(same))
    one, other = store.indices("view1to2_train"), store.indices("view1to2_val")
    assert not store.copies(other, of=one).any()


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


def test_fingerprint_depends_on_contents_alone(tmp_path, monkeypatch):
    """Recorded in data/results.csv and in run folders: it must never change for the same clips."""
    monkeypatch.setattr("msg3d_lab.__version__", "99")
    entries = [clip("a", 2, 3, splits=("t",), subject=4), LeftOut("b", "late"), clip("c", label=1)]
    assert (
        open_store(write_store(tmp_path / "s.arrow", entries, **FACTS)).fingerprint
        == "69dfd0649898"
    )


@pytest.mark.shared
def test_fingerprint_of_nw_ucla(nw_ucla_store):
    """That of data/results.csv was of an earlier format of stores, without splits by view."""
    assert nw_ucla_store.fingerprint == "18ed2e50721d"


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


def rewritten(path, target, **columns):
    """Copy a store as another program would, with some columns changed."""
    with pa.ipc.open_file(str(path)) as reader:
        batch, (last, closing) = reader.get_batch(0), reader.get_batch_with_custom_metadata(1)
    for name, values in columns.items():
        i = batch.schema.get_field_index(name)
        batch = batch.set_column(i, batch.schema.field(i), pa.array(values, batch.schema[i].type))
    with pa.ipc.new_file(str(target), batch.schema) as writer:
        writer.write_batch(batch)
        writer.write_batch(last, custom_metadata=closing)
    return target


@pytest.mark.parametrize(
    ("column", "value"),
    [("id", "b"), ("label", 1), ("subject", 0), ("frames", 4), ("splits", ["x"]), ("checksum", 7)],
)
def test_open_store_notices_a_change_in_any_column(tmp_path, column, value):
    path = write_store(tmp_path / "s.arrow", [clip(frames=3)], **FACTS)
    assert open_store(rewritten(path, tmp_path / "same.arrow")).ids == ["a"]
    other = rewritten(path, tmp_path / "t.arrow", **{column: [value]})
    with pytest.raises(ValueError, match="checksum does not match its contents"):
        open_store(other)


def test_left_out_recordings_are_kept_with_their_reasons(tmp_path):
    entries = [LeftOut("x", "too dark"), clip("a"), LeftOut("y", "cannot be read", "line 3: é")]
    store = open_store(write_store(tmp_path / "s.arrow", entries, **FACTS))
    assert store.ids == ["a"]
    assert store.left_out.to_dict("list") == {
        "id": ["x", "y"],
        "reason": ["too dark", "cannot be read"],
        "detail": ["", "line 3: é"],
    }
    assert open_store(write_store(tmp_path / "t.arrow", [clip("a")], **FACTS)).left_out.empty


def test_a_damaged_clip_is_found_when_it_is_read(tmp_path):
    path = write_store(tmp_path / "s.arrow", [clip("a"), clip("b"), clip("c")], **FACTS)
    content = bytearray(path.read_bytes())
    place = content.index(clip("b").keypoints.tobytes())
    content[place + 17] ^= 1
    path.write_bytes(content)
    store = open_store(path)
    np.testing.assert_array_equal(store.keypoints(0), clip("a").keypoints)
    with pytest.raises(ValueError, match=r"clip b of .* is damaged .*: import the data set again"):
        store.keypoints(1)
    with pytest.raises(ValueError, match="clip b"):  # every time
        store.keypoints(1)
    assert store.verify() == ["b"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of two clips and one that was left out."""
    entries = [clip("a", 2, 3, subject=4, splits=("t",)), clip("b", 1, 2, 1), LeftOut("c", "late")]
    path = tmp_path_factory.mktemp("whole") / "s.arrow"
    return open_store(write_store(path, entries, **FACTS)), path.read_bytes()


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_no_damage_passes_for_data(whole, data):
    """Flip any byte, or cut anywhere: refused, or what is read is what was written."""
    store, written = whole
    clips, content = [store.keypoints(i) for i in range(2)], bytearray(written)
    # Most bytes are coordinates: look at the others as often.
    start = content.index(clips[0].tobytes())
    stop = content.index(clips[1].tobytes()) + clips[1].nbytes
    outside = st.sampled_from([*range(start), *range(stop, len(content))])
    place = data.draw(outside | st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    path = store.path.with_name("damaged.arrow")
    path.write_bytes(content)
    try:
        damaged = open_store(path)
        read = [damaged.keypoints(i) for i in range(len(damaged))]
    except ValueError:
        return
    assert damaged.fingerprint == store.fingerprint
    assert damaged.samples.equals(store.samples)
    assert damaged.left_out.equals(store.left_out)
    assert damaged.skeleton == store.skeleton
    for one, other in zip(read, clips, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_store_cut_while_it_is_open_is_an_error_and_no_crash(tmp_path):
    path = write_store(tmp_path / "s.arrow", [clip("a"), clip("b", frames=5000)], **FACTS)
    store = open_store(path)
    store.keypoints(1)
    os.truncate(path, 100_000)
    with pytest.raises(ValueError, match=r"clip b of .* is damaged"):
        store.keypoints(1)


def test_read_into_reads_where_it_is_told(tmp_path, monkeypatch):
    path = write_store(tmp_path / "s.arrow", [clip("a"), clip("b", frames=3)], **FACTS)
    for _ in range(2):
        store, room = open_store(path), np.zeros((5, 25, 3), np.float32)
        store.read_into(room[1:4], 1)
        np.testing.assert_array_equal(room[1:4], clip("b", frames=3).keypoints[0])
        assert not room[[0, 4]].any()
        with pytest.raises(ValueError, match="expected room for 225 numbers, found 150"):
            store.read_into(room[:2], 1)
        monkeypatch.delattr(os, "preadv", raising=False)  # as on Windows


@pytest.mark.parametrize("way", ["preadv", "without"])
def test_read_into_notices_damage(tmp_path, monkeypatch, way):
    path = write_store(tmp_path / "s.arrow", [clip("a"), clip("b")], **FACTS)
    content = bytearray(path.read_bytes())
    content[content.index(clip("b").keypoints.tobytes()) + 5] ^= 4
    path.write_bytes(content)
    if way == "without":
        monkeypatch.delattr(os, "preadv")
    store, room = open_store(path), np.empty((2, 25, 3), np.float32)
    store.read_into(room, 0)
    with pytest.raises(ValueError, match=r"clip b of .* is damaged"):
        store.read_into(room, 1)
    os.truncate(path, 500)
    with pytest.raises(ValueError, match=r"clip a of .* is damaged"):
        store.read_into(room, 0)


def test_package_and_store_import_nothing_that_is_slower_than_opening(whole):
    code = f"""
import sys, msg3d_lab.data
print([m for m in ("pandas", "pyarrow", "matplotlib") if m in sys.modules])
msg3d_lab.data.open_store({str(whole[0].path)!r}).indices("t")
print([m for m in ("pandas", "pyarrow.compute", "pyarrow.parquet") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["[]", "[]", ""]
