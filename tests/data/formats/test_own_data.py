import pickle
import re
import shlex
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msg3d_lab import skeletons
from msg3d_lab.data import open_store, write_store
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import Dataset
from msg3d_lab.data.formats import own_arrays, own_data, own_labels, own_table
from msg3d_lab.data.preprocess import center_on, prepare_2d, prepare_3d

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLE = DOCS / "examples" / "own-skeletons"
NAMES = ("hip", "chest", "left hand", "right hand")
MINE = Dataset("mine", title="mine", layouts=(), label_names=(), protocols=())


def read_clips(source, **options):
    return own_data.read_clips([source], dataset=MINE, **options)


@pytest.fixture(scope="module")
def layout():
    return skeletons.from_dict(
        {
            "name": "four",
            "joints": list(NAMES),
            "edges": [["hip", "chest"], ["chest", "left hand"], ["chest", "right hand"]],
            "center": "chest",
            "align": {"z": ["hip", "chest"], "x": ["right hand", "left hand"]},
        }
    )


@pytest.fixture(scope="module")
def flat_layout(layout):
    """Without directions to align by."""
    return skeletons.from_dict(
        {"name": "flat", "joints": list(NAMES), "edges": [[0, 1], [1, 2], [1, 3]], "center": 1}
    )


def rows(sample, keypoints, axes=("x", "y", "z"), *, persons=None, joints=NAMES, start=0):
    """A frame of rows, one for each joint that is not all zeros."""
    table = []
    for m, t, v in np.argwhere(keypoints.any(axis=-1)):
        row = {"sample": sample, "frame": t + start, "person": m if persons is None else persons[m]}
        row |= {"joint": joints[v]} | dict(zip(axes, keypoints[m, t, v], strict=True))
        table.append(row)
    return pd.DataFrame(table)


def body(persons=1, frames=3, channels=3, seed=0, V=4):
    shape = (persons, frames, V, channels)
    return np.random.default_rng(seed).uniform(0.5, 2, shape).astype(np.float32)


def write_labels(path, **samples):
    """sample=label, or sample="label,splits,subject"."""
    lines = [
        f"{name},{value}{',' * (2 - str(value).count(','))}" for name, value in samples.items()
    ]
    path.write_text("\n".join(["sample,label,splits,subject", *lines]) + "\n")
    return path


@pytest.fixture
def write(tmp_path):
    """Write a CSV table and labels for its samples."""

    def write(table, **samples):
        path = tmp_path / "clips.csv"
        table.to_csv(path, index=False)
        named = samples or dict.fromkeys(table["sample"].astype(str).unique(), "walk")
        write_labels(tmp_path / "labels.csv", **named)
        return path

    return write


def clips(found):
    return [clip for clip in found.clips if isinstance(clip, Clip)]


def left_out(found):
    return [(c.id, c.reason) for c in found.clips if isinstance(c, LeftOut)]


# --- tables -------------------------------------------------------------------------------------

finite = st.floats(-1000, 1000, width=32)
words = st.text("abcXYZ019 _-é", min_size=1, max_size=6).filter(lambda s: s == s.strip())


