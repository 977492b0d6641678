"""Recipes: everything that decides a run, in one YAML file without inheritance.

The library's recipes are the files in `recipes/`. One file stands for its siblings on the other
streams, splits and NTU data sets, which differ in those names only. What `get` returns, and what a
run folder keeps, is always the whole recipe.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from msg3d_lab.data.batches.sampling import UNIFORM
from msg3d_lab.data.batches.streams import STREAMS
from msg3d_lab.data.datasets import DATASETS, default_store
from msg3d_lab.training.settings import OLD_NAMES, Data, Model, Section, Training
from msg3d_lab.yaml_library import YamlLibrary, read_mapping

_NTU_SPLITS = (("ntu60", "xsub"), ("ntu60", "xview"), ("ntu120", "xsub"), ("ntu120", "xset"))


class Recipe(Section):
    """A whole recipe.

    Args:
        name: its name.
        source: where its settings come from.
        data: which clips.
        model: which network.
        training: how it is trained.
        test_clips: clips per sample at test time; their softmax scores are averaged. With uniform
            sampling they differ by their frames; otherwise they are one clip turned by equal steps
            about the axis about which training clips are turned all the way round, the one of
            `rotation` with 180 degrees. Off: 1.
    """

    name: str
    source: str
    data: Data
    model: Model
    training: Training
    test_clips: int = Field(ge=1)

    @model_validator(mode="after")
    def _test_data_choose_nothing(self) -> Recipe:
        training = self.training
        if training.chooses and not self.data.validation_subjects:
            raise ValueError(
                f"keep={training.keep} with patience={training.patience} chooses by accuracy, and "
                "test data must choose nothing: name some subjects of the training split in "
                "validation_subjects"
            )
        return self

    @model_validator(mode="after")
    def _test_clips_differ(self) -> Recipe:
        data = self.data
        differ = data.sampling in UNIFORM or data.augment.turning_axis is not None
        if self.test_clips > 1 and not differ:
            raise ValueError(
                f"test_clips={self.test_clips} with sampling={data.sampling} and "
                f"rotation={list(data.rotation)} would be the same clip each time: several need "
                "uniform sampling, or one angle of 180 in rotation"
            )
        return self

    @property
    def hash(self) -> str:
        """Twelve hex digits that change with any setting except the seed.

        A setting that was renamed counts under its first name, so that recorded hashes stay valid.
        """
        seed = {"training": {"seed"}}
        content = self.model_dump(mode="json", exclude=seed, exclude_defaults=True)
        for old, new in OLD_NAMES.items():
            if new in content["training"]:
                content["training"][old] = content["training"].pop(new)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def held_out(self) -> Literal["val", "test"]:
        """What is evaluated during training, as metrics.csv calls it.

        "val" is the validation part, "test" the test split where there is no validation part.
        """
        return "val" if self.data.validation_subjects else "test"

    @property
    def label_names(self) -> tuple[str, ...]:
        """The class names of the data set; empty if only its store knows them."""
        known = DATASETS.get(self.data.dataset)
        return known.label_names if known else ()

    @property
    def default_store(self) -> Path:
        """Where `msg3d-lab data import` puts the data set's store."""
        data = self.data
        return default_store(data.dataset, data.layout, preparation=data.preparation)


def names() -> list[str]:
    """The names of the library's recipes."""
    return _LIBRARY.names()


