import base64
import json
import re
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch

from msg3d_lab import explain as explaining
from msg3d_lab.analysis.features import make_features
from msg3d_lab.analysis.saved import join_importance, write_importance
from msg3d_lab.data.synthetic import dataset as synthetic
from msg3d_lab.explain import (
    explain,
    explain_cost,
    load_clips,
    pace,
    planted,
    rank_methods,
    ranking_cost,
)
from msg3d_lab.explain.clips import frames_seen
from msg3d_lab.explain.figures import figures_of, moving, write_figures
from msg3d_lab.files import locked
from msg3d_lab.model import MSG3D
from msg3d_lab.training import fit, open_run, recipes
from msg3d_lab.training.setup import build_test_batches

QUICK = {"device": "cpu", "progress": False}


def test_clips_are_those_of_the_test(run, toy_store):
    indices = toy_store.indices("xsub_val")
    clips = load_clips(run, indices)
    batch = next(iter(build_test_batches(run.recipe, toy_store, indices, batch_size=64)))
    np.testing.assert_array_equal(clips.x.numpy(), batch.x[:, 0])
    np.testing.assert_array_equal(clips.labels, batch.labels)
    # The frames said to be chosen are those that are there.
    for i, sample in enumerate(indices):
        keypoints = toy_store.keypoints(sample)
        np.testing.assert_array_equal(clips.x[i, 0].numpy(), keypoints[0, clips.chosen[i]])


def test_choose_clips_is_balanced_and_seeded(toy_store):
    chosen = explaining.choose_clips(toy_store, "xsub_train", num_clips=9)
    assert np.bincount(toy_store.labels[chosen]).tolist() == [3, 3, 3]
    assert (np.diff(chosen) > 0).all()
    again = explaining.choose_clips(toy_store, "xsub_train", num_clips=9)
    np.testing.assert_array_equal(chosen, again)
    other = explaining.choose_clips(toy_store, "xsub_train", num_clips=9, seed=1)
    assert chosen.tolist() != other.tolist()
    whole = explaining.choose_clips(toy_store, "xsub_train", num_clips=1000)
    np.testing.assert_array_equal(whole, toy_store.indices("xsub_train"))
    with pytest.raises(ValueError, match="at least one clip, found 0"):
        explaining.choose_clips(toy_store, "xsub_train", num_clips=0)


@pytest.mark.parametrize("method", [*explaining.METHODS, *explaining.CONTROLS])
def test_explain_writes_a_table_by_sample_id(method, run, toy_store, tmp_path):
    out = tmp_path / "i.parquet"
    found = explain(run, method=method, num_clips=4, samples=1, steps=2, out=out, **QUICK)
    assert found.values.shape == (4, 5)
    assert np.isfinite(found.values).all()
    assert np.abs(found.values).max() > 0
    assert found.names == toy_store.skeleton.joints
    for name, label in zip(found.ids, found.labels, strict=True):
        assert toy_store.labels[toy_store.ids.index(name)] == label
    assert found.facts["synthetic"] is True
    read = explaining.read_importance(out)
    assert read.ids == found.ids
    assert read.facts == found.facts
    np.testing.assert_array_equal(read.values, found.values)
    assert [p.name for p in tmp_path.iterdir()] == ["i.parquet"]


def test_class_activation_sums_to_the_logit_less_its_bias(run, toy_store, tmp_path):
    for by in ("joint", "joint_x_segment"):
        found = explain(
            run, method="class_activation", by=by, num_segments=3, out=tmp_path / by, **QUICK
        )
        model, clips = run.model(), load_clips(run, toy_store.indices("xsub_val"))
        with torch.no_grad():
            logits = model(clips.x).numpy()
        rows = np.arange(len(found))
        expected = logits[rows, found.classes] - model.fc.bias.detach().numpy()[found.classes]
        np.testing.assert_allclose(found.values.sum(1), expected, rtol=1e-4, atol=1e-5)


def test_explain_asks_about_the_class_it_is_told(run, tmp_path):
    predicted = explain(run, method="gradient_x_input", out=tmp_path / "p", **QUICK)
    true = explain(run, method="gradient_x_input", target="true", out=tmp_path / "t", **QUICK)
    np.testing.assert_array_equal(predicted.classes, predicted.predictions)
    np.testing.assert_array_equal(true.classes, true.labels)
    np.testing.assert_array_equal(true.right, true.labels == true.predictions)
    same = predicted.right
    np.testing.assert_allclose(predicted.values[same], true.values[same], rtol=1e-5)
    with pytest.raises(ValueError, match="target is 'predicted' or 'true'"):
        explain(run, target="best", **QUICK)


