"""What docs/clusters.md says, on a real Slurm with two machines on this one (private_slurm.py)."""

import subprocess
import sys
import time

import launchers
import numpy as np
import private_slurm
import pytest

from msg3d_lab import evaluate
from msg3d_lab.evaluation import read_scores
from msg3d_lab.training import open_run, recipes, run_of_weights
from msg3d_lab.training.distributed.slurm import Slurm, submit

pytestmark = pytest.mark.slow

# The batch script of docs/clusters.md.
BATCH = """#!/bin/bash
#SBATCH --partition=test --nodes=1 --ntasks-per-node=2 --cpus-per-task=1
#SBATCH --time=4:00:00 --signal=TERM@180 --requeue --open-mode=append --output=log.txt
srun --cpus-per-task=1 {train} --resume
code=$?
if [ $code -eq 75 ]; then scontrol requeue $SLURM_JOB_ID; fi
exit $code
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The variables are this process's too: `submit` calls sbatch, which gives them to the job."""
    if missing := private_slurm.missing():
        pytest.skip(f"needs Slurm's {', '.join(missing)} (apt-get install slurm-wlm)")
    with (
        private_slurm.running(tmp_path_factory.mktemp("slurm")) as variables,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {**variables, "OMP_NUM_THREADS": "1"}.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def recipe(toy_recipe):
    return recipes.with_settings(toy_recipe, ["epochs=4"])


@pytest.fixture(scope="module")
def train(recipe, toy_store, tmp_path_factory):
    """The words of a training of two processes of four epochs, without its folder."""
    path = tmp_path_factory.mktemp("recipe") / "toy.yaml"
    recipes.save(recipe, path)
    return [*LAB, "train", str(path), "--data", str(toy_store.path), "--device", "cpu", "--run"]


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """That training, undisturbed, of two processes that think srun has started them."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    words = [*train[len(LAB) :], path]
    launchers.run_group(2, "msg3d_lab", *words, launcher="srun", folder=path.parent)
    return open_run(path)


LAB = [sys.executable, "-m", "msg3d_lab"]


def run_here(*words, cwd=None):
    done = subprocess.run([str(w) for w in words], cwd=cwd, text=True, capture_output=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def wait_until(happened, log):
    for _ in range(3000):
        if happened():
            return
        time.sleep(0.2)
    raise TimeoutError(log())


def state(job):
    """PENDING, RUNNING, COMPLETED ..."""
    shown = run_here("scontrol", "show", "job", job)
    return shown.partition("JobState=")[2].partition(" ")[0]


def interrupt_and_finish(job, folder, words, log):
    """In the second epoch or later; then wait for the end."""
    rows = folder / "metrics.csv"
    wait_until(lambda: rows.exists() and len(rows.read_text().splitlines()) > 1, log)
    run_here(*words)
    wait_until(lambda: state(job) == "PENDING", log)
    assert not (folder / "model.safetensors").exists()
    run_here("scontrol", "update", f"JobId={job}", "StartTime=now")  # Slurm waits two minutes
    wait_until(lambda: state(job) not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"), log)
    assert state(job) == "COMPLETED", log()


def assert_as_undisturbed(run, whole):
    assert run.environment["resumed"] == 1
    assert run.environment["world_size"] == 2
    assert run.checkpoint.read_bytes() == whole.checkpoint.read_bytes()


def test_srun_tests_weights_like_one_process(slurm, whole, toy_store, recipe, tmp_path):
    recipes.save(recipe, tmp_path / "toy.yaml")
    words = ["test", "--weights", whole.checkpoint, "--recipe", "toy.yaml", "--device", "cpu"]
    words = [*LAB, *words, "--data", toy_store.path]
    shown = run_here("srun", "-n", "2", *words, cwd=tmp_path)
    assert shown.count("Scores:") == 1
    several = read_scores(next(tmp_path.glob("runs/weights/*/scores.parquet")))
    alone = run_of_weights(whole.checkpoint, recipe=recipe, run=tmp_path / "alone")
    one = evaluate(alone, data=toy_store, device="cpu", progress=False).scores
    assert several.ids == one.ids
    np.testing.assert_allclose(several.values, one.values, atol=1e-6)


def test_a_batch_job_that_is_requeued_goes_on(slurm, whole, train, tmp_path):
    folder = tmp_path / "run"
    (tmp_path / "job.sh").write_text(BATCH.format(train=" ".join([*train, str(folder)])))
    job = run_here("sbatch", "--parsable", "job.sh", cwd=tmp_path).strip()
    log = (tmp_path / "log.txt").read_text
    interrupt_and_finish(job, folder, ["scontrol", "requeue", job], log)
    assert_as_undisturbed(open_run(folder), whole)


def test_a_submitted_job_on_two_machines_that_is_warned_goes_on(
    slurm, whole, recipe, toy_store, tmp_path
):
    pytest.importorskip("submitit", reason="needs submitit: pip install msg3d-lab[cluster]")
    folder = tmp_path / "run"
    asked = Slurm(partition="test", gpus=0, hours=1.0, nodes=2, cpus_per_gpu=1)
    job = submit(recipe, slurm=asked, data=toy_store.path, run=folder)

    def log():
        return "\n".join(path.read_text() for path in sorted(tmp_path.glob("run.slurm/*log*")))

    interrupt_and_finish(job.job_id, folder, ["scancel", "--signal=USR2", job.job_id], log)
    assert_as_undisturbed(open_run(folder), whole)
