"""Hold a recipe against a store: settings that do not fit, a recipe that does, what to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.checks.splits import find_protocols
from msg3d_lab.data.store import Store
from msg3d_lab.graph import hop_distance
from msg3d_lab.training import recipes
from msg3d_lab.training.recipes import Recipe

_MOST = 0.95  # of the clips: `num_persons` is enough for all persons of so many
_RAW = {"ntu60": "nturgbd_skeletons_s001_to_s017.zip", "ntu120": "nturgbd_skeletons_s0*.zip"}
_PREPARE = {"prepare_paper": "paper", "prepare_2d_pyskl": "pyskl"}


def check_settings(recipe: Recipe, store: Store) -> None:
    """Check that a recipe can be trained on a store.

    Raises:
        ValueError: another data set, joint layout or edge set, splits that are not there, or
            nothing to learn; the message has the settings to change.
    """
    wanted, layout, wrong = recipe.data, store.skeleton, ""
    joints = f"{layout.num_joints} joints of {layout.name}"
    if store.dataset != wanted.dataset:
        wrong = f"is for {wanted.dataset}, but {store.path} holds {store.dataset} ({joints})"
    elif layout.name != wanted.layout:
        wrong = (
            f"needs joints of {wanted.layout}, but {store.path} holds {store.dataset} with {joints}"
        )
    elif not {wanted.train_split, wanted.test_split} <= store.splits.keys():
        missing = [s for s in (wanted.train_split, wanted.test_split) if s not in store.splits]
        wrong = (
            f"needs the split {' and '.join(missing)}, but {store.path} has "
            f"{', '.join(store.splits) or 'no splits'}"
        )
    elif not _has_edge_set(store, recipe.model.edge_set):
        wrong = (
            f"has edge_set={recipe.model.edge_set}, but {layout.name} of {store.path} has "
            f"{', '.join(_edge_sets(store)) or 'a single edge set'}"
        )
    elif fault := preparation_fault(recipe, store):
        raise ValueError(fault)
    if wrong:
        raise ValueError(f"{recipe.name} {wrong}; {_cure(recipe, store)}")
    labels = np.unique(store.labels[store.indices(wanted.train_split)])
    if len(labels) < 2:
        named = ", ".join(store.label_names[i] for i in labels)
        raise ValueError(
            f"all clips of {wanted.train_split} in {store.path} are of one class ({named}): there "
            "is nothing to tell apart; correct the labels or the splits and import again"
        )


def preparation_fault(recipe: Recipe, store: Store) -> str | None:
    """Return what is wrong with a store's preparation for a recipe, and the command for the right.

    The arrays of MS-G3D's own script are what "prepare_paper" makes.
    """
    wanted, found = recipe.data.preparation, str(store.preparation.get("name", "none"))
    rule = store.preparation.get("bodies", "energy")
    author = wanted == "prepare_paper"
    if wanted is None or (found == wanted and not (author and rule != "energy")):
        return None
    if author and found == "2s-AGCN":
        return None
    bodies = f" with bodies by {rule}" if author and found == wanted else ""
    return (
        f"{recipe.name} needs clips prepared by {wanted}"
        f"{' with bodies by energy' if author else ''}, but those of {store.path} were by "
        f"{found}{bodies}: make the right store with `{import_command(recipe)}`, or train on this "
        "one with --set preparation=null, which gives other results than the published"
    )


def prepare_option(recipe: Recipe) -> str | None:
    """Return what `data import --prepare` is to be told; None: its default is what is needed."""
    data = recipe.data
    if data.dataset == "nw-ucla" and data.preparation == "prepare_3d":  # else it is the default
        return "align"
    return _PREPARE.get(data.preparation or "")


def import_command(recipe: Recipe, *, out: str | Path | None = None) -> str:
    """Return the command that makes a recipe's store."""
    data = recipe.data
    source, prepare = "SOURCE", prepare_option(recipe)
    if data.preparation == "prepare_paper":
        source = _RAW.get(data.dataset, source)
    elif data.preparation is not None and data.dataset in _RAW:
        source = f"data/{data.dataset}_{'2d' if data.preparation != 'prepare_3d' else '3d'}.pkl"
    return (
        f"msg3d-lab data import {source} --dataset {data.dataset}"
        f"{f' --prepare {prepare}' if prepare else ''} --out {out or recipe.default_store}"
    )


def fitting_settings(recipe: Recipe, store: Store) -> dict[str, Any]:
    """Return the settings of a recipe that a store needs otherwise, with the values it needs.

    The splits are found by their names; `num_persons` is enough for all persons in 95 % of the
    clips; scales of more hops than the layout's longest distance are left out.
    """
    data, model, skeleton = recipe.data, recipe.model, store.skeleton
    edge_set = model.edge_set if _has_edge_set(store, model.edge_set) else None
    if edge_set is not None and skeleton.name in skeletons.names():
        skeleton = skeletons.get(skeleton.name, edge_set=edge_set)
    scales = int(hop_distance(skeleton.adjacency).max()) + 1
    train, test = data.train_split, data.test_split
    if not {train, test} <= store.splits.keys():
        pairs = _pairs(store)
        train, test = pairs[0] if pairs else (train, test)
    subjects = set(store.samples["subject"].iloc[_members(store, train)].dropna())
    wanted: dict[str, Any] = {
        "dataset": store.dataset,
        "layout": skeleton.name,
        "train_split": train,
        "test_split": test,
        "edge_set": edge_set,
        "num_gcn_scales": min(model.num_gcn_scales, scales),
        "num_g3d_scales": min(model.num_g3d_scales, scales),
        "num_persons": int(np.quantile(store.persons, _MOST, method="higher")),
    }
    if preparation_fault(recipe, store):
        wanted["preparation"] = None
    if not set(data.validation_subjects) <= subjects:
        wanted["validation_subjects"] = []
    if store.dimensions < 3 and any(data.rotation[:2]):
        wanted["rotation"] = [0, 0, data.rotation[2]]
    if data.flip and not skeleton.mirror:
        wanted["flip"] = 0.0
    return {
        name: value for name, value in wanted.items() if recipes.get_setting(recipe, name) != value
    }


