import re

import pandas as pd
import pytest
from made_recordings import body, left_out, read_clips, rows, write_labels

from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.formats.own import labels as own_labels


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
        ("a,1\nb,2\nc,2\n", faults.NUMBERS, 2, "b: label 2; 2 classes are numbered 0 to 1"),
        ("a,0\nb,-1\n", faults.NUMBERS, 1, "b: label -1; 2 classes"),
        ("a,x\na,x\nb,x\nb,y\n", faults.TWICE, 2, "a: again in row 3"),
        (
            "a,x\nb,put on a hat, cap\n",
            faults.LENGTH,
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
    assert fault.reason == faults.NAMES
    assert f"{fault.id}: {fault.detail}" == example


def test_read_clips_names_recordings_and_labels_that_lack_the_other(write, folder, layout):
    table = pd.concat([rows(name, body()) for name in "abc"])
    expected = {("b", faults.NO_LABEL), ("c", faults.NO_LABEL), ("d", faults.NO_RECORDING)}
    found = read_clips(write(table, a="walk", b="", d="run"), layout=layout)
    assert set(left_out(found)) == expected
    path = folder(a=body(), b=body(), c=body())
    write_labels(path / "labels.csv", a="walk", b="", d="run")
    found = read_clips(path, layout=layout)
    assert set(left_out(found)) == expected
    assert len(found.clips) == 4
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
