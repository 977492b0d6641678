"""What an ablation has to run, and how far each run is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from msg3d_lab.data.store import Store
from msg3d_lab.evaluation.scores import Scores, read_scores
from msg3d_lab.experiments.grids import Grid, Variant, recipe_of
from msg3d_lab.training.recipes import Recipe, with_settings
from msg3d_lab.training.runs import Run, open_run

__all__ = [
    "PlannedRun",
    "Progress",
    "State",
    "failure_path",
    "plan",
    "progress_of",
    "tested_scores",
]

_SHOWN = 200  # characters of an error
State = Literal["missing", "unfinished", "trained", "tested", "failed", "other"]


@dataclass(frozen=True)
class PlannedRun:
    """One variant with one seed.

    Args:
        variant: the variant.
        seed: the seed.
        recipe: the whole recipe, with that seed.
        path: the run's folder; of several variants with the same recipe, that of the first, even if
            that one is left out (see `Grid.only`).
    """

    variant: Variant
    seed: int
    recipe: Recipe
    path: Path

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from the other runs of its grid."""
        return self.variant.name, self.seed


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Args:
        state: "missing", "unfinished", "trained", "tested"; "failed" if the last try ended with an
            error; "other" if something else lies in its folder.
        why: what went wrong, or what else it is.
        epochs: epochs trained.
    """

    state: State
    why: str = ""
    epochs: int = 0


def plan(
    grid: Grid,
    *,
    seeds: Sequence[int] | None = None,
    runs: str | Path | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
) -> list[PlannedRun]:
    """List the runs of a grid: all variants with the first seed, then with the next.

    In this order an ablation that is cut has compared everything once, before anything twice.

    Args:
        grid: the grid.
        seeds: the grid's own if left out.
        runs: the folder of the run folders VARIANT/seed-N; `runs/ablations/<grid's name>` if left
            out.
        settings: changes of all variants; see `recipe_of`.

    Raises:
        ValueError: no seeds, one twice, or one below 0; see `recipe_of`.
    """
    seeds = tuple(grid.seeds if seeds is None else seeds)
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"expected seeds from 0, each once, found {list(seeds)}")
    folder = Path(runs) if runs is not None else Path("runs/ablations") / grid.name
    own = {v.name: recipe_of(grid, v, settings=settings) for v in grid.every}
    first: dict[str, str] = {}
    for name, recipe in own.items():
        first.setdefault(recipe.hash, name)
    return [
        PlannedRun(
            variant=variant,
            seed=seed,
            recipe=with_settings(own[variant.name], {"training.seed": seed}),
            path=folder / first[own[variant.name].hash] / f"seed-{seed}",
        )
        for seed in seeds
        for variant in grid.variants
    ]


def failure_path(run: Path) -> Path:
    """Where the error of a run's last try is written, beside its folder."""
    return run.with_name(f"{run.name}.failed.txt")


def progress_of(planned: PlannedRun, store: Store) -> Progress:
    """Look how far a run is, from its folder.

    Args:
        planned: the run.
        store: the data the ablation is about.
    """
    error = _last_error(planned.path)
    if not planned.path.exists():
        return Progress("failed", error) if error else Progress("missing")
    try:
        run = open_run(planned.path)
        difference = _difference(run, planned, store)
        epochs = len(run.metrics) if (run.path / "metrics.csv").is_file() else 0
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as problem:
        why = f"{planned.path} is no run that can be read: {problem}; remove it to run it anew"
        return Progress("other", why)
    if difference:
        return Progress(
            "other", f"{planned.path} is of {difference}: remove it, or name another folder of runs"
        )
    if not run.finished:
        return Progress("failed" if error else "unfinished", error, epochs)
    if tested_scores(planned, store) is not None:
        return Progress("tested", epochs=epochs)
    return Progress("failed" if error else "trained", error, epochs)


def _last_error(run: Path) -> str:
    """Why the last try failed, shortened to what a table can show; "" if it did not."""
    path = failure_path(run)
    if not path.is_file():
        return ""
    line = path.read_text(encoding="utf-8").partition("\n")[0]
    more = f" ... (all of it in {path.parent.name}/{path.name})"
    return line if len(line) <= _SHOWN else line[: _SHOWN - len(more)].rstrip() + more


def tested_scores(planned: PlannedRun, store: Store) -> Scores | None:
    """The run's scores, if they are those its recipe asks for on this store."""
    path = Run(planned.path).scores_path
    if not path.is_file():
        return None
    try:
        scores = read_scores(path)
    except ValueError:  # damaged: it is tested again
        return None
    wanted = {
        "recipe_hash": planned.recipe.hash,
        "data_fingerprint": store.fingerprint,
        "split": planned.recipe.data.test_split,
        "num_clips": planned.recipe.test_clips,
        "kind": "softmax",
    }
    same = all(scores.facts.get(name) == value for name, value in wanted.items())
    return scores if same else None


def _difference(run: Run, planned: PlannedRun, store: Store) -> str:
    """In what a run in the folder differs from the one planned; "" if in nothing."""
    found = run.environment["data"]["fingerprint"]
    if found != store.fingerprint:
        return f"another store (fingerprint {found}, not {store.fingerprint})"
    if run.recipe == planned.recipe:
        return ""
    old, new = (r.model_dump(mode="json") for r in (run.recipe, planned.recipe))
    return "another recipe: " + "; ".join(_changes(old, new))


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Each setting that is not the same, with its value there and here."""
    found = []
    for name in {**old, **new}:
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _changes(a, b, f"{name}.")
        elif a != b:
            found.append(f"{prefix}{name} is {a!r} there and {b!r} here")
    return found
