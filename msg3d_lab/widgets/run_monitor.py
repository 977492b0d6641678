"""RunMonitor: a run that is trained anywhere, followed by its folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import traitlets
from matplotlib.figure import Figure

from msg3d_lab.evaluation.scores import read_run_scores
from msg3d_lab.evaluation.statistics import accuracy_interval
from msg3d_lab.training import recipes
from msg3d_lab.training.activity import Activity, last_lines, read_activity
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import LOG, PROGRESS, Run, open_run
from msg3d_lab.viz.results.training import training_figure
from msg3d_lab.viz.style import new_figure
from msg3d_lab.widgets.browser import module
from msg3d_lab.widgets.jobs import Job
from msg3d_lab.widgets.panel import Panel, curve_points, stamp

_LINES = 8  # of a log
_WATCHED = ("recipe.yaml", "environment.json", "metrics.csv", "scores.parquet", PROGRESS, LOG)


class RunMonitor(Panel):
    """Follow a run: curves, remaining time, clips per second, log; start, stop, resume and test it.

    The run may be trained by this panel, in a shell, or on another machine that shares the disk:
    only its folder is read. The buttons start `msg3d-lab` in a process of its own, which goes on
    when the kernel is restarted; the same call shows the run again. Stop lets the training write a
    checkpoint, also one that was started in a shell of this machine.

    Args:
        run: a run or its folder, which need not exist yet.
        recipe: of a run that does not exist yet, for the start button: a recipe, the name of one,
            or the path of its YAML.
        data: the store's path. Default: the one the run was trained on, or the recipe's place.
        device: of what the buttons start: "auto", "cpu", "cuda" or "mps".

    Attributes:
        data: what is shown.

    Raises:
        NotADirectoryError: the folder is a file.
        ValueError: an unknown recipe.
    """

    _esm = module("monitor.js")
    data = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        run: Run | str | Path,
        *,
        recipe: Recipe | str | None = None,
        data: str | Path | None = None,
        device: str = "auto",
        **traits: Any,
    ) -> None:
        super().__init__(**traits)
        self._recipe = None if recipe is None else recipes.get(recipe)
        self._store, self._device = data, device
        self._follow_run(run.path if isinstance(run, Run) else Path(run))
        self.refresh()

    def _follow_run(self, path: Path) -> None:
        if path.is_file():
            raise NotADirectoryError(f"expected a run's folder, found the file {path}")
        self._path, self._job = path, Job(path)
        self._stamp: Any = None
        self._stopping, self._fault = False, ""

    def refresh(self) -> None:
        """Read the run's files that have changed."""
        with self._guard:
            activity = read_activity(self._path)
            files = [*(self._path / name for name in _WATCHED), self._job.log]
            found = (stamp(files), activity.state, activity.holder, self._job.pid, self._stopping)
            if found != self._stamp:
                self._stamp = found
                self.data = self._describe_run(activity)

    def table(self) -> pd.DataFrame:
        """Return the rows of metrics.csv so far; empty before the first epoch."""
        path = self._path / "metrics.csv"
        return open_run(self._path).metrics if path.is_file() else pd.DataFrame()

    def figure(self) -> Figure:
        """Return the curves so far."""
        metrics = self.table()
        if len(metrics):
            return training_figure(metrics, title=self.describe())
        figure, axes = new_figure((7, 0.8))
        axes[0, 0].axis("off")
        axes[0, 0].text(0, 0.5, self.describe(), va="center")
        return figure

    def describe(self) -> str:
        """Return the run's state in a sentence."""
        run = self.data
        parts = [f"Run {run['name']}: {run['state']}"]
        if run.get("epoch") is not None:
            parts.append(f"epoch {run['epoch']:.0f} of {run['epochs']}")
        if run.get("tested"):
            parts.append(f"test top-1 {run['tested']}")
        return ", ".join(parts)

    def act(self, action: str, content: Mapping[str, Any]) -> None:
        """Start, stop, resume or test the run."""
        with self._guard:
            try:
                if action in ("start", "resume"):
                    self.start()
                elif action == "test":
                    words = ["test", str(self._path.absolute()), "--device", self._device]
                    self._job.start([*words, *self._data_words()])
                elif action == "stop":
                    self.stop()
            except (OSError, ValueError) as error:
                self._stamp = None
                self._fault = str(error)

    def start(self) -> None:
        """Start or resume the training in a process of its own.

        Raises:
            BlockingIOError: it is being trained or tested.
            FileExistsError: it is finished.
            ValueError: the run does not exist, and no recipe was given.
        """
        self._fault, self._stopping = "", False
        activity = read_activity(self._path)
        if activity.state == "training":
            raise BlockingIOError(f"{self._path} is trained by {activity.holder}: stop it first")
        if activity.state in ("trained", "tested"):
            raise FileExistsError(f"{self._path} is finished: name another folder for a new run")
        path = self._path.absolute()
        if activity.state == "missing":
            if self._recipe is None:
                raise ValueError(f"there is no run {self._path}: give RunMonitor a recipe")
            self._job.files.mkdir(parents=True, exist_ok=True)
            recipe = self._job.files / "recipe.yaml"
            recipes.save(self._recipe, recipe)
            words = ["--device", self._device, *self._data_words()]
        else:
            run, recipe = open_run(path), path / "recipe.yaml"
            facts = run.environment
            kind = str(facts["device"]).partition(":")[0]
            words = ["--device", kind, "--precision", str(facts["precision"])]
            words += self._data_words() or self._recorded_data(run)
        self._job.start(["train", str(recipe), "--run", str(path), "--resume", *words])

    def stop(self) -> None:
        """Send SIGTERM to the process that trains: it writes a checkpoint and ends.

        Raises:
            ValueError: nothing is running on this machine.
        """
        activity = read_activity(self._path)
        if self._job.running:
            self._job.stop()
        elif activity.pid is not None:
            os.kill(activity.pid, signal.SIGTERM)
        else:
            where = f": it is trained by {activity.holder}" if activity.holder else ""
            raise ValueError(f"nothing that works on {self._path} can be stopped here{where}")
        self._stopping = True

    def _data_words(self) -> list[str]:
        return [] if self._store is None else ["--data", str(Path(self._store).absolute())]

    @staticmethod
    def _recorded_data(run: Run) -> list[str]:
        """Name the store the run began with; the synthetic one is made again if it is gone."""
        path = Path(run.environment["data"]["path"]).absolute()
        made_again = run.recipe.data.dataset == "synthetic" and not path.exists()
        return [] if made_again else ["--data", str(path)]

    def _describe_run(self, activity: Activity) -> dict[str, Any]:
        state, job, now = self._state(activity), self._job, activity.progress or {}
        there = activity.state != "missing"
        recipe = Run(self._path).recipe if there else self._recipe
        metrics = self.table()
        epochs = int(metrics["epoch"].max()) if len(metrics) else 0
        running = now if state in ("training", "stopping") else {}
        log = self._path / LOG
        lines = last_lines(log, _LINES)
        # A process's own output says more while it starts or tests, and if it failed.
        if (job.running and state != "training") or not lines or (not job.running and job.error):
            lines = last_lines(job.log, _LINES)
        problem = self._fault or (job.error if state in ("failed", "trained") else "")
        return {
            "name": str(self._path),
            "state": state,
            "holder": activity.holder,
            "epoch": max(float(running.get("epoch", 0)), epochs) if there else None,
            "epochs": recipe.training.epochs if recipe else 0,
            "train_top1": running.get("train_top1"),
            "clips_per_s": running.get("clips_per_s"),
            "seconds_left": activity.seconds_left,
            "tested": self._tested(activity),
            "curves": _curves(metrics, running),
            "log": lines,
            "problem": problem,
            "actions": self._actions(state),
        }

    def _state(self, activity: Activity) -> str:
        job = self._job
        if job.running and activity.state != "training":
            return "testing" if job.command == "test" else "starting"
        if activity.state == "training":
            return "stopping" if self._stopping else "training"
        self._stopping = False
        if activity.state in ("missing", "stopped") and job.error:
            log = self._path / LOG
            # What failed before the run went on elsewhere is no news.
            newer = log.stat().st_mtime if log.is_file() else 0.0
            return "failed" if job.log.stat().st_mtime >= newer - 2 else activity.state
        return activity.state

    def _actions(self, state: str) -> list[str]:
        if state in ("training", "starting", "testing"):
            return ["stop"]
        if state == "trained":
            return ["test"]
        if state in ("stopped", "failed") and (self._path / "recipe.yaml").is_file():
            return ["resume"]
        return ["start"] if state in ("missing", "failed") and self._recipe is not None else []

    def _tested(self, activity: Activity) -> str:
        if activity.state != "tested":
            return ""
        try:
            correct = read_run_scores(Run(self._path)).correct
        except (OSError, ValueError):
            return ""
        low, high = accuracy_interval(correct)
        return f"{100 * correct.mean():.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _curves(metrics: pd.DataFrame, now: Mapping[str, Any]) -> dict[str, list[list[float]]]:
    """Return the points of each curve; those of the epoch that is running come last."""
    names = [name for name in metrics.columns if name.endswith(("_top1", "_loss"))]
    curves = {name: curve_points(metrics, name) for name in names}
    last = float(metrics["epoch"].max()) if len(metrics) else 0.0
    if now and now["epoch"] > last:
        for column, factor in (("train_top1", 100), ("train_loss", 1)):
            point = [round(now["epoch"], 3), round(factor * now[column], 4)]
            curves[column] = [*curves.get(column, []), point]
    return curves
