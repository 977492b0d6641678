"""Weights as a run: a checkpoint of anybody's and a recipe become a run folder.

Every command and function that takes a run takes it then: testing, prediction, explanation,
tables. The folder is made once; `environment.json` says which file it was made of.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from msg3d_lab.checksums import digest
from msg3d_lab.model import MSG3D, load_model
from msg3d_lab.model.checkpoints import find_checkpoint
from msg3d_lab.model.weights import published_weights
from msg3d_lab.training import recipes
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import Run, create_run, machine_facts, open_run
from msg3d_lab.training.weights.initial import UNTRACED, differing_arguments, read_known_notes

# What importers do by default, where a recipe leaves it open.
_BY_LAYOUT = {"coco17": "prepare_2d", "ntu25": "prepare_3d", "openpose18": "kinetics"}


def run_of_weights(
    weights: str | Path,
    *,
    recipe: Recipe | str | None = None,
    run: str | Path | None = None,
) -> Run:
    """Return a run folder with given weights, made if it is not there.

    Args:
        weights: a file that `load_model` reads, or the name of published weights, which are
            downloaded if they are not there.
        recipe: how clips are prepared for the network, and how it is tested. Default: that of the
            published weights, or the one in a file of ours.
        run: the folder. Default: `runs/weights/NAME`.

    Raises:
        FileNotFoundError: no such file.
        FileExistsError: the folder holds other weights or another recipe.
        ValueError: a file without a recipe; a file that is not a checkpoint; weights of another
            network than the recipe's: the message says in what they differ.
    """
    name = str(weights)
    published = published_weights().get(name)
    path = find_checkpoint(weights)
    notes = read_known_notes(path)[0]
    if recipe is None and published is not None:
        recipe = published.recipe
    if recipe is None and "recipe" in notes:
        recipe = Recipe.parse(notes["recipe"], wrong=f"the recipe in {path} cannot be read")
    if recipe is None:
        known = ", ".join(list(published_weights())[:3])
        raise ValueError(
            f"{name} needs the recipe it was trained with: --recipe NAME (recipe=). Published "
            f"weights and those of finished runs know theirs, for example {known}"
        )
    recipe = recipes.get(recipe)
    model = load_model(path)
    _check_fit(recipe, model, path)
    origin = {
        "file": path.name,
        "sha256": digest(path),
        "name": published and published.name,
        "of_its_recipe": notes.get("recipe") == recipe.model_dump(mode="json"),
    }
    folder = Path(run) if run is not None else Path("runs/weights") / _folder_name(path, recipe)
    with suppress(FileExistsError):  # it is there, or another process has just made it
        return _create(folder, recipe, model, origin, notes=notes)
    found = open_run(folder)
    same = found.environment.get("weights", {}).get("sha256") == origin["sha256"]
    if not same or found.recipe.hash != recipe.hash:
        raise FileExistsError(
            f"{folder} exists already, with other weights or another recipe: remove it, or give "
            "the file of the weights another name"
        )
    return found


def _folder_name(path: Path, recipe: Recipe) -> str:
    stem = path.parent.name if path.name == "model.safetensors" else path.stem
    return stem if recipe.name in stem else f"{stem}-{recipe.name}"


def _check_fit(recipe: Recipe, model: MSG3D, path: Path) -> None:
    """Compare the network that the file holds with the recipe's."""
    settings, skeleton, differs = recipe.model.model_dump(), model.skeleton, []
    edge_set = settings.pop("edge_set")
    if skeleton.name != recipe.data.layout:
        differs.append(
            f"its joints are those of {skeleton.name} ({skeleton.num_joints}), the recipe's of "
            f"{recipe.data.layout}"
        )
    elif edge_set not in (None, skeleton.edge_set):
        differs.append(f"its edges are {skeleton.edge_set}, the recipe's {edge_set}")
    other = differing_arguments(model, settings, ignored=["dropout", *UNTRACED])
    differs += [f"{n} is {found}, the recipe's {settings[n]}" for n, found in other.items()]
    classes = len(recipe.label_names)
    if classes and classes != model.num_classes:
        differs.append(f"it knows {model.num_classes} classes, {recipe.data.dataset} has {classes}")
    if differs:
        raise ValueError(
            f"{path} does not fit the recipe {recipe.name}: {'; '.join(differs)}. Choose another "
            f"recipe (msg3d-lab recipes), or one of your own: msg3d-lab recipes {recipe.name} > "
            "mine.yaml, with its settings changed"
        )


def _create(
    folder: Path,
    recipe: Recipe,
    model: MSG3D,
    origin: Mapping[str, Any],
    *,
    notes: Mapping[str, Any],
) -> Run:
    data: dict[str, Any] = {"path": str(recipe.default_store.resolve()), "fingerprint": None}
    if recipe.label_names:
        data["label_names"] = list(recipe.label_names)
    elif len(notes.get("label_names", ())) == model.num_classes:
        data["label_names"] = list(notes["label_names"])
    name = recipe.data.preparation or _BY_LAYOUT.get(recipe.data.layout)
    if "preparation" in notes:
        data["preparation"] = notes["preparation"]
    elif name is not None:
        flat = recipe.data.layout != "ntu25"
        data["preparation"] = {"name": name, "scored": flat}
        if name == "prepare_paper":
            data["preparation"]["bodies"] = "energy"
    environment = {
        **machine_facts(),
        "precision": "32-true",
        "data": data,
        "synthetic": recipe.data.dataset == "synthetic",
        "recipe_hash": recipe.hash,
        "parameters": sum(p.numel() for p in model.parameters()),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "weights": dict(origin),
    }
    return create_run(folder, recipe, environment, model=model)
