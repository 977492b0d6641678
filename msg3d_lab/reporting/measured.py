"""Measured results: those of run folders and of the table of recorded results, as data frames."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msg3d_lab.evaluation.fusion import fuse
from msg3d_lab.evaluation.metrics import accuracies
from msg3d_lab.evaluation.scores import Scores, align, read_run_scores
from msg3d_lab.evaluation.statistics import difference
from msg3d_lab.reporting.names import FUSIONS, STREAM_NAMES, input_name
from msg3d_lab.reporting.recorded import describe_devices, read_recorded
from msg3d_lab.training import recipes
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import Run

if TYPE_CHECKING:
    import pandas as pd


_LOG = logging.getLogger(__name__)

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
    "best_epoch",
    "seed",
    "recipe",
    "recipe_hash",
    "of_library",
    "sampling",
    "devices",
    "origin",
    "fingerprint",
    "checkpoint",
    "log",
    "from",
)


def find_runs(*folders: str | Path) -> list[Run]:
    """Return the tested runs below folders, sorted by path; none where a folder does not exist.

    Of two runs with the same recipe, seed, store and test clips the later one counts, of a run and
    its copy that of the first folder, and a run before its weights, tested again. The runs of an
    ablation (below a folder `ablations`) are left out; they have tables of their own. Unreadable
    folders are left out with a warning.
    """
    newest: dict[tuple[Any, ...], tuple[str, Run]] = {}
    tested = ((f, scores) for f in folders for scores in sorted(Path(f).rglob("scores.parquet")))
    for folder, scores in tested:
        run = Run(scores.parent)
        files = (run.path / "recipe.yaml", run.path / "environment.json")
        if "ablations" in scores.relative_to(folder).parts or not all(f.is_file() for f in files):
            continue
        try:
            key = _identity(run)
            started = str(run.environment.get("started", "")) if run.is_trained_here else ""
        except (ValueError, KeyError) as error:  # JSON's errors are ValueErrors
            _LOG.warning("%s is left out: %s", run.path, error)
            continue
        if key not in newest or newest[key][0] < started:
            newest[key] = (started, run)
    return sorted((run for _, run in newest.values()), key=lambda run: run.path)


def results_table(runs: Sequence[Run], *, scores: Sequence[Scores] | None = None) -> pd.DataFrame:
    """Return a row per tested run: what it is, and its accuracies in percent.

    Args:
        runs: the runs.
        scores: the scores of each. Default: their test scores.

    Raises:
        FileNotFoundError: a run has not been tested.
    """
    import pandas as pd

    rows = []
    each = [read_run_scores(run) for run in runs] if scores is None else scores
    for run, one in zip(runs, each, strict=True):
        found = accuracies(one)
        rows.append(
            {
                "run": run.path.name,
                "data": one.dataset,
                "split": one.facts["split"],
                "stream": one.facts["stream"],
                "clips": one.facts["num_clips"],
                "samples": len(one.ids),
                "top-1 %": round(100 * found["top1"], 2),
                "top-5 %": round(100 * found["top5"], 2) if "top5" in found else np.nan,
                "mean class %": round(100 * found["mean_class"], 2),
                "parameters": run.environment["parameters"],
                "training min": round(run.training_minutes, 1),
            }
        )
    return pd.DataFrame(rows).set_index("run")


def measured_results(
    runs: Sequence[Run] = (), *, recorded: str | Path | None = None
) -> pd.DataFrame:
    """Return a row per result: of runs, of their streams fused, and of recorded results.

    Streams are fused if they were trained by one recipe (except for the stream) with one seed, and
    tested alike: two streams 1 : 1, four 2 : 2 : 1 : 1, on softmax scores, as pyskl does.

    Args:
        runs: tested runs, see `find_runs`.
        recorded: a table that `record_result` wrote. Its rows count if no run stands for them.

    Returns:
        Columns dataset, synthetic, split ("xsub"), input, streams, top1 (percent), clips, average
        (of clips: "softmax" or "logits"), samples, best_epoch (percent: the highest test accuracy
        of any epoch in metrics.csv, which is what choosing the epoch by the test split would have
        given; nan where that is not known), seed, recipe, recipe_hash, of_library (whether
        it is the library's recipe, unchanged), sampling, devices, origin (which file the weights
        come from; "" for a training of ours), fingerprint (of the store), checkpoint, log, from
        ("run" or "table").

    Raises:
        ValueError: `recorded` lacks a column.
    """
    import pandas as pd

    scores = {run: read_run_scores(run) for run in runs}
    rows = [_run_row(run, found) for run, found in scores.items()]
    rows += _fused_rows(scores)
    if recorded is not None:
        rows += _recorded_rows(Path(recorded), rows)
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def runs_like(runs: Sequence[Run], recipe: Recipe | str) -> list[Run]:
    """Return the runs of a recipe's network and training, on any stream and with any seed.

    Args:
        runs: see `find_runs`.
        recipe: a recipe, the name of one, or the path of its YAML.
    """
    wanted = _without_stream(recipes.get(recipe))
    return [run for run in runs if _without_stream(run.recipe) == wanted]


def scores_by_seed(runs: Sequence[Run], streams: str) -> dict[int, Scores]:
    """Return the test scores of a stream, or of a fusion of streams, by seed.

    Args:
        runs: tested runs of one recipe on any streams, see `runs_like`.
        streams: a stream ("bone"), or a fusion by the name that tables give it ("two-stream",
            "four-stream").

    Returns:
        Seeds that lack a stream are left out.

    Raises:
        ValueError: unknown streams, or two runs of one stream and seed.
    """
    names = {shown: name for name, shown in STREAM_NAMES.items()}
    name = names.get(streams, streams)
    if name not in STREAM_NAMES:
        raise ValueError(f"unknown streams {streams!r}: expected one of {', '.join(names)}")
    weights = FUSIONS.get(name, {name: 1.0})
    by_seed: dict[int, dict[str, Scores]] = {}
    for run in runs:
        stream, seed = run.recipe.data.stream, run.recipe.training.seed
        if stream in by_seed.setdefault(seed, {}):
            raise ValueError(f"two runs of {stream} with seed {seed}: choose runs of one recipe")
        by_seed[seed][stream] = read_run_scores(run)
    return {
        seed: fuse([scores[stream] for stream in weights], weights=list(weights.values()))
        if len(weights) > 1
        else scores[name]
        for seed, scores in sorted(by_seed.items())
        if weights.keys() <= scores.keys()
    }


def stream_gains(runs: Sequence[Run]) -> pd.DataFrame:
    """Return what each fusion of streams adds, clip by clip and seed by seed (`difference`).

    Args:
        runs: tested runs of one recipe on several streams, see `runs_like`.

    Returns:
        A row per two sets of streams that were tested with the same seeds; columns streams, minus,
        seeds, points (mean over the seeds), low, high (its 95 % interval over clips and seeds),
        p_clips, p_seeds (nan with one seed).
    """
    import pandas as pd

    rows = []
    for one, other in itertools.combinations(("four-stream", "two-stream", "joint"), 2):
        first, second = scores_by_seed(runs, one), scores_by_seed(runs, other)
        seeds = sorted(first.keys() & second.keys())
        if not seeds:
            continue
        pairs = [align([first[seed], second[seed]]) for seed in seeds]
        found = difference(*([pair[i].correct for pair in pairs] for i in (0, 1)))
        percent = [100 * value for value in (found.mean, found.low, found.high)]
        rows.append([one, other, len(seeds), *percent, found.p_clips, found.p_seeds])
    columns = ["streams", "minus", "seeds", "points", "low", "high", "p_clips", "p_seeds"]
    return pd.DataFrame(rows, columns=columns)


def fusion_gain(first: Sequence[Run], second: Sequence[Run]) -> pd.DataFrame:
    """Return what fusing networks of two recipes gives, and fusing two seeds of the first one.

    Two networks are better than one whatever differs between them. A second recipe, such as one on
    clips in another preparation, is worth having only if it adds more than a second seed does.

    Args:
        first: tested runs of one recipe, on any streams, see `runs_like`.
        second: those of another recipe, tested on the same clips.

    Returns:
        A row per stream or fusion and seed that both have; columns streams, seed, and top-1 in
        percent of first, second, both (fused), and "two seeds" (of the first, fused; nan if there
        is one).
    """
    import pandas as pd

    rows = []
    for name in STREAM_NAMES.values():
        one, other = scores_by_seed(first, name), scores_by_seed(second, name)
        seeds = list(one)
        for i, seed in enumerate(seeds):
            if seed not in other:
                continue
            compared = {"first": one[seed], "second": other[seed]}
            compared["both"] = fuse([one[seed], other[seed]])
            if len(seeds) > 1:
                compared["two seeds"] = fuse([one[seed], one[seeds[i - 1]]])
            top1 = {key: 100 * float(found.correct.mean()) for key, found in compared.items()}
            rows.append({"streams": name, "seed": seed} | top1)
    columns = ["streams", "seed", "first", "second", "both", "two seeds"]
    return pd.DataFrame(rows, columns=columns)


def _identity(run: Run) -> tuple[Any, ...]:
    """Return what two runs of the same experiment have in common."""
    scores = read_run_scores(run)
    return (
        run.recipe.hash,
        run.recipe.training.seed,
        run.environment["data"]["fingerprint"],
        scores.facts["split"],
        scores.facts["num_clips"],
        scores.kind,
        _origin(run),
    )


def _origin(run: Run) -> str:
    """Return which file a run's weights come from; "" for a training.

    Two zoos have weights of one recipe, which are no two seeds of it. Those of a training of ours
    are no other result than it.
    """
    ours = run.is_trained_here or run.environment["weights"].get("of_its_recipe")
    return "" if ours else describe_devices(run.environment)


def _zoo(run: Run) -> str:
    """Return whose weights a run has, in a file for each stream; "" for a training."""
    name = run.environment["weights"]["name"] or "files" if _origin(run) else ""
    return str(name).partition("/")[0]


def _run_row(run: Run, scores: Scores) -> dict[str, Any]:
    recipe = run.recipe
    return {
        "dataset": scores.facts["dataset"],
        "synthetic": bool(scores.facts["synthetic"]),
        "split": str(scores.facts["split"]).removesuffix("_val"),
        "input": input_name(recipe.data.layout),
        "streams": recipe.data.stream,
        "top1": 100 * float(scores.correct.mean()),
        "clips": int(scores.facts["num_clips"]),
        "average": scores.kind,
        "samples": len(scores.ids),
        "best_epoch": _best_epoch(run),
        "seed": recipe.training.seed,
        "recipe": recipe.name,
        "recipe_hash": recipe.hash,
        "of_library": _is_of_library(recipe.name, recipe.hash),
        "sampling": f"{recipe.data.sampling} {recipe.data.clip_len}",
        "devices": describe_devices(run.environment),
        "origin": _origin(run),
        "fingerprint": str(scores.facts["data_fingerprint"]),
        "checkpoint": run.checkpoint.as_posix() if run.checkpoint.is_file() else "",
        "log": (run.path / "metrics.csv").as_posix() if run.is_trained_here else "",
        "from": "run",
    }


def _best_epoch(run: Run) -> float:
    """Return the highest test accuracy of any epoch; nan if the test split was not evaluated."""
    if not (run.path / "metrics.csv").is_file() or "test_top1" not in run.metrics:
        return np.nan
    return 100 * float(run.metrics["test_top1"].max())


def _fused_rows(scores: Mapping[Run, Scores]) -> list[dict[str, Any]]:
    by_stream: dict[tuple[Any, ...], dict[str, Run]] = {}
    for run, found in scores.items():
        key = (
            _without_stream(run.recipe),
            run.recipe.training.seed,
            found.facts["split"],
            found.facts["num_clips"],
            found.kind,
            found.facts["data_fingerprint"],
            _zoo(run),
        )
        by_stream.setdefault(key, {})[run.recipe.data.stream] = run
    rows = []
    for runs in by_stream.values():
        for name, weights in FUSIONS.items():
            if not weights.keys() <= runs.keys():
                continue
            parts = [runs[stream] for stream in weights]
            try:
                fused = fuse([scores[run] for run in parts], weights=list(weights.values()))
            except ValueError as error:
                paths = ", ".join(str(run.path) for run in parts)
                _LOG.warning("%s are not fused: %s", paths, error)
                continue
            each = [_run_row(run, scores[run]) for run in parts]
            rows.append(
                each[0]
                | {
                    "streams": name,
                    "top1": 100 * float(fused.correct.mean()),
                    "recipe": "+".join(row["recipe"] for row in each),
                    "recipe_hash": "+".join(row["recipe_hash"] for row in each),
                    "of_library": all(row["of_library"] for row in each),
                    "best_epoch": np.nan,  # the scores of other epochs are not kept
                    "checkpoint": "",
                    "log": "",
                }
            )
    return rows


def _without_stream(recipe: Recipe) -> str:
    """Return the settings that the recipes of all streams of one network share."""
    own: Any = {"name": True, "source": True, "data": {"stream"}, "training": {"seed"}}
    return json.dumps(recipe.model_dump(mode="json", exclude=own), sort_keys=True)


def _recorded_rows(path: Path, known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest row of each recorded result that is not among the known ones."""
    identity = ("recipe_hash", "seed", "split", "clips", "average", "origin")
    seen = {tuple(row[name] for name in identity) for row in known}
    newest = {}
    for record in read_recorded(path).to_dict("records"):
        row = _recorded_row({str(name): value for name, value in record.items()})
        key = tuple(row[name] for name in identity)
        if key not in seen:
            newest[key] = row
    return list(newest.values())


