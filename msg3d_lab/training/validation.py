"""Validation: which clips it has, and loss and accuracy on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from msg3d_lab.data.batches.loader import TestBatches, prefetch
from msg3d_lab.data.store import Store
from msg3d_lab.model.prediction import predict
from msg3d_lab.training.distributed.collectives import sum_over_processes
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.settings import Training

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def is_validated(epoch: int, settings: Training) -> bool:
    """Return whether the held-out clips are evaluated after an epoch, counted from 0."""
    every = settings.validate_every
    return epoch + 1 == settings.epochs or (every > 0 and (epoch + 1) % every == 0)


def validate(
    net: nn.Module,
    batches: TestBatches,
    *,
    fabric: Fabric,
    after_batch: Callable[[], None] = lambda: None,
) -> tuple[float, float]:
    """Return the loss and the top-1 accuracy on held-out clips, over all processes.

    Args:
        net: the bare network: under DDP every forward pass would wait for the other processes,
            which may have a batch more or less. It is left in eval mode.
        batches: this process's clips.
    """
    if fabric.world_size > 1:
        for buffer in net.buffers():  # as DDP does: the running statistics of the first process
            torch.distributed.broadcast(buffer, 0)
    net.eval()
    loss_sum = correct = seen = 0.0
    for logits, labels, _ in predict_batches(net, batches, fabric=fabric):
        scores, targets = torch.from_numpy(logits[:, 0]), torch.from_numpy(labels)
        loss_sum += F.cross_entropy(scores, targets, reduction="sum").item()
        correct += (scores.argmax(1) == targets).sum().item()
        seen += len(labels)
        after_batch()
    loss_sum, correct, seen = sum_over_processes(fabric, [loss_sum, correct, seen])
    return loss_sum / seen, correct / seen


def predict_batches(
    net: nn.Module, batches: TestBatches, *, fabric: Fabric
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield `predict`'s results in the precision of training; batches are loaded meanwhile."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        with fabric.autocast():
            return net(x)

    return predict(forward, prefetch(batches), device=fabric.device)


def split_validation(store: Store, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Divide a recipe's training split into clips to train on and the validation part.

    They are divided by subject, because clips of one person resemble each other: a part drawn at
    random would be easier than the test split. The best epoch and early stopping are decided on the
    validation part, never on test data.

    Returns:
        Positions in the store, ascending, int64: of the clips to train on, and of the validation
        part. Together they are the training split.

    Raises:
        ValueError: no such split; a subject that is not in it; clips whose subject is unknown; no
            clips left to train on.
    """
    split, wanted = recipe.data.train_split, recipe.data.validation_subjects
    indices = store.indices(split)
    if not wanted:
        return indices, indices[:0]
    subjects = store.samples["subject"].iloc[indices]
    unknown = int(subjects.isna().sum())
    if unknown:
        some = "none" if unknown == len(indices) else f"only {len(indices) - unknown}"
        raise ValueError(
            f"validation_subjects={list(wanted)} needs the subject of every training clip, but "
            f"{some} of the {len(indices)} clips in {split} of {store.path.name} have one: import "
            "the data set with subjects, or set validation_subjects=[]"
        )
    numbers = subjects.to_numpy(dtype=np.int64)
    present = np.unique(numbers).tolist()
    missing = sorted(set(wanted) - set(present))
    if missing:
        raise ValueError(
            f"validation_subjects={list(wanted)}: {split} of {store.path.name} has no clips of "
            f"{', '.join(map(str, missing))}; expected some of {', '.join(map(str, present))}"
        )
    held_back = np.isin(numbers, wanted)
    if held_back.all():
        raise ValueError(
            f"validation_subjects={list(wanted)} are all subjects of {split} of {store.path.name}: "
            "leave some to train on"
        )
    return indices[~held_back], indices[held_back]
