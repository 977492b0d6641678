"""TensorBoard's curves of a training, for those who watch many at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msg3d_lab.training.runs import Run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TensorBoard"]

_TAGS = {
    "train_loss": "loss/train",
    "val_loss": "loss/held_out",
    "train_top1": "top1/train",
    "val_top1": "top1/held_out",
    "lr": "learning_rate",
    "clips_per_s": "clips_per_s",
}


class TensorBoard:
    """Writes a run's metrics for TensorBoard, epoch by epoch: `fit(..., watchers=[TensorBoard()])`.

    A resumed run goes on where its curves end. From the first epoch at which they are not the run's
    (it was set back to an older checkpoint, or another run wrote into the folder) they are written
    again, and TensorBoard is told to forget what was there.

    Args:
        path: the folder; `tensorboard` in the run's folder if left out, so that
            `tensorboard --logdir runs` shows all runs side by side.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        _import()
        self._asked = Path(path) if path is not None else None
        self._path = self._asked
        self._writer: Any = None
        self._written = 0  # epochs that are there

    def start(self, run: Run) -> None:
        """Write about this run from here on."""
        self.close()
        self._path = self._asked or run.path / "tensorboard"

    def __call__(self, metrics: pd.DataFrame) -> None:
        """Write the epochs that are not there yet."""
        if self._path is None:
            raise ValueError("where to? Name a path, or use it as a watcher of fit")
        rows = metrics.to_dict("records")
        if self._writer is None:
            self._written = _epochs_there(self._path, rows)
        if self._written == len(rows):
            return
        if self._writer is None:
            self._writer = _import()(self._path, purge_step=rows[self._written]["epoch"])
        for row in rows[self._written :]:
            for tag, value in _scalars(row):
                self._writer.add_scalar(tag, value, row["epoch"])
        self._written = len(rows)
        self._writer.flush()

    def close(self) -> None:
        """Close the file; another call opens a new one."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _scalars(row: Mapping[Any, Any]) -> Iterator[tuple[str, float]]:
    """The curves' values at an epoch; there are none where nobody looked."""
    for name, tag in _TAGS.items():
        if math.isfinite(row.get(name, math.nan)):
            yield tag, row[name]


def _epochs_there(path: Path, rows: Sequence[Mapping[Any, Any]]) -> int:
    """How many epochs of these rows, from the first on, a folder's curves have."""
    if not path.is_dir():
        return 0
    from tensorboard.backend.event_processing import (  # type: ignore[import-untyped]
        event_accumulator,
    )

    events = event_accumulator.EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    found = {
        (tag, event.step): event.value
        for tag in events.Tags()["scalars"]
        for event in events.Scalars(tag)
    }
    for count, row in enumerate(rows):
        for tag, value in _scalars(row):
            there = found.get((tag, row["epoch"]), math.nan)
            if not math.isclose(there, value, rel_tol=1e-6):  # they are float32
                return count
    return len(rows)


def _import() -> Any:
    """The writer's class."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "tensorboard is not installed: pip install msg3d-lab[tensorboard]"
        ) from error
    return SummaryWriter
