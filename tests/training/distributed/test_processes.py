"""This file is also the program of the processes: see the end."""

import json
import os
import sys
from pathlib import Path

import launchers
import numpy as np
import pytest
import torch
from made_batches import train_batches

from msg3d_lab import evaluation
from msg3d_lab.evaluation import read_scores
from msg3d_lab.training import fit, open_run, recipes
from msg3d_lab.training.distributed.processes import _started, launch
from msg3d_lab.training.step import clips_per_step, loss_weight

SLURM = {
    "SLURM_NTASKS": "8",
    "SLURM_NNODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_JOB_NAME": "train",
    "SLURM_STEP_ID": "0",
}
NAMES = ("LOCAL_WORLD_SIZE", "WORLD_SIZE", "SLURM_PTY_PORT", "SLURM_STEP_NUM_TASKS", *SLURM)


@pytest.fixture
def announce(monkeypatch):
    """Set what a launcher would, and nothing else of it."""

    def set_only(environment):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return set_only


def _without(name):
    return {key: value for key, value in SLURM.items() if key != name}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1, 1)),
        ({"LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, (4, 2)),
        (SLURM, (4, 2)),
        (_without("SLURM_NNODES"), (8, 1)),
        ({"SLURM_NTASKS": "1"}, (1, 1)),
        # A shell inside an allocation has the variables too, but is one process.
        ({**SLURM, "SLURM_JOB_NAME": "bash", "SLURM_PTY_PORT": "1"}, (1, 1)),
        ({**SLURM, "SLURM_JOB_NAME": "interactive", "SLURM_STEP_NUM_TASKS": "1"}, (1, 1)),
        ({**_without("SLURM_STEP_ID"), "SLURM_JOB_NAME": "interactive"}, (1, 1)),
        # srun inside it starts all.
        ({**SLURM, "SLURM_JOB_NAME": "interactive", "SLURM_STEP_NUM_TASKS": "8"}, (4, 2)),
        # torchrun inside a job: its own word counts.
        ({**SLURM, "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}, (2, 1)),
    ],
)
def test_started_reads_what_torchrun_and_srun_announce(environment, expected, announce):
    announce(environment)
    assert _started() == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({**SLURM, "SLURM_NTASKS": "3"}, "3 tasks on 2 machines, not as many on each"),
        ({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "5,3"}, "8 tasks on 2 machines, not as many"),
        (_without("SLURM_STEP_ID"), "has 8 tasks, but was started without srun: put srun in front"),
    ],
)
def test_started_refuses_what_would_hang(environment, message, announce):
    announce(environment)
    with pytest.raises(ValueError, match=message):
        _started()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"devices": 3}, "3 devices on 1 machines were asked for, but 2 processes were started"),
        ({"num_nodes": 2}, "2 devices on 2 machines were asked for, but 2 processes were started"),
    ],
)
def test_launch_asserts_the_number_of_processes(asked, message, announce):
    announce({"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"})
    with pytest.raises(ValueError, match=message):
        launch("cpu", **asked)


def test_launch_refuses_processes_that_do_not_see_all_gpus(announce, monkeypatch):
    announce(SLURM)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"4 processes .* this one sees 1 GPUs .*--gpu-bind"):
        launch("auto")


def test_loss_weight_makes_all_clips_count_the_same(toy_store):
    """36 clips: whole batches are alike; one that is not filled is shared 12 + 12 + 11 of 35."""
    every = toy_store.indices("xsub_train")

    def weights(indices, batch_size):
        found = []
        for rank in range(3):
            batches = train_batches(
                toy_store, indices, clip_len=8, batch_size=batch_size, rank=rank, world_size=3
            )
            clips = len(batches.batch(0, epoch=0).labels)
            found.append(loss_weight(clips, clips_per_step(batches), 3))
        return found

    assert weights(every, 4) == [1, 1, 1]
    assert weights(every[:35], 50) == pytest.approx([36 / 35, 36 / 35, 33 / 35])


@pytest.fixture(scope="module")
def trained(toy_store, toy_recipe, tmp_path_factory):
    """A toy training and test under a launcher: the run, and what every process did."""
    folder, found = tmp_path_factory.mktemp("processes"), {}
    recipes.save(recipes.with_settings(toy_recipe, ["epochs=1"]), folder / "toy.yaml")

    def get(launcher, processes):
        key = f"{launcher}{processes}"
        if key not in found:
            out = folder / key
            out.mkdir()
            words = [__file__, folder / "toy.yaml", toy_store.path, out]
            shown = launchers.run_group(processes, *words, launcher=launcher, folder=out)
            reports = [json.loads((out / f"{rank}.json").read_text()) for rank in range(processes)]
            found[key] = open_run(out / "run"), reports, shown
        return found[key]

    return get


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "processes"), [("torchrun", 1), ("torchrun", 3), ("srun", 2)])
def test_every_sample_is_tested_once_whatever_the_number_of_processes(
    launcher, processes, trained, toy_store
):
    run, reports, _ = trained(launcher, processes)
    assert run.environment["world_size"] == processes
    tested = [sample for report in reports for sample in report["tested"]]
    assert sorted(tested) == toy_store.indices("xsub_val").tolist()
    shares = {len(report["tested"]) for report in reports}
    assert max(shares) - min(shares) <= 1
    # Every process has the whole result, and it is what one process finds.
    assert len({report["top1"] for report in reports}) == 1
    several = read_scores(run.scores_path)
    one = evaluation.evaluate(run, device="cpu", progress=False).scores
    assert several.ids == one.ids
    np.testing.assert_allclose(several.values, one.values, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "processes"), [("torchrun", 3), ("srun", 2)])
def test_only_the_first_process_writes(launcher, processes, trained):
    _, reports, _ = trained(launcher, processes)
    first, *others = [report["wrote"] for report in reports]
    for name in ("recipe.yaml", "model.safetensors", "metrics.csv", "scores.parquet"):
        assert any(name in path for path in first)
    assert others == [[]] * (processes - 1)


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "processes"), [("torchrun", 3), ("srun", 2)])
def test_the_learning_rate_follows_the_number_of_processes(launcher, processes, trained):
    """0.05 at 16 clips; 8 on each process. The log says so, once."""
    run, _, shown = trained(launcher, processes)
    assert run.environment["learning_rate"] == pytest.approx(0.05 * 8 * processes / 16)
    assert shown.count(f" = 0.05 * {8 * processes} / 16") == 1


def main(recipe, store, folder):
    """Train and test; each process reports what it tested and what it wrote, renamed or removed."""
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID"))
    wrote, tested = [], []

    def watch(event, arguments):
        changes = event in ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink")
        if event == "open" and isinstance(arguments[2], int):
            changes = arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if changes and isinstance(arguments[0], str | Path):
            path = str(arguments[0])
            if path.startswith(str(folder)):
                wrote.append(path)

    sys.addaudithook(watch)
    testing = evaluation.evaluator
    predict = testing.predict

    def counted(*words, **more):
        for found in predict(*words, **more):
            tested.extend(found[2].tolist())
            yield found

    testing.predict = counted
    run = fit(recipe, data=store, run=folder / "run", device="cpu")
    result = evaluation.evaluate(run, device="cpu", progress=False)
    report = {"wrote": wrote.copy(), "tested": tested, "top1": result.top1}
    (folder / f"{rank}.json").write_text(json.dumps(report))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
