"""Run folders that were never trained: whole files, made-up scores."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from msg3d_lab import MSG3D, save_model
from msg3d_lab.evaluation import Scores, write_scores
from msg3d_lab.training import recipes
from msg3d_lab.training.runs import create_run

NAMES = tuple(f"class {i}" for i in range(7))


def made_scores(*, right=0.8, count=50, seed=0, **facts):
    """Softmax scores, about a share `right` of them right; ids and labels are always the same."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % len(NAMES)
    said = np.where(rng.random(count) < right, labels, (labels + 1) % len(NAMES))
    logits = rng.normal(size=(count, len(NAMES)))
    logits[np.arange(count), said] += 4
    values = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    known = {"dataset": "ntu60", "synthetic": False, "split": "xsub_val", "stream": "joint"}
    known |= {"kind": "softmax", "num_clips": 10, "data_fingerprint": "f"}
    ids = tuple(f"S{i:03d}" for i in range(count))
    return Scores(ids, labels, values.astype(np.float32), NAMES, known | facts)


@cache
def _weights():
    tiny = {"base_channels": 6, "num_gcn_scales": 2, "num_g3d_scales": 2}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(MSG3D(num_classes=len(NAMES), **tiny).eval(), path)
        return path.read_bytes()


def made_run(
    path, name="ntu60-xsub-3d-joint", *, settings=(), started="2026-01-01T00:00:00", **options
):
    """A run folder of a recipe of the library, as `fit` and `test` leave one."""
    recipe = recipes.with_settings(recipes.get(name), settings)
    run = create_run(
        path,
        recipe,
        {
            "world_size": 8,
            "device": "cuda",
            "processor": "a processor",
            "threads": 4,
            "parameters": 123,
            "commit": "0123456789",
            "started": started,
            "seconds": 60.0,
            "precision": "32-true",
            "data": {"path": "nowhere.arrow", "fingerprint": "f"},
        },
    )
    run.checkpoint.write_bytes(_weights())
    run.write_metrics([{"epoch": 1, "test_top1": 0.5}])
    facts = {
        "dataset": recipe.data.dataset,
        "split": recipe.data.test_split,
        "stream": recipe.data.stream,
        "recipe": recipe.name,
        "recipe_hash": recipe.hash,
        "num_clips": recipe.test_clips,
        "synthetic": recipe.data.dataset == "synthetic",
    }
    write_scores(made_scores(**facts | options), run.scores_path)
    return run
