"""Open the store that a run is tested or explained on, and compare it with what it was trained on.

Networks know classes by number, joints by position and coordinates by their preparation. A store
with as many of each, but other ones, would give an accuracy that means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msg3d_lab.data.store import Store, open_store
from msg3d_lab.model.checkpoints import read_arguments
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.training.matching.recipe import name_some, preparation_fault
from msg3d_lab.training.runs import Run
from msg3d_lab.training.setup import open_unchecked_store

# What is compared of a preparation; the rest says where the clips come from. Each clip is scaled by
# its own picture's size, so `image_size` is none of it.
_PREPARED = ("name", "scored", "joint", "bodies")
_SAME = {"2s-AGCN": "prepare_paper"}  # the arrays that the author's own script makes


@dataclass(frozen=True)
class MatchedStore:
    """A store that fits a run.

    Args:
        store: the store; its classes have the run's numbers.
        is_own: whether it is the store that the run was trained on; for a run made of a checkpoint,
            which does not know, the store that it was first tested on.
        notes: what a reader should know, a sentence each.
    """

    store: Store
    is_own: bool
    notes: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """What is added to the names of files about this store: nothing for the run's own."""
        return "" if self.is_own else f"-{self.store.path.stem}"


def open_matching_store(
    run: Run, data: Store | str | Path | None = None, *, split: str | None = None
) -> MatchedStore:
    """Open a store for a trained run, and check that it holds what the run was trained on.

    The names of the joints, the preparation and the class names must be the run's. Joints and
    classes in another order are brought to the run's order.

    Args:
        data: the store. Default: where the one was that it was trained on.
        split: the split that is needed. Default: the recipe's test split.

    Raises:
        FileNotFoundError: no store, or no weights.
        ValueError: the store does not fit; the message says in what.
    """
    facts = run.environment["data"]
    network = read_arguments(run.checkpoint)
    skeleton: Skeleton = network["skeleton"]
    if data is None and (Path(facts["path"]).exists() or run.recipe.data.dataset != "synthetic"):
        data = facts["path"]  # else the synthetic set is made again
    store = open_unchecked_store(run.recipe, data)
    _check_kind(run, network, store)
    store.indices(split or run.recipe.data.test_split)
    differs = _joint_differences(skeleton, store.skeleton)
    if store.fingerprint == facts.get("fingerprint"):
        _refuse(run, store, differs)
        return MatchedStore(store, is_own=True)
    known = _known_facts(facts)
    is_own = facts.get("fingerprint") is None
    notes = []
    if not is_own:
        notes.append(f"{store.path.name} is not the store that {run.path.name} was trained on")
    lacking = [
        text
        for key, text in (("label_names", "class names"), ("preparation", "preparation"))
        if key not in known
    ]
    if lacking and not is_own:
        notes.append(
            f"the {' and '.join(lacking)} of {run.path.name} are not known (its store is gone): "
            f"nobody can tell whether those of {store.path.name} are the same"
        )
    if "preparation" in known:
        differs += _preparation_differences(known["preparation"], store.preparation)
    names = known.get("label_names", store.label_names)
    differs += _class_differences(names, store.label_names)
    _refuse(run, store, differs)
    if skeleton.joints != store.skeleton.joints:
        pairs = zip(skeleton.joints, store.skeleton.joints, strict=True)
        moved = [theirs for ours, theirs in pairs if ours != theirs]
        notes.append(
            f"{len(moved)} of the {skeleton.num_joints} joints of {store.path.name} have other "
            f"numbers than in {run.path.name}; they are matched by name ({name_some(moved)})"
        )
        store = store.with_joints_of(skeleton)
    if list(names) != list(store.label_names):
        moved = [name for name, own in zip(store.label_names, names, strict=True) if name != own]
        notes.append(
            f"{len(moved)} of the {len(names)} classes of {store.path.name} have other numbers "
            f"than in {run.path.name}; they are matched by name ({name_some(moved)})"
        )
        store = _renumbered(store, names)
    return MatchedStore(store, is_own, tuple(notes))


