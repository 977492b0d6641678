import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from msg3d_lab import skeletons
from msg3d_lab.cli import main
from msg3d_lab.data import import_dataset, open_store, write_store
from msg3d_lab.data.checks import (
    Problem,
    check_path,
    check_source,
    check_store,
    describe_store,
    explain_problems,
    problems,
)
from msg3d_lab.data.checks.splits import Halves, find_protocols
from msg3d_lab.data.clips import LeftOut
from msg3d_lab.data.datasets import Dataset
from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.formats.own import recordings as own_data
from msg3d_lab.data.formats.own.faults import (
    DUPLICATE,
    FINITE,
    FRAMES,
    JOINTS,
    LENGTH,
    NAMES,
    NUMBERS,
    REPEATED,
    SHAPE,
    TEXT,
    TOO_LONG,
    TWICE,
)
from msg3d_lab.data.formats.own.options import OwnData
from msg3d_lab.data.formats.own.preparation import Preparation
from msg3d_lab.data.preprocess import prepare_2d

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "own-skeletons"


@pytest.fixture(scope="module")
def layout():
    return skeletons.load(EXAMPLE / "layout.yaml")


@pytest.fixture(scope="module")
def clean(layout):
    """The clips of the example: nothing is wrong with them."""
    mine = Dataset("mine", title="mine", layouts=(), label_names=(), protocols=())
    return list(
        own_data.read_clips([EXAMPLE / "clips.csv"], dataset=mine, own=OwnData(layout=layout)).clips
    )


def expect(found, kind, count, example, severity=None):
    """Exactly one kind of problem, with this count, and an example that contains the text."""
    assert [problem.kind for problem in found] == [kind], explain_problems(found)
    (problem,) = found
    assert problem.count == count
    assert example in problem.examples[0]
    assert len(problem.examples) == min(count, 5)
    assert problem.severity == (severity or problems.KINDS[kind].severity)


# --- stores -------------------------------------------------------------------------------------


@pytest.fixture
def store_of(tmp_path, layout):
    def make(clips, **facts):
        facts = {
            "dataset": "mine",
            "skeleton": layout,
            "label_names": ["jump", "wave"],
            "channels": 3,
            "preparation": {"name": "prepare_3d"},
            **facts,
        }
        path = tmp_path / "store.arrow"
        path.unlink(missing_ok=True)
        return open_store(write_store(path, clips, **facts))

    return make


def check(store):
    return check_store(store, progress=False)


def with_points(clip, points):
    return replace(clip, keypoints=np.asarray(points, dtype=np.float32))


def swapped(clips, **at):
    """Replace clips by position: c3=clip."""
    clips = list(clips)
    for name, clip in at.items():
        clips[int(name[1:])] = clip
    return clips


def test_check_store_finds_nothing_wrong_with_the_example(clean, store_of):
    found = check(store_of(clean))
    assert found == []
    assert explain_problems(found).startswith("No problems found. Checked: joints, coordinates,")


def test_the_command_prints_the_notes_of_the_import(clean, store_of, capsys):
    store = store_of(clean, preparation={"name": "prepare_3d", "notes": ["layout by its joints"]})
    main(["data", "check", str(store.path)])
    shown = capsys.readouterr().out
    assert shown.startswith("No problems found.")
    assert "note: assumed: 1\n    layout by its joints\n" in shown


def test_check_store_finds_nothing_wrong_with_the_synthetic_set(synthetic_store):
    assert check(synthetic_store) == []


@pytest.mark.shared
def test_check_store_of_nw_ucla_names_its_copies_and_clips_of_one_frame(nw_ucla_store):
    found = {problem.kind: problem for problem in check(nw_ucla_store)}
    assert {problem.severity for problem in found.values()} <= {"warning"}
    assert problems.ONE_FRAME in found
    copies = found[problems.COPIES]
    assert copies.count == 95
    assert "a02_s01_e00_v03: in xview_val, is a02_s01_e00_v02 of xview_train" in copies.examples
    assert "results of others on these files have them too" in copies.advice


def test_check_store_says_what_is_wrong_with_coordinates(clean, store_of):
    one = clean[2]
    points = one.keypoints
    still = np.repeat(points[:, :1], 6, axis=1)
    nowhere = np.concatenate([points, 0 * points])
    mostly = np.concatenate([points, np.zeros((1, 9, 9, 3))], axis=1)
    for kind, changed, example in (
        (problems.STILL, still, "p2-jump: 6 frames"),
        (problems.STILL, np.concatenate([still, 0 * still[:, :2]], axis=1), "p2-jump: 8 frames"),
        (problems.ONE_FRAME, points[:, :1], "p2-jump"),
        (problems.NEVER_PRESENT, nowhere, "p2-jump: person 1 of 2"),
        (problems.NEVER_PRESENT, nowhere[::-1], "p2-jump: person 0 of 2"),
        (problems.MOSTLY_EMPTY, mostly, "p2-jump: 9 of 15 frames"),
        (faults.NOBODY, 0 * points, "p2-jump"),
    ):
        expect(check(store_of(swapped(clean, c2=with_points(one, changed)))), kind, 1, example)


