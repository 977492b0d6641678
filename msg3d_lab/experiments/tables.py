"""What an ablation found: a row per run, and a row per variant with its difference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msg3d_lab.data.store import Store
from msg3d_lab.evaluation.metrics import accuracies
from msg3d_lab.evaluation.scores import Scores, align
from msg3d_lab.evaluation.statistics import difference, holm
from msg3d_lab.experiments import grids
from msg3d_lab.experiments.grids import Grid, Variant
from msg3d_lab.experiments.plan import PlannedRun, plan, progress_of, tested_scores
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import open_run
from msg3d_lab.training.setup import open_store_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COST", "ablation_classes", "ablation_runs", "ablation_table"]

COST = "cost.json"  # in the run's folder: what its network costs per clip
_COSTS = ("parameters", "macs", "flops")


def ablation_runs(
    grid: Grid | str,
    *,
    seeds: Sequence[int] | None = None,
    runs: str | Path | None = None,
    data: Store | str | Path | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
) -> pd.DataFrame:
    """Read the runs of a grid, finished or not, from their folders: a tidy row per run.

    Args:
        grid: a grid, the name of one, or the path of its YAML.
        seeds: the grid's own if left out.
        runs: the folder of the run folders, as in `ablate`.
        data: the store; the recipe's default place if left out.
        settings: changes of all variants, as they were run.

    Returns:
        Columns variant, table, seed; state and why (see `plan.Progress`); top1, mean_class (shares
        of 1) and samples of the test; parameters, macs and flops per clip; epochs,
        training_minutes, synthetic, recipe_hash, data_fingerprint, commit, date, device, threads,
        folder; and a column for every setting that some variant sets. What is not known yet is
        missing. Epochs are those trained, also where variants set them.
    """
    grid = grids.get(grid) if isinstance(grid, str) else grid
    planned = plan(grid, seeds=seeds, runs=runs, settings=settings)
    store = open_store_of(planned[0].recipe, data)
    return _runs_frame(grid, planned, store, _scores_of(planned, store))


def ablation_table(
    grid: Grid | str,
    *,
    seeds: Sequence[int] | None = None,
    runs: str | Path | None = None,
    data: Store | str | Path | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
) -> pd.DataFrame:
    """Compare the variants of a grid, from the run folders there are: a row per variant.

    A difference is the accuracy of a variant minus that of the one it is compared with, over the
    seeds that both have, sample by sample: see `evaluation.statistics.difference` for the interval,
    the p-value and what few seeds can show. Holm's correction is for the differences of one table.

    Args:
        grid: a grid, the name of one, or the path of its YAML.
        seeds: the grid's own if left out.
        runs: the folder of the run folders, as in `ablate`.
        data: the store; the recipe's default place if left out.
        settings: changes of all variants, as they were run.

    Returns:
        Index variant; columns table, settings; seeds (tested ones), top1 and its sd over seeds;
        compare_with, difference, difference_sd, low, high (95 %), p, p_holm; parameters, macs and
        flops per clip; training_minutes per run; why (what is wrong with runs that are not tested)
        and note. Accuracies and differences are shares of 1.
    """
    import pandas as pd

    grid = grids.get(grid) if isinstance(grid, str) else grid
    planned = plan(grid, seeds=seeds, runs=runs, settings=settings)
    store = open_store_of(planned[0].recipe, data)
    scores = _scores_of(planned, store)
    frame = _runs_frame(grid, planned, store, scores)
    rows = []
    for variant in grid.variants:
        own = frame[frame["variant"] == variant.name]
        tested = own[own["state"] == "tested"]
        rows.append(
            {
                "variant": variant.name,
                "table": variant.table,
                "settings": ", ".join(f"{k}={_plain(v)}" for k, v in variant.set.items()),
                "seeds": len(tested),
                "top1": tested["top1"].mean(),
                "sd": tested["top1"].std(ddof=1),
                "compare_with": variant.compare_with or "",
                **_compared(variant, scores),
                **{name: own[name].max() for name in _COSTS},
                "training_minutes": own["training_minutes"].mean(),
                "why": _reasons(own),
                "note": variant.note,
            }
        )
    table = pd.DataFrame(rows).set_index("variant")
    corrected = table.groupby("table", sort=False)["p"].transform(lambda p: holm(p.to_numpy(float)))
    table.insert(list(table.columns).index("p") + 1, "p_holm", corrected)
    return table


def ablation_classes(
    grid: Grid | str,
    *,
    seeds: Sequence[int] | None = None,
    runs: str | Path | None = None,
    data: Store | str | Path | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
) -> pd.DataFrame:
    """Return the recall of each class by each variant, the mean over the seeds that are tested.

    Args:
        grid: a grid, the name of one, or the path of its YAML.
        seeds: the grid's own if left out.
        runs: the folder of the run folders, as in `ablate`.
        data: the store; the recipe's default place if left out.
        settings: changes of all variants, as they were run.

    Returns:
        A row per variant that is tested, a column per class that has samples; shares of 1.
    """
    import pandas as pd

    grid = grids.get(grid) if isinstance(grid, str) else grid
    planned = plan(grid, seeds=seeds, runs=runs, settings=settings)
    store = open_store_of(planned[0].recipe, data)
    rows = []
    for (name, _), scores in _scores_of(planned, store).items():
        correct = pd.Series(scores.predictions == scores.labels)
        rows.append({"variant": name, **correct.groupby(scores.labels).mean()})
    table = pd.DataFrame(rows, columns=["variant", *range(store.num_classes)])
    means = table.groupby("variant", sort=False).mean().dropna(axis="columns", how="all")
    means = means.reindex([v.name for v in grid.variants if v.name in means.index])
    return means.rename(columns=dict(enumerate(store.label_names))).rename_axis(columns="class")


def _compared(variant: Variant, scores: Mapping[tuple[str, int], Scores]) -> dict[str, float]:
    """The difference to what the variant is compared with, as far as both are tested."""
    names = ("difference", "difference_sd", "low", "high", "p")
    other = variant.compare_with
    seeds = [seed for name, seed in scores if name == variant.name and (str(other), seed) in scores]
    if not seeds:
        return dict.fromkeys(names, np.nan)
    pairs = [(name, seed) for name in (variant.name, str(other)) for seed in seeds]
    joined = align([scores[pair] for pair in pairs])
    right = np.stack([each.predictions == each.labels for each in joined])
    found = difference(right[: len(seeds)], right[len(seeds) :])
    values = (found.mean, found.sd, found.low, found.high, found.p_value)
    return dict(zip(names, values, strict=True))


def _scores_of(planned: Sequence[PlannedRun], store: Store) -> dict[tuple[str, int], Scores]:
    """The scores of every run that is tested."""
    found = {}
    for run in planned:
        if progress_of(run, store).state == "tested":
            scores = tested_scores(run, store)
            assert scores is not None
            found[run.key] = scores
    return found


def _runs_frame(
    grid: Grid,
    planned: Sequence[PlannedRun],
    store: Store,
    scores: Mapping[tuple[str, int], Scores],
) -> pd.DataFrame:
    import pandas as pd

    changed = list(dict.fromkeys(key for variant in grid.variants for key in variant.set))
    rows = []
    for run in planned:
        now = progress_of(run, store)
        row: dict[str, Any] = {
            "variant": run.variant.name,
            "table": run.variant.table,
            "seed": run.seed,
            "state": now.state,
            "why": now.why,
            "top1": np.nan,
            "mean_class": np.nan,
            "samples": 0,
            **dict.fromkeys(_COSTS, np.nan),
            "epochs": now.epochs,
            "training_minutes": np.nan,
            "synthetic": store.synthetic,
            "recipe_hash": run.recipe.hash,
            "data_fingerprint": store.fingerprint,
        }
        if run.key in scores:
            shares = accuracies(scores[run.key])
            row |= {name: shares[name] for name in ("top1", "mean_class")}
            row["samples"] = len(scores[run.key].ids)
        row |= _facts(run) if now.state in ("tested", "trained") else {}
        settings = {key.rpartition(".")[2]: _plain(_setting(run.recipe, key)) for key in changed}
        row |= {name: value for name, value in settings.items() if name not in row}
        rows.append({**row, "folder": f"{run.path.parent.name}/{run.path.name}"})
    return pd.DataFrame(rows)


def _facts(planned: PlannedRun) -> dict[str, Any]:
    """What the folder of a trained run knows about its making."""
    run = open_run(planned.path)
    environment, cost = run.environment, run.path / COST
    costs = json.loads(cost.read_text(encoding="utf-8")) if cost.is_file() else {}
    return {
        "parameters": environment["parameters"],
        **{name: costs[name] for name in _COSTS if name in costs},
        "training_minutes": round(environment["seconds"] / 60, 2),
        "commit": environment["commit"] or "unknown",
        "date": environment["started"][:10],
        "device": environment["device"],
        "threads": environment["threads"],
    }


def _reasons(own: pd.DataFrame) -> str:
    """Why runs of a variant are not tested, each reason once with its seeds."""
    open_ = own[own["state"] != "tested"]
    texts = open_["why"].where(open_["why"] != "", open_["state"])
    return "; ".join(
        f"seed {', '.join(map(str, open_['seed'][texts == text]))}: {text}"
        for text in dict.fromkeys(texts)
    )


def _setting(recipe: Recipe, key: str) -> Any:
    """A recipe's value for a key of `--set`."""
    head, _, name = key.partition(".")
    document = recipe.model_dump(mode="json")
    if name:
        return document[head][name]
    if not isinstance(document.get(head), dict) and head in document:
        return document[head]
    return next(s[key] for s in document.values() if isinstance(s, dict) and key in s)


def _plain(value: Any) -> Any:
    """A value as a table cell: lists as text."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return value
