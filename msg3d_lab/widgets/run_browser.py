"""RunBrowser: the runs of a folder, sorted, filtered and compared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from msg3d_lab.evaluation.metrics import class_delta
from msg3d_lab.evaluation.scores import Scores, align, read_run_scores
from msg3d_lab.evaluation.statistics import accuracy_interval, compare
from msg3d_lab.files import lock_holder
from msg3d_lab.training.activity import read_activity
from msg3d_lab.training.recipes import differing_settings
from msg3d_lab.training.runs import LOCK, PROGRESS, Run, open_run
from msg3d_lab.viz.style import CATEGORIES, MUTED, new_figure, styled
from msg3d_lab.widgets.browser import module
from msg3d_lab.widgets.panel import Panel, curve_points, stamp

_WATCHED = ("environment.json", "metrics.csv", "scores.parquet", "report.html", PROGRESS)
_CURVES = ("train_top1", "train_loss", "lr")
_WORDS = {
    "top1": "Held-out top-1 (%)",
    "train_top1": "Training top-1 (%)",
    "train_loss": "Training loss",
    "lr": "Learning rate",
}
_DASHES = ("-", "--", ":", "-.")


class RunBrowser(Panel):
    """A table of the runs below a folder; selected ones are compared.

    A run's accuracy is that of its test, with the 95 % interval over samples. One selected run
    shows its curves. Several show their curves in one picture, the settings that differ, and the
    paired difference of each to the first one; the first two are compared class by class. The
    button `open` shows a run's report.

    Args:
        folder: of runs, at any depth.
        selected: runs that are compared, by their paths below the folder.

    Attributes:
        selected: the runs that are compared.
        sort: the column of the table by which it is sorted, as in `table`; with "-" in front from
            the largest.
        filter: words that a row must have, or comparisons such as "top-1>90".
        quantity: of the curves: "top1" (held-out clips), "train_top1", "train_loss" or "lr".

    Raises:
        NotADirectoryError: no such folder.
        ValueError: a selected run is not there.
    """

    _esm = module("runs.js")
    data = traitlets.Dict().tag(sync=True)
    comparison = traitlets.Dict().tag(sync=True)
    selected = traitlets.List(traitlets.Unicode()).tag(sync=True)
    sort = traitlets.Unicode("-started").tag(sync=True)
    filter = traitlets.Unicode("").tag(sync=True)
    quantity = traitlets.Enum(["top1", *_CURVES], "top1").tag(sync=True)

    def __init__(
        self, folder: str | Path = "runs", *, selected: Sequence[str] = (), **traits: Any
    ) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise NotADirectoryError(
                f"expected a folder of runs, found nothing at {folder}: train one with `msg3d-lab "
                "train`, or `msg3d-lab demo`"
            )
        self._rows: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._compared: Any = None
        super().__init__(**traits)
        self.refresh()
        self.selected = list(selected)
        self.observe(lambda _: self._compare(), names="selected")
        self._compare()

    @traitlets.validate("selected")
    def _are_there(self, proposal: Any) -> list[str]:
        names = list(dict.fromkeys(proposal["value"]))
        unknown = [name for name in names if name not in self._rows]
        if unknown:
            raise ValueError(
                f"there is no run {unknown[0]} in {self._folder}: expected some of "
                f"{', '.join(self._rows) or 'none'}"
            )
        return names

    def refresh(self) -> None:
        """Read the runs that have changed."""
        with self._guard:
            rows: dict[str, tuple[Any, dict[str, Any]]] = {}
            for path in _run_folders(self._folder):
                name = path.relative_to(self._folder).as_posix()
                now = (stamp(path / each for each in _WATCHED), lock_holder(path / LOCK))
                before = self._rows.get(name)
                rows[name] = before if before and before[0] == now else (now, _row(path, name))
            changed = rows != self._rows
            self._rows = rows
            if not changed and self.data:
                return
            listed = [row for _, row in rows.values()]
            synthetic = bool(listed) and all(row["synthetic"] for row in listed)
            self.data = {"folder": str(self._folder), "rows": listed, "synthetic": synthetic}
            gone = [name for name in self.selected if name not in rows]
            if gone:
                self.selected = [name for name in self.selected if name in rows]
        self._compare()

    def table(self) -> pd.DataFrame:
        """Return a row per run, indexed by its path below the folder.

        Columns: state, recipe, seed, top1 with low and high (fractions of 1; NaN if not tested),
        samples, seconds (of training), started, commit, synthetic.
        """
        rows = [row for _, row in self._rows.values()]
        columns = ["id", "state", "recipe", "seed", "top1", "low", "high", "samples", "seconds"]
        columns += ["started", "commit", "synthetic"]
        table = pd.DataFrame(rows, columns=columns).rename(columns={"id": "run"})
        numbers = ["top1", "low", "high", "seconds"]
        return table.astype(dict.fromkeys(numbers, float)).set_index("run")

    def figure(self) -> Figure:
        """Return the accuracies with their intervals, and the curves of the selected runs."""
        return _figure(self.table(), self.comparison, quantity=self.quantity)

    def describe(self) -> str:
        """Return what there is in a sentence."""
        table = self.table()
        tested = table["top1"].dropna()
        best = "" if tested.empty else f", the highest top-1 {100 * tested.max():.1f} %"
        chosen = f"; compared: {', '.join(self.selected)}" if self.selected else ""
        return f"{len(table)} runs in {self._folder}, {len(tested)} tested{best}{chosen}"

    def act(self, action: str, content: Mapping[str, Any]) -> None:
        """Send a run's report to the page."""
        name = content.get("name")
        if action == "report" and name in self._rows:
            path = self._folder / str(name) / "report.html"
            if path.is_file():
                self.send({"report": name, "html": path.read_text(encoding="utf-8")})

    def _compare(self) -> None:
        names = list(self.selected)
        stamps = [self._rows[name][0] for name in names if name in self._rows]
        if (names, stamps) == self._compared:
            return
        self._compared = (names, stamps)
        runs = {name: open_run(self._folder / name) for name in names}
        readable = {name: run for name, run in runs.items() if _has_recipe(run)}
        comparison = _comparison(readable) if readable else {}
        others = ", ".join(name for name in runs if name not in readable)
        if readable and others:
            comparison["problems"].append(f"The recipe of {others} cannot be read")
        self.comparison = comparison


