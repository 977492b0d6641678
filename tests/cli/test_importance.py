import shutil
from pathlib import Path

import pytest

from msg3d_lab.explain import read_importance


@pytest.fixture
def run(toy_run):
    return toy_run


def test_importance_writes_a_table_and_figures(shell, run, tmp_path):
    words = ["importance", run.path, "--method", "gradient_x_input", "--clips", "4"]
    code, out, err = shell(*words, "--out", "mine.parquet", "--device", "cpu")
    assert code == 0, err
    assert "Passes per clip" in out
    assert "SYNTHETIC data, 4 clips of xsub_val: mine.parquet" in out
    assert len(read_importance("mine.parquet")) == 4
    assert {"body.pdf", "body.svg"} <= {p.name for p in (tmp_path / "mine").iterdir()}


def test_importance_works_as_the_guide_says(shell, run, tmp_path):
    guide = Path(__file__).parents[2] / "docs" / "explanations.md"
    text = guide.read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if "msg3d-lab importance" in line]
    words = [str(run.path) if word == "RUN" else word for word in line.split()[1:]]
    code, out, err = shell(*words, "--clips", "3", "--steps", "1", "--device", "cpu")
    assert code == 0, err
    out_word = words[words.index("--out") + 1]
    assert f"{out_word}.parquet" in out
    assert len(read_importance(tmp_path / f"{out_word}.parquet")) == 3
    assert (tmp_path / out_word / "body.pdf").is_file()


def test_importance_again_computes_and_overwrites_nothing(shell, run, tmp_path):
    words = ["importance", run.path, "--method", "gradient_x_input", "--clips", "4"]
    words += ["--by", "joint_x_segment", "--segments", "2", "--out", "t.parquet", "--device", "cpu"]
    code, out, err = shell(*words)
    assert code == 0, err
    assert "clips.html" in out
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    code, out, _ = shell(*words)
    assert code == 0
    assert "t.parquet and its figures exist already" in out
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    # Stopped between the table and its figures.
    shutil.rmtree(tmp_path / "t")
    code, out, _ = shell(*words)
    assert code == 0
    assert (tmp_path / "t" / "time.pdf").is_file()


def test_importance_refuses_before_it_computes(shell, run, tmp_path):
    code, _, err = shell("importance", run.path, "--out", "table.csv", "--device", "cpu")
    assert code == 2
    assert "expected --out to end in .parquet: table.csv" in err
    (tmp_path / "t").mkdir()
    code, out, err = shell("importance", run.path, "--out", "t.parquet", "--device", "cpu")
    assert code == 2
    assert "t, where the figures go, exists without t.parquet" in err
    assert "Passes" not in out


def test_importance_says_what_it_costs_and_does_nothing(shell, run, tmp_path):
    code, out, err = shell("importance", run.path, "--cost", "--device", "cpu")
    assert code == 0, err
    assert "shapley" in out
    assert not list(tmp_path.iterdir())


def test_importance_ends_in_one_line_on_a_mistake(shell, run):
    code, _, err = shell("importance", run.path, "--by", "part", "--device", "cpu")
    assert code == 2
    assert "toy5 has no body parts" in err
    assert "Traceback" not in err
