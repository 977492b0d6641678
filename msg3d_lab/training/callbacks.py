"""Training callbacks, and the one that writes TensorBoard's curves.

A callback is any callable that takes the rows of metrics.csv so far as a data frame. It is called
after each epoch, and once if a resumed run has no epoch left to train. These methods are called if
it has them: `start(run)` before the first step, `progress(row)` every few seconds within an epoch,
and `close()` at the end, also after an error. Training waits for callbacks, and all processes wait
for the first, which calls them: one that may take long needs a thread of its own.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msg3d_lab.training.progress import SECONDS
from msg3d_lab.training.runs import Run
from msg3d_lab.training.state import TrainState

if TYPE_CHECKING:
    import pandas as pd


Callback = Callable[["pd.DataFrame"], object]

log = logging.getLogger(__name__)


class CallbackList:
    """Calls the callbacks of a run. Logs the first exception of each, and continues.

    Args:
        callbacks: see the module.
        enabled: whether this process calls them; only the first one does.

    Raises:
        TypeError: something that cannot be called.
    """

    def __init__(self, callbacks: Sequence[Callback], *, enabled: bool = True) -> None:
        wrong = [callback for callback in callbacks if not callable(callback)]
        if wrong:
            raise TypeError(f"a callback is called with the metrics so far, found {wrong[0]!r}")
        self._callbacks = list(callbacks) if enabled else []
        self._failed: set[int] = set()
        self._reported_at = time.monotonic()

    def __enter__(self) -> CallbackList:
        return self

    def __exit__(self, *exception: object) -> None:
        self._call("close")

    def start(self, run: Run) -> None:
        """Pass on the run."""
        self._call("start", run)

    def step(self, state: TrainState, *, steps_per_epoch: int) -> None:
        """Report `TrainState.so_far`, if the last report was some time ago."""
        now = time.monotonic()
        if self._callbacks and now - self._reported_at >= SECONDS and state.seen:
            self._reported_at = now
            self._call("progress", state.so_far(steps_per_epoch))

    def epoch(self, rows: Sequence[Mapping[Any, Any]]) -> None:
        """Pass on the rows so far."""
        if self._callbacks:
            import pandas as pd

            # A frame of its own for each callback, which may change it.
            self._call("__call__", lambda: pd.DataFrame(rows))
            self._reported_at = time.monotonic()

    def report(self, run: Run) -> None:
        """Pass on a run that has finished already."""
        if self._callbacks:
            with self:
                self.start(run)
                self.epoch(run.metrics.to_dict("records"))

    def _call(self, method: str, *arguments: Any) -> None:
        for number, callback in enumerate(self._callbacks):
            call = getattr(callback, method, None)
            if call is None:
                continue
            try:
                call(*(a() if method == "__call__" else a for a in arguments))
            except Exception as error:
                if number not in self._failed:
                    self._failed.add(number)
                    log.warning(
                        "the callback %r failed (%s: %s); training goes on, and its further errors "
                        "are not reported",
                        callback, type(error).__name__, error, exc_info=True,
                    )  # fmt: skip


class TensorBoard:
    """Writes a run's metrics for TensorBoard after each epoch.

    Use it as `fit(..., callbacks=[TensorBoard()])`. A resumed run writes all its epochs again, and
    TensorBoard is told to forget what was in the folder.

    Args:
        path: the folder. Default: `tensorboard` in the run's folder, so that
            `tensorboard --logdir runs` shows all runs side by side.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        _summary_writer()
        self._given = Path(path) if path is not None else None
        self._path = self._given
        self._writer: Any = None
        self._written = 0  # epochs

    def start(self, run: Run) -> None:
        """Write about this run from now on."""
        self.close()
        self._path = self._given or run.path / "tensorboard"

    def __call__(self, metrics: pd.DataFrame) -> None:
        """Write the epochs that are not written yet."""
        if self._path is None:
            raise ValueError("no folder to write to: give TensorBoard a path, or pass it to fit")
        rows = metrics.to_dict("records")
        if self._writer is None:
            self._writer = _summary_writer()(self._path, purge_step=rows[0]["epoch"])
            self._written = 0
        for row in rows[self._written :]:
            for name, tag in _TAGS.items():
                if math.isfinite(row.get(name, math.nan)):  # else it was not evaluated
                    self._writer.add_scalar(tag, row[name], row["epoch"])
        self._written = len(rows)
        self._writer.flush()

    def close(self) -> None:
        """Close the file; the next call opens a new one."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


_TAGS = {
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "test_loss": "loss/test",
    "train_top1": "top1/train",
    "val_top1": "top1/val",
    "test_top1": "top1/test",
    "lr": "learning_rate",
    "clips_per_s": "clips_per_s",
}


def _summary_writer() -> Any:
    """The class that writes TensorBoard's files."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "tensorboard is not installed: pip install msg3d-lab[tensorboard]"
        ) from error
    return SummaryWriter
