"""Import Kinetics-Skeleton as ST-GCN distributes it: a folder or zips of JSON files.

`kinetics_train/` and `kinetics_val/` hold one file per clip: `data`, a list of frames with
`frame_index` and `skeleton`, whose items have `pose` (x, y of 18 OpenPose joints, from the upper
left corner, in image widths and heights) and `score`. `kinetics_train_label.json` and
`kinetics_val_label.json` beside them say for each clip `has_skeleton`, `label` and `label_index`.
Own data in this form may have other names: folders `NAME` with `NAME_label.json` beside them.

Sources: Yan et al., AAAI 2018; files and preparation as in ST-GCN (`feeder/feeder_kinetics.py`) and
MS-G3D (`data_gen/kinetics_gendata.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, Field, StrictInt, TypeAdapter, ValidationError

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import DATASETS, Dataset
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings, source_record
from msg3d_lab.data.formats.own.options import NOTHING, OwnData
from msg3d_lab.data.formats.zip_or_folder import (
    DAMAGE,
    Member,
    digest_members,
    has_members,
    list_members,
    read_member,
)
from msg3d_lab.data.preprocess import prepare_kinetics

_JOINTS, _PERSONS_SEEN, _PERSONS = 18, 5, 2
_SPLITS = ("kinetics_train", "kinetics_val")
_LABEL_FILE = "_label.json"  # after the name of the folder
_MAX_FRAMES = 10_000  # Kinetics has 300


class _Person(BaseModel):
    pose: list[float] = Field(min_length=2 * _JOINTS, max_length=2 * _JOINTS)
    score: list[float] = Field(min_length=_JOINTS, max_length=_JOINTS)


class _Frame(BaseModel):
    frame_index: StrictInt
    skeleton: list[_Person]


class _Document(BaseModel):
    """A clip's file."""

    data: list[_Frame]
    label_index: StrictInt = -1


class _Label(BaseModel):
    """What a label file says of a clip."""

    label: str
    label_index: StrictInt = Field(ge=0, lt=100_000)
    has_skeleton: bool


class _Listed(NamedTuple):
    """A clip's file, and its class and split by the label file."""

    id: str
    member: Member
    split: str
    label: int


def _is_source(path: Path) -> bool:
    return has_members(
        path,
        lambda name: name.endswith(_LABEL_FILE) or bool({*_SPLITS} & {*PurePosixPath(name).parts}),
    )


def read_clips(sources: Sequence[Path], *, dataset: Dataset, own: OwnData = NOTHING) -> Recordings:
    """List the clips of Kinetics-Skeleton; each is read when it is asked for.

    A clip's class and split come from the label file of its folder. Of the first five persons of a
    frame the two with the highest mean score are kept, the better one first, frame by frame: a
    person can change places. x and y go to [-0.5, 0.5] with y up, the score is the third channel;
    a joint with score 0 is zero. A clip reaches from the first to the last frame that its file
    lists; a frame in between that it does not list is empty. A clip that a label file lists with
    a skeleton and that has no file is left out by name.
    """
    where = ", ".join(map(str, sources))
    members = list_members(sources, suffix=".json")
    files = [(member, PurePosixPath(member.name)) for member in members]
    beside = {p.name.removesuffix(_LABEL_FILE): m for m, p in files if p.name.endswith(_LABEL_FILE)}
    splits = sorted({*_SPLITS, *(beside if dataset.name not in DATASETS else ())})
    labels = {split: _labels(beside[split]) for split in splits if split in beside}
    found = [(member, path.parent.name) for member, path in files]
    others = sorted({name for _, name in found} - {*splits, ""})
    found = [(member, name) for member, name in found if name in splits]
    missing = sorted({split for _, split in found} - set(labels))
    if not found or missing:
        message = (
            f"{where}: expected clips in folders kinetics_train and kinetics_val with their label "
            "files kinetics_train_label.json and kinetics_val_label.json beside them, found "
            f"{len(found)} clips"
        )
        if missing:
            message += f" but no {missing[0]}_label.json: download it too"
        elif others:
            message += (
                f" there, and the folders {', '.join(others)!s:.200}. Rename them; or give data of "
                "your own a name of their own (--dataset NAME), then a folder and its label file "
                "may be called NAME and NAME_label.json"
            )
        raise ValueError(message)
    entries = [_entry(member, split, labels[split]) for member, split in found]
    there = {(split, member.id) for member, split in found}
    entries += [
        LeftOut(name, "in the label file, but without a recording", f"{split}_label.json")
        for split, part in sorted(labels.items())
        for name, label in part.items()
        if label.has_skeleton and (split, name) not in there
    ]
    size = {} if own.image_size is None else {"image_size": list(own.image_size)}
    record = source_record("Kinetics-Skeleton JSON", sources, digest_members(members))
    return Recordings(
        clips=LazyClips(entries, partial(_read, image_size=own.image_size or (1, 1))),
        skeleton=skeletons.get("openpose18"),
        preparation={"name": "kinetics", "scored": True, **size, **record},
        label_names=_names(labels, where),
    )


