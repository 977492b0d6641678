"""Wide tables: a row per frame, a column per joint and axis; one file, or one for each clip."""

import zipfile

import numpy as np
import pandas as pd
import pytest
from made_recordings import NAMES, body, left_out, read_clips, rows, write_labels

from msg3d_lab import skeletons
from msg3d_lab.data.formats.own.columns import wide_columns
from msg3d_lab.data.formats.own.table import RecordingTable

STYLES = {
    "names": lambda v, axis: f"{NAMES[v]} {axis}".replace(" ", "_").upper(),
    "dots": lambda v, axis: f"{NAMES[v]}.{axis}",
    "axis first": lambda v, axis: f"{axis}_{NAMES[v]}",
    "from 0": lambda v, axis: f"{axis}{v}",
    "from 1": lambda v, axis: f"{axis}_{v + 1}",
    "joints": lambda v, axis: f"joint{v}_{axis}",
}


def wide(keypoints, axes="xyz", style="names", **columns):
    """A row per frame of one person (T, V, C)."""
    T = len(keypoints)
    table = {
        STYLES[style](v, axis): keypoints[:, v, c]
        for v in range(keypoints.shape[1])
        for c, axis in enumerate(axes)
    }
    return pd.DataFrame({**columns, **table}, index=range(T))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_wide_table_is_read_in_every_spelling(style, suffix, layout, tmp_path):
    clip, path = body()[0].astype(np.float64), tmp_path / f"a.{suffix}"
    table = wide(clip, style=style, time=0.5)
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    opened = RecordingTable(path, layout)
    (found,) = opened.samples()
    assert found.id == "a"
    assert opened.format == f"wide table, {'CSV' if suffix == 'csv' else 'Parquet'}"
    np.testing.assert_array_equal(found.keypoints, clip[None])


def test_wide_table_holds_samples_frames_persons_and_scores(layout, tmp_path):
    clips = {name: body(2, 4, 4, seed).astype(np.float64) for seed, name in enumerate("ab")}
    rows = [
        wide(
            clip[m], ["x", "y", "z", "visibility"], video=name, frame=range(5, 9), person_id=m
        ).iloc[slice(None) if m == 0 else [0, 3]]
        for name, clip in clips.items()
        for m in range(2)
    ]
    pd.concat(rows).to_csv(tmp_path / "t.csv", index=False)
    opened = RecordingTable(tmp_path / "t.csv", layout)
    assert (opened.axes, opened.scored) == (["x", "y", "z"], True)
    for found, (name, clip) in zip(opened.samples(), clips.items(), strict=True):
        clip[1, 1:3] = 0  # frames without a row
        assert found.id == name
        np.testing.assert_array_equal(found.keypoints, clip)


@pytest.mark.parametrize("zipped", [False, True])
def test_folder_of_tables_is_a_clip_per_file(zipped, layout, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    clips = {name: body(seed=seed) for seed, name in enumerate("abc")}
    for name, clip in clips.items():
        wide(clip[0].astype(np.float64)).to_csv(folder / f"{name}.csv", index=False)
    (folder / "d.csv").write_text("hip_x,hip_y\n1,2\n")
    wide(body()[0], "xy").to_csv(folder / "e.csv", index=False)
    labels = write_labels(tmp_path / "labels.csv", **dict.fromkeys("abcde", "0,train,1"))
    source = folder
    if zipped:
        source = tmp_path / "clips.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in folder.iterdir():
                archive.write(path, path.name)
    else:
        labels = labels.rename(folder / "labels.csv")
    found = read_clips(source, layout=layout, labels=labels, prepare="none")
    assert left_out(found) == [("d", "cannot be read"), ("e", "arrays not of shape (M, T, V, C)")]
    assert found.preparation["format"] == "folder of tables"
    for name, made in zip("abc", found.clips, strict=False):
        np.testing.assert_allclose(made.keypoints, clips[name], atol=1e-6)


def test_folder_of_long_tables_needs_no_column_of_samples(layout, tmp_path):
    clips = {name: body(2, seed=seed) for seed, name in enumerate("ab")}
    for name, clip in clips.items():
        rows(name, clip).drop(columns="sample").to_csv(tmp_path / f"{name}.csv", index=False)
    write_labels(tmp_path / "labels.csv", a="0,train,1", b="0,train,1")
    found = read_clips(tmp_path, layout=layout, prepare="none")
    assert [clip.id for clip in found.clips] == ["a", "b"]
    for clip in found.clips:
        np.testing.assert_allclose(clip.keypoints, clips[clip.id], atol=1e-6)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            ["hip_x", "hip_y", "chest_x"],
            "no column for x of joint 'left hand' .* left_hand_x or x2",
        ),
        (["hip_x", "hip_y", "Hip x"], "two columns for x of joint 'hip': 'hip_x' and 'Hip x'"),
        ([f"{a}{i}" for i in range(1, 34) for a in "xy"], "columns of 33 joints, four has 4"),
    ],
)
def test_wide_columns_explains_what_is_missing(columns, message, layout, tmp_path):
    columns = [*columns, *(f"{a}_chest" for a in "y")] if "chest_x" in columns else columns
    with pytest.raises(ValueError, match=message):
        wide_columns(tmp_path / "t.csv", columns, layout)


def test_wide_columns_take_a_part_of_the_table(tmp_path):
    names = skeletons.get("mediapipe33").joints
    columns = [f"{name}_{a}".replace(" ", "_") for name in names for a in "xy"]
    coco = skeletons.get("coco17")
    found = wide_columns(tmp_path / "t.csv", columns, coco)
    assert found[9, "y"] == "left_wrist_y"
    assert len(found) == 34


def test_table_of_neither_form_is_told_both(layout, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(",".join(f"column {i}" for i in range(134)) + "\n")
    with pytest.raises(ValueError, match=r"no column sample .* and 122 more. A wide table") as e:
        RecordingTable(path, layout)
    assert len(str(e.value)) < 500


def test_wide_table_of_persons_needs_frames(layout, tmp_path):
    wide(body()[0], track_id=1).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match="has a column track_id, but none of frames"):
        RecordingTable(tmp_path / "t.csv", layout)


@pytest.mark.parametrize("encoding", ["cp1252", "gbk", "utf-16"])
def test_other_encodings_are_told_to_save_as_utf8(encoding, layout, tmp_path):
    path, text = tmp_path / "t.csv", "é" if encoding == "cp1252" else "张"
    path.write_text(f"sample,frame,person,joint,x,y,{text}\n", encoding=encoding)
    with pytest.raises(ValueError, match="save it as UTF-8"):
        RecordingTable(path, layout)
    path.write_text(f"sample,frame,person,joint,x,y\n{text},0,0,hip,1,2\n", encoding=encoding)
    with pytest.raises(ValueError, match="UTF-8"):
        list(RecordingTable(path, layout).samples())
