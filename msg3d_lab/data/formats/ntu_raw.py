"""Import raw NTU RGB+D as the ROSE Lab distributes it: one `.skeleton` text file per recording.

The two zips need not be unpacked: setups 1 to 17 are NTU RGB+D 60, setups 18 to 32 are added by NTU
RGB+D 120. Own recordings in such files may have any names; a CSV of labels says what they are.

Source: shahroudy/NTURGB-D, README and the lists in `Matlab/`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import (
    DATASETS,
    Dataset,
    missing_skeletons,
    ntu_facts,
    ntu_splits,
    parse_ntu_name,
)
from msg3d_lab.data.formats.bodies import RULES, NobodyError, select_bodies
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings, source_record
from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.formats.own.labels import LabelRow, find_labels, read_labels
from msg3d_lab.data.formats.own.options import NOTHING, OwnData
from msg3d_lab.data.formats.skeleton_file import parse_skeleton
from msg3d_lab.data.formats.zip_or_folder import (
    Member,
    digest_members,
    list_members,
    read_member,
)
from msg3d_lab.data.preprocess import prepare_3d, prepare_paper
from msg3d_lab.skeletons import Skeleton

_SUFFIX = ".skeleton"
_JOINTS = 25
_PREPARE = {"align": prepare_3d, "paper": prepare_paper}


def read_ntu_skeleton(path: str | Path, *, bodies: str = "denoise") -> np.ndarray:
    """Read the persons of one recording from its `.skeleton` file.

    Args:
        path: the file.
        bodies: how persons are selected, "denoise" or "energy": see `select_bodies`.

    Shapes:
        (M, T, 25, 3) float32, M 1 or 2; zeros where a person is absent.

    Units: metres in the camera frame; 30 frames a second.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or there is nobody in any frame.

    Example:
        >>> import tempfile
        >>> from msg3d_lab.data.formats.bodies import Track
        >>> from msg3d_lab.data.formats.skeleton_file import write_ntu_skeleton
        >>> walker = Track(7, np.arange(9), np.zeros(9, int), np.ones((9, 25, 3)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_ntu_skeleton(f"{folder}/S001C001P001R001A059.skeleton", [walker], 9)
        ...     read_ntu_skeleton(path).shape
        (1, 9, 25, 3)
    """
    try:
        tracks, num_frames = parse_skeleton(Path(path).read_bytes())
        return select_bodies(tracks, num_frames, bodies=bodies).keypoints
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _is_source(path: Path) -> bool:
    if path.is_file() and not zipfile.is_zipfile(path):
        return False
    return bool(list_members([path], suffix=_SUFFIX))


def read_clips(
    sources: Sequence[Path],
    *,
    dataset: Dataset,
    bodies: str | None = None,
    keep_missing: bool = False,
    own: OwnData = NOTHING,
) -> Recordings:
    """List the recordings of folders and zips. Each is read and prepared when it is asked for.

    Args:
        sources: the ROSE Lab's zips as they are, or folders with `.skeleton` files.
        dataset: ntu60 or ntu120. Recordings of other setups and actions are left out, not read. Or
            one's own, with any names.
        bodies: how persons are selected, "denoise" or "energy": see `select_bodies`. Default:
            "denoise"; with "paper", "energy", as the author does.
        keep_missing: whether to keep the recordings on the authors' list of missing skeletons.
        own: the preparation, "align" (`prepare_3d`, the default) or "paper" (`prepare_paper`);
            layout of own recordings, with 25 joints (default: ntu25), and the CSV of labels (see
            `read_labels`; default: see `find_labels`).

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: not a zip, no recordings in any source, or an unknown rule or data set.
    """
    prepare = own.prepare or "align"
    if prepare not in _PREPARE:
        raise ValueError(
            f"unknown preparation {prepare!r} of raw recordings: expected {' or '.join(_PREPARE)}"
        )
    bodies = bodies or ("energy" if prepare == "paper" else "denoise")
    if bodies not in RULES:
        raise ValueError(f"unknown rule {bodies!r} for bodies: expected {' or '.join(RULES)}")
    if dataset.name not in DATASETS:
        return _read_own(sources, own, prepare, bodies)
    replace(own, prepare=None).refuse(dataset.name)
    missing = missing_skeletons(dataset.name)
    members = list_members(sources, suffix=_SUFFIX)
    if not members:
        names = ", ".join(str(source) for source in sources)
        raise ValueError(f"{names} has no files such as S001C001P001R001A001{_SUFFIX}")
    entries: list[Member | LeftOut] = []
    seen: set[str] = set()
    for member in members:
        numbers, reason = parse_ntu_name(member.id), ""
        if numbers is None:
            reason = "not an NTU name"
        elif not numbers.is_of(dataset.name):
            reason = f"not of {dataset.name}"
        elif member.id in missing and not keep_missing:
            reason = "on the authors' list of missing skeletons"
        elif member.id in seen:
            reason = "occurs twice"
        seen.add(member.id)
        where = f"{member.source.name}: {member.name}"
        entries.append(LeftOut(member.id, reason, where) if reason else member)
    done = {
        "name": _PREPARE[prepare].__name__,
        "scored": False,
        "bodies": bodies,
        "keep_missing": keep_missing,
    }
    skeleton = skeletons.get("ntu25")
    read = partial(_read, dataset=dataset.name, prepare=prepare, bodies=bodies, skeleton=skeleton)
    return Recordings(
        clips=LazyClips(entries, read),
        skeleton=skeleton,
        preparation=done | source_record("NTU RGB+D raw", sources, digest_members(members)),
    )


def _read(
    member: Member, *, dataset: str, prepare: str, bodies: str, skeleton: Skeleton
) -> Clip | LeftOut:
    name = member.id
    numbers = parse_ntu_name(name)
    assert numbers is not None  # others are left out when listed
    tracks, num_frames = parse_skeleton(read_member(member))
    try:
        selection = select_bodies(tracks, num_frames, bodies=bodies)
    except NobodyError:
        return LeftOut(name, "nobody in any frame", f"{num_frames} frames")
    return Clip(
        id=name,
        keypoints=_PREPARE[prepare](selection.keypoints, skeleton),
        label=numbers.action - 1,
        splits=ntu_splits(name, dataset=dataset),
        **ntu_facts(name),
    )


class _OwnFile(NamedTuple):
    """A file and what the CSV of labels says of it."""

    id: str
    member: Member
    row: LabelRow


def _read_own(sources: Sequence[Path], own: OwnData, prepare: str, bodies: str) -> Recordings:
    """List own recordings; their names say nothing, the CSV of labels everything."""
    skeleton = own.skeleton or skeletons.get("ntu25")
    if skeleton.num_joints != _JOINTS:
        raise ValueError(
            f".skeleton files have {_JOINTS} joints, the layout {skeleton.name} has "
            f"{skeleton.num_joints}: name another (--layout), such as ntu25"
        )
    members = list_members(sources, suffix=_SUFFIX)
    known = read_labels(Path(own.labels) if own.labels is not None else find_labels(sources[0]))
    if known.faults:
        first = known.faults[0]
        raise ValueError(
            f"{known.path} has {len(known.faults)} faults, for example {first.id}: {first.reason} "
            f"({first.detail}): correct them"
        )
    entries: list[_OwnFile | LeftOut] = []
    for member in members:
        row = known.rows.get(member.id)
        entries.append(
            LeftOut(member.id, faults.NO_LABEL) if row is None else _OwnFile(member.id, member, row)
        )
    there = {member.id for member in members}
    entries += [LeftOut(name, faults.NO_RECORDING) for name in known.rows if name not in there]
    if not there & known.rows.keys():
        raise ValueError(
            f"{known.path} has none of the {len(there)} recordings, for example {min(there)}: "
            "expected a column `sample` with the names of the files without .skeleton"
        )
    done = {"name": _PREPARE[prepare].__name__, "scored": False, "bodies": bodies}
    read = partial(_read_own_file, prepare=prepare, bodies=bodies, skeleton=skeleton)
    record = source_record("NTU RGB+D raw", sources, digest_members(members))
    return Recordings(
        clips=LazyClips(entries, read),
        skeleton=skeleton,
        preparation=done | record,
        label_names=known.names,
    )


def _read_own_file(
    file: _OwnFile, *, prepare: str, bodies: str, skeleton: Skeleton
) -> Clip | LeftOut:
    tracks, num_frames = parse_skeleton(read_member(file.member))
    try:
        selection = select_bodies(tracks, num_frames, bodies=bodies)
    except NobodyError:
        return LeftOut(file.id, "nobody in any frame", f"{num_frames} frames")
    row = file.row
    keypoints = _PREPARE[prepare](selection.keypoints, skeleton)
    return Clip(file.id, keypoints, row.label, row.splits, row.subject, row.camera, row.setup)


IMPORTER = Importer(
    title="raw NTU .skeleton files, a folder or zips",
    datasets=(DATASETS["ntu60"], DATASETS["ntu120"]),
    is_source=_is_source,
    read=read_clips,
    options=("prepare", "bodies", "keep_missing", "layout", "labels"),
    several_sources=True,
    own=True,
)
