"""The progress bar of a training."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from tqdm.auto import tqdm

from msg3d_lab.training.recipes import Recipe

log = logging.getLogger(__name__)


class Progress:
    """One bar over all epochs, so that its ETA is the run's; not enabled, lines go to the log."""

    def __init__(self, recipe: Recipe, steps_per_epoch: int, *, done: int, enabled: bool) -> None:
        self._name, self._epochs = recipe.name, recipe.training.epochs
        self._held_out = recipe.held_out
        self._bar = tqdm(
            total=self._epochs * steps_per_epoch,
            initial=done,
            unit="step",
            disable=not enabled,
            dynamic_ncols=True,
            smoothing=0,  # the mean over the run, evaluations included
        )
        self.start_epoch(done // steps_per_epoch)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def say(self, line: str) -> None:
        """Print a line above the bar, or log it where no bar is shown."""
        if self._bar.disable:
            log.info(line)
        else:
            self._bar.write(line)

    def start_epoch(self, epoch: int) -> None:
        """Show the epoch, which is counted from 0 here and from 1 on the screen."""
        if epoch < self._epochs:
            self._bar.set_description(f"{self._name} epoch {epoch + 1}/{self._epochs}")

    def step(self, sums: torch.Tensor, seen: int, *, seconds: float) -> None:
        """Count a step. Sums, clips and seconds are those of the epoch so far.

        Numbers are read from the device only when the bar is drawn.
        """
        if self._bar.update() and seen:
            loss, correct = (sums / seen).tolist()
            self._bar.set_postfix_str(
                f"loss {loss:.3f}, top-1 {100 * correct:.1f} %, {seen / seconds:.0f} clips/s"
            )

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Print a line about the epoch above the bar."""
        top1 = row[f"{self._held_out}_top1"]
        evaluated = "" if math.isnan(top1) else f", {self._held_out} {100 * top1:.1f} %"
        self.say(
            f"epoch {row['epoch']:3d}: loss {row['train_loss']:.3f}, "
            f"train {100 * row['train_top1']:.1f} %{evaluated}, {row['clips_per_s']:.0f} clips/s"
        )