@st.composite
def ragged(draw):
    """Some clips of all sizes, with people, frames and joints missing; how they are written."""
    axes = draw(st.sampled_from(["xy", "xyz", "xys", "xyzs"]))
    made = {}
    for name in draw(st.lists(words, min_size=1, max_size=4, unique=True)):
        M, T = draw(st.integers(1, 3)), draw(st.integers(1, 4))
        count = M * T * 4 * len(axes)
        values = draw(st.lists(finite, min_size=count, max_size=count))
        keypoints = np.array(values, dtype=np.float32).reshape(M, T, 4, len(axes))
        gone = draw(st.lists(st.booleans(), min_size=M * T * 4, max_size=M * T * 4))
        keypoints[np.array(gone).reshape(M, T, 4)] = 0
        # Otherwise nothing says how long the clip is and how many people there are.
        keypoints[:, 0, 0, 0] = 1
        keypoints[0, -1, 0, 0] = 1
        made[name] = keypoints
    return axes, made, draw(st.randoms(use_true_random=False))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=ragged(),
    parquet=st.booleans(),
    numbered=st.booleans(),
    people=st.sampled_from([(7, 20, 100), ("Zoe", "Al", "Bo"), ("10", "b", "9")]),
    start=st.integers(-3, 10**6),
    small=st.booleans(),
)
def test_read_clips_reads_back_any_table(
    drawn, parquet, numbered, people, start, small, tmp_path, layout, monkeypatch
):
    axes, made, random = drawn
    columns = [{"s": "score"}.get(axis, axis) for axis in axes]
    parts = []
    for name, keypoints in made.items():
        joints = range(4) if numbered else NAMES
        part = rows(name, keypoints, columns, persons=people, joints=joints, start=start)
        first = part.groupby("person", sort=False).head(1).index  # these keep persons in order
        rest = [i for i in part.index if i not in first]
        random.shuffle(rest)
        parts.append(part.loc[[*first, *rest]])
    table = pd.concat(parts)
    order = list(table.columns)
    random.shuffle(order)
    path = tmp_path / "any.table"
    if parquet:
        table[order].to_parquet(path, index=False)
    else:
        table[order].to_csv(path, index=False)
    frame = pd.DataFrame({"sample": list(made), "label": "walk"})
    frame.to_csv(tmp_path / "labels.csv", index=False)
    with monkeypatch.context() as patch:
        if small:  # samples go across blocks
            patch.setattr(own_table, "_BLOCK_BYTES", 250)
            patch.setattr(own_table, "_BLOCK_ROWS", 3)
        found = read_clips(path, layout=layout, prepare="none")
        read = list(found.clips)
    assert found.channels == len(axes)
    assert found.preparation["scored"] == ("s" in axes)
    assert [clip.id for clip in read] == list(made)
    for clip in read:
        if made[clip.id][..., : len(axes) - ("s" in axes)].any():
            np.testing.assert_array_equal(clip.keypoints, made[clip.id])
            assert clip.keypoints.dtype == np.float32
        else:
            assert clip.reason == own_data.NOBODY


def test_read_clips_keeps_names_as_they_are_written(write, layout):
    """No 001 that becomes 1, no NA that becomes nothing."""
    table = pd.concat([rows(name, body()) for name in ("001", "NA", "null", "1e5", "true")])
    found = read_clips(write(table), layout=layout)
    assert [clip.id for clip in clips(found)] == ["001", "NA", "null", "1e5", "true"]


