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

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import DATASETS, Dataset, get
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

_JOINTS, _PERSONS_SEEN, _PERSONS = 18, 5, 2
_SPLITS = ("kinetics_train", "kinetics_val")
_LABEL_FILE = "_label.json"  # after the name of the folder
_MAX_CLIP_SIZE, _MAX_LABELS_SIZE = 16 << 20, 64 << 20  # bytes, several times those of Kinetics
_MAX_CLASSES = 100_000
_MAX_FRAMES = 10_000  # Kinetics has 300


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

    Args:
        sources: folders that hold `kinetics_train` or `kinetics_val` or both with their label
            files, or zips of these.
        dataset: kinetics400, or one's own: then folders and label files may have any name.
        own: its image size, if x and y are in pixels.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: not a zip, no clips, no label files, or label files that are damaged or name a
            class in two ways.
    """
    where = ", ".join(str(one) for one in sources)
    members = list_members(sources, suffix=".json")
    files = {m: PurePosixPath(m.name) for m in members}
    beside = {
        path.name.removesuffix(_LABEL_FILE): member
        for member, path in files.items()
        if path.name.endswith(_LABEL_FILE)
    }
    splits = sorted({*_SPLITS, *(beside if dataset.name not in DATASETS else ())})
    labels = {split: _labels(beside[split]) for split in splits if split in beside}
    found = [(member, path.parent.name) for member, path in files.items()]
    others = sorted({name for _, name in found if name and name not in splits})
    found = [(member, name) for member, name in found if name in splits]
    missing = sorted({split for _, split in found} - set(labels))
    if not found or missing:
        message = (
            f"{where}: expected clips in folders kinetics_train and kinetics_val with their label "
            "files kinetics_train_label.json and kinetics_val_label.json beside them, found "
            f"{len(found)} clips"
        )
        if found:
            message += f" but no {missing[0]}_label.json: download it too"
        elif others:
            message += (
                f" there, and the folders {', '.join(others)!s:.200}. Rename them; or give data of "
                "your own a name of their own (--dataset NAME), then a folder and its label file "
                "may be called NAME and NAME_label.json"
            )
        raise ValueError(message)
    entries: list[_Listed | LeftOut] = [_entry(m, split, labels[split]) for m, split in found]
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
        clips=LazyClips(entries, partial(_read, image_size=own.image_size)),
        skeleton=skeletons.get("openpose18"),
        preparation={"name": "kinetics", "scored": True, **size, **record},
        label_names=_names(labels, where),
    )


@dataclass(frozen=True)
class _Label:
    """What a label file says of a clip."""

    name: str
    index: int
    has_skeleton: bool


class _Listed(NamedTuple):
    """A clip's file, and its class and split by the label file."""

    id: str
    member: Member
    split: str
    label: int


def _read(listed: _Listed, *, image_size: tuple[int, int] | None = None) -> Clip | LeftOut:
    content = read_member(listed.member, limit=_MAX_CLIP_SIZE)
    clip = _parse(listed.id, content, image_size=image_size)
    if isinstance(clip, LeftOut):
        return clip
    if clip.label not in (-1, listed.label):
        message = f"'label_index' is {clip.label}, in {listed.split}_label.json {listed.label}"
        return LeftOut(clip.id, "cannot be read", message)
    return replace(clip, label=listed.label, splits=(listed.split,))


def _entry(member: Member, split: str, labels: dict[str, _Label]) -> _Listed | LeftOut:
    label = labels.get(member.id)
    if label is None:
        return LeftOut(member.id, "not in the label file", f"{split}_label.json")
    if not label.has_skeleton:
        return LeftOut(member.id, "nobody in any frame", "'has_skeleton' is false")
    return _Listed(member.id, member, split, label.index)


def _labels(member: Member) -> dict[str, _Label]:
    try:
        document = json.loads(read_member(member, limit=_MAX_LABELS_SIZE))
        if not isinstance(document, dict):
            raise ValueError("no dict")
        labels = {
            name: _Label(entry["label"], entry["label_index"], entry["has_skeleton"])
            for name, entry in document.items()
        }
        for clip_id, label in labels.items():
            if not clip_id.isprintable() or not 0 < len(clip_id) <= 255:
                raise ValueError(f"unexpected name {clip_id!r:.200}")
            fits = type(label.name) is str and type(label.has_skeleton) is bool
            if not fits or type(label.index) is not int or not 0 <= label.index < _MAX_CLASSES:
                raise ValueError(f"unexpected {label!r:.200}")
    except DAMAGE as error:
        raise ValueError(
            f"{member.source}: {member.name} is not a label file of Kinetics-Skeleton "
            f"({type(error).__name__}: {error}): expected has_skeleton, label and label_index for "
            "each clip; get it again"
        ) from error
    return labels


