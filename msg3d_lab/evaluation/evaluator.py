"""Evaluate a run: the class scores of every sample of a split, and their accuracies."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm.auto import tqdm

from msg3d_lab.data.batches.loader import prefetch
from msg3d_lab.data.store import Store
from msg3d_lab.evaluation.metrics import accuracies, calibration_error
from msg3d_lab.evaluation.partial_scores import PartialScores
from msg3d_lab.evaluation.scores import Kind, Scores, write_scores
from msg3d_lab.evaluation.statistics import accuracy_interval
from msg3d_lab.model.prediction import predict
from msg3d_lab.training.distributed.collectives import gather
from msg3d_lab.training.distributed.processes import launch
from msg3d_lab.training.matching.tested_store import MatchedStore, open_matching_store
from msg3d_lab.training.runs import Run, open_run
from msg3d_lab.training.setup import build_test_batches
from msg3d_lab.training.signals import say_when_interrupted, stop_signal

if TYPE_CHECKING:
    from lightning_fabric import Fabric


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationResult:
    """The scores of a split and their accuracies, as fractions of 1.

    Args:
        top1: fraction of samples whose highest score is the true class.
        top5: fraction with the true class among the five highest; None with five classes or fewer.
        mean_class: mean of the per-class accuracies.
        scores: the scores.
        calibration_error: expected calibration error, see `metrics.calibration_error`.
        interval: 95 % interval of `top1` over samples. It says nothing about other seeds.
        path: where the scores were written; None if they were not.
        tested: the store, and whether it is the one that the run was trained on.
    """

    top1: float
    top5: float | None
    mean_class: float
    scores: Scores
    calibration_error: float
    interval: tuple[float, float]
    path: Path | None
    tested: MatchedStore


@say_when_interrupted("stopped: the same call goes on")
def evaluate(
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
    save_seconds: float = 20,
) -> EvaluationResult:
    """Score the test split of a run's recipe and write `scores.parquet` into the run's folder.

    Under torchrun or srun each sample is scored by one process. Every process returns the whole
    result; the first one writes.

    A killed evaluation continues when it is started again, with any number of processes: the run's
    folder keeps partial scores (`testing-...`) until all samples are scored. The result equals that
    of an undisturbed evaluation up to rounding, since the batches hold other samples together.

    Another store than the run's must have its joints, preparation and class names (in any order,
    which is logged). It needs the tested split only. Its scores are no result of the run: they are
    written beside, as `scores-STORE.parquet`.

    Args:
        data: the store. Default: the one the run was trained on.
        num_clips: clips per sample. Default: the recipe's `test_clips`.
        average: what is averaged over a sample's clips: "softmax" scores (the field's usual choice)
            or "logits".
        split: the split to score. Default: the recipe's test split. Scores of another split are
            returned and not written.
        batch_size: clips per forward pass.
        device: "auto", "cpu", "cuda" or "mps".
        devices: processes per machine. Default: what torchrun or srun started, else one.
        num_nodes: machines. Default: as for `devices`.
        save_seconds: seconds between two saves of partial scores; 0 saves after every batch.

    Raises:
        FileNotFoundError: no run, no weights or no store.
        Requeue: SIGTERM; what is scored is saved first.
        Stopped: Ctrl-C, likewise.
        ValueError: the store does not fit the run, see `open_matching_store`; an unknown `average`;
            the number of running processes differs from `devices` and `num_nodes`.

    Source: softmax averaged over test clips as in mmaction2 (`average_clips="prob"`); logits as in
        its `average_clips="score"`.
    """
    run = run if isinstance(run, Run) else open_run(run)
    if average not in ("softmax", "logits"):
        raise ValueError(f'expected average="softmax" or "logits", found {average!r}')
    recipe = run.recipe
    num_clips = recipe.test_clips if num_clips is None else num_clips
    if num_clips < 1:
        raise ValueError(f"expected at least one clip per sample, found {num_clips}")
    split = split or recipe.data.test_split
    tested = open_matching_store(run, data, split=split)
    store, model = tested.store, run.model()
    fabric = launch(device, devices=devices, num_nodes=num_nodes)
    for note in tested.notes if fabric.is_global_zero else ():
        _LOG.warning(note)
    model.to(fabric.device)

    indices = store.indices(split)
    values = np.zeros((len(indices), store.num_classes), dtype=np.float32)
    partial = PartialScores(
        run.path,
        weights=run.checkpoint,
        facts=(recipe.hash, store.fingerprint, split, num_clips, average),
        shape=values.shape,
        seconds=save_seconds,
    )
    done = _load_partial(fabric, partial, values)
    left = np.flatnonzero(~done)
    batches = build_test_batches(
        recipe, store, indices, batch_size=max(1, batch_size // num_clips), num_clips=num_clips
    )
    batches.indices = indices[left[fabric.global_rank :: fabric.world_size]]
    resumed = f" ({done.sum()} of {len(done)} samples were done)" if done.any() else ""
    scored = [np.zeros(0, dtype=np.int64)]
    with stop_signal() as stop:
        for logits, _, positions in tqdm(
            predict(model, prefetch(batches), device=fabric.device),
            total=len(batches),
            desc=f"testing {run.path.name}{resumed}",
            unit="batch",
            disable=not (progress and fabric.is_global_zero),
            dynamic_ncols=True,
        ):
            clips = torch.from_numpy(logits)
            clips = clips.softmax(-1) if average == "softmax" else clips
            rows = np.searchsorted(indices, positions)  # the positions of a split ascend
            values[rows] = clips.mean(1).numpy()
            partial.add(rows, values[rows])
            scored.append(rows)
            if stop.is_set():
                partial.save()
                raise stop.error(
                    f"stopped: {done.sum() + sum(map(len, scored))} of {len(done)} samples are "
                    "scored; the same call goes on"
                )
    if fabric.world_size > 1:
        own = np.concatenate(scored)
        for rows, found in gather(fabric, (own, values[own])):
            values[rows] = found

    environment = run.environment
    scores = Scores(
        ids=tuple(store.ids[i] for i in indices),
        labels=store.labels[indices],
        values=values,
        label_names=tuple(store.label_names),
        facts={
            "dataset": store.dataset,
            "synthetic": store.synthetic,
            "split": split,
            "stream": recipe.data.stream,
            "kind": average,
            "num_clips": num_clips,
            "recipe": recipe.name,
            "recipe_hash": recipe.hash,
            "data_fingerprint": store.fingerprint,
            "trained_on": environment["data"].get("fingerprint") if run.is_trained_here else None,
        },
    )
    path = None
    if split == recipe.data.test_split:
        path = run.scores_path.with_stem(run.scores_path.stem + tested.suffix)
    if fabric.is_global_zero:
        if path is not None:
            write_scores(scores, path, overwrite=True)
            _remember_store(run, tested)
        partial.remove()
    found = accuracies(scores)
    return EvaluationResult(
        top1=found["top1"],
        top5=found.get("top5"),
        mean_class=found["mean_class"],
        scores=scores,
        calibration_error=calibration_error(scores),
        interval=accuracy_interval(scores.correct),
        path=path,
        tested=tested,
    )


def _remember_store(run: Run, tested: MatchedStore) -> None:
    """Record the store that a run made of a checkpoint was first tested on as its own."""
    environment = run.environment
    if tested.is_own and environment["data"].get("fingerprint") is None:
        own = {"path": str(tested.store.path), "fingerprint": tested.store.fingerprint}
        run.write_environment({**environment, "data": {**environment["data"], **own}})


def _load_partial(fabric: Fabric, partial: PartialScores, values: np.ndarray) -> np.ndarray:
    """Fill `values` with saved partial scores and return (samples,) bool, which rows are filled.

    The first process reads the files and sends the scores to the others, because machines need not
    share a disk.
    """
    done = np.zeros(len(values), dtype=bool)
    if fabric.is_global_zero:
        for rows, found in partial.read():
            values[rows], done[rows] = found, True
    if fabric.world_size > 1:
        rows, found = gather(fabric, (np.flatnonzero(done), values[done]))[0]
        values[rows], done[rows] = found, True
    return done
