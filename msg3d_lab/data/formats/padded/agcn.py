"""Import the arrays of 2s-AGCN and MS-G3D: NTU RGB+D 60 and 120, and own data in this form.

A folder per protocol with `train_data_joint.npy`, `val_data_joint.npy` (clips, 3, 300, 25, 2) and
`train_label.pkl`, `val_label.pkl`, each a pair (names, labels). ST-GCN calls the arrays
`train_data.npy`, `val_data.npy`. Own data may have any layout, persons, names and labels.

Source: `data_gen/ntu_gendata.py` and `data_gen/preprocess.py` of both. A person who is absent in
the first frame loses the frames without it; then each person is repeated from the start until the
array is full. In each frame joint 1 of the main person is moved to the origin, and the whole clip
is rotated. `cut_repetition` says what of this can be undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.checksums import digest
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import DATASETS, Dataset, check_ntu_labels, ntu_facts, ntu_splits
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings, source_record
from msg3d_lab.data.formats.own.label_list import name_classes
from msg3d_lab.data.formats.own.options import NOTHING, OwnData
from msg3d_lab.data.formats.padded.plan import MAX_FRAMES, ArrayPlan, as_float32, plan_arrays
from msg3d_lab.safe_pickle import load_npy, load_pickle

_PARTS, _OWN_PARTS = ("train", "val"), ("train", "val", "test")
_ARRAYS = ("data_joint.npy", "data.npy")
_SUFFIXES = (".skeleton", ".json", ".npy", ".avi", ".mp4")


def is_source(path: Path) -> bool:
    """Whether a folder has one of the arrays."""
    return any((path / f"{part}_{name}").is_file() for part in _OWN_PARTS for name in _ARRAYS)


def read_clips(folder: Path, *, dataset: Dataset, own: OwnData = NOTHING) -> Recordings:
    """List the clips of a folder; each is read when it is asked for, and gets its own length back.

    Their coordinates stay as they are in the arrays, unless `own.prepare` says otherwise.
    """
    published = dataset.name in DATASETS
    if published:
        own.refuse(dataset.name)
    rows: list[_Row] = []
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    files = _find_files(folder, published=published)
    for part, data, labels in files:
        array = _open_array(data)
        names, numbers = _read_labels(labels, array.shape[0])
        for i, (name, label) in enumerate(zip(names, numbers, strict=True)):
            splits = ntu_splits(name, dataset=dataset.name) if published else (part,)
            rows.append(_Row(array, i, part, name, label, splits))
    shapes = {row.array.path: row.array.shape for row in rows}
    kinds = {(shape[1], shape[3]) for shape in shapes.values()}
    if len(kinds) > 1:
        listed = ", ".join(f"{path.name} {shape}" for path, shape in shapes.items())
        raise ValueError(f"{folder}: its arrays differ in channels or joints: {listed}")
    ((channels, joints),) = kinds
    if published:
        if {(channels, joints, shape[4]) for shape in shapes.values()} != {(3, 25, 2)}:
            raise ValueError(
                f"{folder}: expected an array (clips, 3, frames, 25, 2), found "
                f"{next(iter(shapes.values()))}; data of your own need a name of their own "
                "(--dataset NAME)"
            )
        _check_splits(folder, rows, dataset)
        check_ntu_labels([(row.id, row.label) for row in rows], where=str(folder), dataset=dataset)
        plan = ArrayPlan(skeletons.get("ntu25"), 3, 3, as_float32, {"name": "2s-AGCN"})
    else:
        plan = plan_arrays(own, joints=joints, channels=channels, where=folder)
        classes = name_classes({row.label for row in rows}, own.labels, where=folder.name)
        rows = [row._replace(label=classes.numbers[row.label]) for row in rows]
        class_names, notes = classes.names, classes.notes
    whole = sha256("".join(digest(p) for _, *paths in files for p in paths).encode()).hexdigest()
    source = source_record("2s-AGCN and MS-G3D arrays", [folder], whole)
    return Recordings(
        clips=LazyClips(rows, partial(_read, plan=plan)),
        skeleton=plan.layout,
        channels=plan.prepared_channels,
        preparation={**plan.record, **source},
        label_names=class_names,
        notes=plan.notes + notes,
    )


class _Array(NamedTuple):
    """An array in a file: where its numbers start, their type, its shape."""

    path: Path
    start: int
    dtype: str
    shape: tuple[int, ...]

    def read(self, i: int) -> np.ndarray:
        """Read one clip. A memory map of all would count as memory what was read before."""
        count = int(np.prod(self.shape[1:]))
        offset = self.start + i * count * np.dtype(self.dtype).itemsize
        values = np.fromfile(self.path, self.dtype, count, offset=offset)
        if len(values) != count:
            raise ValueError(f"{self.path.name} is cut short")
        return values.reshape(self.shape[1:])


class _Row(NamedTuple):
    """A clip: where it is, and what is known of it."""

    array: _Array
    number: int
    part: str
    id: str
    label: int
    splits: tuple[str, ...]


def _find_files(folder: Path, *, published: bool) -> list[tuple[str, Path, Path]]:
    """The array and the labels of each part; published ones have train and val."""
    found = []
    for part in _OWN_PARTS:
        arrays = [folder / f"{part}_{name}" for name in _ARRAYS]
        data = next((path for path in arrays if path.is_file()), arrays[0])
        if data.is_file() or (published and part in _PARTS):
            found.append((part, data, folder / f"{part}_label.pkl"))
    missing = [path.name for _, *paths in found for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no {', '.join(missing)}: each part has an array and a pickle (names, "
            "labels); a published data set has train and val"
        )
    return found


def _open_array(path: Path) -> _Array:
    array = load_npy(path, memory_map=True)
    if array.ndim != 5 or 0 in array.shape or array.shape[2] > MAX_FRAMES:
        raise ValueError(
            f"{path}: expected an array (clips, channels, frames, joints, persons), found "
            f"{array.shape}"
        )
    if array.dtype.kind != "f" or not array.flags.c_contiguous:
        raise ValueError(f"{path}: expected numbers in C order, found {array.dtype!s:.100}")
    return _Array(path, array.offset, array.dtype.str, array.shape)


def _read_labels(path: Path, count: int) -> tuple[list[str], list[int]]:
    """Read names, without folder and suffix, and labels."""
    document = load_pickle(path)
    if not isinstance(document, (tuple, list)) or len(document) != 2:
        raise ValueError(f"{path}: expected a pair (names, labels)")
    names, labels = (p.tolist() if isinstance(p, np.ndarray) else p for p in document)
    for part, kind in ((names, str), (labels, int)):
        if not isinstance(part, (list, tuple)) or any(type(one) is not kind for one in part):
            raise ValueError(f"{path}: expected a list of names and one of whole numbers")
    if not len(names) == len(labels) == count:
        raise ValueError(
            f"{path} has {len(names)} names and {len(labels)} labels, the array beside it has "
            f"{count} clips: they are not of one data set"
        )
    if min(labels) < 0:
        raise ValueError(f"{path}: expected labels from 0, found {min(labels)}")
    # Names of one's own may have points in them.
    names = [PurePosixPath(name.replace("\\", "/")).name for name in names]
    stems = [next((n.removesuffix(s) for s in _SUFFIXES if n.endswith(s)), n) for n in names]
    return stems, list(labels)


def _check_splits(folder: Path, rows: Sequence[_Row], dataset: Dataset) -> None:
    """Check that for one protocol the two files are its two splits."""
    wrong = [
        [(protocol, row) for row in rows if f"{protocol}_{row.part}" not in row.splits]
        for protocol in dataset.protocols
    ]
    if all(wrong):
        protocol, row = wrong[0][0]
        raise ValueError(
            f"{folder}: the two parts are the splits of no protocol of {dataset.name}: by "
            f"{protocol}, for instance, {row.id} is not in {row.part}"
        )


def _read(row: _Row, *, plan: ArrayPlan) -> Clip | LeftOut:
    clip = cut_repetition(row.array.read(row.number).transpose(3, 1, 2, 0))
    if not clip.size:
        return LeftOut(row.id, "nobody in any frame")
    with np.errstate(all="ignore"):  # numbers that are not finite are found by the clip's check
        keypoints = plan.prepare(as_float32(clip))
    if not keypoints.size:
        return LeftOut(row.id, "nobody in any frame")
    return Clip(row.id, keypoints, row.label, row.splits, **ntu_facts(row.id))


def cut_repetition(clip: np.ndarray) -> np.ndarray:
    """Cut a clip that was padded by being repeated to its own length.

    Where zeros follow to the end, those are cut. Otherwise the length is the smallest period of all
    persons together: the smallest L for which every frame equals, in every bit, the one L before
    it. Without such an L the clip stays as long as the array: each person was repeated separately,
    and where one leaves before the other there is no common period. Repeated from its start again,
    the result always gives the array back. A clip in which nobody moves has one frame left. Persons
    who are never there are dropped.

    Shapes:
        clip: (M, T, V, C) -> (M', L, V, C), L <= T; M' persons are there in some frame.

    Example:
        >>> walk = np.arange(1.0, 8).reshape(1, 7, 1, 1)
        >>> cut_repetition(np.tile(walk, (1, 3, 1, 1))[:, :20]).shape
        (1, 7, 1, 1)
    """
    clip = clip[clip.any(axis=(1, 2, 3))]
    filled = np.flatnonzero(clip.any(axis=(0, 2, 3)))
    if not len(filled):
        return clip[:, :0]
    if filled[-1] + 1 < clip.shape[1]:
        return clip[:, : filled[-1] + 1]
    return clip[:, : _period(clip.swapaxes(0, 1))]


def _period(frames: np.ndarray) -> int:
    """The smallest L with frames[L:] == frames[:-L]; T if there is none."""
    rows = np.ascontiguousarray(frames).reshape(len(frames), -1).view(np.uint8)
    starts = np.flatnonzero((rows == rows[0]).all(axis=1)).tolist()[1:]
    same = (start for start in starts if np.array_equal(rows[start:], rows[:-start]))
    return next(same, len(rows))


IMPORTER = Importer(
    title="a folder of the arrays of 2s-AGCN and MS-G3D",
    datasets=(DATASETS["ntu60"], DATASETS["ntu120"]),
    is_source=is_source,
    read=lambda sources, **options: read_clips(sources[0], **options),
    options=("layout", "labels", "prepare", "image_size"),
    own=True,
    version=2,
)
