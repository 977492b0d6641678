"""The results of an ablation: its runs, the comparison of its variants, recalls by class."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from msg3d_lab.data.store import Store
from msg3d_lab.evaluation.metrics import accuracies
from msg3d_lab.evaluation.scores import Scores, align
from msg3d_lab.evaluation.statistics import difference, holm
from msg3d_lab.experiments import grids
from msg3d_lab.experiments.grids import Grid, Variant
from msg3d_lab.experiments.plan import PlannedRun, Progress, plan_runs, read_progress
from msg3d_lab.training.recipes import get_setting
from msg3d_lab.training.runs import open_run
from msg3d_lab.training.setup import open_store_for

if TYPE_CHECKING:
    import pandas as pd


COST_FILE = "cost.json"  # in the run's folder: the cost of its network per clip
_COSTS = ("parameters", "macs")


class GridOptions(TypedDict, total=False):
    """What `AblationResults` takes beside the grid, for functions that pass it on."""

    seeds: Sequence[int] | None
    runs: str | Path | None
    data: Store | str | Path | None
    variants: Sequence[str] | None
    settings: Sequence[str] | Mapping[str, Any]


class AblationResults:
    """The results of a grid's runs, finished or not.

    Every method reads the run folders as they are when it is called.

    Args:
        grid: a grid, the name of one, or the path of its YAML.
        seeds: Default: the grid's own.
        runs: the folder of the run folders VARIANT/seed-N. Default: `runs/ablations/<grid's name>`.
        data: the store. Default: the recipe's default place.
        variants: the names of some of the variants, which come with what they are compared with.
            Default: all.
        settings: changes of all variants, as `with_settings` takes them.

    Attributes:
        planned: the grid's runs, see `plan_runs`.

    Raises:
        FileNotFoundError: no store.
        ValueError: an unknown grid or variant; a setting that no variant can have; a store that
            does not fit the recipe.
    """

    def __init__(
        self,
        grid: Grid | str,
        *,
        seeds: Sequence[int] | None = None,
        runs: str | Path | None = None,
        data: Store | str | Path | None = None,
        variants: Sequence[str] | None = None,
        settings: Sequence[str] | Mapping[str, Any] = (),
    ) -> None:
        whole = grids.get(grid) if isinstance(grid, str) else grid
        self.grid = whole if variants is None else whole.only(variants)
        self.planned = plan_runs(self.grid, seeds=seeds, runs=runs, settings=settings)
        self.store = open_store_for(self.planned[0].recipe, data)

    def runs(self) -> pd.DataFrame:
        """Return a row per run.

        Returns:
            Columns variant, group, seed; state and why (see `plan.Progress`); top1, mean_class
            (fractions of 1) and samples of the test; parameters and macs per clip; epochs
            (trained), training_minutes, synthetic, recipe_hash, data_fingerprint, commit, date,
            device, threads, folder; and a column for every other setting that some variant sets.
            What is not known yet is missing.
        """
        return self._run_table(self._progress())

    def table(self) -> pd.DataFrame:
        """Compare the variants: a row per variant.

        A difference is the accuracy of a variant minus that of the one it is compared with, over
        the seeds that both have, sample by sample: see `evaluation.statistics.difference` for the
        interval, the p-value and what few seeds can show. Holm's correction is for the differences
        of one group.

        Returns:
            Index variant; columns group, settings; seeds (tested ones), top1 and its sd over seeds;
            compare_with, difference, difference_sd, low, high (95 %), p, p_holm; parameters and
            macs per clip; training_minutes per run; why (the reasons why runs are not tested)
            and note. Accuracies and differences are fractions of 1.
        """
        import pandas as pd

        progress = self._progress()
        scores = {key: p.scores for key, p in progress.items() if p.scores is not None}
        all_runs = self._run_table(progress)
        rows = []
        for variant in self.grid.variants:
            own = all_runs[all_runs["variant"] == variant.name]
            tested = own[own["state"] == "tested"]
            rows.append(
                {
                    "variant": variant.name,
                    "group": variant.group,
                    "settings": ", ".join(f"{k}={_cell(v)}" for k, v in variant.set.items()),
                    "seeds": len(tested),
                    "top1": tested["top1"].mean(),
                    "sd": tested["top1"].std(ddof=1),
                    "compare_with": variant.compare_with or "",
                    **_compare(variant, scores),
                    **{name: own[name].max() for name in _COSTS},
                    "training_minutes": own["training_minutes"].mean(),
                    "why": _reasons(own),
                    "note": variant.note,
                }
            )
        table = pd.DataFrame(rows).set_index("variant")
        p_values = table.groupby("group", sort=False)["p"]
        corrected = p_values.transform(lambda p: holm(p.to_numpy(float)))
        table.insert(list(table.columns).index("p") + 1, "p_holm", corrected)
        return table

    def classes(self) -> pd.DataFrame:
        """Return the recall of each class by each variant, the mean over the tested seeds.

        Returns:
            A row per tested variant, a column per class that has samples; fractions of 1.
        """
        import pandas as pd

        rows = []
        for (name, _), progress in self._progress().items():
            if progress.scores is not None:
                correct = pd.Series(progress.scores.correct)
                recalls = correct.groupby(progress.scores.labels).mean()
                rows.append({"variant": name, **recalls})
        table = pd.DataFrame(rows, columns=["variant", *range(self.store.num_classes)])
        means = table.groupby("variant", sort=False).mean().dropna(axis="columns", how="all")
        means = means.reindex([v.name for v in self.grid.variants if v.name in means.index])
        names = dict(enumerate(self.store.label_names))
        return means.rename(columns=names).rename_axis(columns="class")

    def _progress(self) -> dict[tuple[str, int], Progress]:
        return {run.key: read_progress(run, self.store) for run in self.planned}

    def _run_table(self, progress: Mapping[tuple[str, int], Progress]) -> pd.DataFrame:
        import pandas as pd

        changed = list(dict.fromkeys(key for variant in self.grid.variants for key in variant.set))
        rows = []
        for run in self.planned:
            now = progress[run.key]
            row: dict[str, Any] = {
                "variant": run.variant.name,
                "group": run.variant.group,
                "seed": run.seed,
                "state": now.state,
                "why": now.why,
                "top1": np.nan,
                "mean_class": np.nan,
                "samples": 0,
                **dict.fromkeys(_COSTS, np.nan),
                "epochs": now.epochs,
                "training_minutes": np.nan,
                "synthetic": self.store.synthetic,
                "recipe_hash": run.recipe.hash,
                "data_fingerprint": self.store.fingerprint,
            }
            if now.scores is not None:
                found = accuracies(now.scores)
                row |= {"top1": found["top1"], "mean_class": found["mean_class"]}
                row["samples"] = len(now.scores.ids)
            row |= _run_facts(run) if now.state in ("tested", "trained") else {}
            settings = {key.rpartition(".")[2]: get_setting(run.recipe, key) for key in changed}
            row |= {name: _cell(value) for name, value in settings.items() if name not in row}
            rows.append({**row, "folder": f"{run.path.parent.name}/{run.path.name}"})
        return pd.DataFrame(rows)


def _compare(variant: Variant, scores: Mapping[tuple[str, int], Scores]) -> dict[str, float]:
    """Return the difference to the compared variant, over the seeds of which both are tested."""
    names = ("difference", "difference_sd", "low", "high", "p")
    pairs = [
        (own, scores[str(variant.compare_with), seed])
        for (name, seed), own in scores.items()
        if name == variant.name and (str(variant.compare_with), seed) in scores
    ]
    if not pairs:
        return dict.fromkeys(names, np.nan)
    joined = align([own for own, _ in pairs] + [other for _, other in pairs])
    correct = np.stack([each.correct for each in joined])
    found = difference(correct[: len(pairs)], correct[len(pairs) :])
    values = (found.mean, found.sd, found.low, found.high, found.p_value)
    return dict(zip(names, values, strict=True))


def _run_facts(planned: PlannedRun) -> dict[str, Any]:
    """Return what the folder of a trained run says about its training."""
    run = open_run(planned.path)
    environment, path = run.environment, run.path / COST_FILE
    cost = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {
        "parameters": environment["parameters"],
        **{name: cost[name] for name in _COSTS if name in cost},
        "training_minutes": round(environment["seconds"] / 60, 2),
        "commit": environment["commit"] or "unknown",
        "date": environment["started"][:10],
        "device": environment["device"],
        "threads": environment["threads"],
    }


def _reasons(own: pd.DataFrame) -> str:
    """Return why runs of a variant are not tested, each reason once with its seeds."""
    untested = own[own["state"] != "tested"]
    texts = untested["why"].where(untested["why"] != "", untested["state"])
    return "; ".join(
        f"seed {', '.join(map(str, untested['seed'][texts == text]))}: {text}"
        for text in dict.fromkeys(texts)
    )


def _cell(value: Any) -> Any:
    """Return a value as a table cell: lists as text."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return value
