"""What `check` looks at: every clip's coordinates, then labels, splits and subjects together."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from msg3d_lab.data.checks import problems
from msg3d_lab.data.checks.problems import Findings
from msg3d_lab.data.formats.own_data import NOBODY
from msg3d_lab.data.formats.own_table import FINITE
from msg3d_lab.data.preprocess import prepare_3d
from msg3d_lab.skeletons import Skeleton

__all__ = ["Survey", "check_splits"]

_METRES = (0.5, 3.0)  # the extent of a body
_STILL = 1e-5  # of the largest coordinate: rounding
_LOOKS = 16  # frames of a clip in which its extent is measured
_TURNED_OVER = 0.3  # of the clips; of bodies that face anywhere, a seventh is so
_AGAINST = -0.9  # cosine of the angle to x
_HALF = re.compile(r"(?:(.+)_)?(train|val|test)")


class _Look(NamedTuple):
    """What was seen in a clip."""

    name: str
    findings: tuple[tuple[str, str], ...]  # kind and detail
    joints: np.ndarray  # (V,) which ones are seen
    extent: float | None = None
    turned_over: bool = False
    three: bool = False  # persons, with x and y only


class Survey:
    """Looks at one clip after the other; what is found is said by `conclude`.

    Args:
        findings: where to put what is found.
        layout: the joints.
        axes: coordinates in front of a score.
        preparation: what was done to the clips (`prepare_3d`, ...); None if nothing was done yet.
    """

    def __init__(
        self, findings: Findings, layout: Skeleton, *, axes: int, preparation: str | None = None
    ) -> None:
        self.findings, self.layout, self.axes = findings, layout, axes
        self.preparation = preparation
        self._looks: list[_Look] = []
        self._joints: dict[bytes, np.ndarray] = {}  # of most clips the same: kept once

    def look(self, name: str, keypoints: np.ndarray) -> None:
        """Look at a clip (M, T, V, C)."""
        if not np.isfinite(keypoints).all():
            self.findings.add(FINITE, name, f"{np.count_nonzero(~np.isfinite(keypoints))} numbers")
            return
        M, T, _, C = keypoints.shape
        points = keypoints[..., : self.axes]
        # prepare_2d takes a joint that was not found to (-1, -1) with score 0.
        found = keypoints[..., -1:] if self.preparation == "prepare_2d" else points
        seen: np.ndarray = np.any(found, axis=-1)  # (M, T, V)
        here: np.ndarray = np.any(seen, axis=-1)  # (M, T)
        persons = here.any(axis=-1)
        joints: np.ndarray = np.any(seen, axis=(0, 1))
        joints = self._joints.setdefault(joints.tobytes(), joints)
        three = (M, C) == (3, 2)
        if not persons.any():
            self._looks.append(_Look(name, ((NOBODY, ""),), joints, three=three))
            return
        notes = [(problems.NOWHERE, f"person {m} of {M}") for m in np.flatnonzero(~persons)]
        empty = T - np.count_nonzero(here.any(axis=0))
        if 2 * empty > T:
            notes.append((problems.MOSTLY_EMPTY, f"{empty} of {T} frames"))
        if T == 1:
            notes.append((problems.ONE_FRAME, ""))
        elif not any(_moves(points[m], here[m]) for m in np.flatnonzero(persons)):
            notes.append((problems.STILL, f"{T} frames"))
        extent, turned_over = None, False
        if self.axes == 3:
            m = int(persons.argmax())
            frames = np.flatnonzero(here[m])
            frames = frames[:: -(-len(frames) // _LOOKS)]
            extent = _extent(points[m, frames], seen[m, frames])
            m = int(here.sum(axis=1).argmax())
            turned_over = self._is_turned_over(points[m, here[m].argmax()])
        self._looks.append(_Look(name, tuple(notes), joints, extent, turned_over, three))

    def _is_turned_over(self, body: np.ndarray) -> bool:
        """Whether prepare_3d turns over, or may, a clip that starts with this body (V, 3).

        Where `across` points against x, the smallest turn to x is half a turn about just any axis.
        """
        up, across = self.layout.up, self.layout.across
        if up is None or across is None:
            return False
        if self.preparation == "prepare_3d":  # done: is it upside down?
            return bool(body[up[1], 2] < body[up[0], 2])
        if self.preparation is not None:
            return False
        # A line from a joint to itself has no direction, so this turns `up` only.
        upright = prepare_3d(body[None, None], replace(self.layout, across=(up[0], up[0])))
        if not upright.size:  # coordinates so close to zero count as nobody
            return False
        line = upright[0, 0, across[0]] - upright[0, 0, across[1]]
        return bool(line[0] < _AGAINST * np.linalg.norm(line))

    def conclude(self, *, without: Collection[str] = ()) -> None:
        """Say what was found in the clips that were looked at, but for those `without`."""
        looks = [look for look in self._looks if look.name not in without]
        if not looks:
            return
        for look in looks:
            for kind, detail in look.findings:
                self.findings.add(kind, look.name, detail)
        # Where clips are given relative to a joint, that one is zero, and no less there.
        origins = {self.layout.center, *(self.layout.up or ())[1:]}
        joints = np.any([look.joints for look in looks], axis=0)
        for joint in np.flatnonzero(~joints):
            if joint not in origins and joints.any():
                self.findings.add(problems.ZERO_JOINTS, self.layout.joints[joint])
        if all(look.three for look in looks):
            for look in looks:
                self.findings.add(problems.AXES, look.name)
        turned_over = [look.name for look in looks if look.turned_over]
        if len(turned_over) > _TURNED_OVER * len(looks):
            for name in turned_over:
                self.findings.add(problems.TURNED_OVER, name)
        low, high = _METRES
        extents = [(look.name, look.extent) for look in looks if look.extent is not None]
        if extents and not low <= float(np.median([extent for _, extent in extents])) <= high:
            for name, extent in extents:
                if not low <= extent <= high:
                    self.findings.add(problems.SIZE, name, f"{extent:.3g} across")


def check_splits(
    findings: Findings,
    *,
    ids: Sequence[str],
    labels: np.ndarray,
    label_names: Sequence[str],
    splits: Mapping[str, np.ndarray],
    subjects: Sequence[int | None],
) -> None:
    """Look at classes, splits and subjects.

    Args:
        findings: where to put what is found.
        ids: names of all clips.
        labels: their class numbers.
        label_names: the classes.
        splits: name -> positions of its clips.
        subjects: who performs each clip, where known.
    """
    if not len(ids):
        return
    counts = np.bincount(labels, minlength=len(label_names))
    for label in np.flatnonzero(counts == 0).tolist():
        findings.add(problems.NO_CLIP, _class(label, label_names))
    inside = np.zeros(len(ids), dtype=bool)
    for members in splits.values():
        inside[members] = True
    for i in np.flatnonzero(~inside):
        findings.add(problems.NO_SPLIT if splits else problems.NO_SPLITS, ids[int(i)])
    protocols: dict[str, dict[str, np.ndarray]] = {}
    for split, members in splits.items():
        match = _HALF.fullmatch(split)
        if match is None:
            findings.add(problems.HALF, split, "neither train nor val")
            continue
        protocols.setdefault(match[1] or "", {})[split] = members
        kind = problems.NOT_TRAINED if match[2] == "train" else problems.NOT_TESTED
        there = np.bincount(labels[members], minlength=len(label_names))
        for label in np.flatnonzero((there == 0) & (counts > 0)).tolist():
            findings.add(kind, split, _class(label, label_names))
    numbers = np.array([-1 if s is None else s for s in subjects], dtype=np.int64)
    known = np.array([s is not None for s in subjects], dtype=bool)
    for protocol, halves in protocols.items():
        _check_protocol(findings, protocol, halves, ids, numbers, known)


def _check_protocol(
    findings: Findings,
    protocol: str,
    halves: Mapping[str, np.ndarray],
    ids: Sequence[str],
    subjects: np.ndarray,
    known: np.ndarray,
) -> None:
    trained = [split for split in halves if split.endswith("train")]
    if not trained or len(halves) == 1:
        findings.add(problems.HALF, next(iter(halves)))
    for one, other in combinations(halves, 2):
        for i in np.intersect1d(halves[one], halves[other]):
            findings.add(problems.BOTH_HALVES, ids[i], f"in {one} and {other}")
    across = "sub" in protocol.lower()
    if protocol and not across:
        return
    if across:
        members = np.unique(np.concatenate(list(halves.values())))
        for i in members[~known[members]]:
            findings.add(problems.SUBJECTS_UNKNOWN, ids[i])
    kind = problems.SUBJECTS_MIXED if across else problems.SUBJECTS_SHARED
    for split in trained:
        mine = subjects[halves[split][known[halves[split]]]]
        for other in halves:
            theirs = subjects[halves[other][known[halves[other]]]]
            for subject in np.intersect1d(mine, theirs) if other != split else ():
                here, there = (np.count_nonzero(s == subject) for s in (mine, theirs))
                detail = f"{here} clips in {split}, {there} in {other}"
                findings.add(kind, f"subject {subject}", detail)


def _class(label: int, names: Sequence[str]) -> str:
    name = names[label]
    return f"label {label}" if name == str(label) else f"{name} (label {label})"


def _moves(points: np.ndarray, here: np.ndarray) -> bool:
    """Whether a person's points (T, V, axes) change while the person is there."""
    points = points if here.all() else points[here]
    span = (points.max(axis=0) - points.min(axis=0)).max()
    return bool(span > _STILL * np.abs(points).max())


def _extent(points: np.ndarray, seen: np.ndarray) -> float:
    """How far joints reach along the widest axis: (T, V, 3), (T, V) -> the frames' median."""
    if seen.all():
        span = points.max(axis=1) - points.min(axis=1)
    else:
        far = np.float64(np.inf)
        span = np.where(seen[..., None], points, -far).max(axis=1)
        span = span - np.where(seen[..., None], points, far).min(axis=1)
    return float(np.median(span.max(axis=-1)))
