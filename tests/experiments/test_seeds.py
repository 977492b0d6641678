import math
import statistics

import launchers
import pytest

from msg3d_lab.experiments.seeds import fit_seeds, seeds_table
from msg3d_lab.training import fit, open_run, recipes

QUIET = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def trained(toy_store, toy_recipe, tmp_path_factory):
    """(folder, table) of two seeds."""
    folder = tmp_path_factory.mktemp("seeds") / "toy"
    return folder, fit_seeds(toy_recipe, seeds=(1, 5), runs=folder, data=toy_store, **QUIET)


def stamps(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("model.safetensors")}


def test_fit_seeds_has_a_row_per_seed_and_their_mean_and_sd(trained):
    folder, table = trained
    assert table.index.tolist() == [1, 5, "mean", "sd"]
    assert table.index.name == "seed"
    assert sorted(p.name for p in folder.iterdir()) == ["seed-1", "seed-5"]
    for seed in (1, 5):
        run = open_run(folder / f"seed-{seed}")
        assert run.recipe.training.seed == seed
        last = run.metrics.iloc[-1]
        for column in ("train_loss", "train_top1", "test_loss", "test_top1"):
            assert table.loc[seed, column] == last[column]
        assert table.loc[seed, "kept_epoch"] == 2
    losses = table.loc[[1, 5], "train_loss"].tolist()
    assert losses[0] != losses[1]
    assert table.loc["mean", "train_loss"] == pytest.approx(statistics.mean(losses))
    assert table.loc["sd", "train_loss"] == pytest.approx(statistics.stdev(losses))


def test_fit_seeds_are_those_of_single_runs_with_one_recipe_hash(
    trained, toy_store, toy_recipe, tmp_path
):
    single = fit(
        recipes.with_settings(toy_recipe, ["seed=5"]), data=toy_store, run=tmp_path / "r", **QUIET
    )
    folder, table = trained
    assert single.metrics["train_loss"].iloc[-1] == table.loc[5, "train_loss"]
    hashes = {open_run(p).environment["recipe_hash"] for p in folder.iterdir()}
    assert hashes == {single.environment["recipe_hash"]}


def test_fit_seeds_trains_finished_seeds_only_once(trained, toy_store, toy_recipe):
    folder, table = trained
    before = stamps(folder)
    again = fit_seeds(toy_recipe, seeds=(1, 5), runs=folder, data=toy_store, **QUIET)
    assert stamps(folder) == before
    assert again.equals(table)


def test_fit_seeds_goes_on_with_what_is_unfinished(trained, toy_store, toy_recipe, tmp_path):
    """Seed 5 is killed in its second epoch; resumed, it ends as if nothing had happened."""
    recipes.save(toy_recipe, tmp_path / "toy.yaml")
    code = f"""
import os
from msg3d_lab.training.progress import Progress
from msg3d_lab.experiments.seeds import fit_seeds

def update(self, *arguments, whole=Progress.step, **named):
    whole(self, *arguments, **named)
    update.steps += 1
    if update.steps == 14:  # four steps an epoch, two epochs a seed
        os._exit(9)

update.steps = 0
Progress.step = update
fit_seeds({str(tmp_path / "toy.yaml")!r}, seeds=(1, 5), runs={str(tmp_path / "runs")!r},
          data={str(toy_store.path)!r}, device="cpu", progress=False)
"""
    assert launchers.run_script(code, tmp_path)[0] == 9
    folder = tmp_path / "runs"
    assert open_run(folder / "seed-1").finished
    assert not open_run(folder / "seed-5").finished
    before = stamps(folder)
    table = fit_seeds(toy_recipe, seeds=(1, 5), runs=folder, data=toy_store, **QUIET)
    assert before.items() <= stamps(folder).items()
    columns = ["train_loss", "train_top1", "test_loss", "test_top1"]
    assert table[columns].equals(trained[1][columns])


def test_fit_seeds_refuses_runs_of_another_recipe(trained, toy_store, toy_recipe):
    other = recipes.with_settings(toy_recipe, ["epochs=3"])
    with pytest.raises(ValueError, match=r"seed-1 cannot be resumed: training\.epochs is 2"):
        fit_seeds(other, seeds=(1, 5), runs=trained[0], data=toy_store, **QUIET)


def test_fit_seeds_refuses_the_folder_of_a_single_run(trained, toy_store, toy_recipe):
    with pytest.raises(FileExistsError, match="folder of a single run"):
        fit_seeds(toy_recipe, runs=trained[0] / "seed-1", data=toy_store, **QUIET)


def test_seeds_table_shows_the_epoch_that_was_kept(toy_store, toy_recipe, tmp_path):
    recipe = recipes.with_settings(
        toy_recipe, ["validation_subjects=[3]", "keep=best", "validate_every=1", "epochs=4"]
    )
    run = fit(recipe, data=toy_store, run=tmp_path / "r", **QUIET)
    table = seeds_table({1: run})
    best = int(run.metrics["val_top1"].idxmax())
    assert table.loc[1, "kept_epoch"] == best + 1
    assert table.loc[1, "val_top1"] == run.metrics["val_top1"].max()
    assert table.loc[1, "train_loss"] == run.metrics["train_loss"].iloc[best]
    assert math.isnan(table.loc["sd", "val_top1"])  # of one seed nothing is known


def test_fit_seeds_needs_a_seed(toy_recipe, tmp_path):
    with pytest.raises(ValueError, match="at least one seed"):
        fit_seeds(toy_recipe, seeds=(), runs=tmp_path)
