import base64
import json
import re
import shutil
import signal
import textwrap
from dataclasses import replace

import launchers
import numpy as np
import pandas as pd
import pytest
import torch

from msg3d_lab.explain import (
    CONTROLS,
    METHODS,
    ClassActivation,
    GradientInput,
    IntegratedGradients,
    Motion,
    Occlusion,
    Options,
    Shapley,
    attribute,
    explain_cost,
    explain_run,
    load_clips,
    over_clips,
    rank_methods,
    ranking_cost,
    read_importance,
    write_importance,
)
from msg3d_lab.explain.figures import importance_figures, importance_player, write_figures
from msg3d_lab.explain.tables import join_importance
from msg3d_lab.files import locked
from msg3d_lab.model import MSG3D
from msg3d_lab.training import Requeue, Stopped, open_run

QUICK = {"progress": False}
CPU = Options(device="cpu")
QUICK_METHODS = (
    ClassActivation(),
    GradientInput(),
    IntegratedGradients(steps=2),
    Occlusion(),
    Shapley(samples=1),
)


@pytest.mark.parametrize("method", [*QUICK_METHODS, *CONTROLS], ids=lambda method: method.name)
def test_explain_writes_a_table_by_sample_id(method, run, toy_store, tmp_path):
    out = tmp_path / "i.parquet"
    found = explain_run(run, method, replace(CPU, num_clips=4), out=out, **QUICK)
    assert found.values.shape == (4, 5)
    assert np.isfinite(found.values).all()
    assert np.abs(found.values).max() > 0
    assert found.names == toy_store.skeleton.joints
    for name, label in zip(found.ids, found.labels, strict=True):
        assert toy_store.labels[toy_store.ids.index(name)] == label
    assert found.facts["synthetic"] is True
    read = read_importance(out)
    assert read.ids == found.ids
    assert read.facts == found.facts
    np.testing.assert_array_equal(read.values, found.values)
    assert [p.name for p in tmp_path.iterdir()] == ["i.parquet"]


def test_class_activation_sums_to_the_logit_less_its_bias(run, toy_store, tmp_path):
    for by in ("joint", "joint_x_segment"):
        found = explain_run(
            run, ClassActivation(), replace(CPU, by=by, num_segments=3), out=tmp_path / by, **QUICK
        )
        model, clips = run.model(), load_clips(run, toy_store.indices("xsub_val"))
        with torch.no_grad():
            logits = model(clips.x).numpy()
        rows = np.arange(len(found))
        expected = logits[rows, found.classes] - model.fc.bias.detach().numpy()[found.classes]
        np.testing.assert_allclose(found.values.sum(1), expected, rtol=1e-4, atol=1e-5)


def test_explain_asks_about_the_class_it_is_told(run, tmp_path):
    predicted = explain_run(run, GradientInput(), CPU, out=tmp_path / "p", **QUICK)
    true = explain_run(run, GradientInput(), CPU, target="true", out=tmp_path / "t", **QUICK)
    np.testing.assert_array_equal(predicted.classes, predicted.predictions)
    np.testing.assert_array_equal(true.classes, true.labels)
    np.testing.assert_array_equal(true.right, true.labels == true.predictions)
    same = predicted.right
    np.testing.assert_allclose(predicted.values[same], true.values[same], rtol=1e-5)
    with pytest.raises(ValueError, match="target is 'predicted' or 'true'"):
        explain_run(run, Motion(), CPU, target="best", **QUICK)