def _recorded_row(record: Mapping[str, str]) -> dict[str, Any]:
    name, samples = record["recipe"], int(record["samples"])
    of_library = _is_of_library(name, record["recipe_hash"])
    data = recipes.get(name).data if of_library else None
    return {
        "dataset": record["dataset"],
        "synthetic": record["synthetic"] == "True",
        "split": record["split"].removesuffix("_val"),
        "input": input_name(record["edge_set"].partition(" ")[0]),
        "streams": record["streams"],
        # The table has two decimals; the clips that were right are whole.
        "top1": 100 * round(float(record["top1_percent"]) * samples / 100) / samples,
        "clips": int(record["test_clips"]),
        "average": record["average"],
        "samples": samples,
        "best_epoch": np.nan,
        "seed": int(record["seed"]),
        "recipe": name,
        "recipe_hash": record["recipe_hash"],
        "of_library": of_library,
        "sampling": f"{data.sampling} {data.clip_len}" if data else "",
        "devices": record["device"],
        "origin": record["device"] if record["device"].startswith("weights ") else "",
        "fingerprint": record.get("data_fingerprint", ""),
        "checkpoint": "",
        "log": "",
        "from": "table",
    }


def _is_of_library(name: str, recipe_hash: str) -> bool:
    """Whether a recipe is the library's of that name, with no setting changed but the seed."""
    return name in recipes.names() and recipes.get(name).hash == recipe_hash