def _entry(member: Member, split: str, labels: Mapping[str, _Label]) -> _Listed | LeftOut:
    label = labels.get(member.id)
    if label is None:
        return LeftOut(member.id, "not in the label file", f"{split}_label.json")
    if not label.has_skeleton:
        return LeftOut(member.id, "nobody in any frame", "'has_skeleton' is false")
    return _Listed(member.id, member, split, label.label_index)


def _labels(member: Member) -> dict[str, _Label]:
    try:
        return TypeAdapter(dict[str, _Label]).validate_json(read_member(member))
    except DAMAGE as error:
        reason = _first(error) if isinstance(error, ValidationError) else str(error)
        raise ValueError(
            f"{member.source}: {member.name} is not a label file of Kinetics-Skeleton ({reason}): "
            "expected has_skeleton, label and label_index for each clip; get it again"
        ) from error


def _first(error: ValidationError) -> str:
    """What is wrong first, and where."""
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"


def _names(labels: Mapping[str, Mapping[str, _Label]], where: str) -> tuple[str, ...]:
    """Class names in the order of the labels."""
    names: dict[int, str] = {}
    for label in (label for part in labels.values() for label in part.values()):
        if names.setdefault(label.label_index, label.label) != label.label:
            raise ValueError(
                f"{where}: class {label.label_index} is called {names[label.label_index]!r:.80} "
                f"and {label.label!r:.80} in the label files: they are of different data sets"
            )
    gaps = sorted(set(range(len(names))) - set(names))
    if gaps == [0] and len(names) > 1:
        raise ValueError(
            f"{where}: 'label_index' goes from 1 to {max(names)} in the label files: expected from "
            f"0 to {max(names) - 1}. Subtract 1 from each, there and in the files of the clips"
        )
    if gaps:
        raise ValueError(f"{where}: the label files have no name for class {gaps[0]}: get both")
    return tuple(names[i] for i in range(len(names)))


def _read(listed: _Listed, *, image_size: tuple[int, int]) -> Clip | LeftOut:
    try:
        document = _Document.model_validate_json(read_member(listed.member))
    except ValidationError as error:
        raise ValueError(
            "expected 'data', a list of frames with 'frame_index' and 'skeleton', a list with "
            f"'pose' and 'score' ({_first(error)})"
        ) from error
    keypoints = _keypoints(document.data, image_size)
    if not keypoints[..., 2].any():
        return LeftOut(listed.id, "nobody in any frame")
    if document.label_index not in (-1, listed.label):
        found = f"'label_index' is {document.label_index}"
        message = f"{found}, in {listed.split}_label.json {listed.label}"
        return LeftOut(listed.id, "cannot be read", message)
    return Clip(listed.id, keypoints, listed.label, (listed.split,))


def _keypoints(frames: Sequence[_Frame], image_size: tuple[int, int]) -> np.ndarray:
    """Select persons and scale coordinates: (M, T, 18, 3) float32, M at most 2."""
    slots, rows = [], []
    for frame in frames:
        for slot, person in enumerate(frame.skeleton[:_PERSONS_SEEN]):
            slots.append((frame.frame_index, slot))
            rows.append([*person.pose, *person.score])
    if not rows:
        return np.zeros((0, 0, _JOINTS, 3), dtype=np.float32)
    numbers = [frame.frame_index for frame in frames]
    first, last = min(numbers), max(numbers)
    if last - first >= _MAX_FRAMES:
        raise ValueError(f"frames {first} to {last}: expected at most {_MAX_FRAMES}")
    values = np.array(rows, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} numbers are NaN or infinite")
    found = np.zeros((last - first + 1, _PERSONS_SEEN, _JOINTS, 3))
    at = np.array(slots) - (first, 0)
    xy, scores = values[:, : 2 * _JOINTS].reshape(-1, _JOINTS, 2), values[:, 2 * _JOINTS :]
    found[at[:, 0], at[:, 1]] = prepare_kinetics(xy, scores, image_size)
    best = np.argsort(-found[..., 2].sum(axis=-1), axis=1, kind="stable")[:, :_PERSONS]
    chosen = np.take_along_axis(found, best[..., None, None], axis=1)
    persons = 1 if not chosen[:, 1].any() else 2
    return chosen.swapaxes(0, 1)[:persons].astype(np.float32)


IMPORTER = Importer(
    title="Kinetics-Skeleton, folders kinetics_train and kinetics_val of JSON files, or their zips",
    datasets=(DATASETS["kinetics400"],),
    is_source=_is_source,
    read=read_clips,
    options=("image_size",),
    several_sources=True,
    own=True,
)
