"""The run folder: everything about one training, written aside and renamed.

recipe.yaml         the whole recipe
environment.json    versions, device, data, what the recipe leaves to the machine
metrics.csv         a row per epoch
model.safetensors   the weights kept, and how to rebuild the model
resume.pt           while the run is not finished: what it goes on from; and the one before it,
                    resume.previous.pt (see `msg3d_lab.training.checkpointing`)
testing-.../        while a test is not done: the scores it has so far (`evaluation.partial_scores`)
scores.parquet      test scores by sample id (written by `msg3d_lab.evaluation.evaluate`)
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msg3d_lab.files import write_aside
from msg3d_lab.model import MSG3D, load_model
from msg3d_lab.training import recipes
from msg3d_lab.training.recipes import Recipe

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "create_run", "machine_facts", "open_run"]

NEWEST, PREVIOUS = "resume.pt", "resume.previous.pt"
_PACKAGES = ("msg3d-lab", "torch", "lightning-fabric", "numpy", "pyarrow", "pandas")


@dataclass(frozen=True)
class Run:
    """A run folder; everything is read when asked for."""

    path: Path

    @cached_property
    def recipe(self) -> Recipe:
        """The whole recipe."""
        return recipes.load(self.path / "recipe.yaml")

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, device, data and what training found out about itself."""
        text = (self.path / "environment.json").read_text(encoding="utf-8")
        return json.loads(text)

    @property
    def metrics(self) -> pd.DataFrame:
        """A row per epoch: epoch, lr, train_loss, train_top1, val_loss, val_top1, seconds, ..."""
        import pandas as pd

        return pd.read_csv(self.path / "metrics.csv")

    @property
    def checkpoint(self) -> Path:
        """The weights' path."""
        return self.path / "model.safetensors"

    @property
    def finished(self) -> bool:
        """Whether it was trained to its end: the weights are kept, the checkpoints removed."""
        resumable = any((self.path / name).exists() for name in (NEWEST, PREVIOUS))
        return self.checkpoint.is_file() and not resumable

    @property
    def scores_path(self) -> Path:
        """The test scores' path, whether they exist or not."""
        return self.path / "scores.parquet"

    def model(self) -> MSG3D:
        """The trained model, in eval mode."""
        return load_model(self.checkpoint)

    def remove_parts(self) -> None:
        """Remove what a killed process was writing aside; only for who has the folder's lock."""
        for part in self.path.glob(".*.part"):
            part.unlink(missing_ok=True)

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Replace environment.json."""
        with write_aside(self.path / "environment.json", overwrite=True) as aside:
            aside.write_text(json.dumps(dict(facts), indent=2) + "\n", encoding="utf-8")

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace metrics.csv."""
        import pandas as pd

        with write_aside(self.path / "metrics.csv", overwrite=True) as aside:
            pd.DataFrame(rows).to_csv(aside, index=False)


def open_run(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        FileNotFoundError: there is no run; the message says what is missing.
    """
    path = Path(path)
    for name in ("recipe.yaml", "environment.json"):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path} is not a run folder: it has no {name}")
    return Run(path)


def create_run(path: str | Path, recipe: Recipe, environment: Mapping[str, Any]) -> Run:
    """Make a new run folder with its recipe and environment, whole or not at all.

    Raises:
        FileExistsError: the folder exists.
    """
    with write_aside(path) as aside:
        aside.mkdir()
        recipes.save(recipe, aside / "recipe.yaml")
        Run(aside).write_environment(environment)
    return Run(Path(path))


def machine_facts() -> dict[str, Any]:
    """What the results of a run may depend on: versions, processor, threads."""
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
    """The commit of this library's checkout, `+` if files differ from it; None if installed."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    try:
        # An installed copy may lie inside somebody else's repository, which does not track it.
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
    """The processor's name; Linux tells it in a file, other systems in `platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
