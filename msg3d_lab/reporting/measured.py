"""What has been measured: run folders and the table of kept results, as one data frame."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msg3d_lab.evaluation.fusion import STREAM_WEIGHTS, fuse
from msg3d_lab.evaluation.scores import Scores, read_scores
from msg3d_lab.training import recipes
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import Run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FUSIONS", "devices_of", "find_runs", "input_of", "measured", "spread"]

log = logging.getLogger(__name__)

# How fused rows are named, as in data/published.csv, and the weights of their streams.
FUSIONS: Mapping[str, Mapping[str, float]] = {
    "joint+bone": {"joint": 1.0, "bone": 1.0},
    "2 joint+2 bone+joint_motion+bone_motion": STREAM_WEIGHTS,
}
_INPUTS = {"ntu25": "3D", "nw-ucla20": "3D", "coco17": "2D (HRNet, coco17)"}
_INPUTS["openpose18"] = "2D (OpenPose, openpose18)"
_COLUMNS = (
    "dataset",
    "synthetic",
    "split",
    "input",
    "streams",
    "top1",
    "clips",
    "average",
    "samples",
    "seed",
    "recipe",
    "recipe_hash",
    "of_library",
    "sampling",
    "devices",
    "checkpoint",
    "log",
    "from",
)


def find_runs(folder: str | Path) -> list[Run]:
    """Return the tested runs below a folder, by path; none if it does not exist.

    Of a training that has been done twice (recipe, seed, store, test clips), the later one counts.
    The runs of an ablation (folder `ablations`) have tables of their own and are left out, and so
    is what cannot be read, with a warning.
    """
    root = Path(folder)
    newest: dict[tuple[Any, ...], tuple[str, Run]] = {}
    for file in sorted(root.rglob("scores.parquet")):
        run = Run(file.parent)
        files = (run.path / "recipe.yaml", run.path / "environment.json", run.checkpoint)
        if "ablations" in file.relative_to(root).parts or not all(f.is_file() for f in files):
            continue
        try:
            key, started = _training(run), str(run.environment.get("started", ""))
        except (ValueError, KeyError) as error:  # JSON's errors are ValueErrors
            log.warning("%s is left out: %s", run.path, error)
            continue
        if key not in newest or newest[key][0] < started:
            newest[key] = (started, run)
    return sorted((run for _, run in newest.values()), key=lambda run: run.path)


def _training(run: Run) -> tuple[Any, ...]:
    """What makes a result the same, were it measured again."""
    scores = read_scores(run.scores_path)
    return (
        run.recipe.hash,
        run.recipe.training.seed,
        run.environment["data"]["fingerprint"],
        scores.facts["split"],
        scores.facts["num_clips"],
        scores.kind,
    )


def measured(runs: Sequence[Run] = (), *, recorded: str | Path | None = None) -> pd.DataFrame:
    """Return a row per result: of runs, of their streams fused, and of the table of kept results.

    Streams are fused where all of them were trained by one recipe, but for the stream, with one
    seed, and tested alike: two streams 1 : 1, four 2 : 2 : 1 : 1, on softmax scores, as pyskl does.

    Args:
        runs: tested runs, see `find_runs`.
        recorded: a table that `record_result` wrote; its rows count where there is no run folder.

    Returns:
        Columns dataset, synthetic, split ("xsub"), input, streams, top1 (percent), clips, average
        (of clips: "softmax" or "logits"), samples, seed, recipe, recipe_hash, of_library (whether
        the recipe is the library's, unchanged), sampling, devices, checkpoint, log, from ("run" or
        "table").

    Raises:
        ValueError: `recorded` lacks a column.
    """
    import pandas as pd

    scores = {run: read_scores(run.scores_path) for run in runs}
    rows = [_row_of_run(run, found) for run, found in scores.items()]
    rows += _fused_rows(scores)
    if recorded is not None:
        rows += _recorded_rows(Path(recorded), rows)
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def input_of(layout: str) -> str:
    """Return what a network of a joint layout is shown, as in data/published.csv."""
    kind = _INPUTS.get(layout, layout)
    return f"{kind} ({layout})" if kind == "3D" else kind


def devices_of(environment: Mapping[str, Any]) -> str:
    """Return what a run was trained on, in words."""
    return (
        f"{environment['world_size']} x {environment['device']}, {environment['processor']}, "
        f"{environment['threads']} thread{'s' if environment['threads'] != 1 else ''}"
    )


def _row_of_run(run: Run, scores: Scores) -> dict[str, Any]:
    recipe = run.recipe
    right = scores.correct
    return {
        "dataset": scores.facts["dataset"],
        "synthetic": bool(scores.facts["synthetic"]),
        "split": str(scores.facts["split"]).removesuffix("_val"),
        "input": input_of(recipe.data.layout),
        "streams": recipe.data.stream,
        "top1": 100 * float(right.mean()),
        "clips": int(scores.facts["num_clips"]),
        "average": scores.kind,
        "samples": len(right),
        "seed": recipe.training.seed,
        "recipe": recipe.name,
        "recipe_hash": recipe.hash,
        "of_library": _of_library(recipe.name, recipe.hash),
        "sampling": f"{recipe.data.sampling} {recipe.data.clip_len}",
        "devices": devices_of(run.environment),
        "checkpoint": run.checkpoint.as_posix(),
        "log": (run.path / "metrics.csv").as_posix(),
        "from": "run",
    }


def _fused_rows(scores: Mapping[Run, Scores]) -> list[dict[str, Any]]:
    """Rows for streams that can be fused."""
    together: dict[tuple[Any, ...], dict[str, Run]] = {}
    for run, found in scores.items():
        key = (
            _family(run.recipe),
            run.recipe.training.seed,
            found.facts["split"],
            found.facts["num_clips"],
            found.kind,
        )
        together.setdefault(key, {})[run.recipe.data.stream] = run
    rows = []
    for runs in together.values():
        for name, weights in FUSIONS.items():
            if not set(weights) <= set(runs):
                continue
            parts = [runs[stream] for stream in weights]
            try:
                fused = fuse([scores[run] for run in parts], weights=list(weights.values()))
            except ValueError as error:
                paths = ", ".join(str(run.path) for run in parts)
                log.warning("%s are not fused: %s", paths, error)
                continue
            each = [_row_of_run(run, scores[run]) for run in parts]
            rows.append(
                each[0]
                | {
                    "streams": name,
                    "top1": 100 * float(fused.correct.mean()),
                    "recipe": "+".join(row["recipe"] for row in each),
                    "recipe_hash": "+".join(row["recipe_hash"] for row in each),
                    "of_library": all(row["of_library"] for row in each),
                    "checkpoint": "",
                    "log": "",
                }
            )
    return rows


def _family(recipe: Recipe) -> str:
    """What the recipes of one network's streams have in common."""
    own: Any = {"name": True, "source": True, "data": {"stream"}, "training": {"seed"}}
    return json.dumps(recipe.model_dump(mode="json", exclude=own), sort_keys=True)


