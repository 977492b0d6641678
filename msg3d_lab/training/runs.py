"""The run folder: everything about one training.

recipe.yaml         the whole recipe
environment.json    versions, device, data
metrics.csv         a row per epoch
init.csv            of a run with initial weights: each tensor, loaded or new
model.safetensors   the weights that were kept, and how to rebuild the model
resume.pt           the newest checkpoint, until the run is finished; the one before it is
                    resume.previous.pt (see `msg3d_lab.training.checkpointing`)
progress.json       where training is, until it has finished (see `msg3d_lab.training.progress`)
training.log        what training said, with times
testing-.../        the scores so far, until a test is finished (`evaluation.partial_scores`)
scores.parquet      test scores by sample id (written by `msg3d_lab.evaluation.evaluate`)
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msg3d_lab.data.store import Store, open_store
from msg3d_lab.files import write_aside, write_json
from msg3d_lab.model import MSG3D, load_model, save_model
from msg3d_lab.training import recipes
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.schedule import peak_lr

if TYPE_CHECKING:
    import pandas as pd
    from lightning_fabric import Fabric


NEWEST, PREVIOUS = "resume.pt", "resume.previous.pt"
PROGRESS, LOG, LOCK = "progress.json", "training.log", ".lock"
_PACKAGES = ("msg3d-lab", "torch", "lightning-fabric", "numpy", "pyarrow", "pandas")


@dataclass(frozen=True)
class Run:
    """A run folder. Each file is read when its property is used."""

    path: Path

    @cached_property
    def recipe(self) -> Recipe:
        """The whole recipe."""
        return recipes.load(self.path / "recipe.yaml")

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, device, data; once training has finished, its seconds and the epoch kept."""
        text = (self.path / "environment.json").read_text(encoding="utf-8")
        return json.loads(text)

    @property
    def metrics(self) -> pd.DataFrame:
        """A row per epoch: epoch, lr, train_loss, train_top1, seconds and others.

        The held-out clips have the columns `val_loss` and `val_top1` if the recipe has a validation
        part, else `test_loss` and `test_top1`. NaN: not evaluated after this epoch.
        """
        import pandas as pd

        table = pd.read_csv(self.path / "metrics.csv")
        if self.recipe.held_out == "test":  # earlier versions wrote val_* always
            table = table.rename(columns={"val_loss": "test_loss", "val_top1": "test_top1"})
        return table

    def data_facts(self, data: Store | str | Path | None = None) -> dict[str, Any]:
        """Return what the run knows of the data it was trained on: label_names and preparation.

        Args:
            data: the store, for runs that do not know: of earlier versions, or made of a
                checkpoint. Default: the path that the run was trained on.

        Raises:
            FileNotFoundError: such a run, and its store is not there.
        """
        facts: dict[str, Any] = self.environment["data"]
        if {"preparation", "label_names"} <= facts.keys() and data is None:
            return facts
        try:
            store = data if isinstance(data, Store) else open_store(data or facts["path"])
        except FileNotFoundError as error:
            if data is not None:
                raise
            raise FileNotFoundError(
                f"{self.path} does not say its class names and how its clips were prepared, and "
                f"there is no store at {facts['path']}: name one with --data (data=)"
            ) from error
        return {**facts, **_data_facts(store)}

    @property
    def is_trained_here(self) -> bool:
        """Whether the run was trained, or made of a checkpoint (`run_of_weights`)."""
        return "weights" not in self.environment

    def difference(self, recipe: Recipe, store: Store) -> str:
        """Return how the run differs from one of this recipe and store; "" if it does not."""
        found = self.environment["data"].get("fingerprint")
        if found not in (None, store.fingerprint):  # None: made of a checkpoint, not yet tested
            return f"another store (fingerprint {found}, not {store.fingerprint})"
        changes = [
            f"{name} is {there!r} there and {here!r} here"
            for name, there, here in recipes.differing_settings(self.recipe, recipe)
        ]
        return f"another recipe: {'; '.join(changes)}" if changes else ""

    @property
    def training_minutes(self) -> float:
        """Minutes of training; NaN for a run that was made of a checkpoint."""
        return float(self.environment["seconds"]) / 60 if self.is_trained_here else math.nan

    @property
    def checkpoint(self) -> Path:
        """The path of the weights."""
        return self.path / "model.safetensors"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint that training can be resumed from."""
        return any((self.path / name).exists() for name in (NEWEST, PREVIOUS))

    @property
    def finished(self) -> bool:
        """Whether training has finished: there are weights, and no checkpoints any more."""
        return self.checkpoint.is_file() and not self.has_checkpoint

    @property
    def scores_path(self) -> Path:
        """The path of the test scores, whether they exist or not."""
        return self.path / "scores.parquet"

    def model(self) -> MSG3D:
        """The trained model, in eval mode."""
        return load_model(self.checkpoint)

    def remove_parts(self) -> None:
        """Remove half-written files of a killed process. The caller must hold the folder's lock."""
        for part in self.path.glob(".*.part"):
            part.unlink(missing_ok=True)

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Replace environment.json."""
        write_json(self.path / "environment.json", dict(facts))

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace metrics.csv."""
        import pandas as pd

        with write_aside(self.path / "metrics.csv", overwrite=True) as aside:
            pd.DataFrame(rows).to_csv(aside, index=False)