def test_explain_reads_the_table_that_is_there_and_refuses_another(run, tmp_path):
    out = tmp_path / "i.parquet"
    first = explain_run(run, GradientInput(), replace(CPU, num_clips=3), out=out, **QUICK)
    before = out.stat().st_mtime_ns
    again = explain_run(run, GradientInput(), replace(CPU, num_clips=3), out=out, **QUICK)
    np.testing.assert_array_equal(first.values, again.values)
    assert out.stat().st_mtime_ns == before
    for change in ({"num_clips": 4}, {"baseline": "removed"}, {"seed": 1}):
        changed = replace(CPU, **{"num_clips": 3, **change})
        with pytest.raises(FileExistsError, match="importance of other weights, clips, arg"):
            explain_run(run, GradientInput(), changed, out=out, **QUICK)
    steps = explain_run(
        run,
        IntegratedGradients(steps=1),
        replace(CPU, num_clips=1),
        out=tmp_path / "g.parquet",
        **QUICK,
    )
    assert steps.facts["parameters"] == {"steps": 1}
    with pytest.raises(FileExistsError, match="importance of other weights, clips, arg"):
        explain_run(
            run,
            IntegratedGradients(steps=2),
            replace(CPU, num_clips=1),
            out=tmp_path / "g.parquet",
            **QUICK,
        )
    out.write_text("no table")
    with pytest.raises(FileExistsError, match="not a whole Parquet file"):
        explain_run(run, GradientInput(), replace(CPU, num_clips=3), out=out, **QUICK)


def test_tables_of_the_version_before_are_read_and_not_continued(run, tmp_path):
    out = tmp_path / "i.parquet"
    found = explain_run(run, Motion(), replace(CPU, num_clips=3), out=out, **QUICK)
    older = {"version", "parameters", "key"}
    facts = {name: fact for name, fact in found.facts.items() if name not in older}
    out.unlink()
    write_importance(replace(found, facts=facts | {"samples": None, "key": "0" * 12}), out)
    np.testing.assert_array_equal(read_importance(out).values, found.values)
    with pytest.raises(FileExistsError, match="an earlier version of the method"):
        explain_run(run, Motion(), replace(CPU, num_clips=3), out=out, **QUICK)


def test_explain_goes_on_after_a_kill(run, tmp_path, tmp_path_factory):
    options = replace(CPU, split="xsub_train")
    out = tmp_path / "killed.parquet"
    code = f"""
        import os, signal
        from msg3d_lab.explain import GradientInput, Options, over_clips
        write = over_clips.write_importance
        def killed(*words, **options):
            write(*words, **options)
            os.kill(os.getpid(), signal.SIGKILL)
        over_clips.write_importance = killed
        over_clips.explain_run({str(run.path)!r}, GradientInput(), {options!r}, out={str(out)!r})
    """
    assert launchers.run_script(textwrap.dedent(code), tmp_path_factory.mktemp("script"))[0] == -9
    (part,) = tmp_path.glob(".killed.parquet.*.parts/*.parquet")
    kept = read_importance(part)
    assert len(kept) == 32
    # Marked, so that it shows whether it is used or made again.
    marked = kept.values + 1
    part.unlink()
    write_importance(replace(kept, values=marked), part)
    whole = explain_run(run, GradientInput(), options, out=out, **QUICK)
    plain = explain_run(run, GradientInput(), options, out=tmp_path / "plain.parquet", **QUICK)
    np.testing.assert_array_equal(whole.values[:32], marked)
    np.testing.assert_array_equal(kept.values, plain.values[:32])
    np.testing.assert_array_equal(whole.values[32:], plain.values[32:])
    assert whole.ids == plain.ids
    assert len(plain) == 36
    assert {p.name for p in tmp_path.iterdir()} == {"killed.parquet", "plain.parquet"}


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, Requeue), (signal.SIGINT, Stopped)], ids=str
)
def test_a_stopped_explanation_keeps_its_chunks(number, error, run, tmp_path, monkeypatch):
    out = tmp_path / "i.parquet"
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(over_clips, "_CHUNK", 2)
    written = []

    def write_and_stop(importance, path):
        write_importance(importance, path)
        written.append(path)
        if len(written) == 2:
            signal.raise_signal(number)

    monkeypatch.setattr(over_clips, "write_importance", write_and_stop)
    try:
        with pytest.raises(error) as found:
            explain_run(run, GradientInput(), replace(CPU, num_clips=6), out=out, **QUICK)
        message = getattr(found.value, "message", str(found.value))
        assert message == "stopped: finished chunks of clips are kept; the same call goes on"
        assert not out.exists()
        whole = explain_run(run, GradientInput(), replace(CPU, num_clips=6), out=out, **QUICK)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(whole) == 6
    assert len(written) == 4  # three chunks, each once, and the table
    assert {n: signal.getsignal(n) for n in handlers} == handlers


