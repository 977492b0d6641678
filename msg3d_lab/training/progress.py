"""The progress of a training: a bar, and for readers outside progress.json and training.log."""

from __future__ import annotations

import logging
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from msg3d_lab.files import write_json
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import LOG, PROGRESS
from msg3d_lab.training.state import TrainState

log = logging.getLogger(__name__)

SECONDS = 2.0  # between two reports within an epoch: reading a GPU's sums waits for the GPU


class Progress:
    """One bar over all epochs, so that its ETA is the run's; not enabled, lines go to the log.

    In the run's folder progress.json says where training is, until it has finished: `step` of
    `steps`, `first_step` of this sitting, the row of `TrainState.so_far`, `started` and `time`
    (seconds since 1970).
    What is said is also in training.log. If they cannot be written, training goes on without.

    Args:
        done: steps done before.
        enabled: whether to show the bar.
        folder: of the run; None: nothing is written.
    """

    def __init__(
        self,
        recipe: Recipe,
        steps_per_epoch: int,
        *,
        done: int,
        enabled: bool,
        folder: Path | None,
    ) -> None:
        self._folder, self._steps_per_epoch = folder, steps_per_epoch
        self._first, self._started = done, time.time()
        self._written = -math.inf
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
        self.note(line)
        if self._bar.disable:
            log.info(line)
        else:
            self._bar.write(line)

    def note(self, line: str) -> None:
        """Write a line into the folder's training.log only."""
        if self._folder is not None:
            with suppress(OSError), (self._folder / LOG).open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")

    def start_epoch(self, epoch: int) -> None:
        """Show the epoch, which is counted from 0 here and from 1 on the screen."""
        if epoch < self._epochs:
            self._bar.set_description(f"{self._name} epoch {epoch + 1}/{self._epochs}")

    def step(self, state: TrainState) -> None:
        """Count a step.

        Numbers are read from the device only when the bar is drawn or progress.json written.
        """
        drawn = self._bar.update()
        due = self._folder is not None and time.monotonic() - self._written >= SECONDS
        if not state.seen or not (drawn or due):
            return
        row = state.so_far(self._steps_per_epoch)
        if drawn:
            self._bar.set_postfix_str(
                f"loss {row['train_loss']:.3f}, top-1 {100 * row['train_top1']:.1f} %, "
                f"{row['clips_per_s']:.0f} clips/s"
            )
        if due and self._folder is not None:
            self._written = time.monotonic()
            now = {
                "step": state.epoch * self._steps_per_epoch + state.step,
                "steps": self._epochs * self._steps_per_epoch,
                "first_step": self._first,
                **row,
                "started": self._started,
                "time": time.time(),
            }
            with suppress(OSError):
                write_json(self._folder / PROGRESS, now)

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Print a line about the epoch above the bar."""
        top1 = row[f"{self._held_out}_top1"]
        evaluated = "" if math.isnan(top1) else f", {self._held_out} {100 * top1:.1f} %"
        self.say(
            f"epoch {row['epoch']:3d}: loss {row['train_loss']:.3f}, "
            f"train {100 * row['train_top1']:.1f} %{evaluated}, {row['clips_per_s']:.0f} clips/s"
        )
