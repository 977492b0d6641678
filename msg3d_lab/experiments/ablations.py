"""Running an ablation: what is missing is run, what was cut is resumed, what fails says why."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from msg3d_lab.data.store import Store
from msg3d_lab.evaluation.evaluator import evaluate
from msg3d_lab.experiments import grids
from msg3d_lab.experiments.grids import Grid
from msg3d_lab.experiments.plan import PlannedRun, failure_path, plan, progress_of
from msg3d_lab.experiments.tables import COST, ablation_table
from msg3d_lab.experiments.workers import Failure, in_processes
from msg3d_lab.files import write_aside
from msg3d_lab.training.checkpointing import Requeue, stop_signal
from msg3d_lab.training.distributed.processes import Precision
from msg3d_lab.training.loop import fit
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import open_run
from msg3d_lab.training.setup import build_model_of, open_store_of, train_batches_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ablate", "submit_ablation", "train_and_test"]

_FEW_FRAMES = 16  # enough to weigh one variant against another


def ablate(
    grid: Grid | str,
    *,
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    runs: str | Path | None = None,
    data: Store | str | Path | None = None,
    variants: Sequence[str] | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    device: str = "auto",
    precision: Precision = "32-true",
    progress: bool = True,
) -> pd.DataFrame:
    """Train and test every variant of a grid with every seed, and compare them.

    Called again it goes on where it was: tested runs are read, trained ones tested, cut ones
    resumed, failed ones tried again. A variant that fails does not stop the others; its row says
    why. Variants with the same recipe are run once. Folders of other runs (another recipe, another
    store) are left as they are, and their rows say so.

    Ctrl-C and SIGTERM let every run that is being trained write a checkpoint first.

    Every job is a new Python process: in a script, call this below `if __name__ == "__main__":`.

    Args:
        grid: a grid, the name of one, or the path of its YAML.
        seeds: the grid's own if left out.
        jobs: runs at a time; they share the processor's cores, or the GPU.
        runs: the folder of the run folders VARIANT/seed-N; `runs/ablations/<grid's name>` if left
            out.
        data: the store; the recipe's default place if left out.
        variants: the names of those to run, with what they are compared with; all if left out.
        settings: changes of all variants, as `with_settings` takes them.
        device: "auto", "cpu", "cuda" or "mps".
        precision: of the arithmetic, in Lightning Fabric's words.
        progress: whether to show a progress bar, with the time that is left.

    Returns:
        See `ablation_table`.

    Raises:
        FileNotFoundError: no store.
        Requeue: SIGTERM came; the ablation can be gone on with.
        ValueError: an unknown grid or variant; a setting that no variant can have; the store does
            not fit the recipe.
    """
    grid = _grid(grid, variants)
    planned = plan(grid, seeds=seeds, runs=runs, settings=settings)
    store = open_store_of(planned[0].recipe, data)
    tasks = {
        run.path: partial(
            train_and_test,
            run.recipe,
            run.path,
            data=store.path,
            device=device,
            precision=precision,
        )
        for run in _open_runs(planned, store)
    }
    if tasks:
        import torch

        threads = max(1, torch.get_num_threads() // max(1, min(jobs, len(tasks))))
        with stop_signal() as stop, _Bar(grid, planned, store, enabled=progress) as bar:

            def tick(running: list[Path]) -> None:
                bar.look(running)
                if stop.is_set():
                    raise Requeue("told to stop: give the same command again to go on")

            for path, failure in in_processes(tasks, jobs=jobs, threads=threads, tick=tick):
                _note(path, failure)
                bar.finish(path, failure)
    return ablation_table(grid, seeds=seeds, runs=runs, data=store, settings=settings)


def submit_ablation(
    grid: Grid | str,
    *,
    slurm: Mapping[str, Any],
    seeds: Sequence[int] | None = None,
    runs: str | Path | None = None,
    data: Store | str | Path | None = None,
    variants: Sequence[str] | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    precision: Precision = "32-true",
) -> list[Any]:
    """Submit a Slurm job for every run that is not trained yet; return submitit's jobs.

    The jobs train. When they are done, `ablate` tests what they trained and returns the table.
    Nobody looks whether a run is in the queue already: submit again only when the queue is empty.

    Args:
        grid: a grid, the name of one, or the path of its YAML.
        slurm: what to ask for: arguments of `training.distributed.slurm.submit`.
        seeds: the grid's own if left out.
        runs: as in `ablate`; on a file system that the cluster's machines share.
        data: the store, likewise.
        variants: the names of those to run; all if left out.
        settings: changes of all variants.
        precision: of the arithmetic.

    Raises:
        FileExistsError: another run lies in a run's folder.
        FileNotFoundError: no store.
        ModuleNotFoundError: submitit is not installed.
        ValueError: as in `ablate`; there is no Slurm.
    """
    from msg3d_lab.training.distributed.slurm import submit

    grid = _grid(grid, variants)
    planned = plan(grid, seeds=seeds, runs=runs, settings=settings)
    store = open_store_of(planned[0].recipe, data)
    for run in planned:
        found = progress_of(run, store)
        if found.state == "other":
            raise FileExistsError(found.why)
    return [
        submit(run.recipe, run=run.path, data=store.path, resume=True, precision=precision, **slurm)
        for run in _open_runs(planned, store)
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
    """Train a run, or go on training it, test it, and write down what its network costs."""
    from msg3d_lab.model.cost import network_cost

    if path.exists() and open_run(path).finished and open_run(path).recipe == recipe:
        run = open_run(path)  # which may have been trained on another kind of machine
    else:
        run = fit(
            recipe, data=data, run=path, resume=True, device=device, precision=precision,
            progress=False,
        )  # fmt: skip
    cost = dataclasses.asdict(network_cost(run.model(), clip_len=recipe.data.clip_len))
    del cost["parts"]
    with write_aside(path / COST, overwrite=True) as aside:
        aside.write_text(json.dumps(cost, indent=2) + "\n", encoding="utf-8")
    evaluate(run, data=data, device=device, progress=False)


def _grid(grid: Grid | str, variants: Sequence[str] | None) -> Grid:
    found = grids.get(grid) if isinstance(grid, str) else grid
    return found if variants is None else found.only(variants)


def _open_runs(planned: Sequence[PlannedRun], store: Store) -> list[PlannedRun]:
    """What is not tested yet, every folder once; not what lies in the folder of another run."""
    each = {run.path: run for run in planned}
    return [r for r in each.values() if progress_of(r, store).state not in ("tested", "other")]


def _note(path: Path, failure: Failure | None) -> None:
    """Write a failure beside the run's folder, or remove the last one's."""
    note = failure_path(path)
    if failure is None:
        note.unlink(missing_ok=True)
        return
    with write_aside(note, overwrite=True) as aside:
        aside.write_text(f"{failure.message}\n{failure.details}", encoding="utf-8")


class _Bar:
    """One bar over all runs, weighed by their arithmetic, so that its ETA is the ablation's."""

    def __init__(
        self, grid: Grid, planned: Sequence[PlannedRun], store: Store, *, enabled: bool
    ) -> None:
        self._name = grid.name
        by_path = {run.path: run for run in planned}
        self._epochs = {path: run.recipe.training.epochs for path, run in by_path.items()}
        each = {run.recipe.hash: run.recipe for run in planned}  # seeds cost the same
        work = {key: _work(recipe, store) if enabled else 1.0 for key, recipe in each.items()}
        self._work = {path: work[run.recipe.hash] for path, run in by_path.items()}
        found = {path: progress_of(run, store) for path, run in by_path.items()}
        self._ended = {path for path, now in found.items() if now.state in ("tested", "other")}
        self._share = {
            path: 1.0 if path in self._ended else now.epochs / self._epochs[path]
            for path, now in found.items()
        }
        self._bar = tqdm(
            total=sum(self._work.values()),
            initial=self._done(),
            disable=not enabled,
            dynamic_ncols=True,
            smoothing=0,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        )
        self._show()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def look(self, running: Sequence[Path]) -> None:
        """Count the epochs that the running ones have finished."""
        for path in running:
            share = _rows(path / "metrics.csv") / self._epochs[path]
            self._share[path] = max(self._share[path], min(share, 1.0))
        self._show()

    def finish(self, path: Path, failure: Failure | None) -> None:
        """Count a run as ended; what a failed one has not done is no work any more."""
        if failure is not None:
            self._work[path] *= self._share[path]
            if not self._bar.disable:
                self._bar.write(shorten(f"{path}: {failure.message}", 200, placeholder=" ..."))
        self._share[path] = 1.0
        self._ended.add(path)
        self._show()

    def _done(self) -> float:
        return sum(work * self._share[path] for path, work in self._work.items())

    def _show(self) -> None:
        self._bar.total, self._bar.n = sum(self._work.values()), self._done()
        self._bar.set_description(f"{self._name} {len(self._ended)}/{len(self._work)} runs")


def _rows(path: Path) -> int:
    """Epochs in a metrics.csv, which is only ever replaced as a whole."""
    try:
        return max(0, len(path.read_text(encoding="utf-8").splitlines()) - 1)
    except FileNotFoundError:
        return 0


def _work(recipe: Recipe, store: Store) -> float:
    """Multiply-accumulates of a whole run, about; 0 if it cannot be one, as its row will say."""
    from msg3d_lab.model.cost import network_cost

    training, data = recipe.training, recipe.data
    try:
        clips = len(train_batches_of(recipe, store).indices) * training.repeat * training.epochs
        network = build_model_of(recipe, store)
    except ValueError:
        return 0.0
    whole = network_cost(network, clip_len=_FEW_FRAMES).training_macs
    tested = len(store.indices(data.test_split)) * recipe.test_clips
    return whole * (clips + tested / 3) * data.clip_len / _FEW_FRAMES