def test_read_clips_takes_byte_order_marks_windows_lines_quotes_and_any_header(tmp_path, layout):
    table = rows("a, b", body()).rename(columns=str.upper).rename(columns={"X": " X "})
    table["comment"] = "élan"
    text = table.to_csv(index=False, lineterminator="\r\n", quoting=1)
    (tmp_path / "clips.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    named = '\ufeffSample, Label ,splits\r\n\r\n"a, b", walk ,train\r\n'
    (tmp_path / "clips.labels.csv").write_bytes(named.encode())
    (clip,) = read_clips(tmp_path / "clips.csv", layout=layout, prepare="none").clips
    assert (clip.id, clip.splits) == ("a, b", ("train",))
    np.testing.assert_array_equal(clip.keypoints, body())


def test_read_clips_reads_parquet_of_other_types(tmp_path, layout):
    table = rows("7", body(), joints=[0.0, 1.0, 2.0, 3.0])  # what a missing value makes of numbers
    table["sample"] = table["sample"].astype("category")
    table["person"] = np.uint64(72057594037931691)
    table = table.astype({"x": "float32", "y": "float64", "z": "float16", "frame": "int8"})
    table.to_parquet(tmp_path / "clips.parquet", index=False)
    write_labels(tmp_path / "labels.csv", **{"7": "walk"})
    (clip,) = read_clips(tmp_path / "clips.parquet", layout=layout, prepare="none").clips
    np.testing.assert_allclose(clip.keypoints, body(), atol=1e-3)


def test_read_clips_sorts_persons_by_number_or_takes_them_as_they_come(write, layout):
    two = body(2)
    numbers = rows("n", two, persons=[10, 9]).sort_values("frame", kind="stable")
    names = rows("w", two, persons=["10", "x"]).sort_values("frame", kind="stable")
    found = read_clips(write(pd.concat([numbers, names])), layout=layout, prepare="none")
    by_number, as_met = clips(found)
    np.testing.assert_array_equal(by_number.keypoints, two[::-1])
    np.testing.assert_array_equal(as_met.keypoints, two)


def test_read_clips_fills_gaps_with_nobody(write, layout):
    table = rows("a", body(frames=2))
    table["frame"] = table["frame"] * 3 + 41
    (clip,) = read_clips(write(table), layout=layout, prepare="none").clips
    np.testing.assert_array_equal(clip.keypoints[:, [0, 3]], body(frames=2))
    assert clip.keypoints.shape[1] == 4
    assert not clip.keypoints[:, 1:3].any()


def change(column, value, row=5):
    def apply(table):
        table = table.astype({column: object})
        table.loc[row, column] = value
        return table

    return apply


@pytest.mark.parametrize(
    ("broken", "reason", "detail"),
    [
        (change("joint", "elbow"), own_table.JOINTS, "1 rows, e.g. joint 'elbow', which four"),
        (change("joint", 4), own_table.JOINTS, "joint '4'"),
        (change("joint", -1), own_table.JOINTS, "joint '-1'"),
        (change("x", np.nan), own_table.FINITE, "1 numbers, e.g. frame 1, joint chest"),
        (change("x", ""), own_table.FINITE, "1 numbers"),
        (change("x", "-inf"), own_table.FINITE, "1 numbers"),
        (change("x", 1e300), own_table.FINITE, "1 numbers"),
        (change("x", "1,5"), own_table.TEXT, "1 cells, e.g. x is '1,5'"),
        (change("x", "1_000"), own_table.TEXT, "x is '1_000'"),
        (change("frame", "one"), own_table.TEXT, "frame is 'one'"),
        (change("frame", 0.5), own_table.FRAMES, "1 rows, e.g. frame 0.5"),
        (change("frame", None), own_table.FRAMES, "1 rows, e.g. frame nan"),
        (change("frame", 1.7e12), own_table.TOO_LONG, "frames 0 to 1700000000000 of 1 persons"),
        (change("joint", "hip"), own_table.REPEATED, "frame 1, person 0, hip"),
    ],
)
def test_read_clips_leaves_out_a_sample_that_cannot_be_used(broken, reason, detail, write, layout):
    table = broken(rows("bad", body()))
    path = write(pd.concat([rows("good", body()), table, rows("last", body())]))
    good, bad, last = read_clips(path, layout=layout).clips
    assert (good.id, last.id) == ("good", "last")
    assert (bad.id, bad.reason) == ("bad", reason)
    assert detail in bad.detail


def test_read_clips_names_all_that_is_wrong_with_a_sample(write, layout):
    table = change("joint", "elbow", 2)(
        change("x", "much", 3)(change("y", np.nan)(rows("a", body())))
    )
    (bad,) = read_clips(write(table), layout=layout).clips
    for reason in (own_table.JOINTS, own_table.FINITE):
        assert reason in bad.detail
    assert bad.reason == own_table.TEXT


def test_read_clips_bounds_a_sample(write, layout, monkeypatch):
    monkeypatch.setattr(own_table, "_MAX_ROWS", 20)
    path = write(pd.concat([rows("long", body(frames=6)), rows("good", body())]))
    long, good = read_clips(path, layout=layout).clips
    assert (long.reason, long.detail) == (own_table.TOO_LONG, "more than 20 rows")
    assert good.id == "good"


def test_read_clips_stops_at_a_sample_that_comes_back(write, layout):
    path = write(pd.concat([rows("a", body()), rows("b", body()), rows("a", body())]))
    found = iter(read_clips(path, layout=layout).clips)
    assert [next(found).id, next(found).id] == ["a", "b"]
    with pytest.raises(ValueError, match=r"rows of a sample that are not together \(1, e.g. a: it"):
        next(found)


@pytest.mark.parametrize("line", ["a,1,0,hip,1,2\n", "a,1,0,hip,1,2,3,4\n", "a,2,0,he"])
def test_read_clips_stops_at_a_row_of_another_length(line, write, layout):
    path = write(rows("a", body()))
    path.write_text(path.read_text() + line)
    with pytest.raises(ValueError, match=r"clips.csv, row 14: \d fields, the header has 7"):
        list(read_clips(path, layout=layout).clips)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: expected a header with sample, frame"),
        (b"\n\n", "is empty"),
        (b"sample,frame,person,joint,x,y\n", "has a header, but no rows"),
        (b"sample,frame,person,joint,x\n", r"no column y, found \['sample'"),
        (b"sample,frame\n", "no column person or joint or x or y"),
        (b"sample;frame;person;joint;x;y\n", "separate the columns by commas"),
        (b"sample,frame,person,joint,x,y,scores\n", "column 'scores': is it 'score'"),
        (b"sample,frame,person,joint,x,y,Y\n", "two columns 'y'"),
        (b"\x00\xff\xfe\x80\x81", "neither a CSV in UTF-8 nor a Parquet file"),
        (b"PAR1 but then no more", "neither a CSV in UTF-8 nor a Parquet file"),
        (b"sample,frame,person,joint,x,y\n\xff,0,0,hip,1,1\n", "neither a CSV in UTF-8"),
        (
            b"sample,frame,person,joint,x,y\n" + b"a,0,0,hip,1,1\n" * 999 + b"\xff,0,0,hip,1,1\n",
            "cannot be read to its end: .*UTF8",
        ),
    ],
)
def test_read_clips_explains_a_table_that_is_none(content, message, tmp_path, layout):
    (tmp_path / "clips.csv").write_bytes(content)
    write_labels(tmp_path / "labels.csv", a="walk")
    with pytest.raises(ValueError, match=message) as error:
        list(read_clips(tmp_path / "clips.csv", layout=layout).clips)
    assert "clips.csv" in str(error.value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), parquet=st.booleans())
