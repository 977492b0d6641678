"""Testing a run: class scores of every test sample, and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from msg3d_lab.data.loader import prefetch
from msg3d_lab.data.store import Store
from msg3d_lab.evaluation.metrics import accuracies
from msg3d_lab.evaluation.scores import Scores, write_scores
from msg3d_lab.model.predict import predict
from msg3d_lab.training.processes import gather, launch
from msg3d_lab.training.runs import Run, open_run
from msg3d_lab.training.setup import open_store_of, test_batches_of

__all__ = ["TestResult", "test"]


@dataclass(frozen=True)
class TestResult:
    """What a test found.

    Args:
        top1: share of samples whose highest score is the true class.
        top5: share with the true class among the five highest; None with five classes or fewer.
        mean_class: mean of the per-class accuracies.
        scores: the scores themselves.
    """

    __test__ = False  # not a test of pytest's

    top1: float
    top5: float | None
    mean_class: float
    scores: Scores


def test(
    run: Run | str | Path,
    *,
    data: Store | str | Path | None = None,
    num_clips: int | None = None,
    split: str | None = None,
    batch_size: int = 16,
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    progress: bool = True,
) -> TestResult:
    """Test a run on its recipe's test split and write `scores.parquet` into its folder.

    Softmax scores are averaged over a sample's clips. Under torchrun or srun the samples are
    shared out, each to one process; every process returns the whole result, the first writes.

    Args:
        run: a run or its folder.
        data: the store; the one the run was trained on if left out.
        num_clips: clips per sample; the recipe's `test_clips` if left out.
        split: another split than the recipe's test split; its scores are returned, not written.
        batch_size: clips at a time.
        device: "auto", "cpu", "cuda" or "mps".
        devices: processes per machine; what torchrun or srun started if left out, else one.
        num_nodes: machines, likewise.
        progress: whether to show a progress bar.

    Raises:
        FileNotFoundError: no run, no weights, or the store is gone.
        ValueError: the store does not fit the run; another number of processes runs than was asked
            for.

    Source: softmax averaged over test clips as in mmaction2 (`average_clips="prob"`).
    """
    run = run if isinstance(run, Run) else open_run(run)
    recipe = run.recipe
    trained_on = run.environment["data"]
    store = open_store_of(recipe, data if data is not None else trained_on["path"])
    model = run.model()
    arguments = model.arguments
    if (store.num_classes, store.channels) != (arguments["num_classes"], arguments["in_channels"]):
        raise ValueError(
            f"{run.path} knows {arguments['num_classes']} classes and takes "
            f"{arguments['in_channels']} channels, but {store.path} has {store.num_classes} and "
            f"{store.channels}"
        )
    fabric = launch(device, devices=devices, num_nodes=num_nodes)
    model.to(fabric.device)
    clips = recipe.test_clips if num_clips is None else num_clips
    if clips < 1:
        raise ValueError(f"expected at least one clip per sample, found {clips}")
    batches = test_batches_of(
        recipe,
        store,
        batch_size=max(1, batch_size // clips),
        num_clips=clips,
        split=split,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    found: dict[int, np.ndarray] = {}
    for logits, _, where in tqdm(
        predict(model, prefetch(batches), device=fabric.device),
        total=len(batches),
        desc=f"testing {run.path.name}",
        unit="batch",
        disable=not (progress and fabric.is_global_zero),
        dynamic_ncols=True,
    ):
        softmax = torch.from_numpy(logits).softmax(-1).mean(1).numpy()
        found.update(zip(where.tolist(), softmax, strict=True))
    for others in gather(fabric, found):
        found.update(others)
    indices = store.indices(split or recipe.data.test_split)
    scores = Scores(
        ids=tuple(store.ids[i] for i in indices),
        labels=store.labels[indices],
        values=np.stack([found[i] for i in indices.tolist()]),
        label_names=tuple(store.label_names),
        facts={
            "dataset": store.dataset,
            "synthetic": store.synthetic,
            "split": split or recipe.data.test_split,
            "stream": recipe.data.stream,
            "kind": "softmax",
            "num_clips": clips,
            "recipe": recipe.name,
            "recipe_hash": recipe.hash,
            "data_fingerprint": store.fingerprint,
            "trained_on": trained_on["fingerprint"],
        },
    )
    if fabric.is_global_zero and split in (None, recipe.data.test_split):
        write_scores(scores, run.scores_path, overwrite=True)
    shares = accuracies(scores)
    return TestResult(
        top1=shares["top1"],
        top5=shares.get("top5"),
        mean_class=shares["mean_class"],
        scores=scores,
    )
