"""The main job on the embedded data set, from nothing to a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msg3d_lab.allocator import tune_allocator
from msg3d_lab.data.synthetic.dataset import load_synthetic
from msg3d_lab.evaluation import evaluate
from msg3d_lab.reporting.report import write_report
from msg3d_lab.training import Run, fit, open_run, recipes

__all__ = ["demo", "demo_run"]

RECIPE = "synthetic-joint"


def demo(
    run: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
    progress: bool = True,
    resume: bool = False,
) -> Run:
    """Make the embedded data, train a compact MS-G3D, test it, write a report.

    Args:
        run: the run's folder; `runs/demo`, or `runs/demo-2` and so on, if left out.
        settings: changes to the recipe, such as "epochs=2".
        progress: whether to show progress.
        resume: whether to go on with the run of the folder named, if there is one.

    Raises:
        BlockingIOError: another process is at work in the folder.
        FileExistsError: the folder named exists, and `resume` is not set.
        FileNotFoundError: the folder to go on in is no run.
        ValueError: the run to go on with is of other settings or data.
    """
    tune_allocator()
    path = Path(run) if run is not None else _free(Path("runs/demo"))
    recipe = recipes.with_settings(recipes.get(RECIPE), settings)
    store = load_synthetic()
    finished = fit(recipe, data=store, run=path, resume=resume, device="cpu", progress=progress)
    evaluate(finished, data=store, device="cpu", progress=progress)
    write_report(finished, store=store)
    return finished


def demo_run(run: str | Path = "runs/demo", *, settings: Sequence[str] = ()) -> Run:
    """Return the demo's run, made now if it is not there yet, finished now if it was stopped.

    Args:
        run: the run's folder.
        settings: changes to the recipe, such as "epochs=2", for a run that is not finished.

    Raises:
        BlockingIOError: another process is making it.
        FileNotFoundError: the folder is there, but is no run.
        ValueError: a run that was stopped had other settings or data.
    """
    path = Path(run)
    if path.exists() and open_run(path).scores_path.is_file():
        return open_run(path)
    return demo(path, settings=settings, resume=path.exists())


def _free(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... that does not exist."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