def test_check_store_knows_a_still_person_from_one_who_comes_or_goes(clean, store_of):
    still = np.repeat(clean[2].keypoints[:, :1], 6, axis=1)
    two = np.concatenate([still, clean[3].keypoints])
    assert check(store_of(swapped(clean, c2=with_points(clean[2], two)))) == []


def test_check_store_sees_persons_of_scaled_pixels_by_their_scores(layout, store_of):
    """A joint that was not found is at (-1, -1) there, not at zero."""
    rng = np.random.default_rng(0)
    flat = skeletons.from_dict({"name": "f", "joints": ["a", "b"], "edges": [[0, 1]], "center": 0})
    made = Preparation("image", flat, 2, False, (100, 100))
    clips = []
    for i in range(4):
        pixels = rng.uniform(1, 99, (2, 5, 2, 2))
        pixels[1] = 0
        clip = own_data.Clip(f"c{i}", made(pixels), i % 2, ("train", "val")[i // 2 : i // 2 + 1])
        clips.append(clip)
    store = store_of(clips, skeleton=flat, preparation=made.record)
    expect(check(store), problems.NEVER_PRESENT, 4, "c0: person 1 of 2")


def test_check_store_names_joints_that_are_never_seen(clean, store_of):
    changed = [with_points(c, c.keypoints.copy()) for c in clean]
    for clip in changed:
        clip.keypoints[:, :, 4] = 0
    expect(check(store_of(changed)), problems.ZERO_JOINTS, 1, "left hand")
    for clip in changed[:1]:
        clip.keypoints[:, 2:, 4] = 0.3
    expect(check(store_of(changed)), problems.UNSEEN, 8, "p1-jump: 2 times, most often left hand")


def test_check_store_lets_clips_be_relative_to_their_centre(clean, store_of, layout):
    changed = [with_points(c, c.keypoints - c.keypoints[:, :, [layout.center]]) for c in clean]
    assert check(store_of(changed)) == []


@pytest.mark.parametrize("factor", [0.001, 100.0, 1000.0])
def test_check_store_asks_for_metres(factor, clean, store_of):
    changed = [with_points(clip, clip.keypoints * factor) for clip in clean]
    expect(check(store_of(changed)), problems.SIZE, 8, "p1-jump: ")
    mostly = [*changed[:3], *clean[3:]]
    assert check(store_of(mostly)) == []


def test_check_store_notices_bodies_upside_down(clean, store_of):
    changed = [with_points(clip, clip.keypoints * [1, -1, -1]) for clip in clean]
    expect(check(store_of(changed)), problems.UPSIDE_DOWN, 8, "p1-jump")
    assert check(store_of([*changed[:1], *clean[1:]])) == []
    assert check(store_of(changed, preparation={"name": "none"})) == []


def test_check_store_names_damaged_clips(clean, store_of):
    store = store_of(clean)
    content = bytearray(store.path.read_bytes())
    where = content.index(clean[3].keypoints.tobytes())
    content[where + 5] ^= 1
    store.path.write_bytes(content)
    expect(check(open_store(store.path)), problems.DAMAGED, 1, "p2-wave")
    assert open_store(store.path).verify() == ["p2-wave"]


def test_check_store_counts_what_was_left_out(clean, store_of):
    left = [LeftOut(f"r{i}", "cannot be read", f"line {i}") for i in range(7)]
    found = check(store_of([*clean, *left, LeftOut("s", "nobody in any frame")]))
    assert [(p.kind, p.count, p.examples[0]) for p in found] == [
        ("left out: cannot be read", 7, "r0: line 0"),
        ("left out: nobody in any frame", 1, "s"),
    ]
    assert all(p.severity == "warning" for p in found)
    text = explain_problems(found)
    assert "warning: left out: cannot be read: 7\n    r0: line 0\n" in text
    assert "    ... and 2 more\n" in text


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("on the authors' list of missing skeletons", "nothing: .* --keep-missing"),
        ("not of ntu60", "nothing: they belong to another data set"),
        ("nobody in any frame", "nothing: there is nobody"),
        ("occurs twice", "nothing: the first"),
        ("cannot be read", "download these files again"),
        ("cannot be used", "correct the source and import it again"),
    ],
)
def test_check_store_says_of_each_reason_what_to_do(reason, advice, clean, store_of):
    (found,) = check(store_of([*clean, LeftOut("r", reason)], dataset="ntu60"))
    assert re.match(advice, found.advice)
    assert found.severity == "warning"