def _run_folders(folder: Path) -> list[Path]:
    """Return the run folders below a folder, which hold no further ones."""
    found: list[Path] = []
    for path, folders, files in os.walk(folder):
        if "recipe.yaml" in files and "environment.json" in files:
            found.append(Path(path))
            folders.clear()
        else:
            jobs = (".job", ".slurm")
            folders[:] = sorted(f for f in folders if f[0] != "." and not f.endswith(jobs))
    return found


def _row(path: Path, name: str) -> dict[str, Any]:
    run = open_run(path)
    try:
        recipe, facts = run.recipe, run.environment
    except ValueError as error:
        return {**_EMPTY, "id": name, "state": "other", "recipe": str(error)[:80]}
    row = {
        **_EMPTY,
        "id": name,
        "state": read_activity(path).state,
        "recipe": recipe.name,
        "seed": recipe.training.seed,
        "seconds": facts.get("seconds"),
        "started": str(facts.get("started", "")),
        "commit": str(facts.get("commit") or ""),
        "report": (path / "report.html").is_file(),
        "synthetic": bool(facts.get("synthetic")),
    }
    scores = _scores(run)
    if scores is not None:
        low, high = accuracy_interval(scores.correct)
        row |= {"top1": float(scores.correct.mean()), "low": low, "high": high}
        row["samples"] = len(scores.ids)
    return row


_EMPTY: dict[str, Any] = {
    "state": "", "recipe": "", "seed": None, "top1": None, "low": None, "high": None,
    "samples": 0, "seconds": None, "started": "", "commit": "", "report": False, "synthetic": False,
}  # fmt: skip


