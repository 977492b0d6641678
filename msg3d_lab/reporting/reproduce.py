"""Reproduce a published row: data, weights or training, tests, fusions, published beside measured.

Every step that is done is kept: the same call continues where an earlier one stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msg3d_lab.data.batches.streams import STREAMS
from msg3d_lab.data.download import SOURCES, download_dataset
from msg3d_lab.data.formats.registry import import_dataset
from msg3d_lab.data.store import Store, open_store
from msg3d_lab.evaluation import evaluate
from msg3d_lab.model.weights import download_weights, published_weights
from msg3d_lab.published import read_published
from msg3d_lab.reporting.measured import find_runs, measured_results
from msg3d_lab.reporting.tables import streams_table
from msg3d_lab.training import Recipe, Run, fit, open_run, recipes
from msg3d_lab.training.diagnostics.estimation import estimate
from msg3d_lab.training.weights.as_run import run_of_weights

if TYPE_CHECKING:
    import pandas as pd


Origin = Literal["weights", "training"]


def rows() -> list[str]:
    """Return the names of the rows: recipes without their stream, such as "ntu60-xsub-2d"."""
    joints = [known.recipe for known in published_weights().values()]
    return sorted({name.removesuffix("-joint") for name in joints if name.endswith("-joint")})


@dataclass(frozen=True)
class Reproduction:
    """A published row and what it takes to measure it.

    Args:
        row: one of `rows()`.
        origin: whether published weights are tested, or networks are trained first.
        zoo: whose weights: "pyskl" has four streams of each row, "mmaction2" has joints.
        data: the data set's pickle, or a store of it. Default: the store where `data import` puts
            it; if there is none, the pickle is downloaded and imported.
        runs: the folder of the run folders.
        settings: changes to the recipes.

    Raises:
        ValueError: unknown row, or weights that the zoo does not have.
    """

    row: str
    origin: Origin = "weights"
    zoo: str = "pyskl"
    data: Path | None = None
    runs: Path = Path("runs/reproduce")
    settings: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.row not in rows():
            raise ValueError(f"unknown row {self.row!r}: expected one of {', '.join(rows())}")
        if self.origin == "weights" and not self.recipes:
            raise ValueError(f"{self.zoo} has published no weights for {self.row}")

    @property
    def recipes(self) -> list[Recipe]:
        """The recipes of the row's streams."""
        names = [f"{self.row}-{stream.replace('_', '-')}" for stream in STREAMS]
        if self.origin == "weights":
            names = [name for name in names if f"{self.zoo}/{name}" in published_weights()]
        return [recipes.with_settings(recipes.get(name), self.settings) for name in names]

    @property
    def store_path(self) -> Path:
        """The store: the one given, or the default place."""
        if self.data is not None and _is_store(self.data):
            return self.data
        return self.recipes[0].default_store

    def plan(self) -> pd.DataFrame:
        """Return a row per step: step, done, needs (disk, memory and time as far as known)."""
        import pandas as pd

        steps = [("data", "data", self.store_path.is_file())]
        for recipe in self.recipes:
            run = self._folder(recipe)
            made = run.is_dir() and (self.origin == "weights" or open_run(run).finished)
            steps.append((f"{self.origin} {recipe.name}", self.origin, made))
            steps.append((f"test {recipe.name}", "test", (run / "scores.parquet").is_file()))
        left = {kind for _, kind, done in steps if not done}
        needs = self._needs(left)
        return pd.DataFrame(
            [(step, done, "" if done else needs[kind]) for step, kind, done in steps],
            columns=["step", "done", "needs"],
        ).set_index("step")

    def run(
        self, *, device: str = "auto", batch_size: int = 16, progress: bool = True
    ) -> pd.DataFrame:
        """Do what is left, and return the published results of the row beside the measured ones.

        Args:
            device: "auto", "cpu", "cuda" or "mps".
            batch_size: clips per forward pass of the tests.
            progress: whether to show progress bars.

        Returns:
            The rows of `streams_table` that belong to this one.
        """
        store = self._open_store(progress=progress)
        for recipe in self.recipes:
            run = self._make_run(recipe, store, device=device, progress=progress)
            if not run.scores_path.is_file():
                evaluate(run, data=store, batch_size=batch_size, device=device, progress=progress)
        return self.table()

    def table(self) -> pd.DataFrame:
        """Return the published results of the row beside those measured so far."""
        known = measured_results(find_runs(self.runs))
        published = read_published()
        names = {f"{self.row}-{stream.replace('_', '-')}" for stream in STREAMS}
        of_row = [set(text.split("+")) <= names for text in published["recipe"]]
        own = [set(text.split("+")) <= names for text in known["recipe"]]
        return streams_table(published.loc[of_row], known.loc[own])

    def _folder(self, recipe: Recipe) -> Path:
        return self.runs / (
            recipe.name if self.origin == "training" else f"{self.zoo}-{recipe.name}"
        )

    def _make_run(self, recipe: Recipe, store: Store, *, device: str, progress: bool) -> Run:
        folder = self._folder(recipe)
        if self.origin == "training":
            if folder.is_dir() and open_run(folder).finished:
                return open_run(folder)
            return fit(
                recipe, data=store, run=folder, resume=True, device=device, progress=progress
            )
        if folder.is_dir():
            return open_run(folder)
        path = download_weights(f"{self.zoo}/{recipe.name}", progress=progress)
        return run_of_weights(path, recipe=recipe, run=folder)

    def _open_store(self, *, progress: bool) -> Store:
        path = self.store_path
        if not path.is_file():
            source = self.data
            if source is None:
                source = download_dataset(self._source_name, progress=progress)
            import_dataset(
                source, dataset=self.recipes[0].data.dataset, out=path, progress=progress
            )
        return open_store(path)

    @property
    def _source_name(self) -> str:
        data = self.recipes[0].data
        return f"{data.dataset}-{'2d' if data.layout == 'coco17' else '3d'}"

    def _needs(self, left: set[str]) -> dict[str, str]:
        """What each kind of step needs here; times are measured if there is a store."""
        needs = {"weights": "13 MB of disk"}
        if "data" in left:
            unknown = "time is measured when the data are there"
            return {**needs, "data": self._data_needs(), "training": unknown, "test": unknown}
        if left & {"training", "test"}:
            recipe, store = self.recipes[0], open_store(self.store_path)
            found = estimate(recipe, data=store, seconds=10)
            clips = len(store.indices(recipe.data.test_split)) * recipe.test_clips
            memory = max(found.peak_memory.values(), default=0)
            needs["training"] = f"{_hours(found.seconds or 0)} and {_giga(memory)} of memory"
            needs["test"] = (
                f"{_hours((found.test_seconds_per_clip or 0) * clips)} for {clips} clips"
            )
        return needs

    def _data_needs(self) -> str:
        if self.data is not None:
            size, how = self.data.stat().st_size, f"to import {self.data}"
        else:
            announced = _announced_size(SOURCES[self._source_name].addresses)
            if announced is None:
                return "a download (its size is not known: the server cannot be reached)"
            size, how = announced, f"to download and import {self._source_name}"
        return f"{_giga(size)} of memory and about {_giga(3 * size)} of disk {how}"


def _is_store(path: Path) -> bool:
    return path.suffix == ".arrow"


def _announced_size(addresses: Sequence[str]) -> int | None:
    import httpx

    for address in addresses:
        try:
            answer = httpx.head(address, follow_redirects=True, timeout=10)
            return int(answer.raise_for_status().headers["content-length"])
        except (httpx.HTTPError, KeyError, ValueError):
            continue
    return None


def _giga(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"
