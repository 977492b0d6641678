"""Helpers of several commands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from msg3d_lab.training import Run


Settings = Annotated[tuple[str, ...], arg(name="set", metavar="KEY=VALUE ...")]


def chosen_run(run: str | Path | None, *, weights: str | None, recipe: str | None) -> Run:
    """Open the run that a command is about: a run folder, or weights with a recipe.

    Args:
        run: a run's folder; or weights, as with `weights`.
        weights: a checkpoint, or the name of published weights.
        recipe: of the weights.

    Raises:
        ValueError: neither or both, or a recipe for a run, which has its own.
    """
    from pathlib import Path

    from msg3d_lab.training import open_run
    from msg3d_lab.training.weights.as_run import run_of_weights

    if (run is None) == (weights is None):
        raise ValueError(
            "expected a run's folder, or --weights FILE_OR_NAME (and --recipe NAME if it has none)"
        )
    if run is not None and not Path(run).is_dir():
        run, weights = None, str(run)
    if weights is not None:
        return run_of_weights(weights, recipe=recipe)
    if recipe is not None:
        raise ValueError("--recipe goes with weights: a run has its own recipe")
    return open_run(str(run))


def first_process() -> bool:
    """Whether this is the first of the processes that torchrun or srun started, which prints."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def transposed(table: pd.DataFrame) -> str:
    """Return a data frame as text with its columns as rows, so that it fits any terminal."""
    return table.T.to_string(header=len(table) > 1)
