"""Import the arrays of CTR-GCN: NTU RGB+D 60 and 120, and own data in this form.

`NTU60_CS.npz` and its like have `x_train`, `x_test` (clips, frames, 150), padded with zeros, and
`y_train`, `y_test`, one-hot. Clips have no names. The origin is joint 1 of the first frame; nothing
was rotated. Of NTU120 a single person was written twice. Own data may have any layout, persons and
classes; a row is persons x joints x channels.

Source: `data/ntu/seq_transformation.py` and `data/ntu120/seq_transformation.py` of CTR-GCN.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.checksums import digest
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import DATASETS, Dataset
from msg3d_lab.data.formats.importer import Importer, Recordings, source_record
from msg3d_lab.data.formats.own.label_list import name_classes
from msg3d_lab.data.formats.own.options import NOTHING, OwnData
from msg3d_lab.data.formats.padded.plan import MAX_FRAMES, ArrayPlan, plan_arrays
from msg3d_lab.data.formats.zip_or_folder import DAMAGE, has_members
from msg3d_lab.data.preprocess import prepare_3d
from msg3d_lab.skeletons import Skeleton

# CTR-GCN's names of the protocols, in lower case.
_PROTOCOLS = {
    "ntu60_cs": ("ntu60", "xsub"),
    "ntu60_cv": ("ntu60", "xview"),
    "ntu120_csub": ("ntu120", "xsub"),
    "ntu120_cset": ("ntu120", "xset"),
}
_PARTS = {"train": "train", "test": "val"}  # their name of a part, ours
_PERSONS = 2


def is_source(path: Path) -> bool:
    """Whether a file is an .npz with `x_train`."""
    return path.is_file() and has_members(path, "x_train.npy".__eq__)


def read_clips(path: Path, *, dataset: Dataset, own: OwnData = NOTHING) -> Recordings:
    """Read the clips of a file one by one, once, in the order of the file.

    They are cut where only zeros follow; those of NTU are prepared with `prepare_3d`, the
    coordinates of own data stay as they are, unless `own.prepare` says otherwise. Ids are split and
    position from 0, such as xsub_train_00000; clips of NTU belong to no other protocol than the
    file's. The splits of own data are train and val.
    """
    published = dataset.name in DATASETS
    name, protocol = _PROTOCOLS.get(path.stem.lower(), ("", ""))
    if published:
        own.refuse(dataset.name)
        if name != dataset.name:
            raise ValueError(
                f"{path}: the clips of CTR-GCN's arrays have no names, so the file's name says "
                "whose they are: expected NTU60_CS.npz, NTU60_CV.npz (ntu60), NTU120_CSub.npz or "
                f"NTU120_CSet.npz (ntu120) for {dataset.name}; rename it if you know what it is, "
                "or give data of your own a name of their own (--dataset NAME)"
            )
    parts = []
    try:
        with zipfile.ZipFile(path) as archive:
            for theirs, ours in _PARTS.items():
                x, y = _shape(archive, f"x_{theirs}", 3), _shape(archive, f"y_{theirs}", 2)
                if x[0] != y[0] or not 0 < x[1] <= MAX_FRAMES:
                    raise ValueError(f"found x_{theirs} {x} and y_{theirs} {y}")
                split = f"{protocol}_{ours}" if published else ours
                parts.append(_Part(split, f"x_{theirs}", f"y_{theirs}", x[0], x[2], y[1]))
    except DAMAGE as error:
        raise ValueError(
            f"{path} is not an array of CTR-GCN, or it is cut short or damaged: expected x_train, "
            f"x_test (clips, frames, persons x joints x channels) and y_train, y_test (clips, "
            f"classes), one-hot: {error}"
        ) from error
    if len({(part.numbers, part.classes) for part in parts}) > 1:
        raise ValueError(f"{path}: its training and test arrays differ in joints or classes")
    numbers, classes = parts[0].numbers, parts[0].classes
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    if published:
        skeleton = skeletons.get("ntu25")
        expected = (_PERSONS * skeleton.num_joints * 3, len(dataset.label_names))
        if (numbers, classes) != expected:
            raise ValueError(
                f"{path}: expected rows of {expected[0]} numbers and {expected[1]} classes for "
                f"{dataset.name}, found {numbers} and {classes}"
            )
        plan = ArrayPlan(skeleton, 3, 3, partial(_align, skeleton=skeleton), {"name": "prepare_3d"})
    else:
        plan = _plan_own(own, numbers, path)
        persons = numbers // (plan.layout.num_joints * plan.channels)
        named = name_classes(range(classes), own.labels, where=path.name)
        names = named.names
        notes = (
            f"a row is {persons} persons x {plan.layout.num_joints} joints x {plan.channels} "
            "channels",
            *plan.notes,
            *named.notes,
        )
    return Recordings(
        clips=_clips(path, parts, plan),
        count=sum(part.clips for part in parts),
        skeleton=plan.layout,
        channels=plan.prepared_channels,
        preparation={**plan.record, **source_record("CTR-GCN arrays", [path], digest(path))},
        label_names=names,
        notes=notes,
    )


def _plan_own(own: OwnData, numbers: int, path: Path) -> ArrayPlan:
    """Choose layout and preparation by the length of a row."""
    joints = own.skeleton.num_joints if own.skeleton is not None else numbers // (3 * _PERSONS)
    channels = next((c for c in (3, 2) if joints and numbers % (joints * c) == 0), 0)
    if not channels:
        raise ValueError(
            f"{path} has rows of {numbers} numbers, which are not persons x {joints} joints x 2 or "
            "3 channels: name the layout of these recordings (--layout)"
        )
    return plan_arrays(own, joints=joints, channels=channels, where=path)


def _align(clip: np.ndarray, *, skeleton: Skeleton) -> np.ndarray:
    """Prepare a clip of NTU away from the origin, where a joint counts as not seen.

    Joint 1 of the first frame is there.
    """
    return prepare_3d(clip + clip.any(axis=(2, 3), keepdims=True), skeleton)


class _Part(NamedTuple):
    """The training or the test clips of a file: names of its arrays, and their sizes."""

    split: str
    x: str
    y: str
    clips: int
    numbers: int
    classes: int


def _shape(archive: zipfile.ZipFile, name: str, ndim: int) -> tuple[int, ...]:
    """The shape of an array, which is as long as its header says."""
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as file:
        shape, dtype = _read_header(file, name)
        start = file.tell()
    if len(shape) != ndim:
        raise ValueError(f"expected {ndim} dimensions of {name}, found {len(shape)}")
    if entry.file_size - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has another length than its header says")
    return shape


def _read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype]:
    np.lib.format.read_magic(file)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in ("f" if name.startswith("x") else "fiub") or fortran:
        raise ValueError(f"{name}: expected numbers in C order, found {dtype!s:.100}")
    return shape, dtype


def _clips(path: Path, parts: list[_Part], plan: ArrayPlan) -> Iterator[Clip | LeftOut]:
    """Go through the file once; a row of x at a time is in memory."""
    with zipfile.ZipFile(path) as archive:
        for part in parts:
            try:
                x, y = _rows(archive, part.x), _rows(archive, part.y)
                for i, (clip, one_hot) in enumerate(zip(x, y, strict=True)):
                    yield _clip(f"{part.split}_{i:05d}", clip, one_hot, part, plan)
            except DAMAGE as error:
                raise ValueError(f"{path} is damaged: {error}: get it again") from error


def _rows(archive: zipfile.ZipFile, name: str) -> Iterator[np.ndarray]:
    with archive.open(f"{name}.npy") as file:
        shape, dtype = _read_header(file, name)
        size = math.prod(shape[1:]) * dtype.itemsize
        for _ in range(shape[0]):
            yield np.frombuffer(file.read(size), dtype).reshape(shape[1:])
        file.read(1)  # at the end, its checksum is compared


def _clip(
    clip_id: str, row: np.ndarray, one_hot: np.ndarray, part: _Part, plan: ArrayPlan
) -> Clip | LeftOut:
    (hot,) = np.nonzero(one_hot)
    if len(hot) != 1 or one_hot[hot[0]] != 1:
        return LeftOut(clip_id, "cannot be read", f"its row of {part.y} is not one 1 and zeros")
    joints = plan.layout.num_joints
    with np.errstate(all="ignore"):  # numbers that are not finite are found by the clip's check
        clip = row.reshape(len(row), -1, joints, plan.channels).swapaxes(0, 1).astype(np.float64)
        if len(clip) == _PERSONS and np.array_equal(clip[0], clip[1]):
            clip = clip[:1]
        filled = np.flatnonzero(clip.any(axis=(0, 2, 3)))
        if not len(filled):
            return LeftOut(clip_id, "nobody in any frame")
        clip = clip[clip.any(axis=(1, 2, 3)), : filled[-1] + 1]
        return Clip(clip_id, plan.prepare(clip), int(hot[0]), (part.split,))


IMPORTER = Importer(
    title="an .npz of CTR-GCN",
    datasets=(DATASETS["ntu60"], DATASETS["ntu120"]),
    is_source=is_source,
    read=lambda sources, **options: read_clips(sources[0], **options),
    options=("layout", "labels", "prepare", "image_size"),
    own=True,
)