def test_read_clips_refuses_damaged_tables_or_reads_them(data, parquet, tmp_path, layout):
    """Bytes that are cut off or changed end in a ValueError or in clips, nothing else."""
    table = pd.concat([rows("a", body()), rows("b", body(2))])
    path = tmp_path / "clips.table"
    table.to_parquet(path) if parquet else table.to_csv(path, index=False)
    write_labels(tmp_path / "labels.csv", a="walk", b="run")
    content = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(ValueError):
        for clip in read_clips(path, layout=layout).clips:
            assert isinstance(clip, (Clip, LeftOut))


# --- folders ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "clips"
    path.mkdir()

    def make(**arrays):
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
        write_labels(path / "labels.csv", **dict.fromkeys(arrays, "walk"))
        return path

    return make


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", ">f4"])
def test_read_clips_reads_arrays_of_any_numbers(dtype, folder, layout):
    whole = np.arange(1, 25).reshape(1, 2, 4, 3)
    found = read_clips(
        folder(a=whole.astype(dtype), b=whole[0].astype(dtype)), layout=layout, prepare="none"
    )
    assert found.count == len(found.clips) == 2
    for clip in found.clips:
        assert clip.keypoints.dtype == np.float32
        np.testing.assert_array_equal(clip.keypoints, whole)


def test_read_clips_of_a_folder_are_a_picklable_sequence(folder, layout):
    path = folder(**{f"c{i}": body(seed=i) for i in range(6)})
    path.joinpath("c3.npy").write_bytes(b"damaged")
    found = read_clips(path, layout=layout)
    part = pickle.loads(pickle.dumps(found.clips[2:5]))
    assert [clip.id for clip in part] == ["c2", "c3", "c4"]
    assert part[1].reason == "cannot be read"
    for i, clip in enumerate(part):
        if i != 1:
            np.testing.assert_array_equal(clip.keypoints, found.clips[i + 2].keypoints)
    # A share is sent with its own rows only.
    assert len(pickle.dumps(found.clips[:1])) < len(pickle.dumps(found.clips))


def test_read_clips_reads_a_zip(folder, layout, tmp_path):
    path = folder(a=body(seed=1), b=body(seed=2))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("a", "b"):
            archive.write(path / f"{name}.npy", f"some/where/{name}.npy")
    write_labels(tmp_path / "all.labels.csv", a="walk", b="run")
    found = read_clips(tmp_path / "all.zip", layout=layout, prepare="none")
    np.testing.assert_array_equal(found.clips[1].keypoints, body(seed=2))


