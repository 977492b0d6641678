"""The table of recorded results, `data/results.csv`: a row per tested run worth keeping."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msg3d_lab.evaluation.metrics import accuracies, calibration_error
from msg3d_lab.evaluation.scores import read_run_scores
from msg3d_lab.evaluation.statistics import accuracy_interval
from msg3d_lab.files import write_aside, write_json
from msg3d_lab.training.runs import Run

if TYPE_CHECKING:
    import pandas as pd


# The columns of the first version. Later ones are added at the end and are blank in older rows.
_REQUIRED = (
    "dataset",
    "synthetic",
    "split",
    "streams",
    "top1_percent",
    "test_clips",
    "samples",
    "recipe",
    "recipe_hash",
    "seed",
    "edge_set",
    "device",
    "date",
)
# Two rows with the same values here are the same result.
_IDENTITY = (
    "recipe_hash",
    "seed",
    "device",
    "commit",
    "data_fingerprint",
    "split",
    "test_clips",
    "average",
)


def record_result(run: Run, path: str | Path) -> pd.DataFrame:
    """Append a tested run to the table of recorded results; return the whole table.

    A table of an earlier version gets the columns it lacks; its rows are kept as they are. Means
    over seeds and fusions are never recorded: `measured_results` derives them from the rows.

    Args:
        run: a tested run.
        path: a CSV such as `data/results.csv`. Created if it does not exist.

    Raises:
        FileNotFoundError: the run has not been tested.
        ValueError: the table has this result already.
    """
    import pandas as pd

    row, path = _row(run), Path(path)
    table = pd.DataFrame([row])
    if path.exists():
        # As text: a hash of digits alone is not a number, and rows stay as they were written.
        before = pd.read_csv(path, dtype=str, keep_default_na=False)
        identity = _with_average(before)[list(_IDENTITY)]
        known = identity.eq([str(row[name]) for name in _IDENTITY]).all(axis=1).to_numpy()
        if known.any():
            raise ValueError(f"{path} has this result already, in row {known.argmax() + 1}")
        table = pd.concat([before, table.astype(str)], ignore_index=True)
    with write_aside(path, overwrite=True) as aside:
        table.to_csv(aside, index=False)
    return table


def keep_run(run: Run, folder: str | Path) -> Path:
    """Copy a tested run without its weights: recipe, facts, curves, test scores and importance.

    It is found as any tested run is, and its scores can be fused and compared; what needs weights
    is refused. A machine's paths are not copied.

    Args:
        run: a tested run.
        folder: such as `data/runs`; the copy is in RECIPE/seed-SEED.

    Raises:
        FileExistsError: a run of that recipe and seed is kept already.
        FileNotFoundError: the run has not been tested.
    """
    read_run_scores(run)
    environment = run.environment
    environment["data"]["path"] = Path(environment["data"]["path"]).name
    target = Path(folder) / run.recipe.name / f"seed-{run.recipe.training.seed}"
    with write_aside(target) as aside:
        aside.mkdir()
        write_json(aside / "environment.json", environment)
        for name in ("recipe.yaml", "metrics.csv", "scores.parquet", "importance-*.parquet"):
            for file in run.path.glob(name):
                shutil.copyfile(file, aside / file.name)
    return target


def read_recorded(path: str | Path) -> pd.DataFrame:
    """Read the table of recorded results as text, oldest first, with the column `average`.

    Raises:
        ValueError: a column is missing.
    """
    import pandas as pd

    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [name for name in _REQUIRED if name not in table]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}: `msg3d-lab record` writes such tables"
        )
    return _with_average(table).sort_values("date", kind="stable")


def describe_devices(environment: Mapping[str, Any]) -> str:
    """Return in words what a run was trained on, or which file it was made of."""
    if "weights" in environment:
        origin = environment["weights"]
        return f"weights {origin['name'] or origin['file']}, sha256 {origin['sha256'][:8]}"
    threads = environment["threads"]
    return (
        f"{environment['world_size']} x {environment['device']}, {environment['processor']}, "
        f"{threads} thread{'s' if threads != 1 else ''}"
    )


def _row(run: Run) -> dict[str, Any]:
    scores, environment, recipe = read_run_scores(run), run.environment, run.recipe
    percent = {name: round(100 * value, 2) for name, value in accuracies(scores).items()}
    low, high = accuracy_interval(scores.correct)
    return {
        "dataset": scores.facts["dataset"],
        "synthetic": scores.facts["synthetic"],
        "split": scores.facts["split"],
        "streams": scores.facts["stream"],
        "top1_percent": percent["top1"],
        "top5_percent": percent.get("top5", ""),
        "mean_class_percent": percent["mean_class"],
        "test_clips": scores.facts["num_clips"],
        "samples": len(scores.ids),
        "recipe": recipe.name,
        "recipe_hash": recipe.hash,
        "seed": recipe.training.seed,
        "edge_set": run.model().skeleton.label,
        "normalization": recipe.model.normalization,
        "parameters": environment["parameters"],
        "device": describe_devices(environment),
        "training_minutes": round(run.training_minutes, 1),
        "data_fingerprint": scores.facts["data_fingerprint"],
        "commit": environment["commit"] or "unknown",
        "date": environment["started"][:10],
        "average": scores.kind,
        "top1_low_percent": round(100 * low, 2),
        "top1_high_percent": round(100 * high, 2),
        "calibration_error_percent": round(100 * calibration_error(scores), 2),
        "precision": environment["precision"],
    }


def _with_average(table: pd.DataFrame) -> pd.DataFrame:
    """Fill in what is averaged over clips: earlier versions averaged softmax scores only."""
    average = table["average"] if "average" in table else np.full(len(table), "")
    return table.assign(average=np.where(average == "", "softmax", average))
