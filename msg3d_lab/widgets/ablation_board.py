"""AblationBoard: a grid of variants while it is run, and the comparison so far."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
import traitlets
import yaml
from matplotlib.figure import Figure

from msg3d_lab.evaluation.statistics import accuracy_interval
from msg3d_lab.experiments import grids
from msg3d_lab.experiments.ablations import GRID_PROGRESS
from msg3d_lab.experiments.plan import PlannedRun, Progress, failure_path, read_progress
from msg3d_lab.experiments.results import AblationResults, GridOptions
from msg3d_lab.files import lock_holder, read_json
from msg3d_lab.training.activity import last_lines, read_activity
from msg3d_lab.training.runs import LOCK, PROGRESS
from msg3d_lab.viz.results.ablations import forest_plot
from msg3d_lab.viz.style import CATEGORIES, FAINT, closed_figure, new_figure, styled
from msg3d_lab.widgets.browser import module
from msg3d_lab.widgets.jobs import Job
from msg3d_lab.widgets.panel import Panel, stamp

_LINES = 8  # of a log
_WATCHED = ("recipe.yaml", "environment.json", "metrics.csv", "model.safetensors", "scores.parquet")
_SHOWN = ("top1", "sd", "difference", "low", "high", "p_holm")


class AblationBoard(Panel):
    """Run an ablation and follow it: a row per variant and seed, the comparison and a forest plot.

    Start runs `msg3d-lab ablate` in a process of its own, which goes on when the kernel is
    restarted; the same call shows it again. An ablation that was started in a shell is followed
    too. Started again, it goes on: tested runs are kept, failed ones tried again.

    Args:
        grid: a grid, the name of one, or the path of its YAML.
        jobs: runs at a time.
        device: "auto", "cpu", "cuda" or "mps".
        **options: seeds, runs, data, variants, settings: see `AblationResults`.

    Attributes:
        results: the `AblationResults`, for conclusions that are computed.

    Raises:
        FileNotFoundError: no store.
        ValueError: see `AblationResults`; jobs below 1.
    """

    _esm = module("board.js")
    data = traitlets.Dict().tag(sync=True)
    sort = traitlets.Unicode("").tag(sync=True)
    filter = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        grid: grids.Grid | str,
        *,
        jobs: int = 1,
        device: str = "auto",
        **options: Unpack[GridOptions],
    ) -> None:
        if jobs < 1:
            raise ValueError(f"expected jobs of 1 or more, found {jobs}")
        super().__init__()
        self.results = AblationResults(grid, **options)
        self._options, self._jobs, self._device = options, jobs, device
        self._folder = self.results.planned[0].path.parent.parent
        self._job = Job(self._folder)
        self._read: dict[Path, tuple[Any, Progress]] = {}
        self._compared: tuple[Any, pd.DataFrame] = (None, pd.DataFrame())
        self._stamp: Any = None
        self._stopping, self._fault = False, ""
        self.refresh()

    def refresh(self) -> None:
        """Read the runs that have changed."""
        with self._guard:
            for run in self.results.planned:
                files = [*(run.path / name for name in _WATCHED), failure_path(run.path)]
                now = stamp(files)
                if run.path not in self._read or self._read[run.path][0] != now:
                    self._read[run.path] = (now, read_progress(run, self.results.store))
            moving = [run.path / PROGRESS for run in self.results.planned]
            found = (
                [now for now, _ in self._read.values()],
                stamp([*moving, self._folder / GRID_PROGRESS, self._job.log]),
                [lock_holder(run.path / LOCK) for run in self.results.planned],
                (self._job.pid, self._stopping, self._fault),
            )
            if found != self._stamp:
                self._stamp = found
                self.data = self._describe_grid()

    def table(self) -> pd.DataFrame:
        """Return the comparison of the variants so far, see `AblationResults.table`."""
        ended = [now for now, p in self._read.values() if p.state in ("tested", "failed", "other")]
        if self._compared[0] != ended:
            self._compared = (ended, self.results.table())
        return self._compared[1]

    def figure(self) -> Figure:
        """Return the differences with their intervals, or before there are any, the progress."""
        table = self.table()
        if table["difference"].notna().any():
            return closed_figure(forest_plot(table, title=self.describe()))
        return _progress_figure(self.data["rows"], title=self.describe())

    def describe(self) -> str:
        """Return how far the ablation is, in a sentence."""
        board = self.data
        text = f"{board['title']}: {board['tested']} of {len(board['rows'])} runs tested"
        return f"{text}, {board['state']}"

    def start(self) -> None:
        """Start or continue the ablation in a process of its own.

        Raises:
            BlockingIOError: it is running.
        """
        self._fault, self._stopping = "", False
        job, options = self._job, self._options
        job.files.mkdir(parents=True, exist_ok=True)
        grid = job.files / "grid.yaml"
        known = self.results.grid
        seeds = tuple(dict.fromkeys(run.seed for run in self.results.planned))
        whole = known.model_copy(update={"variants": known.all_variants, "seeds": seeds})
        grid.write_text(
            yaml.safe_dump(whole.model_dump(mode="json"), sort_keys=False), encoding="utf-8"
        )
        words = ["ablate", str(grid), "--runs", str(self._folder.absolute())]
        words += ["--data", str(self.results.store.path.absolute())]
        words += ["--jobs", str(self._jobs), "--device", self._device]
        if variants := options.get("variants"):
            words += ["--variants", *variants]
        settings = options.get("settings", ())
        if isinstance(settings, Mapping):
            settings = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
        if settings:
            words += ["--set", *settings]
        job.start(words)

    def stop(self) -> None:
        """Send SIGTERM to the ablation: running trainings write their checkpoints."""
        self._job.stop()
        self._stopping = True

    def act(self, action: str, content: Mapping[str, Any]) -> None:
        """Start or stop the ablation."""
        with self._guard:
            try:
                if action == "start":
                    self.start()
                elif action == "stop":
                    self.stop()
            except (OSError, ValueError) as error:
                self._fault = str(error)

    def _describe_grid(self) -> dict[str, Any]:
        rows = [self._row(run, self._read[run.path][1]) for run in self.results.planned]
        states = [row["state"] for row in rows]
        moving = self._grid_progress()
        state = self._state(states, running=bool(moving))
        return {
            "title": self.results.grid.title or self.results.grid.name,
            "state": state,
            "synthetic": bool(self.results.store.synthetic),
            "tested": states.count("tested"),
            "seconds_left": _seconds_left(moving),
            "rows": rows,
            "comparison": self._comparison(),
            "log": last_lines(self._job.log, _LINES),
            "problem": self._fault or self._job.error,
            "actions": self._actions(state, states),
        }

    def _row(self, planned: PlannedRun, now: Progress) -> dict[str, Any]:
        activity = read_activity(planned.path)
        state: str = now.state
        epochs = planned.recipe.training.epochs
        done = {"tested": 1.0, "trained": 1.0}.get(state, min(1.0, now.epochs / epochs))
        if activity.state == "training" and state != "other":
            state, moving = "training", activity.progress
            if moving:
                done = max(done, moving["step"] / moving["steps"])
        elif state == "trained" and self._job.running:
            state = "testing"
        row: dict[str, Any] = {
            "id": f"{planned.variant.name}/seed-{planned.seed}",
            "variant": planned.variant.name,
            "seed": planned.seed,
            "state": state,
            "fraction": round(done, 4),
            "why": now.why if state in ("failed", "other") else "",
            **dict.fromkeys(("top1", "low", "high", "minutes")),
        }
        if now.scores is not None:
            low, high = accuracy_interval(now.scores.correct)
            row |= {"top1": float(now.scores.correct.mean()), "low": low, "high": high}
        if now.state in ("trained", "tested"):
            facts = json.loads((planned.path / "environment.json").read_text(encoding="utf-8"))
            row["minutes"] = round(facts["seconds"] / 60, 2)
        return row

    def _comparison(self) -> list[dict[str, Any]]:
        """Return the table of the variants, as the page shows it."""
        if not any(progress.scores is not None for _, progress in self._read.values()):
            return []
        rows = []
        for name, row in self.table().iterrows():
            texts = {key: row[key] for key in ("group", "compare_with")}
            numbers = {key: None if pd.isna(row[key]) else float(row[key]) for key in _SHOWN}
            rows.append({"variant": str(name), "seeds": int(row["seeds"]), **texts, **numbers})
        return rows

    def _grid_progress(self) -> dict[str, Any]:
        """Return the ablation's own progress, of any process on this disk; empty if none runs."""
        found = read_json(self._folder / GRID_PROGRESS)
        # That of a killed process stays.
        fresh = found and (self._job.running or time.time() - found["time"] < 60)
        return found if found and fresh else {}

    def _state(self, states: Sequence[str], *, running: bool) -> str:
        if self._job.running or running:
            if self._stopping:
                return "stopping"
            return "training" if running else "starting"
        self._stopping = False
        if all(state == "tested" for state in states):
            return "tested"
        if "failed" in states or "other" in states or self._job.error:
            return "failed"
        return "missing" if all(state == "missing" for state in states) else "stopped"

    def _actions(self, state: str, states: Sequence[str]) -> list[list[str]]:
        if state in ("starting", "training"):
            stop = ["stop", "stop (running trainings write checkpoints)"]
            return [stop] if self._job.running else []
        if state in ("stopping", "tested"):
            return []
        failed = states.count("failed")
        if failed:
            return [["start", f"continue, and retry {failed} failed"]]
        return [["start", "start" if state == "missing" else "continue"]]


def _seconds_left(now: Mapping[str, Any]) -> float | None:
    """Return the seconds left at the mean speed since the process was started."""
    if not now or now["done"] <= now["first_done"]:
        return None
    speed = (now["done"] - now["first_done"]) / (now["time"] - now["started"])
    return max(0.0, (now["total"] - now["done"]) / speed - (time.time() - now["time"]))


@styled
def _progress_figure(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    figure, axes = new_figure((8, 1 + 0.24 * len(rows)))
    ax = axes[0, 0]
    places = range(len(rows))[::-1]
    ax.barh(places, [100] * len(rows), color=FAINT)
    ax.barh(places, [100 * row["fraction"] for row in rows], color=CATEGORIES[0])
    ax.set_yticks(places, [f"{row['id']}: {row['state']}" for row in rows], fontsize=8)
    ax.set(xlabel="progress (%)", xlim=(0, 100), title=title)
    return figure
