"""Learning curves that are redrawn during a training, in a notebook."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from msg3d_lab.viz.results.training import training_figure
from msg3d_lab.viz.style import png


class LiveCurves:
    """Accuracy, loss and learning rate of a training, redrawn in one place while it runs.

    Give it to `fit(..., callbacks=[LiveCurves()])`. The picture is an image in the cell's output,
    so the last state stays when the kernel ends or the notebook becomes a web page. Within an epoch
    the training curves go on to where it is; those of a resumed run have what was there before.
    Outside a notebook nothing is shown, but `figure` is there.

    Args:
        title: above the curves. Default: the name of the run's folder.
        marks: moments to mark, in epochs, by name, such as where a run was stopped.
        seconds: between two pictures within an epoch: each takes about a fifth of a second of the
            time for training.

    Attributes:
        figure: the newest picture; None before there is a line to draw.
    """

    def __init__(
        self,
        *,
        title: str | None = None,
        marks: Mapping[str, float] | None = None,
        seconds: float = 5.0,
    ) -> None:
        self.figure: Figure | None = None
        self._marks, self._epochs = marks, None
        self._asked, self._title, self._seconds = title, title, seconds
        self._rows = pd.DataFrame()
        self._running: list[dict[str, float]] = []
        self._handle: Any = None
        self._drawn = -float("inf")

    def start(self, run: Any) -> None:
        """Begin a new picture for a run."""
        resumed = (run.path / "metrics.csv").is_file()
        self._handle, self._running = None, []
        self._rows = run.metrics if resumed else pd.DataFrame()
        self._title = self._asked or run.path.name
        self._epochs = run.recipe.training.epochs

    def __call__(self, metrics: pd.DataFrame) -> None:
        """Draw the epochs so far."""
        self._rows, self._running = metrics, []
        self._draw(metrics)

    def progress(self, row: dict[str, float]) -> None:
        """Draw the epochs so far and the one that is running."""
        self._running.append(row)
        if time.monotonic() - self._drawn < self._seconds:
            return
        # A run that was set back to an older checkpoint may have rows of later epochs.
        before = [r for r in self._rows.to_dict("records") if r["epoch"] < row["epoch"]]
        if len(before) + len(self._running) > 1:  # a line has two ends
            self._draw(pd.DataFrame([*before, *self._running]))

    def _draw(self, metrics: pd.DataFrame) -> None:
        self.figure = training_figure(
            metrics, epochs=self._epochs, marks=self._marks, title=self._title
        )
        self._drawn = time.monotonic()
        from IPython.core.getipython import get_ipython
        from IPython.display import Image, display

        if get_ipython() is None:
            return
        image = Image(  # type: ignore[no-untyped-call]
            data=png(self.figure, dpi=80), alt="Accuracy, loss and learning rate by epoch"
        )
        if self._handle is None:
            self._handle = display(image, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(image)
