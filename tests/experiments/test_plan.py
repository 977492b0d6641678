import pytest

from msg3d_lab.experiments.plan import failure_path, plan_runs, read_progress
from msg3d_lab.training import recipes


def test_plan_has_everything_once_before_anything_twice(toy_grid, tmp_path):
    planned = plan_runs(toy_grid, runs=tmp_path)
    names = [v.name for v in toy_grid.variants]
    assert [run.key for run in planned] == [(n, s) for s in (1, 2) for n in names]
    assert {run.recipe.training.seed for run in planned if run.seed == 2} == {2}
    assert {run.recipe.name for run in planned} == {"toy-grid"}


def test_plan_gives_variants_of_one_recipe_one_folder(toy_grid, tmp_path):
    folders = {run.key: run.path for run in plan_runs(toy_grid, runs=tmp_path)}
    assert folders["k1", 2] == tmp_path / "k1" / "seed-2"
    assert folders["k1-again", 2] == folders["k1", 2]
    # The same graph by another setting is another recipe, and so another run.
    assert folders["powers-k1", 2] != folders["k1", 2]
    assert len(set(folders.values())) == 8


def test_plan_of_some_variants_has_their_folders_of_the_whole_grid(toy_grid, tmp_path):
    whole = {run.key: run.path for run in plan_runs(toy_grid, runs=tmp_path)}
    some = plan_runs(toy_grid.only(["k1-again"]), runs=tmp_path)
    assert [run.key for run in some[:2]] == [("k2", 1), ("k1-again", 1)]
    assert [run.path for run in some] == [whole[run.key] for run in some]


def test_plan_without_a_folder_uses_the_grids_name(toy_grid):
    assert plan_runs(toy_grid, seeds=[7])[0].path.parts == (
        "runs", "ablations", "toy-grid", "powers-k1", "seed-7",
    )  # fmt: skip


def test_plan_changes_all_variants(toy_grid, tmp_path):
    planned = plan_runs(toy_grid, runs=tmp_path, settings=["epochs=3", "learning_rate=0.01"])
    assert {run.recipe.training.epochs for run in planned} == {3}
    rates = {run.variant.name: run.recipe.training.learning_rate for run in planned}
    assert (rates["k1"], rates["broken"]) == (0.01, 1e30)
    with pytest.raises(ValueError, match="powers-k1 of toy-grid: unknown setting 'epoch'"):
        plan_runs(toy_grid, settings=["epoch=3"])


@pytest.mark.parametrize("seeds", [(), (1, 1), (-1, 2)])
def test_plan_refuses_seeds(toy_grid, seeds):
    with pytest.raises(ValueError, match="expected seeds from 0, each once, found"):
        plan_runs(toy_grid, seeds=seeds)


def test_read_progress_nothing_and_of_a_failure(toy_grid, toy_store, tmp_path):
    run = plan_runs(toy_grid, runs=tmp_path)[0]
    assert read_progress(run, toy_store).state == "missing"
    failure_path(run.path).parent.mkdir()
    failure_path(run.path).write_text("ValueError: " + "x" * 500 + "\nTraceback")
    found = read_progress(run, toy_store)
    assert found.state == "failed"
    assert found.why.startswith("ValueError: xxx")
    assert found.why.endswith("... (all of it in powers-k1/seed-1.failed.txt)")
    assert len(found.why) <= 200


def test_read_progress_a_folder_that_is_no_run(toy_grid, toy_store, tmp_path):
    run = plan_runs(toy_grid, runs=tmp_path)[0]
    run.path.mkdir(parents=True)
    found = read_progress(run, toy_store)
    assert found.state == "other"
    assert "is not a run folder: it has no recipe.yaml" in found.why
    recipes.save(run.recipe, run.path / "recipe.yaml")
    (run.path / "environment.json").write_text("{")
    assert "is no readable run" in read_progress(run, toy_store).why