def test_explain_reads_the_table_that_is_there_and_refuses_another(run, tmp_path):
    out = tmp_path / "i.parquet"
    first = explain(run, method="gradient_x_input", num_clips=3, out=out, **QUICK)
    before = out.stat().st_mtime_ns
    again = explain(run, method="gradient_x_input", num_clips=3, out=out, **QUICK)
    np.testing.assert_array_equal(first.values, again.values)
    assert out.stat().st_mtime_ns == before
    for change in ({"num_clips": 4}, {"baseline": "removed"}, {"seed": 1}):
        with pytest.raises(FileExistsError, match="importance of other weights, clips or arg"):
            explain(
                run, **{"method": "gradient_x_input", "num_clips": 3, "out": out, **QUICK, **change}
            )
    out.write_text("no table")
    with pytest.raises(FileExistsError, match="is in the way"):
        explain(run, method="gradient_x_input", num_clips=3, out=out, **QUICK)


def test_explain_goes_on_after_a_kill(run, tmp_path):
    arguments = {"method": "gradient_x_input", "split": "xsub_train", **QUICK}
    out = tmp_path / "killed.parquet"
    code = f"""
        import importlib, os, signal
        module = importlib.import_module("msg3d_lab.explain.explain")
        write = module.write_importance
        def killed(*words, **options):
            write(*words, **options)
            os.kill(os.getpid(), signal.SIGKILL)
        module.write_importance = killed
        module.explain({str(run.path)!r}, out={str(out)!r}, **{arguments!r})
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert process.returncode == -9
    (part,) = tmp_path.glob(".killed.parquet.*.parts/*.parquet")
    kept = explaining.read_importance(part)
    assert len(kept) == 32
    # Marked, so that it shows whether it is used or made again.
    marked = kept.values + 1
    part.unlink()
    write_importance(_with_values(kept, marked), part)
    whole = explain(run, out=out, **arguments)
    plain = explain(run, out=tmp_path / "plain.parquet", **arguments)
    np.testing.assert_array_equal(whole.values[:32], marked)
    np.testing.assert_array_equal(kept.values, plain.values[:32])
    np.testing.assert_array_equal(whole.values[32:], plain.values[32:])
    assert whole.ids == plain.ids
    assert len(plain) == 36
    assert {p.name for p in tmp_path.iterdir()} == {"killed.parquet", "plain.parquet"}


def test_explain_says_what_it_does_not_use_and_leaves_nothing_behind(run, tmp_path, caplog):
    out = tmp_path / "[i].parquet"
    stale = tmp_path / ".[i].parquet.0123456789ab.parts"
    stale.mkdir()
    (stale / "0000000.parquet").write_text("of other arguments")
    explain(run, method="motion", out=out, **QUICK)
    assert "begun before with other weights, clips or arguments" in caplog.text
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def test_one_process_at_a_time_explains_into_a_table(run, tmp_path):
    with locked(tmp_path / ".i.parquet.lock"), pytest.raises(BlockingIOError, match="is in use by"):
        explain(run, method="motion", out=tmp_path / "i.parquet", **QUICK)
    assert not list(tmp_path.iterdir())
    assert len(explain(run, method="motion", out=tmp_path / "i.parquet", **QUICK)) > 0


def test_one_clip_is_explained_as_it_is_among_others(run, toy_store, tmp_path):
    indices = toy_store.indices("xsub_val")
    many = explain(run, method="integrated_gradients", steps=2, out=tmp_path / "m", **QUICK)
    for batch_size in (1, 3):
        clips = load_clips(run, indices[:1])
        one = explaining.importance_of(
            run.model(),
            clips,
            classes=torch.tensor(many.classes[:1]),
            method="integrated_gradients",
            features=clips.features("joint"),
            steps=2,
            batch_size=batch_size,
        )
        np.testing.assert_allclose(one, many.values[:1], rtol=1e-3, atol=1e-5)


def test_cost_is_said_before(run):
    table = explain_cost(run, num_clips=5, samples=2, steps=3, device="cpu")
    assert table["forward"].to_dict() == {
        "class_activation": 1,
        "gradient_x_input": 1,
        "integrated_gradients": 3,
        "occlusion": 6,
        "shapley": 11,
    }
    assert (table["clips"] == 5).all()
    assert (table["minutes"] > 0).all()
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        explain_cost(run, methods=["magic"], num_clips=2, device="cpu")


def test_the_rankings_cost_is_what_it_takes(run, monkeypatch):
    given = {"others": [run], "num_clips": 4, "samples": 2, "steps": 3, "repeats": 6, "points": 4}
    table = ranking_cost(run, device="cpu", **given)
    plain = explain_cost(run, num_clips=4, samples=2, steps=3, device="cpu")
    assert list(table.index) == ["ranking"]
    both = pd.concat([plain, table])
    assert both.dtypes.to_dict() == plain.dtypes.to_dict()
    row = table.loc["ranking"]
    assert row["minutes"] > plain["minutes"].sum()
    seen = {"forward": 0, "backward": 0}
    forward = MSG3D.forward

    def counted(self, x):
        seen["forward"] += len(x)
        seen["backward"] += len(x) * x.requires_grad
        return forward(self, x)

    monkeypatch.setattr(MSG3D, "forward", counted)
    rank_methods(run, **given, **QUICK)
    assert row["clips"] == 4
    assert {name: 4 * row[name] for name in seen} == seen


def test_planted_joints_and_frames_are_found_among_the_chosen_ones():
    name = "S001C001P001R001A009"
    event = synthetic.evidence(name)
    frames = synthetic.record(name)[0].shape[1]
    chosen = np.linspace(0, frames - 1, 20).astype(int)[None]
    from msg3d_lab import skeletons

    body = skeletons.get("ntu25")
    joints = planted([name], chosen, make_features("joint", body, num_frames=20))
    assert np.flatnonzero(joints[0]).tolist() == list(event.joints)
    features = make_features("joint_x_segment", body, num_frames=20, num_segments=20)
    both = planted([name], chosen, features)[0]
    start, stop = event.frames
    for t, frame in enumerate(chosen[0]):
        for joint in range(25):
            expected = joint in event.joints and start <= frame < stop
            assert both[features.index[t, joint]] == expected
    with pytest.raises(ValueError, match="no clip of the synthetic data set"):
        planted(["clip01"], chosen, features)


def test_importance_table_and_joining(run, tmp_path):
    found = explain(run, method="motion", num_clips=6, out=tmp_path / "m", **QUICK)
    table = found.table
    assert list(table.columns) == ["label", "prediction", "class", *found.names]
    assert table.index.tolist() == list(found.ids)
    again = join_importance([found.of(np.arange(2)), found.of(np.arange(6) >= 2)])
    assert again.ids == found.ids
    np.testing.assert_array_equal(again.values, found.values)
    turned = explaining.in_order(found, found.ids[::-1])
    assert turned.ids == found.ids[::-1]
    np.testing.assert_array_equal(turned.values, found.values[::-1])
    np.testing.assert_array_equal(turned.labels, found.labels[::-1])
    with pytest.raises(ValueError, match="1 of 2 clips are not in the table: nobody"):
        explaining.in_order(found, [found.ids[0], "nobody"])
    with pytest.raises(ValueError, match="sample ids must be unique: 6 occur again"):
        join_importance([found, found])
    with pytest.raises(ValueError, match="expected at least one part"):
        join_importance([])
    with pytest.raises(ValueError, match=r"values \(6, 5\)"):
        _with_values(found, found.values[:, :2])


def test_figures_are_written_once(run, toy_store, toy_skeleton, tmp_path):
    joint = explain(run, method="occlusion", num_clips=6, out=tmp_path / "j.parquet", **QUICK)
    files = write_figures(joint, toy_skeleton, tmp_path / "j")
    assert {f.name for f in files} >= {"body.pdf", "body.svg", "symmetry.pdf"}
    assert all(f.stat().st_size > 1000 for f in files)
    with pytest.raises(FileExistsError, match="exists already"):
        write_figures(joint, toy_skeleton, tmp_path / "j")
    time = explain(
        run, method="gradient_x_input", by="joint_x_segment", num_segments=4,
        num_clips=4, out=tmp_path / "t.parquet", **QUICK,
    )  # fmt: skip
    files = write_figures(time, toy_skeleton, tmp_path / "t", data=toy_store)
    assert {f.name for f in files} == {"time.pdf", "time.svg", "clips.html"}
    assert all(f.is_file() for f in files)
    assert {p.name for p in tmp_path.iterdir()} == {"j", "j.parquet", "t", "t.parquet"}
    page = (tmp_path / "t" / "clips.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 3
    assert time.ids[0] in page
    assert time.ids[3] not in page


def test_one_clip_by_segment_has_no_figure_but_moves(run, toy_store, toy_skeleton, tmp_path):
    one = explain(
        run, method="motion", by="segment", num_segments=3, num_clips=1, out=tmp_path / "s", **QUICK
    )
    assert write_figures(one, toy_skeleton, tmp_path / "none") == []
    (page,) = write_figures(one, toy_skeleton, tmp_path / "page", data=toy_store)
    assert page.name == "clips.html"


def test_moving_shows_each_frame_with_the_values_of_its_stretch(run, toy_store, tmp_path):
    time = explain(
        run, method="gradient_x_input", by="joint_x_segment", num_segments=2,
        num_clips=2, out=tmp_path / "t.parquet", **QUICK,
    )  # fmt: skip
    html = moving(time, time.ids[1], toy_store)
    record = json.loads(re.search(r'class="clip">(.*?)</script>', html, re.S)[1])
    M, T, V = record["shape"]
    assert run.recipe.data.clip_len == T
    frames = toy_store.frames[toy_store.ids.index(time.ids[1])]
    assert T / record["fps"] == pytest.approx(frames / 30)  # as long as the recording
    levels = np.frombuffer(base64.b64decode(record["levels"]), np.uint8).reshape(M, T, V)
    share = time.values[1] / np.abs(time.values[1]).max()
    expected = share.reshape(V, 2).T.repeat(T // 2, axis=0)
    found = (levels / 127 - 1) if record["signed"] else levels / 254
    np.testing.assert_allclose(found[0], expected, atol=0.01)
    assert "(synthetic)" in html
    with pytest.raises(ValueError, match="1 of 1 clips are not in the table: nobody"):
        moving(time, "nobody", toy_store)
    joint = explain(run, method="motion", out=tmp_path / "j.parquet", **QUICK)
    with pytest.raises(ValueError, match="expected importance by segment"):
        moving(joint, joint.ids[0], toy_store)


@pytest.mark.parametrize(
    ("sampling", "num_frames", "expected"),
    [
        ("uniform", 60, 30),  # in a circle
        ("uniform", 100, 30),
        ("uniform", 150, 20),
        ("uniform", 300, 10),
        ("replay", 60, 30),
        ("replay", 300, 30),  # cut off
        ("resize", 50, 60),
        ("resize", 200, 15),
    ],
)
def test_pace_is_that_of_the_recording(sampling, num_frames, expected):
    chosen = frames_seen(num_frames, sampling=sampling, clip_len=100)
    assert pace(chosen, num_frames) == pytest.approx(expected)
    assert pace(chosen, num_frames, fps=15) == pytest.approx(expected / 2)


def test_short_recordings_move_as_they_were_and_are_warned_about(
    toy_store, toy_recipe, tmp_path, caplog
):
    recipe = recipes.with_settings(toy_recipe, {"clip_len": 16, "epochs": 1})
    short = fit(recipe, data=toy_store, run=tmp_path / "short", device="cpu", progress=False)
    explain(short, method="motion", num_clips=2, out=tmp_path / "joint", **QUICK)
    assert "shorter than" not in caplog.text
    time = explain(
        short, method="motion", by="segment", num_segments=4, out=tmp_path / "time", **QUICK
    )
    lengths = toy_store.frames[toy_store.indices("xsub_val")]
    count = (lengths < 16).sum()
    assert 0 < count < len(lengths)
    assert caplog.text.count("shorter than") == 1
    assert f"{count} of {len(lengths)} recordings are shorter than the 16 frames" in caplog.text
    for name, frames in zip(time.ids, lengths, strict=True):
        fps = float(re.search(r'"fps":([0-9.]+)', moving(time, name, toy_store))[1])
        assert fps == pytest.approx(30 if frames <= 16 else 30 * 16 / frames)


def test_the_class_figure_leaves_time_in_its_order(run, toy_skeleton, tmp_path):
    time = explain(
        run, method="gradient_x_input", by="segment", target="true", out=tmp_path / "s", **QUICK
    )
    figure = figures_of(time, toy_skeleton)["classes"]
    shown = [[label.get_text() for label in ax.get_xticklabels()] for ax in figure.axes]
    assert list(time.names) in shown


def test_device_is_what_it_is_asked_to_be():
    assert explaining.device_of("cpu") == torch.device("cpu")
    there = "cuda" if torch.cuda.is_available() else "cpu"
    assert explaining.device_of("auto") == torch.device(there)


def test_explaining_refuses_a_run_without_weights(toy_store, toy_recipe, tmp_path):
    from msg3d_lab.training.runs import create_run

    create_run(tmp_path / "run", toy_recipe, {"data": {"path": str(toy_store.path)}})
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        explain(open_run(tmp_path / "run"), **QUICK)
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        explain(open_run(tmp_path / "run"), method="magic", **QUICK)
    with pytest.raises(ValueError, match="unknown baseline 'blur'"):
        explain(open_run(tmp_path / "run"), baseline="blur", **QUICK)


def _with_values(importance, values):
    from dataclasses import replace

    return replace(importance, values=values)