@pytest.mark.parametrize(
    ("kind", "reason", "advice"),
    [
        ("long table, CSV", JOINTS, "name joints as the layout does"),
        ("long table, CSV", faults.NO_LABEL, "add a row with sample and label"),
        ("folder of .npy", "cannot be read", "save the file again"),
        ("folder of .npy", faults.NOBODY, "nothing: there is nobody"),
    ],
)
def test_check_store_of_own_recordings_says_what_to_do(kind, reason, advice, clean, store_of):
    facts = {"preparation": {"name": "prepare_3d", "format": kind}}
    (found,) = check(store_of([*clean, LeftOut("r", reason)], **facts))
    assert found.advice.startswith(advice)
    assert found.advice.endswith("; then import again") == (reason != faults.NOBODY)


@pytest.mark.parametrize(
    ("facts", "own"),
    [
        ({"dataset": "ntu60"}, False),
        ({"synthetic": True}, False),
        ({}, True),
        ({"preparation": {"name": "prepare_3d", "format": "folder of .npy"}}, True),
    ],
)
def test_check_store_speaks_of_layouts_where_they_are_ones_own(facts, own, clean, store_of):
    changed = [with_points(clip, clip.keypoints * [1, -1, -1]) for clip in clean]
    (found,) = check(store_of(changed, **facts))
    assert found.kind == problems.UPSIDE_DOWN
    assert ("align.x" in found.advice) == own


def with_splits(clips, splits):
    return [replace(clip, splits=names) for clip, names in zip(clips, splits, strict=True)]


def test_check_store_finds_a_single_class(clean, store_of):
    found = check(store_of([replace(clip, label=0) for clip in clean], label_names=["jump"]))
    expect(found, problems.ONE_CLASS, 1, "jump (label 0)", "error")


def test_find_protocols_reads_many_spellings():
    found = find_protocols(["a-test", "a-train", "val", "train", "test", "Training", "fold1"])
    assert found["a"] == Halves(("a-train",), ("a-test",))
    assert found[""] == Halves(("train", "Training"), ("test", "val"))
    assert set(found) == {"a", ""}


@pytest.mark.parametrize(
    ("kind", "splits", "count", "example"),
    [
        (problems.NO_SPLITS, [()] * 8, 8, "p1-jump"),
        (
            problems.NO_SPLIT,
            [("xsub_train",)] * 2 + [()] * 4 + [("xsub_val",)] * 2,
            4,
            "p2-jump",
        ),
        (
            problems.NOT_TRAINED,
            [("xsub_train",), ()] * 2 + [("xsub_val",)] * 4,
            1,
            "xsub_train: wave (label 1)",
        ),
        (
            problems.NOT_TESTED,
            [("xsub_train",)] * 4 + [("xsub_val",), ()] * 2,
            1,
            "xsub_val: wave (label 1)",
        ),
        (
            problems.BOTH_HALVES,
            [("xview_train",)] * 3 + [("xview_train", "xview_val")] * 2 + [("xview_val",)] * 3,
            2,
            "p2-wave: in xview_train and xview_val",
        ),
        (problems.HALF, [("xview_train",)] * 8, 1, "xview_train"),
        (problems.HALF, [("Training",)] * 8, 1, "Training"),
        (problems.HALF, [("val",)] * 4 + [("test",)] * 4, 1, "test"),
        (problems.HALF, [("train", "fold1")] * 4 + [("val",)] * 4, 1, "fold1: neither train nor"),
        (
            problems.SUBJECTS_MIXED,
            [("xsub_train",)] * 3 + [("xsub_val",)] * 5,
            1,
            "subject 2: 1 clips in xsub_train, 1 in xsub_val",
        ),
        (
            problems.SUBJECTS_SHARED,
            [("train",)] * 3 + [("val",)] * 5,
            1,
            "subject 2: 1 clips in train, 1 in val",
        ),
    ],
)
def test_check_store_says_what_is_wrong_with_splits(kind, splits, count, example, clean, store_of):
    found = check(store_of(with_splits(clean, splits)))
    # Where clips are in no split, classes can be missing from one because of that.
    also = {problems.NO_SPLIT} - {kind} if () in splits else set()
    expect([p for p in found if p.kind not in also], kind, count, example)