def test_explain_leaves_nothing_behind(run, tmp_path):
    out = tmp_path / "[i].parquet"
    stale = tmp_path / ".[i].parquet.0123456789ab.parts"
    stale.mkdir()
    (stale / "0000000.parquet").write_text("of other arguments")
    explain_run(run, Motion(), CPU, out=out, **QUICK)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def test_one_process_at_a_time_explains_into_a_table(run, tmp_path):
    with locked(tmp_path / ".i.parquet.lock"), pytest.raises(BlockingIOError, match="is in use by"):
        explain_run(run, Motion(), CPU, out=tmp_path / "i.parquet", **QUICK)
    assert not list(tmp_path.iterdir())
    assert len(explain_run(run, Motion(), out=tmp_path / "i.parquet", **QUICK)) > 0


def test_one_clip_is_explained_as_it_is_among_others(run, toy_store, tmp_path):
    indices = toy_store.indices("xsub_val")
    method = IntegratedGradients(steps=2)
    many = explain_run(run, method, CPU, out=tmp_path / "m", **QUICK)
    clips = load_clips(run, indices[:1])
    for batch_size in (1, 3):
        question = clips.question(torch.tensor(many.classes[:1]), Options(batch_size=batch_size))
        one = attribute(run.model(), question, method)
        np.testing.assert_allclose(one, many.values[:1], rtol=1e-3, atol=1e-5)


def test_cost_is_said_before(run):
    methods = [*METHODS[:2], IntegratedGradients(steps=3), Occlusion(), Shapley(samples=2)]
    table = explain_cost(run, methods, replace(CPU, num_clips=5))
    assert table["forward"].to_dict() == {
        "class_activation": 1,
        "gradient_x_input": 1,
        "integrated_gradients": 3,
        "occlusion": 6,
        "shapley": 11,
    }
    assert (table["clips"] == 5).all()
    assert (table["minutes"] > 0).all()


def test_the_rankings_cost_is_what_it_takes(run, monkeypatch):
    methods = [*METHODS[:2], IntegratedGradients(steps=3), Occlusion(), Shapley(samples=2)]
    options, given = replace(CPU, num_clips=2), {"others": [run]}
    table = ranking_cost(run, methods, options, **given)
    plain = explain_cost(run, methods, options)
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
    rank_methods(run, methods, options, **given, **QUICK)
    assert row["clips"] == 2
    assert {name: 2 * row[name] for name in seen} == seen


def test_importance_table_and_joining(run, tmp_path):
    found = explain_run(run, Motion(), replace(CPU, num_clips=6), out=tmp_path / "m", **QUICK)
    table = found.table
    assert list(table.columns) == ["label", "prediction", "class", *found.names]
    assert table.index.tolist() == list(found.ids)
    again = join_importance([found.select(np.arange(2)), found.select(np.arange(6) >= 2)])
    assert again.ids == found.ids
    np.testing.assert_array_equal(again.values, found.values)
    turned = found.select_ids(found.ids[::-1])
    assert turned.ids == found.ids[::-1]
    np.testing.assert_array_equal(turned.values, found.values[::-1])
    np.testing.assert_array_equal(turned.labels, found.labels[::-1])
    with pytest.raises(ValueError, match="1 of 2 clips are not in the table: nobody"):
        found.select_ids([found.ids[0], "nobody"])
    with pytest.raises(ValueError, match="sample ids must be unique: 6 are repeated"):
        join_importance([found, found])
    with pytest.raises(ValueError, match=r"values \(6, 5\)"):
        replace(found, values=found.values[:, :2])