def open_run(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        FileNotFoundError: it is not a run folder; the message says what is missing.
    """
    path = Path(path)
    for name in ("recipe.yaml", "environment.json"):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path} is not a run folder: it has no {name}")
    return Run(path)


def find_run(path: Path, *, resume: bool) -> Run | None:
    """Return the run to resume, or None if the folder is free for a new one.

    Raises:
        FileExistsError: the folder exists, and `resume` is not set.
        FileNotFoundError: the folder to resume is not a run folder.
    """
    if not path.exists():
        return None
    if resume:
        return open_run(path)
    unfinished = (path / "recipe.yaml").is_file() and not Run(path).finished
    advice = "go on with it by --resume (resume=True), " if unfinished else ""
    raise FileExistsError(
        f"{path} exists already: {advice}name another run folder with --run, or remove it"
    )


def create_run(
    path: str | Path,
    recipe: Recipe,
    environment: Mapping[str, Any],
    *,
    model: MSG3D | None = None,
    initial: pd.DataFrame | None = None,
) -> Run:
    """Make a new run folder, complete or not at all.

    Args:
        environment: what environment.json says.
        model: its weights, for a run that is not to be trained.
        initial: the tensors of its initial weights: init.csv.

    Raises:
        FileExistsError: the folder exists.
    """
    with write_aside(path) as aside:
        aside.mkdir()
        recipes.save(recipe, aside / "recipe.yaml")
        Run(aside).write_environment(environment)
        if initial is not None:
            initial.to_csv(aside / "init.csv", index=False)
        if model is not None:
            save_model(model, Run(aside).checkpoint)
    return Run(Path(path))


def describe_environment(
    recipe: Recipe, store: Store, fabric: Fabric, net: MSG3D
) -> dict[str, Any]:
    """Return what environment.json says of a new run."""
    return {
        **machine_facts(),
        "device": str(fabric.device),
        "world_size": fabric.world_size,
        "precision": fabric.strategy.precision.precision,
        "data": _data_facts(store),
        "synthetic": store.synthetic,
        "recipe_hash": recipe.hash,
        "learning_rate": peak_lr(recipe.training, fabric.world_size),
        "parameters": sum(p.numel() for p in net.parameters()),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _data_facts(store: Store) -> dict[str, Any]:
    return {
        "path": str(store.path),
        "fingerprint": store.fingerprint,
        "label_names": store.label_names,
        "preparation": store.preparation,
    }


def machine_facts() -> dict[str, Any]:
    """What a run's results may depend on: versions, processor, threads."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of this library's checkout, with `+` if files differ; None if installed."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    try:
        # An installed copy may be inside another repository, which does not track it.
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, check=True
        )
        commit = subprocess.run(
            [*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "diff", "--quiet", "HEAD", "--", "."], capture_output=True, check=False
        ).returncode
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def _processor() -> str:
    """The processor's name; Linux has it in a file, other systems in `platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
