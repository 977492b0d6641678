"""Those who look on while a network trains: live plots, TensorBoard, a line to a chat room.

A watcher is any callable that takes the rows of metrics.csv so far as a data frame; it is called
after each epoch, and once if a run that is resumed has no epoch left to train. Three methods are
used where it has them: `start(run)` before the first step, `progress(row)` every few seconds within
an epoch, and `close()` at the end, however that comes. Training waits for them, and other processes
wait for the first: one that may take long (a network that hangs) needs a thread of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msg3d_lab.training.runs import Run
from msg3d_lab.training.state import State

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Watcher", "Watchers"]

Watcher = Callable[["pd.DataFrame"], object]

log = logging.getLogger(__name__)

_SECONDS = 2.0  # between two reports within an epoch: reading the sums of a GPU waits for it


class Watchers:
    """Tells the watchers of a run what happens; what goes wrong in them is none of its business.

    The first error of each is logged, with its traceback, and training goes on.

    Args:
        watchers: callables; see the module.
        enabled: whether this process tells them; only the first one does.
    """

    def __init__(self, watchers: Sequence[Watcher], *, enabled: bool = True) -> None:
        wrong = [watcher for watcher in watchers if not callable(watcher)]
        if wrong:
            raise TypeError(f"a watcher is called with the metrics so far, found {wrong[0]!r}")
        self._watchers = list(watchers) if enabled else []
        self._failed: set[int] = set()
        self._told = time.monotonic()

    def __enter__(self) -> Watchers:
        return self

    def __exit__(self, *exception: object) -> None:
        self._tell("close")

    def start(self, run: Run) -> None:
        """Say which run it is."""
        self._tell("start", run)

    def step(self, state: State, *, steps_per_epoch: int) -> None:
        """Report the epoch so far, if the last report was some time ago.

        The row has `epoch` (2.5 in the middle of the third), `lr`, `train_loss`, `train_top1` and
        `clips_per_s`, of the first process's clips.
        """
        now = time.monotonic()
        if not self._watchers or now - self._told < _SECONDS or not state.seen:
            return
        self._told = now
        loss, correct = (state.sums / state.seen).tolist()
        self._tell(
            "progress",
            {
                "epoch": state.epoch + state.step / steps_per_epoch,
                "lr": state.lr,
                "train_loss": loss,
                "train_top1": correct,
                "clips_per_s": state.seen / max(now - state.epoch_clock, 1e-9),
            },
        )

    def epoch(self, rows: Sequence[Mapping[Any, Any]]) -> None:
        """Hand on the rows so far."""
        if self._watchers:
            import pandas as pd

            self._tell("__call__", lambda: pd.DataFrame(rows))
            self._told = time.monotonic()

    def _tell(self, method: str, *arguments: Any) -> None:
        for number, watcher in enumerate(self._watchers):
            tell = getattr(watcher, method, None)
            if tell is None:
                continue
            try:
                # A frame of its own for each: one may change it.
                tell(*(a() if method == "__call__" else a for a in arguments))
            except Exception as error:
                if number not in self._failed:
                    self._failed.add(number)
                    log.warning(
                        "the watcher %r failed (%s: %s); training goes on, and what goes wrong "
                        "in it from here on is not reported",
                        watcher, type(error).__name__, error, exc_info=True,
                    )  # fmt: skip