def test_check_store_compares_each_pair_of_three_halves(clean, store_of):
    splits = [("sub_train",)] * 2 + [("sub_val",)] * 2 + [("sub_test",)] * 4
    assert check(store_of(with_splits(clean, splits))) == []
    splits[0] = splits[7] = ("sub_val", "sub_test")
    splits[1] = splits[6] = ("sub_train", "sub_test")
    kinds = {p.kind: p for p in check(store_of(with_splits(clean, splits)))}
    assert kinds[problems.BOTH_HALVES].count == 4
    assert set(kinds[problems.SUBJECTS_MIXED].examples) == {
        "subject 1: 1 clips in sub_train, 1 in sub_val",
        "subject 1: 1 clips in sub_train, 2 in sub_test",
        "subject 4: 1 clips in sub_train, 1 in sub_val",
        "subject 4: 1 clips in sub_train, 2 in sub_test",
    }


def test_check_store_finds_copies_under_another_name(clean, store_of):
    clips = with_splits(clean, [("xview_train",)] * 4 + [("xview_val",)] * 4)
    clips[5] = replace(clips[5], keypoints=clips[2].keypoints)
    clips[3] = replace(clips[3], keypoints=clips[1].keypoints)  # both trained on: no matter
    found = f"{clips[5].id}: in xview_val, is {clips[2].id} of xview_train"
    expect(check(store_of(clips)), problems.COPIES, 1, found)


def test_check_store_does_not_hold_subjects_against_cross_view(clean, store_of):
    splits = [("xview_train",)] * 2 + [("xview_val",)] * 2 + [("xview_train",), ("xview_val",)] * 2
    splits[4:] = [("xview_val",), ("xview_train",)] * 2
    assert check(store_of(with_splits(clean, splits))) == []


def test_check_store_says_when_subjects_are_unknown(clean, store_of):
    changed = [replace(clip, subject=None) for clip in clean]
    expect(check(store_of(changed)), problems.SUBJECTS_UNKNOWN, 8, "p1-jump")
    plain = with_splits(changed, [("train",)] * 4 + [("val",)] * 4)
    assert check(store_of(plain)) == []


def test_check_store_names_classes_without_a_clip(clean, store_of):
    store = store_of(clean, label_names=["jump", "wave", "2", "fall"])
    expect(check(store), problems.NO_CLIP, 2, "label 2")
    assert check(store)[0].examples == ("label 2", "fall (label 3)")


def test_check_store_finds_what_write_store_would_have_refused(clean, store_of, monkeypatch):
    """A store of other making: NaN."""
    store = store_of(clean)
    broken = np.array(store.keypoints(1))
    broken[0, 0] = np.nan
    monkeypatch.setattr(store, "keypoints", lambda i: broken if i == 1 else clean[i].keypoints)
    expect(check(store), FINITE, 1, "p1-wave: 27 numbers")


# --- images -------------------------------------------------------------------------------------


