import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import launchers
import numpy as np
import pytest

from msg3d_lab.data import Clip, write_store
from msg3d_lab.evaluation import evaluate, read_scores
from msg3d_lab.evaluation.statistics import difference, holm
from msg3d_lab.experiments import (
    AblationResults,
    Grid,
    ablate,
    submit_ablation,
)
from msg3d_lab.experiments.ablations import (
    _ProgressBar,
    _run_cost,
    train_and_test,
)
from msg3d_lab.experiments.plan import failure_path, plan_runs, read_progress
from msg3d_lab.experiments.workers import Failure
from msg3d_lab.training import open_run, recipes
from msg3d_lab.training.distributed import slurm as cluster
from msg3d_lab.training.signals import Requeue

QUIET = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module", autouse=True)
def forked_workers():
    """Workers need no seconds to import torch. In test_workers.py they are started as for users."""
    server = launchers.fork_server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda method: server)
        yield


@pytest.fixture(scope="module")
def done(toy_grid, toy_store, tmp_path_factory):
    """(folder, table) of the whole grid, run by two processes."""
    folder = tmp_path_factory.mktemp("ablation")
    return folder, ablate(toy_grid, runs=folder, data=toy_store, jobs=2, **QUIET).table()


def stamps(folder):
    return {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}


def right(folder, variant):
    """(seeds, samples) whether each was right."""
    each = [read_scores(folder / variant / f"seed-{s}" / "scores.parquet") for s in (1, 2)]
    return np.stack([scores.predictions == scores.labels for scores in each])


def test_ablate_has_a_row_per_variant(done, toy_grid):
    folder, table = done
    assert table.index.tolist() == [v.name for v in toy_grid.variants]
    assert table["seeds"].tolist() == [2, 2, 2, 2, 0]
    for name in ("powers-k1", "k1", "k2"):
        share = right(folder, name).mean(axis=1)
        assert table.loc[name, "top1"] == pytest.approx(share.mean())
        assert table.loc[name, "sd"] == pytest.approx(share.std(ddof=1))


def test_ablate_goes_on_when_a_variant_fails_and_says_why(done):
    folder, table = done
    row = table.loc["broken"]
    assert row["why"].startswith("seed 1: ValueError: the loss is nan")
    assert "seed 2: ValueError" in row["why"]
    assert np.isnan([row["top1"], row["difference"], row["p"], row["p_holm"]]).all()
    assert "Traceback" in failure_path(folder / "broken" / "seed-1").read_text()
    assert table.loc[table.index != "broken", "why"].eq("").all()


def test_ablate_runs_equal_recipes_once(done):
    folder, table = done
    assert sorted(p.name for p in folder.iterdir()) == ["broken", "k1", "k2", "powers-k1"]
    assert table.loc["k1-again", "top1"] == table.loc["k1", "top1"]


def test_ablate_finds_no_difference_between_equal_graphs(done):
    """With one hop, powers and disentangled are the same network, and so the same run."""
    folder, table = done
    one, other = (
        read_scores(folder / v / "seed-2" / "scores.parquet").values for v in ("powers-k1", "k1")
    )
    assert np.array_equal(one, other)
    assert table.loc["k1", ["difference", "difference_sd", "p"]].tolist() == [0, 0, 1]


def test_ablate_compares_sample_by_sample(done):
    folder, table = done
    found = difference(right(folder, "k2"), right(folder, "k1"))
    row = table.loc["k2"]
    assert row["difference"] == found.mean
    assert (row["low"], row["high"], row["p"]) == (found.low, found.high, found.p_value)
    assert table.loc["k1-again", "difference"] == -found.mean


def test_ablate_corrects_p_values_within_a_group(done):
    _, table = done
    for _, rows in table.groupby("group"):
        np.testing.assert_array_equal(rows["p_holm"], holm(rows["p"].to_numpy()))


def test_ablate_runs_what_is_tested_no_more(done, toy_grid, toy_store):
    folder, table = done
    before = stamps(folder)
    fine = toy_grid.only(["k1", "k2", "k1-again"])
    again = ablate(fine, runs=folder, data=toy_store, **QUIET).table()
    assert stamps(folder) == before
    assert again.loc["k2", "difference"] == table.loc["k2", "difference"]