def test_figures_are_written_once(run, toy_store, toy_skeleton, tmp_path):
    joint = explain_run(
        run, Occlusion(), replace(CPU, num_clips=6), out=tmp_path / "j.parquet", **QUICK
    )
    files = write_figures(joint, toy_skeleton, tmp_path / "j")
    assert {f.name for f in files} >= {"body.pdf", "body.svg", "symmetry.pdf"}
    assert all(f.stat().st_size > 1000 for f in files)
    with pytest.raises(FileExistsError, match="exists already"):
        write_figures(joint, toy_skeleton, tmp_path / "j")
    time = explain_run(
        run,
        GradientInput(),
        replace(CPU, by="joint_x_segment", num_segments=4, num_clips=4),
        out=tmp_path / "t.parquet",
        **QUICK,
    )
    files = write_figures(time, toy_skeleton, tmp_path / "t", data=toy_store)
    assert {f.name for f in files} == {"time.pdf", "time.svg", "clips.html"}
    assert all(f.is_file() for f in files)
    assert {p.name for p in tmp_path.iterdir()} == {"j", "j.parquet", "t", "t.parquet"}
    page = (tmp_path / "t" / "clips.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 3
    assert time.ids[0] in page
    assert time.ids[3] not in page


def test_one_clip_by_segment_has_no_figure_but_moves(run, toy_store, toy_skeleton, tmp_path):
    one = explain_run(
        run,
        Motion(),
        replace(CPU, by="segment", num_segments=3, num_clips=1),
        out=tmp_path / "s",
        **QUICK,
    )
    assert write_figures(one, toy_skeleton, tmp_path / "none") == []
    (page,) = write_figures(one, toy_skeleton, tmp_path / "page", data=toy_store)
    assert page.name == "clips.html"


def test_moving_shows_each_frame_with_the_values_of_its_stretch(run, toy_store, tmp_path):
    time = explain_run(
        run,
        GradientInput(),
        replace(CPU, by="joint_x_segment", num_segments=2, num_clips=2),
        out=tmp_path / "t.parquet",
        **QUICK,
    )
    html = importance_player(time, time.ids[1], toy_store)
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
        importance_player(time, "nobody", toy_store)
    joint = explain_run(run, Motion(), CPU, out=tmp_path / "j.parquet", **QUICK)
    with pytest.raises(ValueError, match="expected importance by segment"):
        importance_player(joint, joint.ids[0], toy_store)


def test_short_recordings_move_as_they_were_and_are_warned_about(run, toy_store, tmp_path, caplog):
    # The same weights with longer clips: no network depends on the length.
    shutil.copytree(run.path, tmp_path / "short")
    recipe = tmp_path / "short" / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8")
    assert "clip_len: 8\n" in text
    recipe.write_text(text.replace("clip_len: 8\n", "clip_len: 16\n"), encoding="utf-8")
    short = open_run(tmp_path / "short")
    explain_run(short, Motion(), replace(CPU, num_clips=2), out=tmp_path / "joint", **QUICK)
    assert "shorter than" not in caplog.text
    time = explain_run(
        short, Motion(), replace(CPU, by="segment", num_segments=4), out=tmp_path / "time", **QUICK
    )
    lengths = toy_store.frames[toy_store.indices("xsub_val")]
    count = (lengths < 16).sum()
    assert 0 < count < len(lengths)
    assert caplog.text.count("shorter than") == 1
    assert f"{count} of {len(lengths)} recordings are shorter than the 16 frames" in caplog.text
    for name, frames in zip(time.ids, lengths, strict=True):
        fps = float(re.search(r'"fps":([0-9.]+)', importance_player(time, name, toy_store))[1])
        assert fps == pytest.approx(30 if frames <= 16 else 30 * 16 / frames)


def test_the_class_figure_leaves_time_in_its_order(run, toy_skeleton, tmp_path):
    time = explain_run(
        run, GradientInput(), replace(CPU, by="segment"), target="true", out=tmp_path / "s", **QUICK
    )
    figure = importance_figures(time, toy_skeleton)["classes"]
    shown = [[label.get_text() for label in ax.get_xticklabels()] for ax in figure.axes]
    assert list(time.names) in shown


def test_explaining_refuses_a_run_without_weights(toy_store, toy_recipe, tmp_path):
    from msg3d_lab.training.runs import create_run

    create_run(tmp_path / "run", toy_recipe, {"data": {"path": str(toy_store.path)}})
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        explain_run(open_run(tmp_path / "run"), Occlusion(), CPU, **QUICK)
    with pytest.raises(ValueError, match=r"such as ClassActivation\(\).* found 'magic'"):
        explain_run(open_run(tmp_path / "run"), "magic", CPU, **QUICK)