@pytest.mark.parametrize(
    ("array", "reason", "detail"),
    [
        (body(V=5), own_table.JOINTS, "5 joints in (1, 3, 5, 3), four has 4"),
        (body(channels=2), own_arrays.SHAPE, "expected (M, T, 4, 3), found (1, 3, 4, 2)"),
        (body()[0, 0], own_arrays.SHAPE, "found (4, 3)"),
        (body()[:, :0], own_arrays.SHAPE, "found (1, 0, 4, 3)"),
        (body().transpose(3, 1, 2, 0), own_arrays.SHAPE, "(C, T, V, M); transpose it"),
        (body().astype(str), own_arrays.SHAPE, "its values are <U"),
        (
            body() * [1, np.nan, 1],
            own_table.FINITE,
            "12 numbers, e.g. person 0, frame 0, joint hip",
        ),
        (np.zeros((1, 3, 4, 3)), own_data.NOBODY, ""),
        (np.full((1, 3, 4, 3), 1e-12), own_data.NOBODY, ""),
        (np.array([None]), "cannot be read", "Python objects"),
    ],
)
def test_read_clips_leaves_out_an_array_that_cannot_be_used(array, reason, detail, folder, layout):
    path = folder(a=body(), bad=array, last=body())
    good, bad, last = read_clips(path, layout=layout).clips
    assert (good.id, last.id) == ("a", "last")
    assert (bad.id, bad.reason) == ("bad", reason)
    assert detail in bad.detail


