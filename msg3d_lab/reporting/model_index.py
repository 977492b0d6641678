"""Results as a `metafile.yml` in the model-index format, which mmaction2 and mim read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from msg3d_lab.evaluation.metrics import accuracies
from msg3d_lab.evaluation.scores import read_run_scores
from msg3d_lab.files import write_aside
from msg3d_lab.model.cost import network_cost
from msg3d_lab.reporting.names import data_name, input_name
from msg3d_lab.reporting.recorded import describe_devices
from msg3d_lab.training.runs import Run

_COLLECTION = {
    "Name": "MSG3D",
    "README": "README.md",
    "Paper": {
        "URL": "https://arxiv.org/abs/2003.14111",
        "Title": "Disentangling and Unifying Graph Convolutions for Skeleton-Based Action "
        "Recognition",
    },
}
_HEADER = """\
# In model-index format; made by `msg3d-lab results --metafile`, do not edit. Measured numbers only.
# FLOPs counts multiply-adds of one clip with all its persons.
"""


def build_model_index(runs: Sequence[Run], *, folder: str | Path = ".") -> dict[str, Any]:
    """Return the content of a metafile for tested runs.

    Recipe, log and weights are paths to the files of the run's folder. Generated data are called
    synthetic in the data set's name.

    Args:
        runs: tested runs, see `find_runs`.
        folder: the metafile's folder; paths are relative to it.

    Source: https://github.com/paperswithcode/model-index; the metafiles below mmaction2's
        configs/skeleton.
    """
    # Seeds cost the same, and counting takes seconds for a large network.
    macs = {key: _macs(run) for key, run in {r.recipe.hash: r for r in runs}.items()}
    models = [
        _model(run, name, Path(folder), macs=macs[run.recipe.hash])
        for run, name in zip(runs, _names(runs), strict=True)
    ]
    return {"Collections": [_COLLECTION], "Models": models}


def write_metafile(
    runs: Sequence[Run], path: str | Path = "metafile.yml", *, overwrite: bool = False
) -> Path:
    """Write the model index as YAML.

    Raises:
        FileExistsError: the file exists.
        ValueError: no runs.
    """
    path = Path(path)
    if not runs:
        raise ValueError(f"no tested runs, so there is nothing to write to {path}")
    with write_aside(path, overwrite=overwrite) as aside:
        content = build_model_index(runs, folder=path.parent)
        text = yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)
        aside.write_text(_HEADER + text, encoding="utf-8")
    return path


def _names(runs: Sequence[Run]) -> list[str]:
    """Return unique names: the recipe's, with seed, hash or clips where several runs share it."""
    names = [run.recipe.name for run in runs]
    facts = [read_run_scores(run).facts for run in runs]
    for more in (
        [f"seed{run.recipe.training.seed}" for run in runs],
        [run.recipe.hash for run in runs],
        [f"{own['num_clips']}clips-{own['kind']}" for own in facts],
        [str(own["data_fingerprint"]) for own in facts],
        [run.path.as_posix().replace("/", "-") for run in runs],
    ):
        counts = Counter(names)
        names = [
            f"{name}-{word}" if counts[name] > 1 else name
            for name, word in zip(names, more, strict=True)
        ]
    return names


def _model(run: Run, name: str, folder: Path, *, macs: str) -> dict[str, Any]:
    recipe, environment, scores = run.recipe, run.environment, read_run_scores(run)
    split = str(scores.facts["split"]).removesuffix("_val")
    data = data_name(
        str(scores.facts["dataset"]),
        split,
        input_name(recipe.data.layout),
        synthetic=bool(scores.facts["synthetic"]),
    )
    data = data.replace("X-", "X").replace(" ", "-")
    found = accuracies(scores)
    metrics = {"Top 1 Accuracy": _percent(found["top1"])}
    if "top5" in found:
        metrics["Top 5 Accuracy"] = _percent(found["top5"])
    metrics["Mean Class Accuracy"] = _percent(found["mean_class"])
    training = recipe.training
    return {
        "Name": name,
        "Config": _relative(run.path / "recipe.yaml", folder),
        "In Collection": "MSG3D",
        "Metadata": {
            "Architecture": "MSG3D",
            "Batch Size": training.batch_size,
            "Epochs": training.epochs * training.repeat,
            "FLOPs": macs,
            "Parameters": environment["parameters"],
            "Training Data": data,
            "Training Resources": describe_devices(environment),
            "Seed": training.seed,
            "Commit": environment["commit"] or "unknown",
            "Test Clips": scores.facts["num_clips"],
            "Clips Averaged": scores.kind,
        },
        "Modality": f"Skeleton, {recipe.data.stream.replace('_', ' ')}",
        "Results": [
            {"Task": "Skeleton-based Action Recognition", "Dataset": data, "Metrics": metrics}
        ],
        "Training Log": _relative(run.path / "metrics.csv", folder),
        "Weights": _relative(run.checkpoint, folder),
    }


def _macs(run: Run) -> str:
    """Return the multiply-adds of a clip, such as "1.23G"."""
    macs = network_cost(run.model(), clip_len=run.recipe.data.clip_len).macs
    return f"{macs / 1e9:.3g}G"


def _percent(fraction: float) -> float:
    return round(100 * fraction, 2)


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
