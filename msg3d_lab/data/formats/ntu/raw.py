"""Import raw NTU RGB+D as the ROSE Lab distributes it: one `.skeleton` text file per recording.

The two zips need not be unpacked: setups 1 to 17 are NTU RGB+D 60, setups 18 to 32 are added by NTU
RGB+D 120. Own recordings in such files may have any names; a CSV of labels says what they are.

Source: shahroudy/NTURGB-D, README and the lists in `Matlab/`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

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
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings, source_record
from msg3d_lab.data.formats.ntu.bodies import RULES, NobodyError, select_bodies
from msg3d_lab.data.formats.ntu.skeleton_file import parse_skeleton
from msg3d_lab.data.formats.own.labels import (
    Labelled,
    LabelRow,
    add_labels,
    find_labels,
    read_labels,
)
from msg3d_lab.data.formats.own.options import NOTHING, OwnData
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


def read_clips(sources: Sequence[Path], *, dataset: Dataset, own: OwnData = NOTHING) -> Recordings:
    """List the recordings of folders and zips. Each is read and prepared when it is asked for.

    Args:
        sources: the ROSE Lab's zips as they are, or folders with `.skeleton` files.
        dataset: ntu60 or ntu120. Recordings of other setups and actions are left out, not read. Or
            one's own, with any names.
        own: the preparation, "align" (`prepare_3d`, the default) or "paper" (`prepare_paper`); how
            persons are selected (default: "denoise"; with "paper", "energy", as the author does);
            whether to keep the recordings on the authors' list of missing skeletons; layout of own
            recordings, with 25 joints (default: ntu25), and the CSV of labels (see `read_labels`;
            default: see `find_labels`).
    """
    prepare = own.prepare or "align"
    if prepare not in _PREPARE:
        raise ValueError(
            f"unknown preparation {prepare!r} of raw recordings: expected {' or '.join(_PREPARE)}"
        )
    bodies = own.bodies or ("energy" if prepare == "paper" else "denoise")
    if bodies not in RULES:
        raise ValueError(f"unknown rule {bodies!r} for bodies: expected {' or '.join(RULES)}")
    members = list_members(sources, suffix=_SUFFIX)
    done = {"name": _PREPARE[prepare].__name__, "scored": False, "bodies": bodies}
    if dataset.name in DATASETS:
        OwnData(layout=own.layout, labels=own.labels).refuse(dataset.name)
        skeleton, names = skeletons.get("ntu25"), None
        keep_missing = bool(own.keep_missing)
        entries = _by_name(members, dataset.name, keep_missing=keep_missing)
        if not members:
            where = ", ".join(map(str, sources))
            raise ValueError(f"{where} has no files such as S001C001P001R001A001{_SUFFIX}")
        done["keep_missing"] = keep_missing
    else:
        skeleton = own.skeleton or skeletons.get("ntu25")
        if skeleton.num_joints != _JOINTS:
            raise ValueError(
                f".skeleton files have {_JOINTS} joints, the layout {skeleton.name} has "
                f"{skeleton.num_joints}: name another (--layout), such as ntu25"
            )
        known = read_labels(Path(own.labels or find_labels(sources[0])))
        known.refuse_faults()
        done["labels"] = known.record
        entries, names = add_labels(members, known), known.names
    return Recordings(
        clips=LazyClips(entries, partial(_read, prepare=prepare, bodies=bodies, skeleton=skeleton)),
        skeleton=skeleton,
        preparation=done | source_record("NTU RGB+D raw", sources, digest_members(members)),
        label_names=names,
    )


def _by_name(
    members: Sequence[Member], dataset: str, *, keep_missing: bool
) -> list[Labelled[Member] | LeftOut]:
    """Say what published recordings are, by their names."""
    missing = missing_skeletons(dataset)
    entries: list[Labelled[Member] | LeftOut] = []
    seen: set[str] = set()
    for member in members:
        numbers, reason = parse_ntu_name(member.id), ""
        if numbers is None:
            reason = "not an NTU name"
        elif not numbers.is_of(dataset):
            reason = f"not of {dataset}"
        elif member.id in missing and not keep_missing:
            reason = "on the authors' list of missing skeletons"
        elif member.id in seen:
            reason = "occurs twice"
        seen.add(member.id)
        if numbers is None or reason:
            entries.append(LeftOut(member.id, reason, f"{member.source.name}: {member.name}"))
        else:
            splits = ntu_splits(member.id, dataset=dataset)
            row = LabelRow(numbers.action - 1, splits, **ntu_facts(member.id))
            entries.append(Labelled(member.id, member, row))
    return entries


def _read(
    file: Labelled[Member], *, prepare: str, bodies: str, skeleton: Skeleton
) -> Clip | LeftOut:
    tracks, num_frames = parse_skeleton(read_member(file.entry))
    try:
        selection = select_bodies(tracks, num_frames, bodies=bodies)
    except NobodyError:
        return LeftOut(file.id, "nobody in any frame", f"{num_frames} frames")
    return file.row.clip(file.id, _PREPARE[prepare](selection.keypoints, skeleton))


IMPORTER = Importer(
    title="raw NTU .skeleton files, a folder or zips",
    datasets=(DATASETS["ntu60"], DATASETS["ntu120"]),
    is_source=_is_source,
    read=read_clips,
    options=("prepare", "bodies", "keep_missing", "layout", "labels"),
    several_sources=True,
    own=True,
)
