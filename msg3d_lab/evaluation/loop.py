"""Testing a run: class scores of every test sample, and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm.auto import tqdm

from msg3d_lab.data.batches.loader import prefetch
from msg3d_lab.data.store import Store
from msg3d_lab.evaluation.metrics import accuracies, calibration_error
from msg3d_lab.evaluation.parts import Parts
from msg3d_lab.evaluation.scores import Kind, Scores, write_scores
from msg3d_lab.evaluation.statistics import interval
from msg3d_lab.model import MSG3D
from msg3d_lab.model.predict import predict
from msg3d_lab.training.distributed.collectives import gather
from msg3d_lab.training.distributed.processes import launch
from msg3d_lab.training.runs import Run, open_run
from msg3d_lab.training.setup import build_test_batches, open_store_for

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["TestResult", "test"]


@dataclass(frozen=True)
class TestResult:
    """What a test found.

    Args:
        top1: share of samples whose highest score is the true class.
        top5: share with the true class among the five highest; None with five classes or fewer.
        mean_class: mean of the per-class accuracies.
        scores: the scores themselves.
        calibration_error: how far the network's confidence is from its accuracy, on average.
        interval: 95 % bootstrap interval of `top1` over samples; it knows nothing of other seeds.
    """

    __test__ = False  # not a test of pytest's

    top1: float
    top5: float | None
    mean_class: float
    scores: Scores
    calibration_error: float
    interval: tuple[float, float]


def test(
    run: Run | str | Path,
    *,
    data: Store | str | Path | None = None,
    num_clips: int | None = None,
    average: Kind = "softmax",
    split: str | None = None,
    batch_size: int = 16,
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    progress: bool = True,
    part_seconds: float = 20,
) -> TestResult:
    """Test a run on its recipe's test split and write `scores.parquet` into its folder.

    Under torchrun or srun the samples are shared out, each to one process; every process returns
    the whole result, the first writes.

    A test that is killed goes on where it was when it is started again, with as many processes as
    there are then: scores are kept in the run's folder (`testing-...`) until all are there. The
    result is that of an undisturbed test up to rounding, since batches hold other samples together.

    Args:
        run: a run or its folder.
        data: the store; the one the run was trained on if left out.
        num_clips: clips per sample; the recipe's `test_clips` if left out.
        average: what is averaged over a sample's clips, and kept: "softmax" scores (the field's
            usual choice) or "logits".
        split: another split than the recipe's test split; its scores are returned, not written.
        batch_size: clips at a time.
        device: "auto", "cpu", "cuda" or "mps".
        devices: processes per machine; what torchrun or srun started if left out, else one.
        num_nodes: machines, likewise.
        progress: whether to show a progress bar.
        part_seconds: how much of a test a kill may cost each process; 0 keeps every batch at once.

    Raises:
        FileNotFoundError: no run, no weights, or the store is gone.
        ValueError: the store does not fit the run; nothing that can be averaged; another number of
            processes runs than was asked for.

    Source: softmax averaged over test clips as in mmaction2 (`average_clips="prob"`); logits as in
        its `average_clips="score"`.
    """
    run = run if isinstance(run, Run) else open_run(run)
    if average not in ("softmax", "logits"):
        raise ValueError(f'expected average="softmax" or "logits", found {average!r}')
    recipe = run.recipe
    trained_on = run.environment["data"]
    store = open_store_for(recipe, data if data is not None else trained_on["path"])
    model = run.model()
    _check_fit(run, model, store)
    fabric = launch(device, devices=devices, num_nodes=num_nodes)
    model.to(fabric.device)
    clips = recipe.test_clips if num_clips is None else num_clips
    if clips < 1:
        raise ValueError(f"expected at least one clip per sample, found {clips}")
    where = split or recipe.data.test_split
    indices = store.indices(where)
    parts = Parts(
        run.path,
        weights=run.checkpoint,
        facts=(recipe.hash, store.fingerprint, where, clips, average),
        shape=(len(indices), store.num_classes),
        seconds=part_seconds,
    )
    batches = build_test_batches(
        recipe, store, indices, batch_size=max(1, batch_size // clips), num_clips=clips
    )
    values, known = _known(fabric, parts, shape=(len(indices), store.num_classes))
    left = np.flatnonzero(~known)
    batches.indices = indices[left[fabric.global_rank :: fabric.world_size]]
    mine = []
    before = f" ({known.sum()} of {len(known)} samples were done)" if known.any() else ""
    for logits, _, positions in tqdm(
        predict(model, prefetch(batches), device=fabric.device),
        total=len(batches),
        desc=f"testing {run.path.name}{before}",
        unit="batch",
        disable=not (progress and fabric.is_global_zero),
        dynamic_ncols=True,
    ):
        scored = torch.from_numpy(logits)
        scored = scored.softmax(-1) if average == "softmax" else scored
        rows = np.searchsorted(indices, positions)  # a split's positions ascend
        values[rows] = scored.mean(1).numpy()
        parts.add(rows, values[rows])
        mine.append(rows)
    _share(fabric, values, mine)
    scores = Scores(
        ids=tuple(store.ids[i] for i in indices),
        labels=store.labels[indices],
        values=values,
        label_names=tuple(store.label_names),
        facts={
            "dataset": store.dataset,
            "synthetic": store.synthetic,
            "split": where,
            "stream": recipe.data.stream,
            "kind": average,
            "num_clips": clips,
            "recipe": recipe.name,
            "recipe_hash": recipe.hash,
            "data_fingerprint": store.fingerprint,
            "trained_on": trained_on["fingerprint"],
        },
    )
    if fabric.is_global_zero:
        if where == recipe.data.test_split:
            write_scores(scores, run.scores_path, overwrite=True)
        parts.remove()
    shares = accuracies(scores)
    return TestResult(
        top1=shares["top1"],
        top5=shares.get("top5"),
        mean_class=shares["mean_class"],
        scores=scores,
        calibration_error=calibration_error(scores),
        interval=interval(scores.correct),
    )


def _check_fit(run: Run, model: MSG3D, store: Store) -> None:
    arguments = model.arguments
    if (store.num_classes, store.channels) != (arguments["num_classes"], arguments["in_channels"]):
        raise ValueError(
            f"{run.path} knows {arguments['num_classes']} classes and takes "
            f"{arguments['in_channels']} channels, but {store.path} has {store.num_classes} and "
            f"{store.channels}"
        )


def _known(
    fabric: Fabric, parts: Parts, *, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the table of scores with what earlier attempts found, and which rows these are.

    The first process's word counts: a file may show later on another machine. Its scores come with
    it, as machines need not share the disk.
    """
    values, known = np.zeros(shape, dtype=np.float32), np.zeros(shape[0], dtype=bool)
    if fabric.is_global_zero:
        for rows, found in parts.read():
            values[rows], known[rows] = found, True
    if fabric.world_size > 1:
        rows, found = gather(fabric, (np.flatnonzero(known), values[known]))[0]
        values[rows], known[rows] = found, True
    return values, known


def _share(fabric: Fabric, values: np.ndarray, mine: list[np.ndarray]) -> None:
    """Put every process's rows into every process's table."""
    if fabric.world_size == 1:
        return
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *mine])
    for others, found in gather(fabric, (rows, values[rows])):
        values[others] = found
