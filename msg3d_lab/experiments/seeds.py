"""One recipe, several seeds: a single one proves nothing.

The field's own spread between seeds, 88.5 to 89.9 % for MS-G3D on NTU60 X-Sub (kenziyuliu/MS-G3D,
issue 12), is as large as most differences that are published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msg3d_lab.training import recipes
from msg3d_lab.training.loop import fit
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import Run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["fit_seeds", "parse_seeds", "seeds_table", "submit_seeds"]

_COLUMNS = ("train_loss", "train_top1", "val_loss", "val_top1")


def fit_seeds(
    recipe: Recipe | str,
    *,
    seeds: Sequence[int] = (1, 2, 3),
    runs: str | Path | None = None,
    **fit_arguments: Any,
) -> pd.DataFrame:
    """Train a recipe once per seed, one after the other, and return the results with mean and sd.

    Called again it goes on where it was: finished seeds are not trained again, unfinished ones are
    resumed, further seeds are added.

    Args:
        recipe: a recipe, the name of one, or the path of its YAML; its own seed is not used.
        seeds: of the runs.
        runs: the folder of the run folders seed-1, seed-2, ...; `runs/<recipe's name>-seeds` if
            left out.
        fit_arguments: of `fit`, e.g. data, device, precision.

    Returns:
        See `seeds_table`.

    Raises:
        ValueError: no seeds, or one twice; what `fit` raises; a run of the folder that is of
            another recipe or store.
        FileExistsError: `runs` is itself a run folder.
    """
    each = _each(recipe, seeds, runs)
    return seeds_table(
        {
            seed: fit(own, run=folder, resume=True, **fit_arguments)
            for seed, (own, folder) in each.items()
        }
    )


def submit_seeds(
    recipe: Recipe | str,
    *,
    seeds: Sequence[int] = (1, 2, 3),
    runs: str | Path | None = None,
    **submit_arguments: Any,
) -> dict[int, Any]:
    """Submit a recipe to Slurm once per seed, a job each, without waiting for them.

    Called again it submits what is not finished, which goes on where it was. So wait for the jobs
    of the first call: two jobs at work in one run folder refuse each other. When all are finished,
    `fit_seeds` with the same seeds and folder trains nothing and returns the table.

    Args:
        recipe: a recipe, the name of one, or the path of its YAML; its own seed is not used.
        seeds: of the runs.
        runs: as for `fit_seeds`.
        submit_arguments: of `training.distributed.slurm.submit`, e.g. partition, gpus, hours, data.

    Returns:
        submitit's jobs by their seeds; finished seeds have none.

    Raises:
        FileExistsError: `runs` is itself a run folder.
        ValueError: no seeds, or one twice; what `submit` raises.
    """
    from msg3d_lab.training.distributed.slurm import submit

    jobs = {}
    for seed, (own, folder) in _each(recipe, seeds, runs).items():
        if not (folder.exists() and Run(folder).finished):
            jobs[seed] = submit(
                own, run=folder, resume=True, name=f"{own.name}-seed-{seed}", **submit_arguments
            )
    return jobs


def _each(
    recipe: Recipe | str, seeds: Sequence[int], runs: str | Path | None
) -> dict[int, tuple[Recipe, Path]]:
    """The recipe and the run folder of every seed."""
    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    folder = Path(runs) if runs is not None else Path("runs") / f"{recipe.name}-seeds"
    _check(seeds)
    if (folder / "recipe.yaml").exists():
        raise FileExistsError(
            f"{folder} is the folder of a single run: name another one for the runs of the seeds"
        )
    return {
        seed: (
            recipes.with_settings(recipe, {"training.seed": seed}),
            folder / f"seed-{seed}",
        )
        for seed in seeds
    }


def seeds_table(runs: Mapping[int, Run]) -> pd.DataFrame:
    """Put finished runs of one recipe side by side.

    Args:
        runs: by their seeds.

    Returns:
        A row per seed, then "mean" and "sd" (of a sample, n - 1; not a number for one seed), with
        the columns of metrics.csv at the epoch whose weights were kept, that epoch, and the run's
        seconds. As there, val_* are of the validation part, or of the test split without one.
    """
    import pandas as pd

    rows = {}
    for seed, run in runs.items():
        metrics, environment = run.metrics.set_index("epoch"), run.environment
        kept = int(environment.get("kept_epoch", metrics.index[-1]))
        rows[seed] = {"kept_epoch": kept} | metrics.loc[kept, list(_COLUMNS)].to_dict()
        rows[seed]["seconds"] = environment["seconds"]
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("seed")
    summary = pd.DataFrame({"mean": table.mean(), "sd": table.std(ddof=1)}).T
    return pd.concat([table, summary]).rename_axis("seed")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds as the shell has them.

    Raises:
        ValueError: something else than numbers from 0 between commas, or one of them twice.

    Example:
        >>> parse_seeds("1,2,3")
        (1, 2, 3)
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise ValueError(f"expected seeds like 1,2,3, found {text!r}")
    seeds = tuple(map(int, words))
    _check(seeds)
    return seeds


def _check(seeds: Sequence[int]) -> None:
    if not seeds:
        raise ValueError("expected at least one seed, found none")
    twice = sorted({seed for seed in seeds if list(seeds).count(seed) > 1})
    if twice:
        raise ValueError(f"expected every seed once, found {twice[0]} again: give other seeds")