def _names(labels: dict[str, dict[str, _Label]], where: str) -> tuple[str, ...]:
    """Class names in the order of the labels."""
    names: dict[int, str] = {}
    for label in (label for part in labels.values() for label in part.values()):
        if names.setdefault(label.index, label.name) != label.name:
            raise ValueError(
                f"{where}: class {label.index} is called {names[label.index]!r:.80} and "
                f"{label.name!r:.80} in the label files: they are of different data sets"
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


def _parse(
    clip_id: str, content: bytes, *, image_size: tuple[int, int] | None = None
) -> Clip | LeftOut:
    """Read a clip's file. Its class is the file's `label_index`, or -1 without one."""
    try:
        document = json.loads(content)
        keypoints = _keypoints(document["data"], image_size or (1, 1))
        label = document.get("label_index", -1)
        if type(label) is not int:
            raise ValueError("'label_index' is no whole number")
    except (LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            "expected 'data', a list of frames with 'frame_index' and 'skeleton', a list with "
            f"'pose' and 'score' ({type(error).__name__}: {error!s:.100})"
        ) from error
    if not keypoints[..., 2].any():
        return LeftOut(clip_id, "nobody in any frame")
    return Clip(clip_id, keypoints, label)


def _keypoints(frames: Any, image_size: tuple[int, int]) -> np.ndarray:
    """Select persons and scale coordinates: (M, T, 18, 3) float32, M at most 2."""
    numbers, slots, rows = [], [], []
    for frame in frames:
        number = frame["frame_index"]
        if type(number) is not int:
            raise ValueError("'frame_index' is no whole number")
        numbers.append(number)
        for slot, person in enumerate(frame["skeleton"][:_PERSONS_SEEN]):
            pose, score = person["pose"], person["score"]
            if len(pose) != 2 * _JOINTS or len(score) != _JOINTS:
                raise ValueError(
                    f"frame {number}: expected 'pose' of {2 * _JOINTS} numbers and 'score' of "
                    f"{_JOINTS}, found {len(pose)} and {len(score)}"
                )
            slots.append((number, slot))
            rows.append([*pose, *score])
    if not rows:
        return np.zeros((0, 0, _JOINTS, 3), dtype=np.float32)
    first, last = min(numbers), max(numbers)
    if last - first >= _MAX_FRAMES:
        raise ValueError(f"frames {first} to {last}: expected at most {_MAX_FRAMES}")
    values = np.array(rows, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} numbers are NaN or infinite")
    found = np.zeros((last - first + 1, _PERSONS_SEEN, _JOINTS, 3))
    at = np.array(slots) - (first, 0)
    found[at[:, 0], at[:, 1]] = _centered(values, image_size)
    best = np.argsort(-found[..., 2].sum(axis=-1), axis=1, kind="stable")[:, :_PERSONS]
    chosen = np.take_along_axis(found, best[..., None, None], axis=1)
    persons = 1 if not chosen[:, 1].any() else 2
    return chosen.swapaxes(0, 1)[:persons].astype(np.float32)


def _centered(values: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """(K, 54) as in the files -> (K, 18, 3): x to the right, y up, score."""
    height, width = image_size
    xy, score = values[:, : 2 * _JOINTS].reshape(-1, _JOINTS, 2), values[:, 2 * _JOINTS :]
    centered = np.where((score != 0)[..., None], (xy / (width, height) - 0.5) * (1, -1), 0)
    return np.concatenate([centered, score[..., None]], axis=-1)


IMPORTER = Importer(
    title="Kinetics-Skeleton, folders kinetics_train and kinetics_val of JSON files, or their zips",
    datasets=(get("kinetics400"),),
    is_source=_is_source,
    read=read_clips,
    options=("image_size",),
    several_sources=True,
    own=True,
)
