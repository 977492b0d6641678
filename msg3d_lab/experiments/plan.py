"""The runs of an ablation: which there are, and how far each one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from msg3d_lab.data.store import Store
from msg3d_lab.evaluation.scores import Scores, read_scores
from msg3d_lab.experiments.grids import Grid, Variant, build_recipe
from msg3d_lab.training.recipes import Recipe, with_settings
from msg3d_lab.training.runs import Run, open_run

_MAX_ERROR = 200  # characters of an error in a table
State = Literal["missing", "unfinished", "trained", "tested", "failed", "other"]


@dataclass(frozen=True)
class PlannedRun:
    """One variant with one seed.

    Args:
        recipe: the whole recipe, with that seed.
        path: the run's folder. Variants with the same recipe share the folder of the first of them,
            even if that one is not selected (see `Grid.only`).
    """

    variant: Variant
    seed: int
    recipe: Recipe
    path: Path

    @property
    def key(self) -> tuple[str, int]:
        """The variant's name and the seed."""
        return self.variant.name, self.seed


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Args:
        state: "missing", "unfinished", "trained", "tested"; "failed" if the last attempt ended with
            an error; "other" if the folder holds something else.
        why: the error, or what else the folder holds.
        epochs: epochs trained.
        scores: the test scores of a tested run.
    """

    state: State
    why: str = ""
    epochs: int = 0
    scores: Scores | None = None


def plan_runs(
    grid: Grid,
    *,
    seeds: Sequence[int] | None = None,
    runs: str | Path | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
) -> list[PlannedRun]:
    """List the runs of a grid: all variants with the first seed, then all with the next.

    In this order an interrupted ablation has compared everything once before anything twice. For
    the arguments see `AblationResults`.

    Raises:
        ValueError: no seeds, a repeated or negative one; see `build_recipe`.
    """
    seeds = tuple(grid.seeds if seeds is None else seeds)
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"expected seeds from 0, each once, found {list(seeds)}")
    folder = Path(runs) if runs is not None else Path("runs/ablations") / grid.name
    variant_recipes = {v.name: build_recipe(grid, v, settings=settings) for v in grid.all_variants}
    first_name: dict[str, str] = {}
    for name, recipe in variant_recipes.items():
        first_name.setdefault(recipe.hash, name)
    return [
        PlannedRun(
            variant=variant,
            seed=seed,
            recipe=with_settings(variant_recipes[variant.name], {"training.seed": seed}),
            path=folder / first_name[variant_recipes[variant.name].hash] / f"seed-{seed}",
        )
        for seed in seeds
        for variant in grid.variants
    ]


def failure_path(run: Path) -> Path:
    """Return where the error of a run's last attempt is written, beside its folder."""
    return run.with_name(f"{run.name}.failed.txt")


def read_progress(planned: PlannedRun, store: Store) -> Progress:
    """Read from a run's folder how far it is."""
    error = _last_error(planned.path)
    if not planned.path.exists():
        return Progress("failed", error) if error else Progress("missing")
    try:
        run = open_run(planned.path)
        difference = run.difference(planned.recipe, store)
        epochs = len(run.metrics) if (run.path / "metrics.csv").is_file() else 0
    except (OSError, ValueError, KeyError) as problem:  # JSON's errors are ValueErrors
        why = f"{planned.path} is no readable run: {problem}; remove it to run it again"
        return Progress("other", why)
    if difference:
        why = f"{planned.path} is of {difference}: remove it, or name another folder of runs"
        return Progress("other", why)
    if not run.finished:
        return Progress("failed" if error else "unfinished", error, epochs)
    scores = _test_scores(run, planned, store)
    if scores is not None:
        return Progress("tested", epochs=epochs, scores=scores)
    return Progress("failed" if error else "trained", error, epochs)


def _last_error(run: Path) -> str:
    """Return the last attempt's error, shortened for a table; "" if there was none."""
    path = failure_path(run)
    if not path.is_file():
        return ""
    line = path.read_text(encoding="utf-8").partition("\n")[0]
    more = f" ... (all of it in {path.parent.name}/{path.name})"
    return line if len(line) <= _MAX_ERROR else line[: _MAX_ERROR - len(more)].rstrip() + more


def _test_scores(run: Run, planned: PlannedRun, store: Store) -> Scores | None:
    """Return the run's scores if they are those its recipe asks for on this store."""
    try:
        scores = read_scores(run.scores_path)
    except (FileNotFoundError, ValueError):  # damaged scores: the run is tested again
        return None
    expected = {
        "recipe_hash": planned.recipe.hash,
        "data_fingerprint": store.fingerprint,
        "split": planned.recipe.data.test_split,
        "num_clips": planned.recipe.test_clips,
        "kind": "softmax",
    }
    return scores if expected.items() <= scores.facts.items() else None
