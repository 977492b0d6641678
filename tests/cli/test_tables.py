import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_runs import made_run, made_scores

from msg3d_lab.evaluation import Scores, read_scores, write_scores
from msg3d_lab.evaluation.fusion import fuse


@pytest.fixture
def lab(shell, tmp_path):
    """A folder away from a checkout, with two runs."""
    made_run(tmp_path / "runs/joint", right=0.6)
    made_run(tmp_path / "runs/bone", "ntu60-xsub-3d-bone", right=0.9, seed=3)
    return shell


def test_fuse_shows_parts_fusion_and_gain(lab, tmp_path):
    code, out, err = lab("fuse", "runs/joint", "runs/bone", "--out", "fused.parquet")
    assert code == 0, err
    fused = read_scores(tmp_path / "fused.parquet")
    parts = [read_scores(tmp_path / f"runs/{n}/scores.parquet") for n in ("joint", "bone")]
    assert (fused.values == fuse(parts).values).all()
    lines = out.splitlines()
    assert lines[0].startswith("ntu60 xsub_val: joint+bone, fused on softmax")
    for name, scores in zip(["runs/joint", "runs/bone", "fused"], [*parts, fused], strict=True):
        (line,) = [line for line in lines if line.startswith(name)]
        assert f"{100 * scores.correct.mean():.2f}" in f"{float(line.split()[4]):.2f}"
    assert "exact McNemar test" in out
    assert "Scores: fused.parquet" in out


def test_fuse_takes_weights_and_score_files(lab, tmp_path):
    first = lab("fuse", "runs/joint", "runs/bone", "--weights", "2,1", "--on", "logits")[1]
    assert "2 joint+bone, fused on logits" in first
    write_scores(made_scores(stream="bone_motion", seed=9), tmp_path / "motion.parquet")
    code, out, _ = lab("fuse", "runs/joint", "motion.parquet", "--weights", "streams")
    assert (code, "2 joint+bone_motion" in out) == (0, True)
    assert "ntu60 xsub_val" in lab("fuse", "runs/joint", "runs/bone", "motion.parquet")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/joint"], "two scores or more"),
        (["runs/joint", "runs"], "not a run folder"),
        (["runs/joint", "none.parquet"], "none.parquet"),
        (["runs/joint", "runs/bone", "--weights", "2;1"], "weights like 2,2,1,1"),
        (["runs/joint", "runs/bone", "--weights", "1,2,3"], "expected 2 weights"),
        (["runs/joint", "short.parquet"], "missing from scores 2 (S049)"),
        (["runs/joint", "runs/bone", "--out", "short.parquet"], "exists already"),
        (["runs/joint", "evil.pkl"], "evil.pkl"),
    ],
)
def test_fuse_says_in_a_line_what_is_wrong(lab, tmp_path, words, message):
    write_scores(made_scores(count=49), tmp_path / "short.parquet")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Path.touch))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    code, _, err = lab("fuse", *words)
    assert (code, message in err) == (2, True), err
    assert err.count("\n") == 1
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}


def test_fuse_reads_pickles_of_the_field(shell, tmp_path, toy_store):
    """MS-G3D and CTR-GCN write a dict of name -> logits; they are joined by name with ours."""
    rng = np.random.default_rng(0)
    rows = toy_store.indices("xsub_val")
    ids = [toy_store.ids[i] for i in rows]
    logits = rng.normal(size=(len(ids), 3)).astype(np.float32)
    theirs = dict(zip(ids[::-1], logits[::-1], strict=True))
    (tmp_path / "joint.pkl").write_bytes(pickle.dumps(theirs))
    softmax = rng.dirichlet(np.ones(3), len(ids)).astype(np.float32)
    names = tuple(toy_store.label_names)
    facts = {"kind": "softmax", "split": "xsub_val", "stream": "bone"}
    ours = Scores(tuple(ids), toy_store.labels[rows], softmax, names, facts)
    write_scores(ours, tmp_path / "bone.parquet")
    words = ["fuse", "bone.parquet", "joint.pkl", "--out", "fused.parquet"]
    code, _, err = shell(*words, "--store", toy_store.path, "--split", "xsub_val")
    assert code == 0, err
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = (softmax + powers / powers.sum(axis=1, keepdims=True)) / 2
    np.testing.assert_allclose(read_scores(tmp_path / "fused.parquet").values, expected, atol=1e-6)
    code, _, err = shell(*words[:3])
    assert (code, "joint.pkl" in err) == (2, True)


def test_fuse_wants_tested_runs(lab, tmp_path):
    (tmp_path / "runs/bone/scores.parquet").unlink()
    code, _, err = lab("fuse", "runs/joint", "runs/bone")
    assert (code, "run `msg3d-lab test runs/bone`" in err) == (2, True)


def test_results_prints_every_table(lab):
    code, out, err = lab("results")
    assert code == 0, err
    titles = [line for line in out.splitlines() if line.startswith("###")]
    assert titles == [
        "### NTU60_XSub_2D",
        "### NTU60_XSub_3D",
        "### Streams and fusions, top-1 %",
        "### Published and measured, top-1 %",
    ]
    assert "not run" in out
    assert "runs/joint/model.safetensors" in out


def test_results_writes_files_but_over_none(lab, tmp_path):
    words = ["results", "--table", "streams", "--format", "csv", "--out", "table.csv"]
    code, out, err = lab(*words, "--metafile", "metafile.yml")
    assert code == 0, err
    assert "2 tested runs, 3 results" in out
    assert (tmp_path / "table.csv").read_text().startswith("data,streams,source,published,")
    models = yaml.safe_load((tmp_path / "metafile.yml").read_text())["Models"]
    assert [model["Weights"] for model in models] == [
        "runs/bone/model.safetensors",
        "runs/joint/model.safetensors",
    ]
    code, _, err = lab(*words)
    assert (code, "table.csv exists already" in err) == (2, True)
    assert lab(*words, "--overwrite")[0] == 0


@pytest.mark.parametrize("table", ["project", "overview", "streams"])
@pytest.mark.parametrize("format_", ["md", "latex", "csv", "html"])
def test_results_has_every_table_in_every_format(lab, table, format_):
    code, out, err = lab("results", "--table", table, "--format", format_)
    assert code == 0, err
    assert "not run" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "csv"], "choose it with --table"),
        (["--runs", "nowhere"], "no folder nowhere"),
        (["--recorded", "nowhere.csv"], "no table of recorded results at nowhere.csv"),
        (["--published", "nowhere.csv"], "no table of published numbers at nowhere.csv"),
    ],
)
def test_results_says_in_a_line_what_is_wrong(lab, words, message):
    code, _, err = lab("results", *words)
    assert (code, message in err) == (2, True), err


def test_results_without_runs_is_all_not_run(lab, tmp_path):
    shutil.rmtree(tmp_path / "runs")
    code, out, err = lab("results", "--table", "overview")
    assert (code, "measured here |" in out, "seed" in out) == (0, True, False)
    assert "Nothing is measured here: no tested runs below" in err
    code, _, err = lab("results", "--metafile", "m.yml", "--table", "overview")
    assert (code, "no tested runs" in err) == (2, True)
    assert not (tmp_path / "m.yml").exists()