def test_runs_is_tidy(done, toy_grid, toy_store):
    folder, table = done
    runs = AblationResults(toy_grid, runs=folder, data=toy_store).runs()
    assert len(runs) == 10
    assert runs["state"].value_counts().to_dict() == {"tested": 8, "failed": 2}
    tested = runs[runs["state"] == "tested"]
    assert tested.groupby("variant")["top1"].mean()["k2"] == table.loc["k2", "top1"]
    assert tested["samples"].eq(13).all()
    assert runs["synthetic"].all()
    # A column for what the variants set, with the value of each.
    first = runs[runs["seed"] == 1].set_index("variant")
    assert first["num_gcn_scales"].tolist() == [2, 2, 3, 2, 2]
    assert first.loc[["powers-k1", "k1"], "aggregation"].tolist() == ["powers", "disentangled"]
    run = open_run(folder / "k2" / "seed-1")
    assert first.loc["k2", "parameters"] == run.environment["parameters"]
    assert first.loc["k2", "recipe_hash"] == run.recipe.hash
    assert first.loc["k2", "macs"] > first.loc["k1", "macs"] > 0
    assert first.loc["k2", "folder"] == "k2/seed-1"


def test_runs_counts_the_epochs_that_were_trained(toy_grid, toy_store, tmp_path):
    variants = [{"name": "longer", "set": {"epochs": 9, "num_gcn_scales": 2}}]
    grid = Grid.model_validate(toy_grid.model_dump() | {"variants": variants})
    runs = AblationResults(grid, runs=tmp_path, data=toy_store).runs()
    assert runs["epochs"].eq(0).all()
    assert runs["num_gcn_scales"].eq(2).all()


def test_classes_is_the_recall_of_each_class(done, toy_grid, toy_store):
    folder, _ = done
    recalls = AblationResults(toy_grid, runs=folder, data=toy_store).classes()
    assert recalls.index.tolist() == ["powers-k1", "k1", "k2", "k1-again"]
    assert recalls.columns.tolist() == list(toy_store.label_names)
    scores = read_scores(folder / "k2" / "seed-1" / "scores.parquet")
    for label, name in enumerate(toy_store.label_names):
        own = right(folder, "k2")[:, scores.labels == label]
        assert recalls.loc["k2", name] == pytest.approx(own.mean())


def test_table_needs_the_same_seeds_on_both_sides(done, toy_grid, toy_store):
    folder, _ = done
    table = AblationResults(toy_grid, seeds=[1, 7], runs=folder, data=toy_store).table()
    assert table.loc["k2", "seeds"] == 1
    assert np.isnan(table.loc["k2", "sd"])
    one = [right(folder, v)[0] for v in ("k2", "k1")]
    assert table.loc["k2", "p"] == difference(*one).p_value
    assert table.loc["k2", "why"] == "seed 7: missing"


def test_table_of_nothing(toy_grid, toy_store, tmp_path):
    table = AblationResults(toy_grid, runs=tmp_path, data=toy_store).table()
    assert table["seeds"].eq(0).all()
    assert table[["top1", "difference", "p_holm", "macs"]].isna().all(axis=None)
    assert table["why"].eq("seed 1, 2: missing").all()


@pytest.fixture
def copied(done, tmp_path):
    """A copy of the runs, to be changed."""
    return shutil.copytree(done[0], tmp_path / "runs")


def test_what_is_trained_is_only_tested(copied, toy_grid, toy_store):
    run = next(r for r in plan_runs(toy_grid, runs=copied) if r.key == ("k2", 1))
    before = read_scores(run.path / "scores.parquet")
    (run.path / "scores.parquet").write_bytes(b"damaged")
    assert read_progress(run, toy_store).state == "trained"
    weights = (run.path / "model.safetensors").stat().st_mtime_ns
    train_and_test(run.recipe, run.path, data=toy_store.path, device="cpu")
    assert read_progress(run, toy_store).state == "tested"
    assert (run.path / "model.safetensors").stat().st_mtime_ns == weights
    assert np.array_equal(read_scores(run.path / "scores.parquet").values, before.values)


def test_runs_of_another_recipe_are_neither_taken_nor_touched(copied, toy_grid, toy_store):
    settings = ["epochs=3"]
    run = next(r for r in plan_runs(toy_grid, runs=copied, settings=settings) if r.key == ("k2", 1))
    found = read_progress(run, toy_store)
    assert found.state == "other"
    assert "another recipe: training.epochs is 2 there and 3 here" in found.why
    table = AblationResults(toy_grid, runs=copied, data=toy_store, settings=settings).table()
    assert table["seeds"].eq(0).all()
    before = stamps(run.path)
    with pytest.raises(ValueError, match=r"training\.epochs is 2 in the run and 3 now"):
        train_and_test(run.recipe, run.path, data=toy_store.path, device="cpu")
    assert stamps(run.path) == before