@pytest.fixture
def images(store_of):
    """Make a store of 8 clips in 2D: pixels in an image of 400 x 600, taken for another size."""
    layout = skeletons.get("coco17")

    def make(size=(400, 600), change=lambda pixels, i: pixels):
        clips = []
        for i in range(8):
            middle = np.random.default_rng(i).uniform((150, 150), (450, 250))
            pixels = middle + np.random.default_rng(i).uniform(-140, 140, (1, 5, 17, 2))
            pixels = change(pixels, i)
            points = prepare_2d(pixels, np.ones((1, 5, 17)), size)
            split = ("train", "val")[i // 4]
            clips.append(own_data.Clip(f"c{i}", points, i % 2, (split,)))
        return store_of(clips, skeleton=layout, preparation={"name": "prepare_2d", "scored": True})

    return make


def test_check_store_finds_people_in_their_image(images):
    assert check(images()) == []


@pytest.mark.parametrize(
    ("size", "scale", "cause"),
    [
        ((600, 400), 1, "height and width of the image look swapped"),
        ((400, 600), np.array([1 / 600, 1 / 400]), "from 0 to 1 were taken as pixels"),
        ((1, 1), 1, "in pixels were taken as fractions of the image"),
        ((200, 300), 1, "the image size is that of another image"),
    ],
)
def test_check_store_says_why_people_are_not_in_their_image(images, size, scale, cause):
    (found,) = check(images(size, lambda pixels, i: pixels * scale))
    assert (found.kind, found.severity) == (problems.NOT_IN_IMAGE, "error")
    assert cause in found.examples[0]


def test_check_store_names_single_clips_outside_their_image(images):
    found = check(images(change=lambda pixels, i: pixels + 900 * (i == 3)))
    expect(found, problems.PARTLY_OUTSIDE, 1, "c3: x from")


def test_check_store_asks_about_a_third_coordinate_of_a_2d_layout(store_of):
    rng = np.random.default_rng(0)
    clips = [
        own_data.Clip(
            f"c{i}", rng.uniform(0.3, 1, (1, 5, 17, 3)), i % 2, (("train", "val")[i // 2],)
        )
        for i in range(4)
    ]
    store = store_of(clips, skeleton=skeletons.get("coco17"), preparation={"name": "center"})
    expect(check(store), problems.DEPTH, 1, "coco17 with x, y, z")


def test_check_store_says_that_labels_start_at_1(clean, store_of):
    clips = [replace(clip, label=clip.label + 1) for clip in clean]
    found = check(store_of(clips, label_names=["class 0", "class 1", "class 2"]))
    expect(found, problems.FROM_ONE, 1, "labels 1 to 2")


@pytest.mark.parametrize(("train", "test"), [("train1", "test1"), ("Training", "testing")])
def test_check_store_knows_the_halves_of_numbered_splits(clean, store_of, train, test):
    changed = [replace(clip, subject=None) for clip in clean]
    assert check(store_of(with_splits(changed, [(train,)] * 4 + [(test,)] * 4))) == []
    found = check(store_of(with_splits(changed, [("train1",)] * 4 + [("test2",)] * 4)))
    assert {problem.kind for problem in found} == {problems.HALF}


# --- recordings in the field's formats, before they are imported ----------------------------------


def as_openmmlab(folder, body):
    """A pickle with everything that can be wrong and still be imported."""
    rng = np.random.default_rng(0)
    annotations = [
        {
            "frame_dir": f"a{i}",
            "label": 1 + i % 3,
            "total_frames": 9,
            "keypoint": body(rng, persons=3 if i == 2 else 1).astype(np.float16),
        }
        for i in range(8)
    ]
    annotations[3]["keypoint"][:] = 0
    annotations[4]["keypoint"][0, 0, 0, 0] = np.nan
    annotations[5]["keypoint"][:] = annotations[5]["keypoint"][:, :1]
    del annotations[6]["label"]
    annotations.append(annotations[0])
    split = {"train": ["a0", "a1", "gone"], "test": ["a0", "a2", "a5"]}
    path = folder / "own.pkl"
    path.write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
    return path


def as_arrays(folder, body):
    """MS-G3D's own layout: (N, C, T, V, M) and a pickle of names and labels."""
    rng = np.random.default_rng(0)
    for part, labels in (("train", [0, 1, 1]), ("val", [3, 1])):
        clips = np.stack([body(rng).transpose(3, 1, 2, 0) for _ in labels])
        clips[0, :, :, 7] = 0
        np.save(folder / f"{part}_data_joint.npy", clips)
        names = [f"{part}{i}" for i in range(len(labels))]
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps((names, labels)))
    return folder


def as_ctrgcn(folder, body):
    rng = np.random.default_rng(0)
    known = {}
    for part, labels in (("train", [0, 1, 1]), ("test", [0, 2])):
        clips = [body(rng, persons=2).transpose(1, 0, 2, 3).reshape(9, 150) for _ in labels]
        known |= {f"x_{part}": np.stack(clips), f"y_{part}": np.eye(4)[labels]}
    np.savez(folder / "own.npz", **known)
    return folder / "own.npz"


@pytest.mark.parametrize("write", [as_openmmlab, as_arrays, as_ctrgcn])
def test_check_path_finds_before_the_import_what_is_found_after_it(write, tmp_path, make_walk):
    def body(rng, persons=1):
        walk = make_walk(num_frames=9, persons=persons)
        return walk + rng.normal(0, 0.01, walk.shape).astype(np.float32)

    source = write(tmp_path, body)
    before = check_path(source, progress=False)
    assert not list(tmp_path.glob("**/*.arrow"))
    store = import_dataset(source, dataset="own", out=tmp_path / "own.arrow", progress=False)
    assert before == check_path(store, progress=False)
    assert {"warning", "note"} <= {problem.severity for problem in before}


def test_check_path_of_a_published_data_set_wants_its_name(tmp_path, make_walk, capsys):
    annotation = {"frame_dir": "S001C001P001R001A007", "total_frames": 9, "label": 3}
    annotation["keypoint"] = make_walk(num_frames=9).astype(np.float16)
    path = tmp_path / "n.pkl"
    split = {"xsub_train": [annotation["frame_dir"]], "xsub_val": []}
    path.write_bytes(pickle.dumps({"split": split, "annotations": [annotation]}))
    found = {problem.kind for problem in check_path(path, progress=False)}
    assert problems.ONE_CLASS in found  # as recordings of one's own
    with pytest.raises(SystemExit) as stop:
        main(["data", "check", str(path), "--dataset", "ntu60"])
    assert stop.value.code == 2
    assert "A007" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["data", "check", str(path)])
    assert stop.value.code == 1
    with pytest.raises(
        ValueError, match="annotation pickle, the format of ntu60 and ntu120, not of nw-ucla"
    ):
        check_path(path, dataset="nw-ucla", progress=False)


# --- sources ------------------------------------------------------------------------------------


@pytest.fixture
def table():
    return pd.read_csv(EXAMPLE / "clips.csv", dtype={"person": object, "joint": object})


@pytest.fixture
def labels():
    return pd.read_csv(EXAMPLE / "labels.csv")


@pytest.fixture
def look(tmp_path, layout):
    def look(table, labels):
        table.to_csv(tmp_path / "clips.csv", index=False)
        labels.to_csv(tmp_path / "labels.csv", index=False)
        return check_source(tmp_path / "clips.csv", layout, progress=False)

    return look


def test_check_source_finds_nothing_wrong_with_the_example(table, labels, look, layout, tmp_path):
    assert look(table, labels) == []
    table.to_parquet(tmp_path / "clips.parquet")
    assert check_source(tmp_path / "clips.parquet", layout, progress=False) == []


def test_check_source_finds_nothing_wrong_with_a_clean_folder(folder, layout):
    assert check_source(folder(), layout, progress=False) == []


@pytest.fixture
def folder(tmp_path, table, labels):
    """The example as arrays, some of them replaced or (None) missing."""

    def make(**arrays):
        path = tmp_path / "arrays"
        path.mkdir()
        for name, rows in table.groupby("sample"):
            array = rows[["x", "y", "z"]].to_numpy().reshape(1, 6, 9, 3)
            array = arrays.get(name.replace("-", "_"), array)
            if array is not None:
                np.save(path / f"{name}.npy", array)
        labels.to_csv(path / "labels.csv", index=False)
        return path

    return make


def cell(column, value):
    """Put a value into two rows of p1-jump."""

    def change(table):
        table = table.astype({column: object})
        table.loc[[60 - 50, 20], column] = value
        return table

    return change


@pytest.mark.parametrize(
    ("kind", "change", "count", "example"),
    [
        (JOINTS, cell("joint", "elbow"), 1, "p1-jump: 2 rows, e.g. joint 'elbow', which stick9"),
        (FINITE, cell("x", "inf"), 1, "p1-jump: 2 numbers, e.g. frame 1, joint chest"),
        (TEXT, cell("x", "1,5"), 1, "p1-jump: 2 cells, e.g. x is '1,5'"),
        (FRAMES, cell("frame", 1.5), 1, "p1-jump: 2 rows, e.g. frame 1.5"),
        (TOO_LONG, cell("frame", 1.6e9), 1, "p1-jump: frames 0 to 1600000000 of 1 persons"),
        (
            REPEATED,
            lambda t: pd.concat([t.iloc[:3], t]),
            1,
            "p1-jump: 3 rows, e.g. frame 0, person 0, hip",
        ),
    ],
)
def test_check_source_says_what_is_wrong_with_rows(
    kind, change, count, example, table, labels, look
):
    found = look(change(table), labels)
    rest = [p for p in found if p.kind not in (problems.NO_CLIP, problems.NOT_TRAINED)]
    expect(rest, kind, count, example)


def test_check_source_counts_rows_of_another_length(table, labels, look, layout, tmp_path):
    look(table, labels)
    path = tmp_path / "clips.csv"
    lines = path.read_text().splitlines()
    lines.insert(5, "p1-jump,0")
    path.write_text("\n".join([*lines, "p4-wave,5,0,hip,1,2,3,4"]))
    found = check_source(path, layout, progress=False)
    expect(found, LENGTH, 2, "clips.csv, row 6: 2 fields, the header has 7")


def test_check_source_goes_on_after_everything_that_is_wrong(table, labels, look):
    table = table.astype({"x": object, "joint": object})
    of = {name: rows.index for name, rows in table.groupby("sample")}
    table.loc[of["p1-jump"][0], "joint"] = "elbow"
    table.loc[of["p1-jump"][1], "x"] = "much"
    table.loc[of["p1-jump"][2], "x"] = "inf"
    table.loc[of["p2-jump"], ["x", "y", "z"]] = 0
    labels = labels[labels["sample"] != "p2-wave"]
    labels.loc[len(labels) + 1] = ["p9-wave", "wave", "xsub_val", 1]
    found = {problem.kind: problem for problem in look(table, labels)}
    for kind in (JOINTS, TEXT, FINITE, faults.NOBODY, faults.NO_LABEL, faults.NO_RECORDING):
        assert found[kind].count == 1, kind
    assert found[faults.NO_LABEL].examples == ("p2-wave",)
    assert found[faults.NO_RECORDING].examples == ("p9-wave",)
    order = [problem.severity for problem in found.values()]
    assert order == sorted(order)


def test_check_source_counts_joints_that_are_not_seen(table, labels, look):
    table.loc[[3, 12, 60], "x"] = np.nan
    found = look(table, labels)
    name = table["sample"][3], table["joint"][3]
    expect(found, problems.UNSEEN, 2, f"{name[0]}: 2 times, most often {name[1]}", "warning")


def test_check_names_persons_who_are_cut_off(table, labels, look, clean, store_of):
    first = table[table["sample"] == "p1-jump"]
    others = [first.assign(person=m)[first["frame"] < m] for m in (2, 1)]
    found = look(pd.concat([first, *others, table.drop(first.index)]), labels)
    expect(found, problems.SURPLUS, 1, "p1-jump: 3 persons, seen in 6, 2, 1 of 6 frames")
    crowd = [with_points(clip, np.repeat(clip.keypoints, 3, axis=0)) for clip in clean]
    store = store_of(crowd)
    expect(check(store), problems.SURPLUS, 8, "p1-jump: 3 persons, seen in 6, 6, 6 of 6")
    assert "8 clips have more than 2 persons" in describe_store(store)


def test_check_source_asks_for_channels(tmp_path):
    (tmp_path / "clips").mkdir()
    clip = np.random.default_rng(0).uniform(0, 1, (1, 6, 17, 3))
    np.save(tmp_path / "clips" / "a.npy", clip)
    (tmp_path / "labels.csv").write_text("sample,label,splits\na,x,train\n")
    options = {"layout": skeletons.get("coco17"), "labels": tmp_path / "labels.csv"}
    found = check_path(tmp_path / "clips", **options, progress=False)
    expect(found, problems.CHANNELS, 1, "like a score")
    found = check_path(tmp_path / "clips", **options, channels="x,y,score", progress=False)
    assert problems.CHANNELS not in {problem.kind for problem in found}


def relabel(labels, **columns):
    return labels.assign(**columns)


@pytest.mark.parametrize(
    ("kind", "change", "count", "example"),
    [
        (
            NUMBERS,
            lambda t: t.assign(label=[1, 2] * 4),
            4,
            "p1-wave: label 2; 2 classes are numbered 0 to 1",
        ),
        (TWICE, lambda t: pd.concat([t, t.iloc[:2]]), 2, "p1-jump: again in row 10"),
        (
            NAMES,
            lambda t: t.assign(label=[0, 1] * 4, label_name=["jump", "wave"] * 3 + ["hop", "wave"]),
            1,
            "label 0: hop and jump",
        ),
        (faults.NO_LABEL, lambda t: t.iloc[:-1], 1, "p4-wave"),
        (
            faults.NO_RECORDING,
            lambda t: pd.concat([t, t.iloc[:1].assign(sample="p1-jmup")]),
            1,
            "p1-jmup",
        ),
        (problems.NO_SPLITS, lambda t: t.drop(columns="splits"), 8, "p1-jump"),
        (problems.UNREADABLE_LABELS, lambda t: t.drop(columns="label"), 1, "no column label"),
    ],
)
def test_check_source_says_what_is_wrong_with_labels(
    kind, change, count, example, table, labels, look
):
    expect(look(table, change(labels)), kind, count, example)


def test_check_source_names_arrays_that_cannot_be_used(folder, layout):
    good = np.ones((1, 6, 9, 3))
    path = folder(p1_jump=good[..., :2], p1_wave=good[:, :, :7], p2_jump=good * np.inf)
    (path / "p2-wave.npy").write_bytes(b"PK\x03\x04")
    found = check_source(path, layout, progress=False)
    kinds = {problem.kind: problem.examples for problem in found}
    # Most of the arrays, not the first, tell how many channels there are.
    assert kinds[SHAPE] == ("p1-jump: expected (M, T, 9, 3), found (1, 6, 9, 2)",)
    assert kinds[JOINTS] == ("p1-wave: 7 joints in (1, 6, 7, 3), stick9 has 9",)
    assert kinds[FINITE] == ("p2-jump: 162 numbers, e.g. person 0, frame 0, joint hip",)
    assert kinds["cannot be read"][0].startswith("p2-wave: ")
    assert "not an .npy file" in kinds["cannot be read"][0]


def test_check_source_wants_the_same_channels_in_every_array(folder, layout):
    path = folder(p3_wave=np.ones((1, 6, 9, 4)))
    found = check_source(path, layout, progress=False)
    expect(found, SHAPE, 1, "p3-wave: expected (M, T, 9, 3), found (1, 6, 9, 4)")


def test_check_source_names_files_of_the_same_name(folder, layout):
    path = folder()
    (path / "again").mkdir()
    (path / "p1-jump.npy").rename(path / "again" / "p1-jump.npy")
    (path / "p1-jump.npy").write_bytes((path / "again" / "p1-jump.npy").read_bytes())
    found = check_source(path, layout, progress=False)
    expect(found, DUPLICATE, 1, "p1-jump: p1-jump.npy")


def test_check_source_finds_copies_under_another_name(folder, layout):
    path = folder()
    (path / "p4-wave.npy").write_bytes((path / "p1-wave.npy").read_bytes())
    found = "p4-wave: in xsub_val, is p1-wave of xsub_train"
    expect(check_source(path, layout, progress=False), problems.COPIES, 1, found)


def test_check_source_explains_a_source_that_cannot_be_read(tmp_path, layout, labels, table, look):
    found = look(table.drop(columns=["x"]), labels)
    expect(found, problems.UNREADABLE, 1, "clips.csv has no column x")
    found = look(table.iloc[:0], labels)
    expect(found, problems.UNREADABLE, 1, "has a header, but no rows")
    (tmp_path / "labels.csv").unlink()
    found = check_source(tmp_path / "clips.csv", layout, progress=False)
    assert {p.kind for p in found} == {problems.UNREADABLE, problems.UNREADABLE_LABELS}
    with pytest.raises(FileNotFoundError):
        check_source(tmp_path / "none.csv", layout, progress=False)


@pytest.mark.parametrize("name", ["none.csv", ""])
def test_check_source_explains_labels_that_are_not_there(name, layout, tmp_path):
    own = OwnData(labels=tmp_path / name)
    found = check_source(EXAMPLE / "clips.csv", layout, own, progress=False)
    expect(found, problems.UNREADABLE_LABELS, 1, f"no labels file {tmp_path / name}: expected a C")
    assert "Errno" not in explain_problems(found)
    assert "with --labels" in found[0].advice


def test_check_source_notices_that_align_turns_bodies_over(table, labels, look):
    table["x"] = -table["x"]
    found = look(table, labels)
    assert [problem.kind for problem in found] == [problems.UPSIDE_DOWN]
    assert "swap the joints of align.x" in found[0].advice


def test_check_source_takes_coordinates_close_to_zero_for_nobody(table, labels, look):
    rows = table["sample"] == "p1-jump"
    table.loc[rows, ["x", "y", "z"]] = 1e-12
    assert problems.UNREADABLE not in [problem.kind for problem in look(table, labels)]


# --- all together -------------------------------------------------------------------------------


def test_check_path_tells_stores_from_sources(clean, store_of, layout, tmp_path):
    store = store_of(clean)
    other = store.path.rename(tmp_path / "renamed.bin")
    assert check_path(other, progress=False) == []
    assert check_path(EXAMPLE / "clips.csv", layout=layout, progress=False) == []
    with pytest.raises(ValueError, match=r"clips\.csv is neither a store nor .* \(--layout\)"):
        check_path(EXAMPLE / "clips.csv", progress=False)
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*none to check"):
        check_path(tmp_path / "none")
    other.write_bytes(other.read_bytes()[:2000])
    with pytest.raises(ValueError, match="cut short or damaged"):
        check_path(other)


def test_explain_problems_says_what_how_many_where_and_what_to_do():
    found = [
        Problem("clips that hop", "error", 7, tuple("abcde"), "make them walk"),
        Problem("clips that limp", "warning", 1, ("f: left",), "let them rest"),
    ]
    assert explain_problems(found) == (
        "1 error, 1 warning\n\n"
        "error: clips that hop: 7\n    a\n    b\n    c\n    d\n    e\n    ... and 2 more\n"
        "    What to do: make them walk.\n\n"
        "warning: clips that limp: 1\n    f: left\n    What to do: let them rest."
    )
    assert pd.DataFrame(found)["count"].tolist() == [7, 1]  # as a table


def test_kinds_have_advice_that_is_a_sentence():
    for name, kind in problems.KINDS.items():
        assert kind.severity in ("error", "warning"), name
        for advice in filter(None, (kind.advice, kind.published)):
            assert not advice.endswith("."), name
    assert {fault for name, fault in vars(faults).items() if name.isupper()} - {
        faults.LARGEST
    } < set(problems.KINDS)


def test_every_kind_is_in_a_test_above():
    _, tests = Path(__file__).read_text(encoding="utf-8").split("# --- stores", 1)
    homes = (faults, problems)
    constants = [pair for home in homes for pair in vars(home).items()]
    names = {value: name for name, value in constants if type(value) is str}
    for kind in problems.KINDS:
        assert kind in tests or re.search(rf"\b{names[kind]}\b", tests), kind
