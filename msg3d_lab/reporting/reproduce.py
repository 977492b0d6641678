"""Reproduce a published row: data, weights or training, tests, fusions, published beside measured.

Every step that is done is kept: the same call continues where an earlier one stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msg3d_lab.data.batches.streams import STREAMS
from msg3d_lab.data.download import GUIDES, SOURCES, download_dataset
from msg3d_lab.data.formats.registry import import_dataset
from msg3d_lab.data.store import Store, open_store
from msg3d_lab.evaluation import evaluate
from msg3d_lab.files import write_aside
from msg3d_lab.model.weights import download_weights, published_weights
from msg3d_lab.published import read_published
from msg3d_lab.reporting.measured import find_runs, measured_results
from msg3d_lab.reporting.tables import accuracy_table, streams_table
from msg3d_lab.training import Recipe, Run, fit, open_run, recipes
from msg3d_lab.training.diagnostics.estimation import estimate
from msg3d_lab.training.distributed.processes import Precision
from msg3d_lab.training.matching.recipe import prepare_option
from msg3d_lab.training.weights.as_run import run_of_weights

if TYPE_CHECKING:
    import pandas as pd


Origin = Literal["weights", "training"]
# Rows of data sets that everybody can have; nobody has published weights of MS-G3D for them.
_FREE_ROWS = ("nw-ucla", "nw-ucla-aligned", "nw-ucla-wide", "utd-mhad")


def rows() -> list[str]:
    """Return the names of the rows: recipes without their stream, such as "ntu60-xsub-2d"."""
    names = [name.partition("/")[2] for name in published_weights()]
    with_weights = {name.removesuffix("-joint") for name in names if name.endswith("-joint")}
    return sorted([*with_weights, *_FREE_ROWS])


@dataclass(frozen=True)
class Reproduction:
    """A published row and what it takes to measure it.

    Args:
        row: one of `rows()`.
        origin: whether published weights are tested, or networks are trained first. Default:
            weights, where there are published ones.
        zoo: whose weights and recipes: "pyskl" has published four streams of each row, "mmaction2"
            joints.
        data: the data set as `data import` takes it, or a store of it. Default: the store where
            `data import` puts it; if there is none, what can be downloaded is downloaded.
        runs: the folder of the run folders.
        settings: changes to the recipes.
        compact: train the narrower recipes with fewer passes (`*-compact`).
        seeds: of the trainings. Default: that of the recipes.

    Raises:
        ValueError: unknown row, weights that the zoo does not have, `compact` or `seeds` of
            weights, a row without recipes of this size, or a seed that occurs twice.
    """

    row: str
    origin: Origin | None = None
    zoo: str = "pyskl"
    data: Path | None = None
    runs: Path = Path("runs/reproduce")
    settings: Sequence[str] = ()
    compact: bool = False
    seeds: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.row not in rows():
            raise ValueError(f"unknown row {self.row!r}: expected one of {', '.join(rows())}")
        if not self.trains and (self.compact or self.seeds):
            raise ValueError("compact and seeds are of trainings: give --from training as well")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"expected seeds that differ, found {list(self.seeds)}")
        if not set(self._names) <= set(recipes.names()):
            size, cure = ("compact", "omit") if self.compact else ("full-size", "give")
            raise ValueError(f"there are no {size} recipes of {self.row}: {cure} --compact")
        if not self.trains and not self.recipes:
            raise ValueError(f"{self.zoo} has published no weights for {self.row}")

    @property
    def trains(self) -> bool:
        """Whether networks are trained."""
        return (self.origin or ("training" if self.row in _FREE_ROWS else "weights")) == "training"

    @property
    def recipes(self) -> list[Recipe]:
        """The recipes of the row's streams, and of all seeds; all streams of a seed first."""
        names, seeds = self._names, [[f"seed={seed}"] for seed in self.seeds] or [[]]
        if not self.trains:
            names = [name for name in names if self._weights(name) in published_weights()]
        return [
            recipes.with_settings(recipes.get(name), [*self.settings, *seed])
            for seed in seeds
            for name in names
        ]

    @property
    def store_path(self) -> Path:
        """The store: the one given, or the default place."""
        if self.data is not None and self.data.suffix == ".arrow":
            return self.data
        return self.recipes[0].default_store

    def plan(self) -> pd.DataFrame:
        """Return a row per step: step, done, needs (disk, memory and time as far as known).

        Raises:
            ValueError: a finished run of another recipe or store is in the way.
        """
        import pandas as pd

        store = open_store(self.store_path) if self.store_path.is_file() else None
        steps = [("data", "data", store is not None)]
        kind = "training" if self.trains else "weights"
        for recipe in self.recipes:
            run, seed = self._folder(recipe), recipe.training.seed
            made = self._finished_run(recipe, store) is not None
            of_seed = f" seed {seed}" if self.seeds else ""
            steps.append((f"{kind} {recipe.name}{of_seed}", kind, made))
            tested = (run / "scores.parquet").is_file()
            steps.append((f"test {recipe.name}{of_seed}", "test", tested))
        needs = self._needs(Counter(kind for _, kind, done in steps if not done))
        if "in all" in needs:
            steps.append(("in all", "in all", False))
        return pd.DataFrame(
            [(step, done, "" if done else needs[kind]) for step, kind, done in steps],
            columns=["step", "done", "needs"],
        ).set_index("step")

    def run(
        self,
        *,
        device: str = "auto",
        precision: Precision = "32-true",
        batch_size: int = 16,
        progress: bool = True,
    ) -> pd.DataFrame:
        """Do what is left, and return the published results of the row beside the measured ones.

        Args:
            device: "auto", "cpu", "cuda" or "mps".
            precision: of the trainings.
            batch_size: clips per forward pass of the tests.
            progress: whether to show progress.

        Returns:
            See `table`, which is also written to RUNS/ROW.csv.
        """
        store, todo = self.open_store(progress=progress), self.recipes
        for i, recipe in enumerate(todo):
            if progress:
                done = f"{i + 1} of {len(todo)}: {recipe.name}, seed {recipe.training.seed}"
                print(done, flush=True)
            run = self._make_run(
                recipe, store, device=device, precision=precision, progress=progress
            )
            if not run.scores_path.is_file():
                evaluate(run, data=store, batch_size=batch_size, device=device, progress=progress)
        table = self.table()
        name = f"{self.row}{'-compact' if self.compact else ''}.csv"
        with write_aside(self.runs / name, overwrite=True) as aside:
            table.to_csv(aside, index=False)
        return table

    def table(self) -> pd.DataFrame:
        """Return the published results of the row beside those measured so far.

        Accuracies are those of the last epoch: the test split chooses nothing, unless the recipe
        has a validation part.

        Returns:
            Of trainings those rows of `accuracy_table` that belong to this row; of weights those of
            `streams_table`.
        """
        runs = [run for run in find_runs(self.runs) if run.is_trained_here == self.trains]
        known = measured_results(runs)
        published = read_published()
        names = set(self._names)
        of_row = [set(text.split("+")) <= names for text in published["recipe"]]
        if not any(of_row):  # published without a recipe that could be named
            data = self.recipes[0].data
            of_row = list(
                (published["dataset"] == data.dataset)
                & (published["split"] == data.test_split.removesuffix("_val"))
            )
        own = [set(text.split("+")) <= names for text in known["recipe"]]
        make = accuracy_table if self.trains else streams_table
        return make(published.loc[of_row], known.loc[own])

    def open_store(self, *, progress: bool = True) -> Store:
        """Open the store; import the data first if there is none.

        Raises:
            ValueError: the data are not there, and cannot be downloaded.
        """
        path = self.store_path
        if not path.is_file():
            dataset, source = self.recipes[0].data.dataset, self.data
            if source is None and dataset in GUIDES:
                raise ValueError(
                    f"expected the data, --data (data=): `msg3d-lab data download {dataset}` tells "
                    "how to get them"
                )
            if source is None:
                source = download_dataset(self._source_name, progress=progress)
            prepare = prepare_option(self.recipes[0])
            import_dataset(source, dataset=dataset, out=path, prepare=prepare, progress=progress)
        return open_store(path)

    @property
    def _names(self) -> list[str]:
        end = "-compact" if self.compact else ""
        if not self.compact and self.zoo == "pyskl" and self.row not in _FREE_ROWS:
            end = "-pyskl"
        return [f"{self.row}-{stream.replace('_', '-')}{end}" for stream in STREAMS]

    def _weights(self, recipe: str) -> str:
        return f"{self.zoo}/{recipe.removesuffix('-pyskl')}"

    def _folder(self, recipe: Recipe) -> Path:
        if not self.trains:
            return self.runs / self._weights(recipe.name).replace("/", "-")
        seed = recipe.training.seed
        own = recipes.get(recipe.name).training.seed == seed
        return self.runs / (recipe.name if own else f"{recipe.name}-seed{seed}")

    def _finished_run(self, recipe: Recipe, store: Store | None) -> Run | None:
        folder = self._folder(recipe)
        if not (folder.is_dir() and open_run(folder).finished):
            return None
        run = open_run(folder)
        if store is not None and (difference := run.difference(recipe, store)):
            raise ValueError(
                f"{folder} is of {difference}: remove it, or name another folder of runs (--runs)"
            )
        return run

    def _make_run(
        self, recipe: Recipe, store: Store, *, device: str, precision: Precision, progress: bool
    ) -> Run:
        folder = self._folder(recipe)
        if (finished := self._finished_run(recipe, store)) is not None:
            return finished
        if self.trains:
            return fit(
                recipe,
                data=store,
                run=folder,
                resume=True,
                device=device,
                precision=precision,
                progress=progress,
            )
        name = self._weights(recipe.name)
        download_weights(name, progress=progress)
        return run_of_weights(name, recipe=recipe, run=folder)

    @property
    def _source_name(self) -> str:
        data = self.recipes[0].data
        return f"{data.dataset}-{'2d' if data.layout == 'coco17' else '3d'}"

    def _needs(self, left: Counter[str]) -> dict[str, str]:
        """What each kind of step needs here; times are measured if there is a store."""
        needs = {"weights": "13 MB of disk"}
        if "data" in left:
            unknown = "time is measured when the data are there"
            return {**needs, "data": self._data_needs(), "training": unknown, "test": unknown}
        if left["training"] or left["test"]:
            recipe, store = self.recipes[0], open_store(self.store_path)
            found = estimate(recipe, data=store, seconds=10)
            clips = len(store.indices(recipe.data.test_split)) * recipe.test_clips
            memory = max(found.peak_memory.values(), default=0)
            # While it is trained, two checkpoints of weights and momentum lie beside the weights.
            disk = _bytes(5 * 4 * found.cost.parameters)
            training, test = found.seconds or 0.0, (found.test_seconds_per_clip or 0.0) * clips
            needs["training"] = f"{_hours(training)}, {_bytes(memory)} of memory, {disk} of disk"
            needs["test"] = f"{_hours(test)} for {clips} clips"
            whole = left["training"] * training + left["test"] * test
            needs["in all"] = f"{_hours(whole)} on this machine"
        return needs

    def _data_needs(self) -> str:
        if self.data is not None:
            files = self.data.rglob("*") if self.data.is_dir() else [self.data]
            size, how = sum(file.stat().st_size for file in files), f"to import {self.data}"
        elif self.recipes[0].data.dataset in GUIDES:
            dataset = self.recipes[0].data.dataset
            return f"--data: msg3d-lab data download {dataset} tells how to get it"
        else:
            announced = _announced_size(SOURCES[self._source_name].addresses)
            if announced is None:
                return "a download (its size is not known: the server cannot be reached)"
            size, how = announced, f"to download and import {self._source_name}"
        return f"{_bytes(size)} of memory and about {_bytes(3 * size)} of disk {how}"


def _announced_size(addresses: Sequence[str]) -> int | None:
    import httpx

    for address in addresses:
        try:
            answer = httpx.head(address, follow_redirects=True, timeout=10)
            return int(answer.raise_for_status().headers["content-length"])
        except (httpx.HTTPError, KeyError, ValueError):
            continue
    return None


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{max(1, count / 1e6):.0f} MB"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"