def get(recipe: Recipe | str) -> Recipe:
    """Return a recipe.

    Args:
        recipe: the name of one of the library's, the path of a YAML file, or a recipe, which is
            returned as it is.

    Raises:
        ValueError: no such recipe; the message lists those there are. A file that is no recipe.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe.endswith((".yaml", ".yml")):
        return load(recipe)
    return _LIBRARY.get(recipe)


def load(path: str | Path) -> Recipe:
    """Read a recipe from YAML. Old names of settings are read too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a setting is missing, misspelt or out of range; the message names each.
    """
    return Recipe.parse(read_mapping(path, kind="recipe"), wrong=f"{path} is not a recipe")


def save(recipe: Recipe, path: str | Path) -> None:
    """Write the whole recipe as YAML."""
    Path(path).write_text(to_yaml(recipe), encoding="utf-8")


def to_yaml(recipe: Recipe) -> str:
    """Return the whole recipe as YAML."""
    texts = {"name": recipe.name, "source": recipe.source}
    lines = [yaml.safe_dump(texts, sort_keys=False, width=1000).rstrip()]
    for section, settings in recipe.model_dump(mode="json").items():
        if isinstance(settings, dict):
            lines.append(f"{section}:")
            lines += [f"  {key}: {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join([*lines, f"test_clips: {recipe.test_clips}", ""])


def with_settings(recipe: Recipe, settings: Sequence[str] | Mapping[str, Any]) -> Recipe:
    """Return the recipe with some settings changed.

    Args:
        settings: ("epochs=5", "data.stream=bone", ...) as in the shell, values in YAML; or a
            mapping. The section can be left out where only one section has a setting of that name;
            a list of one value needs no brackets.

    Raises:
        ValueError: an unknown setting (the message lists near names) or a value out of range.

    Example:
        >>> with_settings(get("synthetic-joint"), ["epochs=1"]).training.epochs
        1
    """
    if not isinstance(settings, Mapping):
        settings = parse_settings(settings)
    document, known = recipe.model_dump(mode="json"), list(_settings_of(recipe))
    for name, value in settings.items():
        section, _, key = _full_name(known, name).rpartition(".")
        part = document[section] if section else document
        single = isinstance(part[key], list) and isinstance(value, str | int | float)
        part[key] = [value] if single else value
    return Recipe.parse(document, wrong="the settings are not a recipe")


def get_setting(recipe: Recipe, name: str) -> Any:
    """Return the value of a setting by its name, as `with_settings` takes it.

    Raises:
        ValueError: an unknown setting.
    """
    settings = _settings_of(recipe)
    return settings[_full_name(settings, name)]


def differing_settings(one: Recipe, other: Recipe) -> list[tuple[str, Any, Any]]:
    """Return the name and both values of each setting that differs."""
    others = _settings_of(other)
    return [(n, value, others[n]) for n, value in _settings_of(one).items() if value != others[n]]


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Read ("epochs=5", ...) as in the shell, values in YAML.

    Raises:
        ValueError: no key=value, or a value that is not YAML.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"expected key=value, found {setting!r}")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"the value of {setting!r} is not YAML: {error}") from error
    return found


def _settings_of(recipe: Recipe) -> dict[str, Any]:
    """All settings by their full names, in the values of YAML."""
    found: dict[str, Any] = {}
    for name, value in recipe.model_dump(mode="json").items():
        if isinstance(value, dict):
            found |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            found[name] = value
    return found


def _full_name(known: Collection[str], name: str) -> str:
    """The full name of a setting, of which the section may be left out."""
    head, dot, last = name.rpartition(".")
    name = head + dot + OLD_NAMES.get(last, last)
    leaves = [full.rpartition(".")[2] for full in known]
    found = [full for full, leaf in zip(known, leaves, strict=True) if name in (full, leaf)]
    if len(found) == 1:
        return found[0]
    import difflib

    by_leaf = dict(zip(leaves, known, strict=True))
    near = difflib.get_close_matches(name.rpartition(".")[2], by_leaf, n=3)
    hint = f"did you mean {', '.join(by_leaf[n] for n in near)}?" if near else ", ".join(known)
    raise ValueError(f"unknown setting {name!r}: {hint}")


def setting_text(value: Any) -> str:
    """Return a value as `--set NAME=VALUE` takes it."""
    return value if isinstance(value, str) else json.dumps(value).replace(" ", "")


def _siblings(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe for every stream and, on NTU, for every data set and split."""
    data = recipe.data
    own = (data.dataset, data.train_split.partition("_")[0])
    splits: Sequence[tuple[str, str]] = [own]
    if data.dataset.startswith("ntu"):  # the paper's recipes of NTU60 and NTU120 are two
        own_set = recipe.name.endswith("-paper")
        splits = [pair for pair in _NTU_SPLITS if not own_set or pair[0] == data.dataset]
    for dataset, split in splits:
        for stream in STREAMS:
            name = recipe.name.replace(f"{own[0]}-{own[1]}", f"{dataset}-{split}")
            name = name.replace("-joint", f"-{stream.replace('_', '-')}")
            change = {
                "dataset": dataset,
                "train_split": f"{split}_train",
                "test_split": f"{split}_val",
                "stream": stream,
            }
            yield recipe.model_copy(update={"name": name, "data": data.model_copy(update=change)})


_LIBRARY: YamlLibrary[Recipe] = YamlLibrary(
    Path(__file__).with_name("recipes"),
    kind="recipe",
    entries=lambda path: {recipe.name: recipe for recipe in _siblings(load(path))},
)
