"""What a run is doing, read from its folder by anybody: nothing is asked of its process."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from msg3d_lab.files import lock_holder, read_json
from msg3d_lab.training.runs import LOCK, PROGRESS, Run

State = Literal["missing", "training", "stopped", "trained", "tested"]

_FRESH = 60  # seconds that a sign of life counts, where locks of other machines are not seen


@dataclass(frozen=True)
class Activity:
    """What a run is doing.

    Args:
        state: "missing" (no run there), "training", "stopped" (unfinished, and nobody trains it),
            "trained" (finished) or "tested".
        holder: who trains, such as "process 12 on name"; "" if nobody does.
        progress: the newest progress.json (see `training.progress.Progress`); empty if none.
    """

    state: State
    holder: str = ""
    progress: dict[str, Any] | None = None

    @property
    def pid(self) -> int | None:
        """The process that trains, if it is on this machine."""
        words = self.holder.split(maxsplit=3)
        if len(words) == 4 and words[0] == "process" and words[3] == platform.node():
            return int(words[1])
        return None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until training ends, at the mean speed of this sitting, evaluations included."""
        now = self.progress
        if self.state != "training" or not now or now["step"] <= now["first_step"]:
            return None
        per_step = (now["time"] - now["started"]) / (now["step"] - now["first_step"])
        since = time.time() - now["time"]
        return max(0.0, per_step * (now["steps"] - now["step"]) - since)


def read_activity(path: str | Path) -> Activity:
    """Return what the run in a folder is doing."""
    run = Run(Path(path))
    if not (run.path / "recipe.yaml").is_file():
        return Activity("missing")
    progress = read_json(run.path / PROGRESS)
    holder = lock_holder(run.path / LOCK) or _far_holder(run.path, progress)
    if holder:
        return Activity("training", holder, progress)
    if not run.finished:
        return Activity("stopped", progress=progress)
    return Activity("tested" if run.scores_path.is_file() else "trained")


def last_lines(path: str | Path, number: int) -> list[str]:
    """Return the last lines of a log; of a progress bar only what it showed last.

    Args:
        path: a log such as training.log; one that does not exist has no lines.
        number: of lines at most.
    """
    try:
        with Path(path).open("rb") as file:
            file.seek(max(0, Path(path).stat().st_size - 65_536))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    lines = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    return [line for line in lines if line][-number:]


def _far_holder(path: Path, progress: dict[str, Any] | None) -> str:
    """Return who trains on another machine, if its lock is not seen here but it shows progress."""
    try:
        holder = (path / LOCK).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fresh = progress is not None and time.time() - progress["time"] < _FRESH
    return holder if fresh and not holder.endswith(f" on {platform.node()}") else ""
