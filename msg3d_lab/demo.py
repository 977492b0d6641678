"""The main job on the embedded data set, from nothing to a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msg3d_lab.allocator import tune_allocator
from msg3d_lab.data.synthetic import load_synthetic
from msg3d_lab.evaluation import test
from msg3d_lab.reporting import write_report
from msg3d_lab.training import Run, fit, open_run, recipes

__all__ = ["demo", "demo_run"]

RECIPE = "synthetic-joint"


def demo(
    run: str | Path | None = None, *, settings: Sequence[str] = (), progress: bool = True
) -> Run:
    """Make the embedded data, train a compact MS-G3D, test it, write a report.

    Args:
        run: the run's folder; `runs/demo`, or `runs/demo-2` and so on, if left out.
        settings: changes to the recipe, such as "epochs=2".
        progress: whether to show progress.

    Raises:
        FileExistsError: the folder named exists.
    """
    tune_allocator()
    path = Path(run) if run is not None else _free(Path("runs/demo"))
    recipe = recipes.with_settings(recipes.get(RECIPE), settings)
    store = load_synthetic()
    finished = fit(recipe, data=store, run=path, device="cpu", progress=progress)
    test(finished, data=store, device="cpu", progress=progress)
    write_report(finished, store=store)
    return finished


def demo_run(run: str | Path = "runs/demo", *, settings: Sequence[str] = ()) -> Run:
    """Return the demo's run, made now if it is not there yet.

    Raises:
        FileExistsError: the folder holds a run that was stopped before its end.
    """
    path = Path(run)
    if not path.exists():
        return demo(path, settings=settings)
    finished = open_run(path)
    if not finished.scores_path.is_file():
        raise FileExistsError(f"{path} holds a run that was stopped before its end: remove it")
    return finished


def _free(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... that does not exist."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
