"""The progress bar of a training."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from tqdm.auto import tqdm

from msg3d_lab.training.recipes import Recipe

__all__ = ["Progress"]

log = logging.getLogger(__name__)


class Progress:
    """One bar over all epochs, so that its ETA is the run's.

    Args:
        recipe: what is trained.
        steps_per_epoch: steps in an epoch.
        done: steps done by an earlier process.
        enabled: whether a bar is shown; lines go to the log without one.
    """

    def __init__(self, recipe: Recipe, steps_per_epoch: int, *, done: int, enabled: bool) -> None:
        self._name, self._epochs = recipe.name, recipe.training.epochs
        self._watched = "val" if recipe.data.validation_subjects else "test"
        self._bar = tqdm(
            total=self._epochs * steps_per_epoch,
            initial=done,
            unit="step",
            disable=not enabled,
            dynamic_ncols=True,
            smoothing=0,  # the mean over the run, looks at the watched clips included
        )
        self.start_epoch(done // steps_per_epoch)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def say(self, line: str) -> None:
        """Leave a line above the bar, or in the log where no bar is shown."""
        if self._bar.disable:
            log.info(line)
        else:
            self._bar.write(line)

    def start_epoch(self, epoch: int) -> None:
        """Name the epoch; they are counted from 0 here and from 1 where people read."""
        if epoch < self._epochs:
            self._bar.set_description(f"{self._name} epoch {epoch + 1}/{self._epochs}")

    def step(self, sums: torch.Tensor, seen: int, *, seconds: float) -> None:
        """Count a step; numbers are read from the device only when the bar is drawn anyway.

        Args:
            sums: (2,), the epoch's losses and right answers so far.
            seen: clips so far.
            seconds: of the epoch so far.
        """
        if self._bar.update() and seen:
            loss, correct = (sums / seen).tolist()
            self._bar.set_postfix_str(
                f"loss {loss:.3f}, top-1 {100 * correct:.1f} %, {seen / seconds:.0f} clips/s"
            )

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Leave a line about the epoch above the bar."""
        top1 = row["val_top1"]
        watched = "" if math.isnan(top1) else f", {self._watched} {100 * top1:.1f} %"
        self.say(
            f"epoch {row['epoch']:3d}: loss {row['train_loss']:.3f}, "
            f"train {100 * row['train_top1']:.1f} %{watched}, {row['clips_per_s']:.0f} clips/s"
        )