def _recorded_rows(path: Path, known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the table of kept results that no run folder stands for."""
    import pandas as pd

    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    wanted = ["dataset", "synthetic", "split", "streams", "top1_percent", "test_clips", "samples"]
    wanted += ["recipe", "recipe_hash", "seed", "edge_set", "device", "date"]
    missing = [name for name in wanted if name not in table]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}: is it one of `record`?")
    same = ("recipe_hash", "seed", "split", "clips", "average")
    seen = {tuple(str(row[name]) for name in same) for row in known}
    newest: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in table.sort_values("date", kind="stable").to_dict("records"):
        split = row["split"].removesuffix("_val")
        average = row.get("average") or "softmax"
        key = (row["recipe_hash"], row["seed"], split, row["test_clips"], average)
        if key not in seen:
            newest[key] = {str(name): value for name, value in row.items()} | {"split": split}
    return [_row_of_table(row) for row in newest.values()]


def _row_of_table(row: Mapping[str, str]) -> dict[str, Any]:
    name = row["recipe"]
    of_library = _of_library(name, row["recipe_hash"])
    data = recipes.get(name).data if of_library else None
    return {
        "dataset": row["dataset"],
        "synthetic": row["synthetic"] == "True",
        "split": row["split"],
        "input": input_of(row["edge_set"].partition(" ")[0]),
        "streams": row["streams"],
        "top1": float(row["top1_percent"]),
        "clips": int(row["test_clips"]),
        "average": row.get("average") or "softmax",
        "samples": int(row["samples"]),
        "seed": int(row["seed"]),
        "recipe": name,
        "recipe_hash": row["recipe_hash"],
        "of_library": of_library,
        "sampling": f"{data.sampling} {data.clip_len}" if data else "",
        "devices": row["device"],
        "checkpoint": "",
        "log": "",
        "from": "table",
    }


def _of_library(name: str, recipe_hash: str) -> bool:
    """Whether a recipe is the library's of that name, with no setting changed but the seed."""
    return name in recipes.names() and recipes.get(name).hash == recipe_hash


def spread(values: Sequence[float]) -> float:
    """The standard deviation of a sample; not a number for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
