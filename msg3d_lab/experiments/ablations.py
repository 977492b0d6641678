"""Run an ablation: train and test what is missing, resume what was interrupted."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Unpack

from tqdm.auto import tqdm

from msg3d_lab.data.store import Store
from msg3d_lab.evaluation.evaluator import evaluate
from msg3d_lab.experiments.grids import Grid
from msg3d_lab.experiments.plan import PlannedRun, failure_path, read_progress
from msg3d_lab.experiments.results import COST_FILE, AblationResults, GridOptions
from msg3d_lab.experiments.workers import Failure, in_processes
from msg3d_lab.files import read_json, write_json, write_text
from msg3d_lab.training.distributed.processes import Precision
from msg3d_lab.training.loop import fit
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import PROGRESS, open_run
from msg3d_lab.training.setup import build_model
from msg3d_lab.training.signals import say_when_interrupted, stop_signal
from msg3d_lab.training.validation import split_validation

if TYPE_CHECKING:
    from msg3d_lab.training.distributed.slurm import Slurm


GRID_PROGRESS = "ablation.json"  # in the folder of the runs, while they are run
_SECONDS = 2.0  # between two writes of it
_FEW_FRAMES = 16  # enough to compare the cost of variants


@say_when_interrupted("stopped: the same call goes on")
def ablate(
    grid: Grid | str,
    *,
    jobs: int = 1,
    device: str = "auto",
    precision: Precision = "32-true",
    progress: bool = True,
    **options: Unpack[GridOptions],
) -> AblationResults:
    """Train and test every variant of a grid with every seed.

    Called again it continues: tested runs are kept, trained ones tested, interrupted ones resumed,
    failed ones tried again. A variant that fails does not stop the others; its row in the results
    says why. Variants with the same recipe are run once. A folder that holds another run (of
    another recipe or store) is left as it is, and its row says so.

    Ctrl-C and SIGTERM let every running training write a checkpoint first.

    Every job is a new Python process: in a script, call this below `if __name__ == "__main__":`.

    Args:
        grid: a grid, the name of one, or the path of its YAML.
        jobs: runs at a time; they share the processor's cores, or the GPU.
        device: "auto", "cpu", "cuda" or "mps".
        precision: of the arithmetic, as in Lightning Fabric.
        progress: whether to show a progress bar with the remaining time.
        **options: seeds, runs, data, variants, settings: see `AblationResults`.

    Raises:
        Requeue: SIGTERM was received; the same call continues the ablation.
        Stopped: Ctrl-C, likewise.
        ValueError: see `AblationResults`; so is `FileNotFoundError`.
    """
    results = AblationResults(grid, **options)
    tasks = {
        run.path: partial(
            train_and_test,
            run.recipe,
            run.path,
            data=results.store.path,
            device=device,
            precision=precision,
        )
        for run in _untested(results)
    }
    if tasks:
        import torch

        threads = max(1, torch.get_num_threads() // max(1, min(jobs, len(tasks))))
        with (
            stop_signal() as stop,
            _ProgressBar(results, enabled=progress) as bar,
        ):

            def tick(running: list[Path]) -> None:
                bar.update(running)
                if stop.is_set():
                    raise stop.error(
                        "stopped: trainings have written their checkpoints; the same call goes on"
                    )

            for path, failure in in_processes(tasks, jobs=jobs, threads=threads, tick=tick):
                _record_failure(path, failure)
                bar.finish(path, failure)
    return results


def submit_ablation(
    grid: Grid | str,
    *,
    slurm: Slurm,
    precision: Precision = "32-true",
    **options: Unpack[GridOptions],
) -> list[Any]:
    """Submit a Slurm job for every run that is not trained yet; return submitit's jobs.

    The jobs train. When they are done, `ablate` tests the trained networks and returns the results.
    Runs that are already in the queue are not detected: submit again only when it is empty.

    Args:
        grid: a grid, the name of one, or the path of its YAML.
        slurm: what to ask for, for each job.
        precision: of the arithmetic.
        **options: seeds, runs, data, variants, settings: see `AblationResults`. Runs and data must
            be on a file system that the cluster's machines share.

    Raises:
        FileExistsError: a run's folder holds another run.
        FileNotFoundError: no store.
        ModuleNotFoundError: submitit is not installed.
        ValueError: see `AblationResults`; there is no Slurm.
    """
    from msg3d_lab.training.distributed.slurm import submit

    results = AblationResults(grid, **options)
    for run in results.planned:
        found = read_progress(run, results.store)
        if found.state == "other":
            raise FileExistsError(found.why)
    return [
        submit(
            run.recipe,
            slurm=slurm,
            run=run.path,
            data=results.store.path,
            resume=True,
            precision=precision,
        )
        for run in _untested(results)
        if not (run.path.exists() and open_run(run.path).finished)
    ]


def train_and_test(
    recipe: Recipe,
    path: Path,
    *,
    data: str | Path,
    device: str = "auto",
    precision: Precision = "32-true",
) -> None:
    """Train a run (or resume its training), test it, and write the cost of its network."""
    from msg3d_lab.model.cost import network_cost

    if path.exists() and open_run(path).finished and open_run(path).recipe == recipe:
        run = open_run(path)  # not `fit`: it may have been trained on another kind of machine
    else:
        run = fit(
            recipe, data=data, run=path, resume=True, device=device, precision=precision,
            progress=False,
        )  # fmt: skip
    cost = dataclasses.asdict(network_cost(run.model(), clip_len=recipe.data.clip_len))
    del cost["parts"]
    write_json(path / COST_FILE, cost)
    evaluate(run, data=data, device=device, progress=False)


def _untested(results: AblationResults) -> list[PlannedRun]:
    """Return the runs to train or test, every folder once, without folders of other runs."""
    by_path = {run.path: run for run in results.planned}
    return [
        run
        for run in by_path.values()
        if read_progress(run, results.store).state not in ("tested", "other")
    ]


def _record_failure(path: Path, failure: Failure | None) -> None:
    """Write a failure beside the run's folder, or remove that of the attempt before."""
    if failure is None:
        failure_path(path).unlink(missing_ok=True)
        return
    write_text(failure_path(path), f"{failure.message}\n{failure.details}")