def test_runs_on_another_store_are_neither_taken_nor_touched(
    copied, toy_grid, toy_store, toy_skeleton, tmp_path
):
    rng = np.random.default_rng(1)
    clips = [
        Clip(f"c{i}", rng.random((1, 9, 5, 3), np.float32), i % 3, (split,))
        for i, split in enumerate(["xsub_train", "xsub_val"] * 9)
    ]
    path = write_store(
        tmp_path / "other.arrow", clips, dataset="toy", skeleton=toy_skeleton, channels=3,
        label_names=list(toy_store.label_names), preparation={"name": "none"}, synthetic=True,
    )  # fmt: skip
    before = stamps(copied)
    table = ablate(toy_grid.only(["k1", "k2"]), runs=copied, data=path, **QUIET).table()
    assert stamps(copied) == before
    assert table["seeds"].eq(0).all()
    assert f"of another store (fingerprint {toy_store.fingerprint}, not " in table.loc["k2", "why"]


def test_scores_that_are_no_longer_what_the_recipe_asks_for_are_not_taken(
    copied, toy_grid, toy_store
):
    run = next(r for r in plan_runs(toy_grid, runs=copied) if r.key == ("k2", 1))
    for changes in ({"average": "logits"}, {"num_clips": 3}):
        evaluate(run.path, data=toy_store, device="cpu", progress=False, **changes)
        assert read_progress(run, toy_store).state == "trained"
    path = run.path / "scores.parquet"
    path.write_bytes(path.read_bytes()[:-20] + bytes(20))
    assert read_progress(run, toy_store).state == "trained"


def test_run_cost_weighs_variants_by_their_arithmetic(toy_grid, toy_store, tmp_path):
    planned = {run.key: run.recipe for run in plan_runs(toy_grid, runs=tmp_path)}
    light, heavy = (_run_cost(planned[name, 1], toy_store) for name in ("k1", "k2"))
    assert heavy > light > 0
    longer = recipes.with_settings(planned["k1", 1], ["epochs=4"])
    # 36 clips are trained on, forward and backward; 13 are tested, forward.
    expected = (4 * 36 + 13 / 3) / (2 * 36 + 13 / 3)
    assert _run_cost(longer, toy_store) / light == pytest.approx(expected)


def test_a_variant_that_cannot_be_built_weighs_nothing(toy_grid, toy_store, tmp_path):
    """Else the progress bar would stop the others: its own run will say why."""
    for changes in ({"pathways": []}, {"train_split": "nobody"}, {"edge_set": "star"}):
        variants = [{"name": "fine"}, {"name": "none", "set": changes}]
        grid = Grid.model_validate(toy_grid.model_dump() | {"variants": variants})
        results = AblationResults(grid, runs=tmp_path, data=toy_store)
        planned = {run.key: run for run in results.planned}
        assert _run_cost(planned["none", 1].recipe, toy_store) == 0
        with _ProgressBar(results, enabled=True) as bar:
            bar.finish(planned["none", 1].path, Failure("it has no pathway"))
            assert bar._bar.total == 2 * _run_cost(planned["fine", 1].recipe, toy_store)


def test_the_bar_does_not_take_what_failed_for_done(toy_grid, toy_store, tmp_path, capsys):
    """It would be done in no time, and so all the rest as well."""
    results = AblationResults(toy_grid.only(["k1"]), runs=tmp_path, data=toy_store)
    one = results.planned[0].path
    with _ProgressBar(results, enabled=True) as bar:
        total = bar._bar.total
        one.mkdir(parents=True)
        (one / "progress.json").write_text('{"step": 3, "steps": 6}')
        bar.update([one])
        assert (bar._bar.n, bar._bar.total) == pytest.approx((total / 8, total))
        bar.finish(one, Failure("no luck"))
        assert (bar._bar.n, bar._bar.total) == pytest.approx((total / 8, total * 7 / 8))
        for run in results.planned[1:]:
            bar.finish(run.path, None)
        assert bar._bar.n == bar._bar.total  # more would be a warning
    assert "seed-1: no luck" in capsys.readouterr().out