def _known_facts(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return label_names and preparation; of runs of earlier versions, from their store."""
    if "label_names" in facts or facts.get("fingerprint") is None:
        return facts
    try:
        own = open_store(facts["path"])
    except (OSError, ValueError):
        return facts
    if own.fingerprint != facts["fingerprint"]:
        return facts
    return {**facts, "label_names": own.label_names, "preparation": own.preparation}


def _check_kind(run: Run, network: Mapping[str, Any], store: Store) -> None:
    """Refuse another data set, layout, preparation, or number of classes or channels."""
    recipe, layout = run.recipe, store.skeleton
    same_joints = set(network["skeleton"].joints) == set(layout.joints)
    wrong = ""
    if layout.name != recipe.data.layout and not same_joints:
        wrong = (
            f"needs joints of {recipe.data.layout}, but {store.path} holds {store.dataset} with "
            f"{layout.num_joints} joints of {layout.name}"
        )
    elif store.dataset != recipe.data.dataset:
        wrong = f"is for {recipe.data.dataset}, but {store.path} holds {store.dataset}"
    if wrong:
        raise ValueError(f"{recipe.name} {wrong}: choose another store")
    if fault := preparation_fault(recipe, store):
        raise ValueError(fault)
    classes, channels = network["num_classes"], network["in_channels"]
    if (store.num_classes, store.channels) != (classes, channels):
        raise ValueError(
            f"{run.path} was trained for {classes} classes and {channels} channels, but "
            f"{store.path} has {store.num_classes} classes and {store.channels} channels"
        )


def _joint_differences(network: Skeleton, store: Skeleton) -> list[str]:
    if sorted(network.joints) != sorted(store.joints):
        return [f"its joints are others ({_only(network.joints, store.joints)})"]
    if _bone_names(network) != _bone_names(store):
        return [f"the bones of its layout {store.name} start at other joints"]
    return []


def _bone_names(skeleton: Skeleton) -> set[tuple[str, str]]:
    return {(skeleton.joints[v], skeleton.joints[p]) for v, p in enumerate(skeleton.parents)}


def _preparation_differences(run: Mapping[str, Any], store: Mapping[str, Any]) -> list[str]:
    differs = []
    for key in _PREPARED:
        ours, theirs = run.get(key), store.get(key)
        if key == "name":
            ours, theirs = (_SAME.get(str(value), value) for value in (ours, theirs))
        if key == "scored":
            ours, theirs = bool(ours), bool(theirs)
        if ours != theirs and None not in (ours, theirs):
            what = "preparation" if key == "name" else f"preparation ({key})"
            differs.append(f"its {what} is {theirs}, the run's {ours}")
    return differs


def _class_differences(run: Sequence[str], store: Sequence[str]) -> list[str]:
    if sorted(run) == sorted(store):
        repeated = list(run) != list(store) and len(set(run)) < len(run)
        return ["its class names are in another order, and some occur twice"] if repeated else []
    return [f"its classes are others ({_only(run, store)})"]


def _only(run: Sequence[str], store: Sequence[str]) -> str:
    ours = [name for name in run if name not in store]
    theirs = [name for name in store if name not in run]
    return f"only the run has {name_some(ours)}; only the store has {name_some(theirs)}"


def _refuse(run: Run, store: Store, differs: Sequence[str]) -> None:
    if differs:
        raise ValueError(
            f"{store.path} does not hold what {run.path} was trained on: {'; '.join(differs)}. "
            "Import the recordings with the class names, the layout and the preparation of the "
            "run, or train on this store"
        )


def _renumbered(store: Store, names: Sequence[str]) -> Store:
    """Open the store again, with its classes numbered as in `names`."""
    number = {name: i for i, name in enumerate(names)}
    found = open_store(store.path)
    if store.joint_order is not None:
        found = found.with_joints_of(store.skeleton)
    order = np.array([number[name] for name in store.label_names], dtype=np.int64)
    found.labels = order[store.labels]
    found.label_names = list(names)
    return found