class _ProgressBar:
    """One bar over all runs, weighted by their cost, so that its ETA is that of the ablation.

    While it is shown, the file ablation.json in the folder of the runs says the same: `done` of
    `total` (in the unit of the costs) and `first_done` of this call, the `running` runs, `started`
    and `time` (seconds since 1970).
    """

    def __init__(self, results: AblationResults, *, enabled: bool) -> None:
        self._name = results.grid.name
        by_path = {run.path: run for run in results.planned}
        self._epochs = {path: run.recipe.training.epochs for path, run in by_path.items()}
        recipes = {run.recipe.hash: run.recipe for run in results.planned}  # seeds cost the same
        cost = {
            key: _run_cost(recipe, results.store) if enabled else 1.0
            for key, recipe in recipes.items()
        }
        self._cost = {path: cost[run.recipe.hash] for path, run in by_path.items()}
        found = {path: read_progress(run, results.store) for path, run in by_path.items()}
        self._ended = {path for path, now in found.items() if now.state in ("tested", "other")}
        self._fraction = {
            path: 1.0 if path in self._ended else now.epochs / self._epochs[path]
            for path, now in found.items()
        }
        self._bar = tqdm(
            total=sum(self._cost.values()),
            initial=self._done(),
            disable=not enabled,
            dynamic_ncols=True,
            smoothing=0,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        )
        self._folder = results.planned[0].path.parent.parent
        self._started, self._first, self._written = time.time(), self._done(), -math.inf
        self._show()

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
        (self._folder / GRID_PROGRESS).unlink(missing_ok=True)

    def update(self, running: Sequence[Path]) -> None:
        """Count the steps of the running ones."""
        for path in running:
            if now := read_json(path / PROGRESS):
                self._fraction[path] = max(self._fraction[path], now["step"] / now["steps"])
        self._show()
        if time.monotonic() - self._written >= _SECONDS:
            self._write(running)

    def _write(self, running: Sequence[Path]) -> None:
        """Write for readers outside where the ablation is; it goes on if that cannot be written."""
        self._written = time.monotonic()
        now = {
            "done": self._done(),
            "first_done": self._first,
            "total": sum(self._cost.values()),
            "running": [f"{path.parent.name}/{path.name}" for path in running],
            "started": self._started,
            "time": time.time(),
        }
        with suppress(OSError):
            write_json(self._folder / GRID_PROGRESS, now)

    def finish(self, path: Path, failure: Failure | None) -> None:
        """Count a run as ended; the rest of a failed one is taken off the total."""
        if failure is not None:
            self._cost[path] *= self._fraction[path]
            if not self._bar.disable:
                self._bar.write(shorten(f"{path}: {failure.message}", 200, placeholder=" ..."))
        self._fraction[path] = 1.0
        self._ended.add(path)
        self._show()

    def _done(self) -> float:
        return sum(cost * self._fraction[path] for path, cost in self._cost.items())

    def _show(self) -> None:
        self._bar.total, self._bar.n = sum(self._cost.values()), self._done()
        self._bar.set_description(f"{self._name} {len(self._ended)}/{len(self._cost)} runs")


def _run_cost(recipe: Recipe, store: Store) -> float:
    """Estimate the multiply-accumulates of a whole run; 0 if the recipe cannot be run."""
    from msg3d_lab.model.cost import network_cost

    training, data = recipe.training, recipe.data
    try:
        clips = len(split_validation(store, recipe)[0]) * training.repeat * training.epochs
        network = build_model(recipe, store)
    except ValueError:
        return 0.0
    per_clip = network_cost(network, clip_len=_FEW_FRAMES).training_macs
    tested = len(store.indices(data.test_split)) * recipe.test_clips
    return per_clip * (clips + tested / 3) * data.clip_len / _FEW_FRAMES