def count_epochs(metrics):
    """The rows of a metrics.csv, which is only ever replaced as a whole."""
    return len(metrics.read_text().splitlines()) - 1 if metrics.exists() else 0


@contextmanager
def signal_after_epochs(number, metrics, epochs):
    """Send this process a signal once a run has been trained for some epochs."""
    left = threading.Event()

    def watch():
        while not left.wait(0.05):
            if count_epochs(metrics) >= epochs:
                os.kill(os.getpid(), number)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


def check_stopped(runs):
    """The training of the first run has written a checkpoint, the next one has not begun."""
    folder = runs / "powers-k1" / "seed-1"
    assert (folder / "resume.pt").is_file()
    assert not (folder / ".lock").exists()
    assert not [p for p in runs.rglob("*") if p.name.endswith(".part")]
    assert not (runs / "k1").exists()


@pytest.mark.skipif(os.name == "nt", reason="no signals; un-skip never")
def test_a_stopped_ablation_leaves_checkpoints_and_no_process(toy_grid, toy_store, tmp_path):
    """SIGTERM, then Ctrl-C: the training in the worker writes its checkpoint; it is resumed."""
    # Tests that were started in the background inherit that SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = tmp_path / "powers-k1" / "seed-1"
    trained = 0
    try:
        for number, error in ((signal.SIGTERM, Requeue), (signal.SIGINT, KeyboardInterrupt)):
            with (
                signal_after_epochs(number, folder / "metrics.csv", trained + 1),
                pytest.raises(error),
            ):
                ablate(
                    toy_grid, runs=tmp_path, data=toy_store, settings=["epochs=4000"],
                    variants=["k1"], **QUIET,
                )  # fmt: skip
            check_stopped(tmp_path)
            assert count_epochs(folder / "metrics.csv") > trained
            trained = count_epochs(folder / "metrics.csv")
            assert multiprocessing.active_children() == []
    finally:
        signal.signal(signal.SIGINT, before)


SCRIPT = """
import sys
from msg3d_lab.experiments import Grid, ablate

if __name__ == "__main__":
    grid = Grid.model_validate_json(sys.argv[1])
    ablate(grid, runs=sys.argv[2], data=sys.argv[3], device="cpu", settings=["epochs=4000"],
           variants=["k1"], progress=False)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no signals; un-skip never")
def test_a_killed_ablation_leaves_checkpoints_and_no_process(toy_grid, toy_store, tmp_path):
    """The worker sees that its parent is gone, and its training writes a checkpoint."""
    script, runs = tmp_path / "script.py", tmp_path / "runs"
    script.write_text(SCRIPT)
    words = [sys.executable, script, toy_grid.model_dump_json(), runs, toy_store.path]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    metrics = runs / "powers-k1" / "seed-1" / "metrics.csv"
    while process.poll() is None and not metrics.exists():
        time.sleep(0.1)
    process.kill()
    _, errors = process.communicate(timeout=100)  # the pipe closes when no worker has it any more
    assert process.returncode == -signal.SIGKILL, errors
    check_stopped(runs)


def test_submit_ablation_asks_for_a_job_per_untrained_run(copied, toy_grid, toy_store, monkeypatch):
    """What `slurm.submit` is asked; it has tests of its own."""
    shutil.rmtree(copied / "k2" / "seed-2")
    asked = []
    monkeypatch.setattr(cluster, "submit", lambda recipe, **more: asked.append((recipe, more)))
    slurm = cluster.Slurm(partition="gpu", gpus=1, hours=2.0)
    jobs = submit_ablation(toy_grid, slurm=slurm, runs=copied, data=toy_store)
    assert len(jobs) == 3
    paths = [copied / "broken" / "seed-1", copied / "k2" / "seed-2", copied / "broken" / "seed-2"]
    assert [more["run"] for _, more in asked] == paths
    assert [recipe.training.seed for recipe, _ in asked] == [1, 2, 2]
    assert asked[0][1]["resume"]
    assert asked[0][1]["slurm"] == slurm


def test_submit_ablation_refuses_folders_of_other_runs(copied, toy_grid, toy_store):
    slurm = cluster.Slurm(partition="gpu", gpus=1, hours=2.0)
    with pytest.raises(FileExistsError, match=r"another recipe: training\.epochs"):
        submit_ablation(toy_grid, slurm=slurm, runs=copied, data=toy_store, settings={"epochs": 3})
