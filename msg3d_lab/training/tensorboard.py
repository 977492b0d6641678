"""TensorBoard's curves of a training, for those who watch many at once."""

from __future__ import annotations

import math
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

    A resumed run goes on where its curves end. If it was set back further than that (a damaged
    checkpoint), TensorBoard is told to forget what came after.

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
        self._written = 0  # the last epoch that is there

    def start(self, run: Run) -> None:
        """Write about this run from here on."""
        self.close()
        self._path = self._asked or run.path / "tensorboard"

    def __call__(self, metrics: pd.DataFrame) -> None:
        """Write the epochs that are not there yet."""
        if self._path is None:
            raise ValueError("where to? Name a path, or use it as a watcher of fit")
        epochs = metrics["epoch"].tolist()
        if self._writer is None:
            self._written = min(_last_epoch(self._path), epochs[-1] - 1)
            self._writer = _import()(self._path, purge_step=self._written + 1)
        for row in metrics.to_dict("records"):
            if row["epoch"] <= self._written:
                continue
            for name, tag in _TAGS.items():
                if math.isfinite(row.get(name, math.nan)):
                    self._writer.add_scalar(tag, row[name], int(row["epoch"]))
        self._written = epochs[-1]
        self._writer.flush()

    def close(self) -> None:
        """Close the file; another call opens a new one."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _last_epoch(path: Path) -> int:
    """The last epoch whose curves are in a folder; 0 if there are none."""
    if not path.is_dir():
        return 0
    from tensorboard.backend.event_processing import (  # type: ignore[import-untyped]
        event_accumulator,
    )

    events = event_accumulator.EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    return max((events.Scalars(tag)[-1].step for tag in tags), default=0)


def _import() -> Any:
    """The writer's class."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "tensorboard is not installed: pip install msg3d-lab[tensorboard]"
        ) from error
    return SummaryWriter
