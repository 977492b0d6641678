import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_recordings import NAMES, body, clips, read_clips, rows, write_labels

from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.preprocess import longest_first

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


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=ragged(),
    parquet=st.booleans(),
    numbered=st.booleans(),
    people=st.sampled_from([(7, 20, 100), ("Zoe", "Al", "Bo"), ("10", "b", "9")]),
    start=st.integers(-3, 10**6),
)
def test_read_clips_reads_back_any_table(drawn, parquet, numbered, people, start, tmp_path, layout):
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
    found = read_clips(path, layout=layout, prepare="none")
    read = list(found.clips)
    assert found.channels == len(axes)
    assert found.preparation["scored"] == ("s" in axes)
    assert [clip.id for clip in read] == list(made)
    for clip in read:
        points = made[clip.id][..., : len(axes) - ("s" in axes)]
        if points.any():
            order = longest_first(points)
            np.testing.assert_array_equal(clip.keypoints, made[clip.id][order])
            assert clip.keypoints.dtype == np.float32
        else:
            assert clip.reason == faults.NOBODY


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
        (change("joint", "elbow"), faults.JOINTS, "1 rows, e.g. joint 'elbow', which four"),
        (change("joint", 4), faults.JOINTS, "joint '4'"),
        (change("joint", -1), faults.JOINTS, "joint '-1'"),
        (change("x", "-inf"), faults.FINITE, "1 numbers, e.g. frame 1, joint chest"),
        (change("x", 1e300), faults.FINITE, "1 numbers"),
        (change("x", "1,5"), faults.TEXT, "1 cells, e.g. x is '1,5'"),
        (change("x", "1_000"), faults.TEXT, "x is '1_000'"),
        (change("frame", "one"), faults.TEXT, "frame is 'one'"),
        (change("frame", 0.5), faults.FRAMES, "1 rows, e.g. frame 0.5"),
        (change("frame", None), faults.FRAMES, "1 rows, e.g. frame nan"),
        (change("frame", 1.7e12), faults.TOO_LONG, "frames 0 to 1700000000000 of 1 persons"),
        (change("joint", "hip"), faults.REPEATED, "frame 1, person 0, hip"),
    ],
)
def test_read_clips_leaves_out_a_sample_that_cannot_be_used(broken, reason, detail, write, layout):
    table = broken(rows("bad", body()))
    path = write(pd.concat([rows("good", body()), table, rows("last", body())]))
    good, bad, last = read_clips(path, layout=layout).clips
    assert (good.id, last.id) == ("good", "last")
    assert (bad.id, bad.reason) == ("bad", reason)
    assert detail in bad.detail


@pytest.mark.parametrize("blank", ["", "nan", None, "N/A"])
@pytest.mark.parametrize("parquet", [False, True])
def test_read_clips_takes_blank_cells_for_joints_not_seen(blank, parquet, write, layout, tmp_path):
    clip = body(channels=4)
    table = rows("a", clip, ("x", "y", "z", "score"))
    table = change("x", blank)(table)  # frame 1, chest
    table.loc[6, "score"] = np.nan  # frame 1, left hand
    path = write(table)
    if parquet:
        path = tmp_path / "clips.parquet"
        table.astype({"x": str}).to_parquet(path)
    (found,) = read_clips(path, layout=layout, prepare="none").clips
    clip[0, 1, 1] = 0
    clip[0, 1, 2, 3] = 0
    np.testing.assert_allclose(found.keypoints, clip, atol=1e-6)


def test_read_clips_names_all_that_is_wrong_with_a_sample(write, layout):
    table = change("joint", "elbow", 2)(
        change("x", "much", 3)(change("y", np.inf)(rows("a", body())))
    )
    (bad,) = read_clips(write(table), layout=layout).clips
    for reason in (faults.JOINTS, faults.FINITE):
        assert reason in bad.detail
    assert bad.reason == faults.TEXT


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
        (b"sample,frame,joint,x,y\n", "has no column person, .* add it, with 0 in every row"),
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


def test_read_clips_takes_the_rows_of_a_sample_in_any_place(write, layout):
    one, two = rows("a", body()), rows("b", body(seed=1))
    path = write(pd.concat([one[:5], two, one[5:]]))
    found = {clip.id: clip for clip in read_clips(path, layout=layout, prepare="none").clips}
    np.testing.assert_array_equal(found["a"].keypoints, body())
    np.testing.assert_array_equal(found["b"].keypoints, body(seed=1))
