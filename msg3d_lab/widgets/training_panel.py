"""TrainingPanel: a recipe as a form, what it costs, and the run that it starts."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import traitlets
from matplotlib.figure import Figure

from msg3d_lab.training import recipes
from msg3d_lab.training.activity import read_activity
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.viz.style import new_figure, styled
from msg3d_lab.widgets.browser import module
from msg3d_lab.widgets.jobs import Job
from msg3d_lab.widgets.recipe_form import changed_recipe, form_fields
from msg3d_lab.widgets.run_monitor import RunMonitor

# Rows of what `msg3d-lab info` prints, whose names take this many characters.
_LABEL = 24
_COUNTED = ("parameters", "forward, per clip", "and backward", "activations, per clip")


class TrainingPanel(RunMonitor):
    """A recipe as a form: change it, see what it costs, start it, follow it.

    Values are checked by the settings' own types. Parameters and multiply-accumulates follow the
    form; memory and time are measured on demand, in a process of their own. The run is started in
    the folder of the form and shown below, as in `RunMonitor`; if that folder has a finished run,
    the next free one is taken (`-2`, `-3`, ...). The same call shows the newest of these runs
    again, also in a restarted kernel.

    Args:
        recipe: a recipe, the name of one, or the path of its YAML.
        settings: changes to it, as `recipes.with_settings` takes them.
        data: the store's path. Default: where `msg3d-lab data import` puts it.
        run: the run's folder. Default: `runs/<recipe's name>`.
        device: "auto", "cpu", "cuda" or "mps".

    Attributes:
        settings: what the form changes: values by full name, such as "training.epochs".
        folder: of the run that is started next.
        errors: what is wrong, by setting.

    Raises:
        ValueError: an unknown recipe or setting, or a value out of range.
    """

    _esm = module("form.js")

    recipe_name = traitlets.Unicode().tag(sync=True)
    fields: Any = traitlets.List().tag(sync=True)
    settings = traitlets.Dict().tag(sync=True)
    errors = traitlets.Dict().tag(sync=True)
    cost = traitlets.Dict().tag(sync=True)
    measured = traitlets.Unicode("").tag(sync=True)
    counting = traitlets.Bool(False).tag(sync=True)
    measuring = traitlets.Bool(False).tag(sync=True)
    folder = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        recipe: Recipe | str = "synthetic-joint",
        *,
        settings: Sequence[str] | Mapping[str, Any] = (),
        data: str | Path | None = None,
        run: str | Path | None = None,
        device: str = "auto",
    ) -> None:
        self._base = recipes.with_settings(recipes.get(recipe), settings)
        self._asked = Path(run) if run is not None else Path("runs") / self._base.name
        self._counted: Recipe | None = None
        super().__init__(
            _newest(self._asked) or self._asked,
            recipe=self._base,
            data=data,
            device=device,
            recipe_name=self._base.name,
            fields=form_fields(self._base),
            folder=str(_next_free(self._asked)),
        )
        self.observe(lambda _: self._check(), names="settings")
        self._check()

    @property
    def recipe(self) -> Recipe:
        """The recipe as the form has it.

        Raises:
            ValueError: a value is wrong.
        """
        recipe, errors = changed_recipe(self._base, self.settings)
        if recipe is None:
            raise ValueError("; ".join(f"{name}: {text}" for name, text in errors.items()))
        return recipe

    @traitlets.validate("settings")
    def _are_settings(self, proposal: Any) -> dict[str, Any]:
        names = [field["name"] for field in self.fields]
        unknown = [name for name in proposal["value"] if name not in names]
        if unknown:
            raise ValueError(f"unknown setting {unknown[0]!r}: expected some of {', '.join(names)}")
        return dict(proposal["value"])

    def refresh(self) -> None:
        """Read the run's files; count what the form's network costs, if the form has changed."""
        super().refresh()
        recipe, _ = changed_recipe(self._base, self.settings)
        if self._looked_at > 0 and recipe not in (None, self._counted) and not self.counting:
            self.count()

    def count(self) -> None:
        """Count parameters and multiply-accumulates of the form's network, in its own process.

        `cost` has them a few seconds later.

        Raises:
            ValueError: a value of the form is wrong.
        """
        recipe = self._counted = self.recipe
        self.counting = True

        def count() -> None:
            text = self._info(recipe, "--no-calibration")
            rows = [(line[:_LABEL].strip(), line[_LABEL:]) for line in text.splitlines()]
            self.cost = {name: value for name, value in rows if name in _COUNTED} or {"": text}
            self.counting = False

        threading.Thread(target=count, daemon=True).start()

    def begin(self) -> None:
        """Start the form's recipe in a process of its own.

        Raises:
            ValueError: a value of the form is wrong.
        """
        recipe = self.recipe
        path = Path(self.folder)
        if Job(path).running or read_activity(path).state != "missing":
            path = _next_free(path)
        self._recipe = recipe
        self._follow_run(path)
        self.start()
        self.folder = str(_next_free(path))

    def measure(self, *, seconds: float = 20) -> None:
        """Measure memory and time of the form's recipe: `measured` has the table once it is done.

        Args:
            seconds: that measuring may take, about.
        """
        recipe = self.recipe
        self.measuring, self.measured = True, "measuring ..."

        def measure() -> None:
            self.measured = self._info(recipe, "--seconds", str(seconds))
            self.measuring = False

        threading.Thread(target=measure, daemon=True).start()

    def _info(self, recipe: Recipe, *words: str) -> str:
        """Return what `msg3d-lab info` prints about a recipe.

        It is a process of its own because building a network draws random numbers, and a training
        in this kernel would go another way.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "recipe.yaml"
            recipes.save(recipe, path)
            command = [sys.executable, "-m", "msg3d_lab", "info", str(path), *words]
            command += ["--device", self._device, *self._data_words()]
            found = subprocess.run(command, capture_output=True, text=True, check=False)
        return found.stdout if found.returncode == 0 else found.stderr

    def act(self, action: str, content: Mapping[str, Any]) -> None:
        """Start the form's recipe, measure it, or pass on to the run's buttons."""
        try:
            if action == "begin":
                self.begin()
            elif action == "measure":
                self.measure()
            else:
                super().act(action, content)
        except (OSError, ValueError) as error:
            self.errors = {**self.errors, "": str(error)}

    def _actions(self, state: str) -> list[str]:
        # A run that is not there yet is started by the form's own button.
        return [action for action in super()._actions(state) if action != "start"]

    def figure(self) -> Figure:
        """Return the run's curves; before there are any, the settings."""
        return super().figure() if len(self.table()) else _settings_figure(self._values())

    def describe(self) -> str:
        """Return the recipe, its changes and the run's state in a sentence."""
        changes = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        changed = f" with {changes}" if changes else ""
        return f"Recipe {self._base.name}{changed}. {super().describe()}"

    def _values(self) -> list[tuple[str, str]]:
        return [(f["name"], str(self.settings.get(f["name"], f["value"]))) for f in self.fields]

    def _check(self) -> None:
        self.errors = changed_recipe(self._base, self.settings)[1]


def _newest(path: Path) -> Path | None:
    """Return the newest of PATH, PATH-2, PATH-3, ... that is there or being started."""
    numbered = re.compile(rf"{re.escape(path.name)}-(\d+)(\.job)?$")
    names = [p.name for p in path.parent.glob(f"{path.name}*")] if path.parent.is_dir() else []
    numbers = [int(found[1]) for name in names if (found := numbered.match(name))]
    if numbers:
        return path.with_name(f"{path.name}-{max(numbers)}")
    return path if path.name in names or f"{path.name}.job" in names else None


def _next_free(path: Path) -> Path:
    """Return PATH, or the PATH-N after the newest one."""
    newest = _newest(path)
    if newest is None:
        return path
    base = path.with_name(re.sub(r"-\d+$", "", path.name))
    number = re.search(r"-(\d+)$", newest.name)
    return base.with_name(f"{base.name}-{int(number[1]) + 1 if number else 2}")


@styled
def _settings_figure(values: Sequence[tuple[str, str]]) -> Figure:
    rows = -(-len(values) // 3)
    figure, axes = new_figure((10, 0.3 + 0.145 * rows))
    axes[0, 0].axis("off")
    for column in range(3):
        lines = [f"{name}: {value}" for name, value in values[column * rows : (column + 1) * rows]]
        axes[0, 0].text(column / 3, 1, "\n".join(lines), va="top", fontsize=8)
    return figure
