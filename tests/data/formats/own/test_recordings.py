import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_recordings import body, read_clips, rows

from msg3d_lab import skeletons
from msg3d_lab.data import open_store, write_store
from msg3d_lab.data.formats.own import labels as own_labels
from msg3d_lab.data.formats.own import table as own_table
from msg3d_lab.data.formats.own.preparation import PREPARATIONS
from msg3d_lab.data.preprocess import center_on, prepare_2d, prepare_3d

DOCS = Path(__file__).parents[4] / "docs"
EXAMPLE = DOCS / "examples" / "own-skeletons"


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
    clip[1, [0, 2, 3]] = 0
    clip[1, 1, 3] = 0
    found = read_clips(folder(a=clip), layout=flat_layout)
    made = found.clips[0].keypoints
    np.testing.assert_allclose(made[0, 3], clip[0, 3] - clip[0, 3, 1], atol=1e-6)
    assert not made[0, :2].any()
    assert not made[1, 1, 3].any()


@pytest.mark.parametrize("prepare", ["align", "center", "none"])
def test_read_clips_sorts_persons_by_how_long_they_are_seen(prepare, folder, layout):
    clip = body(4, 9)
    clip[0, 3:] = clip[1, :6] = 0  # 3 frames each
    clip[3, :2] = 0  # 7
    (found,) = read_clips(folder(a=clip), layout=layout, prepare=prepare).clips
    (sorted_,) = read_clips(folder(a=clip[[2, 3, 0, 1]]), layout=layout, prepare=prepare).clips
    np.testing.assert_array_equal(found.keypoints, sorted_.keypoints)
    assert [int(n) for n in found.keypoints.any(axis=(2, 3)).sum(axis=1)] == [9, 7, 3, 3]
    assert found.keypoints[2, 0].any()  # ties keep their order


def test_read_clips_sorts_persons_in_images(folder, layout):
    clip = body(2, 9, 2) * 50
    clip[0, 3:] = 0
    path = folder(a=clip)
    found = read_clips(path, layout=layout, image_size=(100, 100))
    expected = prepare_2d(clip[[1, 0]], (clip[[1, 0]] != 0).all(axis=-1), (100, 100))
    np.testing.assert_array_equal(found.clips[0].keypoints, expected)
    assert found.preparation["persons"] == "longest first"


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
        (3, {"prepare": "turn"}, "expected one of align, center, image, none, paper, pyskl"),
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
    for name in PREPARATIONS:
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
