"""Read other people's score files and assign the scores to samples.

By name if the file has names. If it has positions only, the user must say in which order they are.
The true classes come from a store, a file of labels, the names of NTU recordings, or the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msg3d_lab.checksums import digest
from msg3d_lab.data.datasets import DATASETS, ntu_splits, parse_ntu_name
from msg3d_lab.evaluation.external.labels import (
    read_labels,
    read_name_rule,
    read_names,
    refuse_repeats,
)
from msg3d_lab.evaluation.external.score_files import ScoreFile, read_score_file
from msg3d_lab.evaluation.scores import Scores, guess_kind
from msg3d_lab.training.matching.recipe import name_some

if TYPE_CHECKING:
    from msg3d_lab.data.store import Store


_SUFFIXES = (".skeleton", ".json", ".npy", ".npz", ".mat", ".csv", ".avi", ".mp4")


def read_external_scores(
    path: str | Path,
    *,
    store: Store | None = None,
    split: str | None = None,
    order: str | Path | Sequence[str] | None = None,
    stream: str | None = None,
    labels: str | Path | None = None,
    names: str | Path | None = None,
) -> Scores:
    """Read a score file of MS-G3D, CTR-GCN, pyskl or mmaction2; nothing in it is run.

    Scores by name (MS-G3D; mmaction2 if `frame_dir` was kept) are looked up in the store. Without a
    store, the class follows from a file of labels, from the true classes in the file (mmaction2's
    `gt_label`), or from the names of NTU recordings. Several scores per sample, one for each clip,
    are averaged as softmax scores; `facts["num_clips"]` then says how many.

    Scores by position (CTR-GCN, pyskl, mmaction2, arrays) without labels need the store, the split
    and the order of the samples in the file. With a file of labels alone they must be in its order.
    The orders:

    * "store": the store's order. For pyskl and mmaction2 if the store was imported from the
      annotation file they tested on; for CTR-GCN if it was imported from the .npz.
    * "name": sorted by sample id.
    * "ctrgcn": as CTR-GCN's scripts arrange NTU: X-Sub by subject, X-View by camera, X-Set by
      set-up, and by sample id within each.
    * sample ids, or a file of them: one per line, or a pickle of labels of CTR-GCN (NW-UCLA's
      `val_label.pkl`) or of MS-G3D (names and labels).

    Three things are checked: the split has as many samples as the file; true classes in the file
    are those of the store; without true classes, the scores are better than chance.

    Args:
        store: the store of the tested samples.
        split: the tested split. Default: found by the names.
        order: the order of scores by position, see above.
        stream: the stream that was tested; the file does not say it.
        labels: a file of true classes, instead of a store, see `labels.read_labels`.
        names: how the names in the file become sample ids, see `labels.read_name_rule`: a regular
            expression with one group, or a CSV with two columns.

    Returns:
        Scores in the file's order. `facts["kind"]` is "softmax" if every row adds up to 1 and none
        is negative, else "logits"; `facts["notes"]` lists what a reader should know.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not such a file (see `read_score_file`); unknown samples; other samples than
            the split's; other classes than the store's; scores by position without store, split
            and order, or no better than chance in this order.

    Source: the order of CTR-GCN's arrays is that of its `data/ntu*/seq_transformation.py`.
    """
    path = Path(path)
    if store is not None and labels is not None:
        raise ValueError("expected a store or a file of labels, found both: a store has its labels")
    file = read_score_file(path, known=store.ids if store is not None else ())
    if names is not None:
        file = _renamed(file, read_name_rule(names), path)
    notes = []
    if file.num_clips is not None:
        notes = [f"{file.num_clips} clips per sample, their softmax scores averaged"]
    if file.names is not None and order is not None:
        raise ValueError(f"{path} names its samples: omit order, it would not be used")
    if store is not None:
        if file.names is None:
            indices = _by_position(file, store, split, order, path)
        else:
            indices = _find(file.names, store, path)
            if split is not None:
                _check_whole(indices, store, split, path)
        ids = [store.ids[i] for i in indices]
        truths, label_names = store.labels[indices], tuple(store.label_names)
        facts = {
            "dataset": store.dataset,
            "synthetic": store.synthetic,
            "data_fingerprint": store.fingerprint,
        }
        split = split or _split_of(indices, store)
    else:
        if order is not None:
            raise ValueError("an order is one of a store's samples: give the store")
        facts = {"dataset": None, "synthetic": False, "data_fingerprint": None}
        if labels is not None:
            ids, truths, said = _labelled(file, Path(labels), path)
            notes += said
        elif file.labels is not None:
            ids, truths = _by_itself(file, path), file.labels
        if labels is not None or file.labels is not None:
            label_names = tuple(f"class {i}" for i in range(file.values.shape[1]))
        else:
            ids, truths, label_names = _ntu(file, path)
            facts["dataset"] = dataset = f"ntu{len(label_names)}"
            split = _ntu_split(ids, dataset, wanted=split, path=path)
    _check_classes(file, truths, label_names, path)
    scores = Scores(
        ids=tuple(ids),
        labels=truths,
        values=file.values,
        label_names=label_names,
        facts={
            **facts,
            "split": split,
            "stream": stream,
            "kind": guess_kind(file.values),
            "num_clips": file.num_clips,
            "recipe": None,
            "recipe_hash": None,
            "trained_on": None,
            "format": file.format,
            "order": _order_name(order),
            "source": path.name,
            "sha256": digest(path),
            "notes": notes,
        },
    )
    if file.names is None and file.labels is None:
        _check_better_than_chance(scores, path)
    return scores


def _renamed(file: ScoreFile, rule: Callable[[str], str], path: Path) -> ScoreFile:
    if file.names is None:
        raise ValueError(f"{path} has its scores by position: a name rule has nothing to map")
    ids = [rule(name) for name in file.names]
    if len(set(ids)) < len(ids):
        first = next(i for i, name in enumerate(ids) if name in ids[:i])
        raise ValueError(
            f"{path}: the name rule maps {len(ids) - len(set(ids))} samples to an id that another "
            f"has, the first is {file.names[first]} -> {ids[first]}"
        )
    return file._replace(names=ids)


def _labelled(file: ScoreFile, source: Path, path: Path) -> tuple[list[str], np.ndarray, list[str]]:
    """Return ids and classes of a score file, by a file of labels, and what should be said."""
    known = read_labels(source, num_classes=file.values.shape[1])
    notes = [f"{source.name} counts classes from 1"] if known.start else []
    if file.names is None or known.names is None:
        if len(known.labels) != len(file.values):
            raise ValueError(
                f"{path} has scores of {len(file.values)} samples, but {source} has "
                f"{len(known.labels)} labels: which are missing cannot be told without names"
            )
        notes.append(f"the samples are taken to be in the order of {source.name}")
        return known.names or _by_itself(file, path), known.labels, notes
    label_of = dict(zip(known.names, known.labels.tolist(), strict=True))
    bare = {_bare(name): label for name, label in label_of.items()}
    found = [label_of.get(name, bare.get(_bare(name))) for name in file.names]
    unknown = [name for name, label in zip(file.names, found, strict=True) if label is None]
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} of {len(found)} samples have no label in {source} "
            f"({name_some(unknown)}; it has {name_some(known.names[:2])}): map the names to those "
            "of the labels with a name rule (--names REGEX_OR_CSV)"
        )
    return _by_itself(file, path), np.array(found, dtype=np.int64), notes


def _by_itself(file: ScoreFile, path: Path) -> list[str]:
    """Return the ids of samples that no store knows: their names, or else their positions."""
    rows = range(len(file.values))
    ids = [_bare(name) for name in file.names or ()] or [f"position {i}" for i in rows]
    refuse_repeats(ids, path)
    return ids


def _ntu(file: ScoreFile, path: Path) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    """Return ids, classes and class names of NTU recordings, from their names alone."""
    if file.names is None:
        raise ValueError(_NEEDS_ORDER.format(path=path, format=file.format))
    ids = [_bare(name) for name in file.names]
    numbers = [parse_ntu_name(name) for name in ids]
    unknown = [name for name, n in zip(file.names, numbers, strict=True) if n is None]
    count = file.values.shape[1]
    if unknown or count not in (60, 120):
        raise ValueError(
            f"{path}: expected names of NTU recordings and 60 or 120 classes, found {count} "
            f"classes and {len(unknown)} other names ({name_some(unknown)}): give the store that "
            "the scores are of, or a file of their labels (--labels)"
        )
    labels = np.array([n.action - 1 for n in numbers if n is not None], dtype=np.int64)
    return ids, labels, DATASETS[f"ntu{count}"].label_names


def _ntu_split(ids: Sequence[str], dataset: str, *, wanted: str | None, path: Path) -> str | None:
    """Check that all recordings belong to the wanted split. Default: the one split of all."""
    of_each = [set(ntu_splits(name, dataset=dataset)) for name in ids]
    if wanted is not None:
        others = [name for name, splits in zip(ids, of_each, strict=True) if wanted not in splits]
        if others:
            raise ValueError(
                f"{path} is not of {wanted} of {dataset}: {len(others)} of its {len(ids)} samples "
                f"belong to other splits ({name_some(others)})"
            )
        return wanted
    common = set.intersection(*of_each)
    return common.pop() if len(common) == 1 else None


def _split_of(indices: np.ndarray, store: Store) -> str | None:
    """Return the split with exactly these samples; None if there is none or several."""
    mine = np.sort(indices)
    splits = [name for name in store.splits if np.array_equal(store.indices(name), mine)]
    return splits[0] if len(splits) == 1 else None


def _find(names: Sequence[str], store: Store, path: Path) -> np.ndarray:
    """Return the positions of named samples in the store."""
    where = {name: i for i, name in enumerate(store.ids)}
    ids = [name if name in where else _bare(name) for name in names]
    unknown = [name for name, known in zip(names, ids, strict=True) if known not in where]
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} of {len(names)} samples are not in {store.path.name} "
            f"({name_some(unknown)}; the store has {name_some(store.ids[:2])}): is it the store "
            "that the scores are of? Other spellings are mapped by a name rule (--names)"
        )
    refuse_repeats(ids, path)
    return np.array([where[name] for name in ids], dtype=np.int64)


def _bare(name: str) -> str:
    """The name without folders and the ending of a file of recordings."""
    last = re.split(r"[/\\]", name)[-1]
    for suffix in _SUFFIXES:
        last = last.removesuffix(suffix)
    return last


def _check_whole(indices: np.ndarray, store: Store, split: str, path: Path) -> None:
    wanted = store.indices(split)
    missing, added = np.setdiff1d(wanted, indices), np.setdiff1d(indices, wanted)
    if len(missing) or len(added):
        raise ValueError(
            f"{path} is not of {split} of {store.path.name}: {len(missing)} of its {len(wanted)} "
            f"samples are missing and {len(added)} others are there "
            f"({name_some(store.ids[i] for i in (*missing, *added))})"
        )


_NEEDS_ORDER = (
    "{path} ({format}) has its scores by position, not by name: give the store, the split and the "
    'order of the samples: "store" if the store was imported from the file that was '
    'tested on, "ctrgcn" for CTR-GCN on NTU, "name", or a file of sample ids (for CTR-GCN on '
    "NW-UCLA its val_label.pkl); or, without a store, a file of labels in the same order (--labels)"
)


def _by_position(
    file: ScoreFile,
    store: Store,
    split: str | None,
    order: str | Path | Sequence[str] | None,
    path: Path,
) -> np.ndarray:
    """Return the index in the store of each row of the file."""
    if split is None or order is None:
        raise ValueError(_NEEDS_ORDER.format(path=path, format=file.format))
    if isinstance(order, str) and order in _ORDERS:
        indices = _ORDERS[order](store, split)
    else:
        source = Path(order) if isinstance(order, str | Path) else Path("order")
        if isinstance(order, str | Path) and not source.is_file():
            raise ValueError(
                f"expected an order of {', '.join(_ORDERS)}, sample ids or a file of them, found "
                f"{str(order)!r}, which is no file"
            )
        names = read_names(source) if isinstance(order, str | Path) else order
        indices = _find(names, store, source)
        _check_whole(indices, store, split, source)
    if len(indices) != len(file.values):
        raise ValueError(
            f"{path} has scores of {len(file.values)} samples, but {split} of {store.path.name} "
            f"has {len(indices)}: which are missing cannot be told without names"
        )
    return indices


def _sorted_by(store: Store, split: str, *columns: str) -> np.ndarray:
    indices = store.indices(split)
    samples = store.samples.iloc[indices]
    for name in columns:
        if samples[name].isna().any():
            raise ValueError(
                f"{store.path.name} does not have the {name} of every sample of {split}: this "
                "order needs it"
            )
    return indices[samples.reset_index(drop=True).sort_values(list(columns)).index.to_numpy()]


def _ctrgcn(store: Store, split: str) -> np.ndarray:
    columns = {"xsub": "subject", "xview": "camera", "xset": "setup"}
    protocol = split.split("_")[0]
    if protocol not in columns:
        raise ValueError(f"CTR-GCN's order is that of NTU's {', '.join(columns)}, found {split}")
    return _sorted_by(store, split, columns[protocol], "id")


_ORDERS: dict[str, Callable[[Store, str], np.ndarray]] = {
    "store": lambda store, split: store.indices(split),
    "name": lambda store, split: _sorted_by(store, split, "id"),
    "ctrgcn": _ctrgcn,
}


def _order_name(order: str | Path | Sequence[str] | None) -> str | None:
    """What is recorded of an order."""
    if order is None or (isinstance(order, str) and order in _ORDERS):
        return order
    return Path(order).name if isinstance(order, str | Path) else "as listed"


def _check_classes(
    file: ScoreFile, labels: np.ndarray, label_names: tuple[str, ...], path: Path
) -> None:
    count = file.values.shape[1]
    if count != len(label_names) or labels.max() >= count:
        raise ValueError(
            f"{path} has {count} scores for each sample, but the samples are of "
            f"{max(len(label_names), int(labels.max()) + 1)} classes: are they of this data set?"
        )
    if file.labels is None:
        return
    wrong = np.flatnonzero(labels != file.labels)
    if len(wrong):
        raise ValueError(
            f"{path}: {len(wrong)} of {len(labels)} samples have another true class in the file "
            f"than where they would belong, the first at position {wrong[0]}: they are in another "
            "order, or of another split"
        )


def _check_better_than_chance(scores: Scores, path: Path) -> None:
    """Refuse an order in which the scores are no better than chance: it is probably wrong."""
    from scipy.stats import binomtest

    n, classes = len(scores.ids), len(scores.label_names)
    predicted, true = (
        np.bincount(found, minlength=classes) for found in (scores.predictions, scores.labels)
    )
    chance, hits = float(predicted @ true) / n**2, int(scores.correct.sum())
    if binomtest(hits, n, chance, alternative="greater").pvalue > 0.01:
        raise ValueError(
            f"{path}: in this order the scores are right for {hits} of {n} samples, which may be "
            "chance: they were most likely written in another order, or the labels are of others"
        )
