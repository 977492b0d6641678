"""Class curves and segments of a long recording, from the scores of its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ClassCurves:
    """The class probabilities of every frame of a recording.

    Args:
        probabilities: (T, classes); NaN in frames that no window with a person covers.
        label_names: the class names.
        fps: frames per second.
        window: frames per window.
    """

    probabilities: np.ndarray
    label_names: tuple[str, ...]
    fps: float
    window: int

    def table(self) -> pd.DataFrame:
        """Return a row per frame: frame, seconds and a column per class."""
        import pandas as pd

        table = pd.DataFrame(self.probabilities, columns=list(self.label_names))
        table.insert(0, "seconds", np.arange(len(table)) / self.fps)
        table.insert(0, "frame", np.arange(len(table)))
        return table

    def segments(
        self, *, min_probability: float = 0.5, min_frames: int | None = None
    ) -> pd.DataFrame:
        """Return the stretches in which one class is the most probable.

        Args:
            min_probability: frames whose most probable class is below this belong to no segment.
            min_frames: shorter stretches are dropped. Default: a quarter of a window.

        Returns:
            A row per segment in the order of time: class, label, start and stop (frames, stop
            excluded), start_s and stop_s (seconds), probability (the mean over the segment).
        """
        import pandas as pd

        shortest = max(1, self.window // 4) if min_frames is None else min_frames
        values = np.nan_to_num(self.probabilities, nan=0.0)
        best = np.where(values.max(axis=1) >= min_probability, values.argmax(axis=1), -1)
        cuts = np.flatnonzero(np.diff(best)) + 1
        rows = []
        for start, stop in zip([0, *cuts], [*cuts, len(best)], strict=True):
            number = int(best[start])
            if number < 0 or stop - start < shortest:
                continue
            rows.append(
                {
                    "class": self.label_names[number],
                    "label": number,
                    "start": int(start),
                    "stop": int(stop),
                    "start_s": start / self.fps,
                    "stop_s": stop / self.fps,
                    "probability": float(values[start:stop, number].mean()),
                }
            )
        columns = ["class", "label", "start", "stop", "start_s", "stop_s", "probability"]
        return pd.DataFrame(rows, columns=columns)


def window_starts(num_frames: int, *, window: int, stride: int) -> np.ndarray:
    """Return the first frames of windows that together cover a recording: (W,) int64.

    The last window ends with the recording. A recording shorter than a window has one.

    Raises:
        ValueError: a number below 1.
    """
    if min(num_frames, window, stride) < 1:
        raise ValueError(
            f"expected at least one frame, found a recording of {num_frames}, windows of {window}, "
            f"stride {stride}"
        )
    last = max(0, num_frames - window)
    return np.append(np.arange(0, last, stride), last)


def class_curves(
    starts: np.ndarray,
    probabilities: np.ndarray,
    *,
    num_frames: int,
    window: int,
    label_names: Sequence[str],
    fps: float = 30,
) -> ClassCurves:
    """Average the windows that cover a frame; those whose middle is nearer weigh more.

    The weight of a window falls linearly from its middle to its ends.

    Args:
        starts: the windows' first frames.
        probabilities: the windows' class probabilities; NaN for a window without a person.
        num_frames: T, the recording's length.
        window: frames per window.
        label_names: the class names.
        fps: frames per second.

    Shapes:
        starts (W,), probabilities (W, classes) -> probabilities (T, classes)
    """
    weights = np.minimum(np.arange(1, window + 1), np.arange(window, 0, -1)).astype(np.float64)
    total = np.zeros((num_frames, probabilities.shape[1]))
    weight = np.zeros(num_frames)
    for start, found in zip(starts, probabilities, strict=True):
        if np.isnan(found).any():
            continue
        covered = slice(start, min(start + window, num_frames))
        part = weights[: covered.stop - covered.start]
        total[covered] += part[:, None] * found
        weight[covered] += part
    with np.errstate(invalid="ignore"):
        curves = total / weight[:, None]
    return ClassCurves(curves.astype(np.float32), tuple(label_names), fps, window)
