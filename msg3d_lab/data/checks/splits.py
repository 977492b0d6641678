"""Check classes, splits and subjects of a data set."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from msg3d_lab.data.checks import problems
from msg3d_lab.data.checks.problems import Findings
from msg3d_lab.data.formats.own.labels import LabelRow

_HALF = re.compile(
    r"(?:(?P<protocol>.+)[_-])?(?:(?P<train>train|training)|(?P<test>test|testing)|"
    r"(?P<val>val|valid|validation|eval|evaluation))(?P<number>\d*)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Halves:
    """The splits of a protocol: those to train on, and the others, test before val."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def find_protocols(splits: Iterable[str]) -> dict[str, Halves]:
    """Find which splits belong together, by names such as train, xsub_train, fold1-test, test2.

    Returns:
        Name of each protocol ("" where the splits have no more than train or test in their names)
        -> its splits. Splits of other names are in none.

    Example:
        >>> find_protocols(["train", "val", "test"])[""].held_out
        ('test', 'val')
    """
    found: dict[str, dict[str, list[str]]] = {}
    for split in splits:
        match = _HALF.fullmatch(split)
        if match is not None:
            halves = found.setdefault((match["protocol"] or "") + match["number"], {})
            part = next(part for part in ("train", "test", "val") if match[part])
            halves.setdefault(part, []).append(split)
    return {
        protocol: Halves(
            tuple(halves.get("train", ())), (*halves.get("test", ()), *halves.get("val", ()))
        )
        for protocol, halves in found.items()
    }


def check_splits(
    findings: Findings,
    rows: Mapping[str, LabelRow],
    label_names: Sequence[str],
    contents: Mapping[str, Hashable],
) -> None:
    """Check classes, splits and subjects of clips.

    Args:
        rows: the labels of each clip.
        contents: for each clip, what is the same for recordings of the same coordinates.
    """
    if not rows:
        return
    ids = list(rows)
    labels = np.array([row.label for row in rows.values()], dtype=np.int64)
    members: defaultdict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows.values()):
        for name in row.splits:
            members[name].append(i)
    splits = {name: np.array(members[name]) for name in sorted(members)}
    counts = np.bincount(labels, minlength=len(label_names))
    empty = np.flatnonzero(counts == 0).tolist()
    if empty == [0] and len(label_names) > 2 and label_names[0] in ("0", "class 0"):
        findings.add(problems.FROM_ONE, f"labels 1 to {len(label_names) - 1}")
        empty = []
    for label in empty:
        findings.add(problems.NO_CLIP, _class(label, label_names))
    if np.count_nonzero(counts) == 1:
        findings.add(problems.ONE_CLASS, _class(int(counts.argmax()), label_names))
    in_a_split = np.zeros(len(ids), dtype=bool)
    for clips in splits.values():
        in_a_split[clips] = True
    for i in np.flatnonzero(~in_a_split).tolist():
        findings.add(problems.NO_SPLIT if splits else problems.NO_SPLITS, ids[i])
    protocols = find_protocols(splits)
    for split in sorted(
        splits.keys() - {s for halves in protocols.values() for s in halves.train + halves.held_out}
    ):
        findings.add(problems.HALF, split, "neither train nor val")
    for halves in protocols.values():
        for split in halves.train + halves.held_out:
            kind = problems.NOT_TRAINED if split in halves.train else problems.NOT_TESTED
            in_split = np.bincount(labels[splits[split]], minlength=len(label_names))
            for label in np.flatnonzero((in_split == 0) & (counts > 0)).tolist():
                findings.add(kind, split, _class(label, label_names))
    subjects = [row.subject for row in rows.values()]
    numbers = np.array([-1 if s is None else s for s in subjects], dtype=np.int64)
    known = np.array([s is not None for s in subjects], dtype=bool)
    for protocol, halves in protocols.items():
        for split in halves.train:
            _check_copies(findings, split, halves, splits, ids, contents)
        own = {split: splits[split] for split in sorted(halves.train + halves.held_out)}
        _check_protocol(findings, protocol, halves, own, ids, numbers, known)


def _check_copies(
    findings: Findings,
    trained: str,
    named: Halves,
    splits: Mapping[str, np.ndarray],
    ids: Sequence[str],
    contents: Mapping[str, Hashable],
) -> None:
    known = {contents[ids[i]]: ids[i] for i in splits[trained].tolist()}
    for split in named.held_out:
        for i in splits[split].tolist():
            other = known.get(contents[ids[i]], ids[i])
            if other != ids[i]:
                findings.add(problems.COPIES, ids[i], f"in {split}, is {other} of {trained}")


def _check_protocol(
    findings: Findings,
    protocol: str,
    named: Halves,
    halves: Mapping[str, np.ndarray],
    ids: Sequence[str],
    subjects: np.ndarray,
    known: np.ndarray,
) -> None:
    if not named.train or not named.held_out:
        findings.add(problems.HALF, next(iter(halves)))
    for one, other in combinations(halves, 2):
        for i in np.intersect1d(halves[one], halves[other]):
            findings.add(problems.BOTH_HALVES, ids[i], f"in {one} and {other}")
    cross_subject = "sub" in protocol.lower()
    if protocol and not cross_subject:
        return
    if cross_subject:
        members = np.unique(np.concatenate(list(halves.values())))
        for i in members[~known[members]]:
            findings.add(problems.SUBJECTS_UNKNOWN, ids[i])
    kind = problems.SUBJECTS_MIXED if cross_subject else problems.SUBJECTS_SHARED
    for split in named.train:
        mine = subjects[halves[split][known[halves[split]]]]
        for other in halves:
            theirs = subjects[halves[other][known[halves[other]]]]
            for subject in np.intersect1d(mine, theirs) if other != split else ():
                counts = [np.count_nonzero(several == subject) for several in (mine, theirs)]
                detail = f"{counts[0]} clips in {split}, {counts[1]} in {other}"
                findings.add(kind, f"subject {subject}", detail)


def _class(label: int, names: Sequence[str]) -> str:
    name = names[label]
    return f"label {label}" if name == str(label) else f"{name} (label {label})"