def test_read_clips_does_not_believe_the_size_an_array_claims(folder, layout):
    path = folder(a=body(), bad=body())
    content = (path / "bad.npy").read_bytes()
    (path / "bad.npy").write_bytes(content.replace(b"(1, 3, 4, 3)", b"(99999999999,"[:12]))
    huge = content.replace(b"'shape': (1, 3, 4, 3), }    ", b"'shape': (99999999,4,4,3), }")
    (path / "bad.npy").write_bytes(huge)
    bad = read_clips(path, layout=layout).clips[1]
    assert bad.reason == "cannot be read"
    assert "cut short: 144 bytes of 19199999808" in bad.detail


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_read_clips_survives_damaged_arrays(data, tmp_path, layout):
    (tmp_path / "d").mkdir(exist_ok=True)
    np.save(tmp_path / "d" / "a.npy", body())
    content = bytearray((tmp_path / "d" / "a.npy").read_bytes())
    for at in data.draw(st.lists(st.integers(0, 139), max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    (tmp_path / "d" / "b.npy").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    write_labels(tmp_path / "d" / "labels.csv", a="walk", b="walk")
    first, second = read_clips(tmp_path / "d", layout=layout).clips
    assert isinstance(first, Clip)
    assert isinstance(second, (Clip, LeftOut))


def test_read_clips_leaves_out_a_second_file_of_a_name(folder, layout):
    path = folder(a=body(), b=body())
    (path / "more").mkdir()
    np.save(path / "more" / "a.npy", body(seed=1))
    found = read_clips(path, layout=layout, prepare="none")
    assert left_out(found) == [("a", own_arrays.DUPLICATE)]
    assert [clip.id for clip in clips(found)] == ["a", "b"]
    np.testing.assert_array_equal(clips(found)[0].keypoints, body())


def test_read_clips_explains_a_folder_without_arrays(tmp_path, layout, folder):
    with pytest.raises(ValueError, match=r"holds no \.npy files"):
        read_clips(tmp_path, layout=layout)
    path = folder(a=body(V=5), b=body(V=5))
    with pytest.raises(
        ValueError, match=r"no \.npy file that can be used: joints .* \(2, e.g. a: 5"
    ):
        read_clips(path, layout=layout)


# --- labels -------------------------------------------------------------------------------------


def test_read_labels_numbers_names_in_alphabetical_order(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(
        "sample,label,splits,subject,camera,setup,note\n"
        "a,run,xsub_train; xview_val,zoe,2,1.0,x\n"
        "b,walk,,al,,,\n"
        "c,run,train train,al,3,2,\n"
    )
    known = own_labels.read_labels(path)
    assert known.names == ("run", "walk")
    assert known.rows["a"] == own_labels.LabelRow(0, ("xsub_train", "xview_val"), 1, 2, 1)
    assert known.rows["b"] == own_labels.LabelRow(1, (), 0, None, None)
    assert known.rows["c"] == own_labels.LabelRow(0, ("train",), 0, 3, 2)
    assert known.faults == ()


def test_read_labels_takes_numbers_with_or_without_names(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("sample,label,label_name\na,1,run\nb,0,\nc,1.0,run\nd,2,\n")
    known = own_labels.read_labels(path)
    assert known.names == ("0", "run", "2")
    assert [row.label for row in known.rows.values()] == [1, 0, 1, 2]


@pytest.mark.parametrize(
    ("text", "reason", "count", "example"),
    [
        ("a,1\nb,2\nc,2\n", own_labels.NUMBERS, 2, "b: label 2; 2 classes are numbered 0 to 1"),
        ("a,0\nb,-1\n", own_labels.NUMBERS, 1, "b: label -1; 2 classes"),
        ("a,x\na,x\nb,x\nb,y\n", own_labels.TWICE, 2, "a: again in row 3"),
        (
            "a,x\nb,put on a hat, cap\n",
            own_labels.LENGTH,
            1,
            "labels.csv, row 3: 3 fields, the header",
        ),
    ],
)
def test_read_clips_refuses_labels_with_faults(text, reason, count, example, write, layout):
    path = write(rows("a", body()))
    (path.parent / "labels.csv").write_text("sample,label\n" + text)
    expected = re.escape(f"labels.csv cannot be used: {reason} ({count}, e.g. {example}")
    with pytest.raises(ValueError, match=expected):
        read_clips(path, layout=layout)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("sample;label\n", "separate the columns by commas"),
        ("name,label\n", "no column sample"),
        ("sample,label,split\n", "column 'split': is it 'splits'"),
        ("sample,label,label\n", "two columns 'label'"),
        ("sample,label\n\udcff,x\n", "not a CSV in UTF-8"),
    ],
)
def test_read_labels_explains_what_is_no_labels_file(text, message, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=message):
        own_labels.read_labels(path)


@pytest.mark.parametrize("name", ["label_names", "labelname", "spilts", "Split", "camera_id"])
def test_read_labels_asks_about_columns_that_look_misspelt(name, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(f"sample,label,{name}\na,x,1\n")
    with pytest.raises(ValueError, match=f"column {name.lower()!r}: is it .*Rename it"):
        own_labels.read_labels(path)


@pytest.mark.parametrize("name", ["sample_name", "set", "name", "label_id", "view", "note", "path"])
def test_read_labels_ignores_other_columns(name, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(f"sample,label,{name}\na,x,1\n")
    assert own_labels.read_labels(path).rows["a"] == own_labels.LabelRow(0, (), None, None, None)


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("a,0,run\nb,0,walk\n", "label 0: run and walk"),
        ("a,0,run\nb,1,run\n", "labels 0, 1: all run"),
    ],
)
def test_read_labels_wants_one_name_for_each_number(text, example, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("sample,label,label_name\n" + text)
    (fault,) = own_labels.read_labels(path).faults
    assert fault.reason == own_labels.NAMES
    assert f"{fault.id}: {fault.detail}" == example


def test_read_clips_names_recordings_and_labels_that_lack_the_other(write, folder, layout):
    table = pd.concat([rows(name, body()) for name in "abc"])
    expected = {("b", own_data.NO_LABEL), ("c", own_data.NO_LABEL), ("d", own_data.NO_RECORDING)}
    found = read_clips(write(table, a="walk", b="", d="run"), layout=layout)
    assert set(left_out(found)) == expected
    path = folder(a=body(), b=body(), c=body())
    write_labels(path / "labels.csv", a="walk", b="", d="run")
    found = read_clips(path, layout=layout)
    assert set(left_out(found)) == expected
    assert found.count == len(list(found.clips)) == 4
    assert found.label_names == ("run", "walk")


def test_read_clips_finds_labels(write, folder, layout, tmp_path):
    path = write(rows("a", body()), a="beside")
    assert read_clips(path, layout=layout).label_names == ("beside",)
    own = write_labels(tmp_path / "clips.labels.csv", a="own")
    assert read_clips(path, layout=layout).label_names == ("own",)
    named = write_labels(tmp_path / "others.csv", a="named")
    assert read_clips(path, layout=layout, labels=named).label_names == ("named",)
    own.unlink()
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(
        ValueError, match=r"has no labels: write a CSV .*labels\.csv or .*labels\.csv"
    ):
        read_clips(path, layout=layout)
    for name in ("none.csv", ""):
        with pytest.raises(
            FileNotFoundError, match=r"^no labels file .*: expected .*--labels"
        ) as e:
            read_clips(path, layout=layout, labels=tmp_path / name)
        assert str(tmp_path / name) in str(e.value)
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*none"):
        read_clips(tmp_path / "none", layout=layout)


# --- preparation --------------------------------------------------------------------------------


def test_read_clips_aligns_3d_as_prepare_3d_does(folder, layout):
    clip = body(2, 5)
    clip[0, :3] = 0  # the second person is the main one; frames without it are dropped
    clip[1, 4] = 0
    found = read_clips(folder(a=clip), layout=layout)
    np.testing.assert_array_equal(found.clips[0].keypoints, prepare_3d(clip, layout))
    assert found.preparation["name"] == "prepare_3d"
    assert found.clips[0].keypoints.shape[1] == 4
    text = (DOCS / "data/own-skeletons.md").read_text(encoding="utf-8")
    assert "leaves out frames in which that person is absent" in text


def test_read_clips_keeps_scores_beside_their_joints(folder, layout):
    clip = body(2, 5, 4)
    clip[0, :3] = 0
    clip[1, 4] = 0
    found = read_clips(folder(a=clip), layout=layout)
    made = found.clips[0].keypoints
    np.testing.assert_array_equal(made[..., :3], prepare_3d(clip[..., :3], layout))
    np.testing.assert_array_equal(made[..., 3], clip[[1, 0]][:, :4, :, 3])
    assert (found.channels, found.preparation["scored"]) == (4, True)


def test_read_clips_centers_what_cannot_be_aligned(folder, flat_layout):
    clip = body(2, 4)
    found = read_clips(folder(a=clip), layout=flat_layout)
    np.testing.assert_array_equal(found.clips[0].keypoints, center_on(clip, 1))
    assert found.preparation["name"] == "center"
    assert found.preparation["joint"] == "chest"


def test_read_clips_centers_where_the_centre_is_first_seen(folder, flat_layout):
    clip = body(2, 4, 2)
    clip[0, :2] = 0
    clip[0, 2, 1] = 0
    clip[1, 1, 3] = 0
    found = read_clips(folder(a=clip), layout=flat_layout)
    made = found.clips[0].keypoints
    np.testing.assert_allclose(made[0, 3], clip[0, 3] - clip[0, 3, 1], atol=1e-6)
    assert not made[0, :2].any()
    assert not made[1, 1, 3].any()


def test_read_clips_scales_pixels(folder, layout):
    clip = body(1, 3, 2) * 100
    clip[0, 1, 2] = 0
    scores = np.ones((1, 3, 4))
    scores[0, 1, 2] = 0
    expected = prepare_2d(clip, scores, (240, 320))
    found = read_clips(folder(a=clip), layout=layout, image_size=(240, 320))
    np.testing.assert_array_equal(found.clips[0].keypoints, expected)
    assert found.channels == 3
    assert found.preparation["scored"]
    assert found.preparation["image_size"] == [240, 320]
    scores = body(1, 3, 1)
    found = read_clips(
        folder(a=np.concatenate([clip, scores], axis=-1)), layout=layout, image_size=(240, 320)
    )
    expected = prepare_2d(clip, scores[..., 0], (240, 320))
    np.testing.assert_array_equal(found.clips[0].keypoints, expected)


@pytest.mark.parametrize(
    ("channels", "options", "message"),
    [
        (3, {"prepare": "turn"}, "expected one of align, center, image, none"),
        (2, {"prepare": "align"}, "needs x, y, z .* found 2 coordinates"),
        (2, {"prepare": "image"}, "image size go together"),
        (2, {"prepare": "none", "image_size": (2, 2)}, "image size go together"),
        (4, {"image_size": (2, 2)}, "goes with x, y in pixels"),
        (2, {"image_size": (0, 2)}, "above 0"),
    ],
)
def test_read_clips_refuses_a_preparation_that_does_not_fit(
    channels, options, message, folder, layout
):
    with pytest.raises(ValueError, match=message):
        read_clips(folder(a=body(channels=channels)), layout=layout, **options)


def test_read_clips_refuses_to_align_by_a_layout_without_directions(folder, flat_layout):
    with pytest.raises(ValueError, match=r"align\.z and align\.x, .* layout flat: use center"):
        read_clips(folder(a=body()), layout=flat_layout, prepare="align")


def test_read_clips_records_what_it_read(write, folder, layout):
    found = read_clips(write(rows("a", body())), layout=layout)
    assert found.preparation["format"] == "long table, CSV"
    assert found.preparation["source"] == "clips.csv"
    before = found.preparation["sha256"], found.preparation["labels"]
    found = read_clips(write(rows("a", body(seed=1)), a="run"), layout=layout)
    assert found.preparation["sha256"] != before[0]
    assert found.preparation["labels"] != before[1]
    assert read_clips(folder(a=body()), layout=layout).preparation["format"] == "folder of .npy"


# --- the example of the documentation -----------------------------------------------------------


def test_example_becomes_a_store_that_is_read_back(tmp_path):
    layout = skeletons.load(EXAMPLE / "layout.yaml")
    found = read_clips(EXAMPLE / "clips.csv", layout=layout)
    path = write_store(
        tmp_path / "s.arrow",
        found.clips,
        dataset="mine",
        skeleton=layout,
        label_names=found.label_names,
        channels=found.channels,
        preparation=found.preparation,
    )
    store = open_store(path)
    assert len(store) == found.count == 8
    assert not len(store.left_out)
    assert store.splits == {"xsub_train": 4, "xsub_val": 4}
    assert store.label_names == ["jump", "wave"]
    table = pd.read_csv(EXAMPLE / "clips.csv")
    raw = table[table["sample"] == store.ids[0]][["x", "y", "z"]].to_numpy().reshape(1, 6, 9, 3)
    np.testing.assert_array_equal(store.keypoints(0), prepare_3d(raw, layout))


def test_documentation_shows_the_example():
    text = (DOCS / "data/own-skeletons.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:yaml|csv)\n(.*?)```", text, flags=re.DOTALL)
    files = [(EXAMPLE / name).read_text() for name in ("layout.yaml", "clips.csv", "labels.csv")]
    assert len(blocks) == len(files)
    assert blocks[0] == files[0]
    for block, file in zip(blocks, files, strict=True):
        assert file.startswith(block)
    for entry in skeletons._REQUIRED | skeletons._OPTIONAL:
        assert f"| `{entry}` |" in text
    for name in own_data.PREPARATIONS:
        assert f"| `{name}` |" in text
    for column in (*own_labels._REQUIRED, *own_labels._OPTIONAL, *own_table._REQUIRED):
        assert column in text


def test_documentation_runs(tmp_path, monkeypatch, capsys):
    from msg3d_lab.cli import main

    text = (DOCS / "data/own-skeletons.md").read_text(encoding="utf-8")
    shutil.copytree(EXAMPLE, tmp_path / "docs" / "examples" / "own-skeletons")
    (tmp_path / "clips").mkdir()
    monkeypatch.chdir(tmp_path)
    (commands,) = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    for command in commands.splitlines():
        program, *words = shlex.split(command)
        assert program == "msg3d-lab"
        main(words)
    assert capsys.readouterr().out.count("No problems found") == 2
    assert open_store("data/my-moves.arrow").skeleton.name == "stick9"
    assert next((tmp_path / "runs").glob("*/metrics.csv"))
    known = {"keypoints": body()}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(block, known)
    np.testing.assert_array_equal(np.load("clips/p1-jump.npy"), body())
    assert len(known["store"]) == 8