def _scores(run: Run) -> Scores | None:
    try:
        return read_run_scores(run)
    except (OSError, ValueError):  # not tested, or damaged
        return None


def _has_recipe(run: Run) -> bool:
    try:
        return run.recipe is not None
    except ValueError:
        return False


def _comparison(runs: Mapping[str, Run]) -> dict[str, Any]:
    """Compare runs with the first of them, as the page shows it."""
    names = list(runs)
    first = names[0]
    found: dict[str, Any] = {
        "names": names,
        "curves": {name: _curves(run) for name, run in runs.items()},
        "settings": _settings(runs),
        "pairs": [],
        "problems": [],
        "classes": [],
        "class_names": [],
    }
    if len(names) < 2:
        return found
    scores = {name: _scores(run) for name, run in runs.items()}
    untested = [name for name, own in scores.items() if own is None]
    if untested:
        found["problems"].append(
            f"No test scores of {', '.join(untested)}: test with `msg3d-lab test RUN`"
        )
    one = scores[first]
    for name in names[1:]:
        other = scores[name]
        if one is None or other is None:
            continue
        try:
            a, b = align([one, other])
        except ValueError as error:
            found["problems"].append(f"{first} and {name} cannot be compared: {error}")
            continue
        pair = compare(a.correct, b.correct)
        facts = {**asdict(pair), "a": first, "b": name, "p": pair.p_value}
        found["pairs"].append(facts)
        if not found["classes"]:
            found["class_names"] = [first, name]
            table = class_delta(a, b)
            largest = table["difference"].abs().sort_values(ascending=False, kind="stable")
            found["classes"] = table.loc[largest.index].reset_index().to_dict("records")
    return found


def _curves(run: Run) -> dict[str, list[list[float]]]:
    """Return the points of each quantity."""
    if not (run.path / "metrics.csv").is_file():
        return {}
    metrics = run.metrics
    columns = {"top1": f"{run.recipe.held_out}_top1", **{name: name for name in _CURVES}}
    return {name: curve_points(metrics, own) for name, own in columns.items() if own in metrics}


def _settings(runs: Mapping[str, Run]) -> list[list[str]]:
    """Return a row per setting that differs between the runs: its name and its values."""
    first, *others = [run.recipe for run in runs.values()]
    found = [
        {name: (mine, its) for name, mine, its in differing_settings(first, other)}
        for other in others
    ]
    own = {name: mine for each in found for name, (mine, _) in each.items()}
    return [
        [name, str(mine), *(str(each[name][1] if name in each else mine) for each in found)]
        for name, mine in own.items()
    ]


@styled
def _figure(table: pd.DataFrame, comparison: Mapping[str, Any], *, quantity: str) -> Figure:
    """Draw accuracies with intervals, and beside them the curves of compared runs."""
    shown = table.dropna(subset=["top1"]).sort_values("top1", ascending=False).head(25)
    size = (11, max(2.4, 1.2 + 0.28 * len(shown)))
    figure, axes = new_figure(size, 1, 2)
    left, right = axes[0]
    places = np.arange(len(shown))[::-1]
    low, top1, high = (100 * shown[name].to_numpy(float) for name in ("low", "top1", "high"))
    left.hlines(places, low, high, color=CATEGORIES[0], lw=2)
    left.plot(top1, places, "o", color=CATEGORIES[0])
    left.set_yticks(places, list(shown.index))
    left.set(xlabel="test top-1 (%), 95 % interval", title=f"{len(shown)} of {len(table)} runs")
    for number, name in enumerate(comparison.get("names", ())):
        points = comparison["curves"][name].get(quantity, [])
        if points:
            x, y = np.array(points).T
            color, dash = CATEGORIES[number % len(CATEGORIES)], _DASHES[number % len(_DASHES)]
            right.plot(x, y, color=color, ls=dash, label=name)
    if right.lines:
        right.legend(fontsize=8)
        right.set(xlabel="epoch", title=f"{_WORDS[quantity]} of the selected runs")
    else:
        right.axis("off")
        right.text(0, 1, "no runs are selected", color=MUTED, va="top")
    return figure
