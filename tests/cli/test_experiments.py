import pandas as pd
import pytest

from msg3d_lab.experiments import grids
from msg3d_lab.experiments.ablations import train_and_test
from msg3d_lab.experiments.plan import plan_runs
from msg3d_lab.training import recipes

GRID = """
name: toy-grid
title: Does it run?
source: a test
recipe: toy.yaml
set: {pathways: [factorized], num_gcn_scales: 2}
seeds: [1]
variants:
  - name: one-hop
  - {name: two-hops, compare_with: one-hop, group: reach, set: {num_gcn_scales: 3}}
"""


@pytest.fixture
def toy(shell, toy_recipe, tmp_path):
    """The shell, in a folder with a grid and its recipe."""
    recipes.save(toy_recipe, tmp_path / "toy.yaml")
    (tmp_path / "grid.yaml").write_text(GRID)
    return shell


def test_ablate_lists_the_grids(shell):
    code, out, _ = shell("ablate")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == grids.names()
    assert "15 variants of synthetic-joint: Adjacency by scales" in out


def test_ablate_compares_and_writes(toy, toy_store, tmp_path):
    # As its workers do, without starting processes.
    for run in plan_runs(grids.get("grid.yaml"), seeds=[1]):
        train_and_test(run.recipe, run.path, data=toy_store.path, device="cpu")
    words = ["ablate", "grid.yaml", "--data", toy_store.path, "--seeds", "1", "--out", "results"]
    code, out, err = toy(*words, "--device", "cpu")
    assert code == 0, err
    assert "Does it run?" in out
    assert "On SYNTHETIC data." in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert "one-hop" in rows["two-hops"]  # what it is compared with
    table = pd.read_csv(tmp_path / "results/toy-grid.csv", index_col="variant")
    runs = pd.read_csv(tmp_path / "results/toy-grid-runs.csv")
    assert runs["state"].tolist() == ["tested", "tested"]
    assert table.loc["two-hops", "top1"] == runs["top1"][1]
    code, again, _ = toy("ablate", "grid.yaml", "--data", toy_store.path, "--table")
    assert code == 0
    assert again.strip() == out.partition("Written")[0].strip()


def test_ablate_shows_what_is_missing(toy, toy_store):
    code, out, _ = toy(
        "ablate", "grid.yaml", "--data", toy_store.path, "--table", "--seeds", "1", "2"
    )
    assert code == 0
    assert "two-hops: seed 1, 2: missing" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nobody"], "unknown grid 'nobody': expected one of ntu60-"),
        (["grid.yaml", "--variants", "three"], "no variant 'three': expected some of one-hop"),
        (["grid.yaml", "--seeds", "2", "2"], "expected seeds from 0, each once, found [2, 2]"),
        (["grid.yaml", "--set", "epoch=1"], "one-hop of toy-grid: unknown setting 'epoch'"),
        (["grid.yaml", "--slurm", "partition=gpu,gpus=1,hours=1", "--jobs", "2"], "goes without"),
        (
            ["grid.yaml", "--slurm", "gpus=1"],
            "--slurm: partition: Field required; hours: Field required",
        ),
        (["grid.yaml", "--data", "gone.arrow"], "no store at gone.arrow"),
    ],
)
def test_ablate_explains_what_is_wrong(toy, words, message):
    code, _, err = toy("ablate", *words)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
