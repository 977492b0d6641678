"""The demo: train, test and report on the embedded synthetic data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msg3d_lab.allocator import tune_allocator
from msg3d_lab.data.synthetic.dataset import load_synthetic
from msg3d_lab.evaluation import evaluate
from msg3d_lab.reporting.report import write_report
from msg3d_lab.training import Run, fit, open_run, recipes

RECIPE = "synthetic-joint"


def run_demo(
    run: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
    progress: bool = True,
    resume: bool = False,
) -> Run:
    """Make the embedded data, train a compact MS-G3D, test it, write a report.

    Args:
        run: the run's folder. Default: `runs/demo`, or the first free one of `runs/demo-2`, ...
        settings: changes to the recipe, such as "epochs=2".
        progress: whether to show progress bars.
        resume: whether to continue the run in the folder, if there is one.

    Raises:
        BlockingIOError: another process works in the folder.
        FileExistsError: the folder exists, and `resume` is not set.
        FileNotFoundError: the folder to resume in is no run.
        ValueError: the run to resume has other settings or data.
    """
    tune_allocator()
    path = Path(run) if run is not None else _free_path(Path("runs/demo"))
    recipe = recipes.with_settings(recipes.get(RECIPE), settings)
    store = load_synthetic()
    finished = fit(recipe, data=store, run=path, resume=resume, device="cpu", progress=progress)
    evaluate(finished, data=store, device="cpu", progress=progress)
    write_report(finished, store=store)
    return finished


def open_demo(run: str | Path = "runs/demo", *, settings: Sequence[str] = ()) -> Run:
    """Open the demo's run; train it first if it does not exist, finish it if it was interrupted.

    Args:
        run: the run's folder.
        settings: changes to the recipe, such as "epochs=2", of a run that is not finished.

    Raises:
        BlockingIOError: another process is training it.
        FileNotFoundError: the folder exists, but is no run.
        ValueError: an interrupted run has other settings or data.
    """
    path = Path(run)
    if path.exists() and open_run(path).scores_path.is_file():
        return open_run(path)
    return run_demo(path, settings=settings, resume=path.exists())


def _free_path(path: Path) -> Path:
    """Return the path, or the first of path-2, path-3, ... that does not exist."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
