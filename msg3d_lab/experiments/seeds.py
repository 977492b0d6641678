"""One recipe with several seeds.

Differences between single runs mean little: MS-G3D on NTU60 X-Sub varies from 88.5 to 89.9 % with
the seed (kenziyuliu/MS-G3D, issue 12), which is as much as most published improvements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from msg3d_lab.training import recipes
from msg3d_lab.training.loop import FitOptions, JobOptions, fit
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import Run

if TYPE_CHECKING:
    import pandas as pd

    from msg3d_lab.training.distributed.slurm import Slurm


def fit_seeds(
    recipe: Recipe | str,
    *,
    seeds: Sequence[int] = (1, 2, 3),
    runs: str | Path | None = None,
    **options: Unpack[FitOptions],
) -> pd.DataFrame:
    """Train a recipe once per seed, one after the other, and return the results with mean and sd.

    Called again, it continues: finished seeds are not trained again, unfinished ones are resumed,
    further seeds are added.

    Args:
        recipe: a recipe, the name of one, or the path of its YAML; its own seed is not used.
        seeds: of the runs.
        runs: the folder for the run folders seed-1, seed-2, ... Default:
            `runs/<recipe's name>-seeds`.
        **options: of `fit`, for every run: data, init, device, devices, num_nodes, precision,
            on_nan, checkpoint_minutes, progress, callbacks.

    Returns:
        See `seeds_table`.

    Raises:
        ValueError: no seeds, or one twice; what `fit` raises; a run in the folder has another
            recipe or store.
        FileExistsError: `runs` is itself a run folder.
    """
    planned = _runs_of(recipe, seeds, runs)
    return seeds_table(
        {
            seed: fit(own, run=folder, resume=True, **options)
            for seed, (own, folder) in planned.items()
        }
    )


def submit_seeds(
    recipe: Recipe | str,
    *,
    slurm: Slurm,
    seeds: Sequence[int] = (1, 2, 3),
    runs: str | Path | None = None,
    data: str | Path | None = None,
    **options: Unpack[JobOptions],
) -> dict[int, Any]:
    """Submit a recipe to Slurm once per seed, a job each, without waiting for them.

    Called again, it submits the unfinished seeds, which are resumed. Wait until the first jobs have
    ended: two jobs in one run folder refuse each other. When all seeds are finished, `fit_seeds`
    with the same seeds and folder trains nothing and returns the table.

    Args:
        recipe: a recipe, the name of one, or the path of its YAML; its own seed is not used.
        slurm: what to ask for, for each job.
        seeds: of the runs.
        runs: as in `fit_seeds`.
        data: as in `submit`.
        **options: of `submit`: init, precision, on_nan, checkpoint_minutes, callbacks.

    Returns:
        submitit's jobs by their seeds; finished seeds have none.

    Raises:
        FileExistsError: `runs` is itself a run folder.
        ValueError: no seeds, or one twice; what `submit` raises.
    """
    from msg3d_lab.training.distributed.slurm import submit

    return {
        seed: submit(
            own,
            slurm=slurm,
            data=data,
            run=folder,
            resume=True,
            name=f"{own.name}-seed-{seed}",
            **options,
        )
        for seed, (own, folder) in _runs_of(recipe, seeds, runs).items()
        if not (folder.exists() and Run(folder).finished)
    }


def _runs_of(
    recipe: Recipe | str, seeds: Sequence[int], runs: str | Path | None
) -> dict[int, tuple[Recipe, Path]]:
    """The recipe and the run folder of every seed."""
    recipe = recipes.get(recipe)
    folder = Path(runs) if runs is not None else Path("runs") / f"{recipe.name}-seeds"
    _check(seeds)
    if (folder / "recipe.yaml").exists():
        raise FileExistsError(
            f"{folder} is the folder of a single run: name another one for the runs of the seeds"
        )
    return {
        seed: (recipes.with_settings(recipe, {"training.seed": seed}), folder / f"seed-{seed}")
        for seed in seeds
    }


def seeds_table(runs: Mapping[int, Run]) -> pd.DataFrame:
    """Put finished runs of one recipe side by side.

    Args:
        runs: by their seeds.

    Returns:
        A row per seed, then "mean" and "sd" (of a sample, n - 1; NaN for one seed). Columns: the
        epoch whose weights were kept; `train_loss`, `train_top1` and `val_*` or `test_*` of that
        epoch, as in metrics.csv; the run's seconds.
    """
    import pandas as pd

    rows = {}
    for seed, run in runs.items():
        metrics, environment = run.metrics.set_index("epoch"), run.environment
        kept = int(environment.get("kept_epoch", metrics.index[-1]))
        names = [f"{part}_{n}" for part in ("train", run.recipe.held_out) for n in ("loss", "top1")]
        rows[seed] = {"kept_epoch": kept} | metrics.loc[kept, names].to_dict()
        rows[seed]["seconds"] = environment["seconds"]
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("seed")
    summary = pd.DataFrame({"mean": table.mean(), "sd": table.std(ddof=1)}).T
    return pd.concat([table, summary]).rename_axis("seed")


def _check(seeds: Sequence[int]) -> None:
    if not seeds:
        raise ValueError("expected at least one seed, found none")
    twice = sorted({seed for seed in seeds if list(seeds).count(seed) > 1})
    if twice:
        raise ValueError(f"expected every seed once, found {twice[0]} again: give other seeds")
