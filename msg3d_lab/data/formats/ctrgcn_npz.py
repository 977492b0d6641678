"""Import the arrays of CTR-GCN: NTU RGB+D 60 and 120, and own data in this form.

`NTU60_CS.npz` and its like have `x_train`, `x_test` (clips, frames, 150), padded with zeros, and
`y_train`, `y_test`, one-hot. Clips have no names. The origin is joint 1 of the first frame; nothing
was rotated. Of NTU120 a single person was written twice. Own data may have any layout, persons and
classes; a row is persons x joints x channels.

Source: `data/ntu/seq_transformation.py` and `data/ntu120/seq_transformation.py` of CTR-GCN.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.checksums import digest
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import DATASETS, Dataset, get
from msg3d_lab.data.formats.importer import Importer, Recordings, source_record
from msg3d_lab.data.formats.own.label_list import name_classes
from msg3d_lab.data.formats.own.options import NOTHING, OwnData
from msg3d_lab.data.formats.own.preparation import ArrayPlan, plan_arrays
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
_JOINTS, _PERSONS = 25, 2
_MAX_FRAMES = 10_000  # the field's arrays have 300
# Deflate packs a thousand zeros into a byte; of clips, half of which are zeros, far fewer.
_MAX_PACKED = 200


def is_source(path: Path) -> bool:
    """Whether a file is an .npz with `x_train`."""
    return path.is_file() and has_members(path, "x_train.npy".__eq__)


def read_clips(
    path: Path,
    *,
    dataset: Dataset,
    own: OwnData = NOTHING,
) -> Recordings:
    """Read the clips of a file one by one, once, in the order of the file.

    They are cut where only zeros follow and prepared with `prepare_3d`. Their ids are split and
    position from 0, such as xsub_train_00000; they belong to no other protocol than the file's.
    The splits of own data are train and val; their coordinates stay as they are, unless
    `own.prepare` says otherwise.

    Args:
        path: the file.
        dataset: ntu60, ntu120 or one's own.
        own: of own data. Default of the layout: by the number of joints of two persons with x,
            y, z.

    Raises:
        ValueError: not such arrays, or arrays of another data set. Later: the file is damaged.
        OSError: the disk or network failed.
    """
    if dataset.name not in DATASETS:
        return _read_own(path, own)
    own.refuse(dataset.name)
    name, protocol = _PROTOCOLS.get(path.stem.lower(), ("", ""))
    if name != dataset.name:
        raise ValueError(
            f"{path}: the clips of CTR-GCN's arrays have no names, so the file's name says whose "
            f"they are: expected NTU60_CS.npz, NTU60_CV.npz (ntu60), NTU120_CSub.npz or "
            f"NTU120_CSet.npz (ntu120) for {dataset.name}; rename it if you know what it is, or "
            "give data of your own a name of their own (--dataset NAME)"
        )
    skeleton, classes = skeletons.get("ntu25"), len(dataset.label_names)
    parts = []
    try:
        with zipfile.ZipFile(path) as archive:
            for theirs, ours in (("train", "train"), ("test", "val")):
                x, y = f"x_{theirs}.npy", f"y_{theirs}.npy"
                count, frames, numbers = _shape(archive, x, 3, "f")
                if numbers != _PERSONS * _JOINTS * 3 or not 0 < frames <= _MAX_FRAMES:
                    raise ValueError(f"expected {x} (clips, frames, 150), found numbers {numbers}")
                if _shape(archive, y, 2, "fiub") != (count, classes):
                    raise ValueError(f"expected {y} ({count}, {classes}) to go with {x}")
                parts.append(_Part(f"{protocol}_{ours}", x, y, count))
    except DAMAGE as error:
        raise ValueError(
            f"{path} is not an array of CTR-GCN, or it is cut short or damaged: {error}"
        ) from error
    source = source_record("CTR-GCN arrays", [path], digest(path))
    return Recordings(
        clips=_clips(path, parts, skeleton),
        count=sum(part.clips for part in parts),
        skeleton=skeleton,
        preparation={"name": "prepare_3d", **source},
    )


def _read_own(path: Path, own: OwnData) -> Recordings:
    """Read clips of own data: any joints, persons and classes."""
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for theirs in ("train", "test"):
                x, y = f"x_{theirs}.npy", f"y_{theirs}.npy"
                shapes[x], shapes[y] = _shape(archive, x, 3, "f"), _shape(archive, y, 2, "fiub")
                if shapes[x][0] != shapes[y][0]:
                    raise ValueError(f"{x} {shapes[x]} and {y} {shapes[y]} differ in clips")
    except DAMAGE as error:
        raise ValueError(
            f"{path}: expected the arrays x_train, y_train, x_test, y_test: x (clips, frames, "
            f"persons x joints x channels), y (clips, classes) one-hot: {error}"
        ) from error
    numbers, classes = shapes["x_train.npy"][2], shapes["y_train.npy"][1]
    if shapes["x_test.npy"][2] != numbers or shapes["y_test.npy"][1] != classes:
        raise ValueError(f"{path}: its training and test arrays differ in joints or classes")
    skeleton = own.skeleton
    joints = skeleton.num_joints if skeleton is not None else numbers // (3 * _PERSONS)
    channels = next((c for c in (3, 2) if joints and numbers % (joints * c) == 0), 0)
    if not channels:
        raise ValueError(
            f"{path} has rows of {numbers} numbers, which are not persons x {joints} joints x 2 or "
            "3 channels: name the layout of these recordings (--layout)"
        )
    plan = plan_arrays(own, joints=joints, channels=channels, where=path)
    named = name_classes(range(classes), own.labels, where=path.name)
    parts = [
        _Part(ours, f"x_{theirs}.npy", f"y_{theirs}.npy", shapes[f"x_{theirs}.npy"][0])
        for theirs, ours in (("train", "train"), ("test", "val"))
    ]
    persons = numbers // (joints * channels)
    note = f"a row is {persons} persons x {joints} joints x {channels} channels"
    return Recordings(
        clips=_clips(path, parts, plan),
        count=sum(part.clips for part in parts),
        skeleton=plan.layout,
        channels=plan.prepared_channels,
        preparation=plan.record | source_record("CTR-GCN arrays", [path], digest(path)),
        label_names=named.names,
        notes=(note, *plan.notes, *named.notes),
    )


class _Part(NamedTuple):
    """The training or the test clips of a file."""

    split: str
    x: str
    y: str
    clips: int


def _shape(archive: zipfile.ZipFile, name: str, ndim: int, kinds: str) -> tuple[int, ...]:
    """Check that an array is as long as its header says, and no zip bomb."""
    entry = archive.getinfo(name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in a way that NumPy does not write")
    if entry.header_offset < 0:  # seeking there would look like a disk that failed
        raise ValueError(f"{name} is said to be outside the file")
    if ndim == 3 and entry.file_size > _MAX_PACKED * entry.compress_size:
        raise ValueError(
            f"{name} would unpack to {entry.file_size} bytes from {entry.compress_size}: "
            "it holds something else than recordings"
        )
    with archive.open(entry) as file:
        shape, dtype = _read_header(file, name, kinds)
        start = file.tell()
    if len(shape) != ndim:
        raise ValueError(f"expected {ndim} dimensions of {name}, found {len(shape)}")
    if entry.file_size - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has another length than its header says")
    return shape


def _read_header(file: IO[bytes], name: str, kinds: str) -> tuple[tuple[int, ...], np.dtype]:
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{name} has a header of another version than NumPy writes for numbers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about headers that Python 2 wrote
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in kinds or fortran:
        raise ValueError(f"{name}: expected numbers in C order, found {dtype!s:.100}")
    return shape, dtype


def _clips(path: Path, parts: list[_Part], plan: Skeleton | ArrayPlan) -> Iterator[Clip | LeftOut]:
    """Go through the file once; a row of x at a time is in memory."""
    with zipfile.ZipFile(path) as archive:
        for part in parts:
            try:
                with archive.open(part.x) as x, archive.open(part.y) as y:
                    for i, (clip, one_hot) in enumerate(zip(_rows(x), _rows(y), strict=True)):
                        yield _clip(f"{part.split}_{i:05d}", clip, one_hot, part, plan)
            except DAMAGE as error:
                raise ValueError(f"{path} is damaged: {error}: get it again") from error


def _rows(file: IO[bytes]) -> Iterator[np.ndarray]:
    shape, dtype = _read_header(file, "the array", "fiub")
    size = math.prod(shape[1:]) * dtype.itemsize
    for _ in range(shape[0]):
        content = file.read(size)
        if len(content) != size:
            raise EOFError("it is cut short")
        yield np.frombuffer(content, dtype).reshape(shape[1:])
    file.read(1)  # at the end, its checksum is compared


def _clip(
    clip_id: str, row: np.ndarray, one_hot: np.ndarray, part: _Part, plan: Skeleton | ArrayPlan
) -> Clip | LeftOut:
    (hot,) = np.nonzero(one_hot)
    if len(hot) != 1 or one_hot[hot[0]] != 1:
        return LeftOut(clip_id, "cannot be read", f"its row of {part.y} is not one 1 and zeros")
    with np.errstate(all="ignore"):  # numbers that are not finite are found by the clip's check
        joints, channels = (
            (plan.layout.num_joints, plan.channels) if isinstance(plan, ArrayPlan) else (_JOINTS, 3)
        )
        persons = row.shape[1] // (joints * channels)
        clip = row.reshape(-1, persons, joints, channels).swapaxes(0, 1).astype(np.float64)
        if persons == _PERSONS and (not clip[1].any() or np.array_equal(clip[0], clip[1])):
            clip = clip[:1]
        filled = np.flatnonzero(clip.any(axis=(0, 2, 3)))
        if not len(filled):
            return LeftOut(clip_id, "nobody in any frame")
        clip = clip[:, : filled[-1] + 1]
        if isinstance(plan, ArrayPlan):
            keypoints = plan(clip[clip.any(axis=(1, 2, 3))])
            return Clip(clip_id, keypoints, int(hot[0]), (part.split,))
        # Away from the origin, where a joint counts as not seen: the first frame's joint 1 is it.
        keypoints = prepare_3d(clip + clip.any(axis=(2, 3), keepdims=True), plan)
    return Clip(clip_id, keypoints, int(hot[0]), (part.split,))


IMPORTER = Importer(
    title="an .npz of CTR-GCN",
    datasets=(get("ntu60"), get("ntu120")),
    is_source=is_source,
    read=lambda sources, **options: read_clips(sources[0], **options),
    options=("layout", "labels", "prepare", "image_size"),
    own=True,
)