def recipe_for(
    store: Store,
    *,
    like: Recipe | str | None = None,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Recipe:
    """Write a recipe of the joint stream for a store.

    Args:
        like: the recipe whose other settings are taken. Default: the openmmlab recipe for 2D or
            3D joints.
        name: of the recipe. Default: the data set's, with "-joint".
        settings: changes to it; the splits, where their names do not say what they are for.

    Raises:
        ValueError: no split to train on and to test on can be found; an unknown setting; something
            that cannot be learned.

    Example:
        >>> recipe = recipe_for(open_store("data/my-moves.arrow"))  # doctest: +SKIP
        >>> fit(recipe, data="data/my-moves.arrow")  # doctest: +SKIP
    """
    if like is None:
        like = f"ntu60-xsub-{store.dimensions}d-joint"
    base = recipes.get(like)
    change = fitting_settings(base, store) | {"stream": "joint"} | dict(settings or {})
    origin = f"{base.name} ({base.source}), fitted to {store.dataset}"
    change |= {"name": name or f"{store.dataset}-joint", "source": origin}
    recipe = recipes.with_settings(base, change)
    if not store.splits:
        raise ValueError(
            f"{store.path} has no splits: fill in the column `splits` of the labels (train and "
            "test, say) and import again"
        )
    if not {recipe.data.train_split, recipe.data.test_split} <= store.splits.keys():
        raise ValueError(
            f"the names of the splits of {store.path} ({', '.join(store.splits)}) do not say "
            "which is trained on and which is tested on: expected such as train and test, or "
            "NAME_train and NAME_val; say it with --set train_split=... test_split=..."
        )
    check_settings(recipe, store)
    return recipe


def store_notes(recipe: Recipe, store: Store) -> list[str]:
    """Return what one should know before training on a store: a line each.

    Persons beyond `num_persons`, classes that are tested but not trained, classes without a clip.
    """
    notes = []
    wanted = recipe.data
    train, test = (_members(store, split) for split in (wanted.train_split, wanted.test_split))
    used = np.union1d(train, test)
    surplus = np.maximum(store.persons[used] - recipe.model.num_persons, 0)
    if surplus.any():
        kept = (
            "those seen longest are kept"
            if store.preparation.get("persons") == "longest first"
            else "the first are kept"
        )
        notes.append(
            f"{np.count_nonzero(surplus)} of {len(used)} clips have more persons than "
            f"num_persons={recipe.model.num_persons}: {surplus.sum()} persons are not seen by the "
            f"network ({kept}); num_persons={store.persons[used].max()} keeps all"
        )
    counts = [
        np.bincount(store.labels[members], minlength=store.num_classes) for members in (train, test)
    ]
    for wrong, what in (
        ((counts[0] == 0) & (counts[1] > 0), "tested but not trained: they cannot be recognised"),
        ((counts[0] > 0) & (counts[1] == 0), "trained but not tested"),
        ((counts[0] == 0) & (counts[1] == 0), "without a clip in these splits"),
    ):
        names = [store.label_names[i] for i in np.flatnonzero(wrong)]
        if names:
            listed = name_some(names, most=3)
            notes.append(f"{len(names)} of {store.num_classes} classes are {what} ({listed})")
    return notes


def name_some(names: Iterable[object], *, most: int = 5) -> str:
    """Return the first names and how many more there are."""
    listed = list(map(str, names))
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return (", ".join(listed[:most]) or "none") + more


def _cure(recipe: Recipe, store: Store) -> str:
    change = fitting_settings(recipe, store)
    splits = {"train_split", "test_split"}
    unknown = {change.get(n, recipes.get_setting(recipe, n)) for n in splits} - store.splits.keys()
    if unknown:
        change |= dict.fromkeys(sorted(splits, reverse=True), "...")
    listed = " ".join(f"{name}={recipes.setting_text(value)}" for name, value in change.items())
    return (
        f"set {listed} (--set), or write a recipe for it: msg3d-lab recipes new --data {store.path}"
    )


def _pairs(store: Store) -> list[tuple[str, str]]:
    """(train, test) of each protocol; a cross-subject one comes first."""
    pairs = [
        (halves.train[0], halves.held_out[0])
        for halves in find_protocols(store.splits).values()
        if halves.train and halves.held_out
    ]
    return sorted(pairs, key=lambda pair: "sub" not in pair[0].lower())


def _members(store: Store, split: str) -> np.ndarray:
    return store.indices(split) if split in store.splits else np.zeros(0, dtype=np.int64)


def _edge_sets(store: Store) -> list[str]:
    """The edge sets that a recipe can choose for a store's layout."""
    name = store.skeleton.name
    if name in skeletons.names() and store.skeleton in skeletons.variants(name):
        return skeletons.edge_sets(name)
    return [store.skeleton.edge_set] if store.skeleton.edge_set is not None else []


def _has_edge_set(store: Store, edge_set: str | None) -> bool:
    return edge_set is None or edge_set in _edge_sets(store)
