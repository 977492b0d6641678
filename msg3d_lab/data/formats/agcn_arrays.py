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
from msg3d_lab.data.datasets import DATASETS, Dataset, get, ntu_facts, ntu_splits
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings, source_record
from msg3d_lab.data.formats.ntu_labels import check_ntu_labels
from msg3d_lab.data.formats.own.label_list import name_classes
from msg3d_lab.data.formats.own.options import NOTHING, OwnData
from msg3d_lab.data.formats.own.preparation import ArrayPlan, plan_arrays
from msg3d_lab.safe_pickle import load_npy, load_pickle

_PARTS, _FILES = ("train", "val"), ("data_joint.npy", "label.pkl")
_OWN_PARTS, _ARRAYS = ("train", "val", "test"), ("data_joint.npy", "data.npy")
_SUFFIXES = (".skeleton", ".json", ".npy", ".avi", ".mp4")
_MAX_FRAMES = 10_000  # the field's arrays have 300


def is_source(path: Path) -> bool:
    """Whether a folder has one of the arrays."""
    return any((path / f"{part}_{name}").is_file() for part in _OWN_PARTS for name in _ARRAYS)


def read_clips(
    folder: Path,
    *,
    dataset: Dataset,
    own: OwnData = NOTHING,
) -> Recordings:
    """List the clips of a folder; each is read when it is asked for, and gets its own length back.

    Their coordinates stay as they are in the arrays, unless `own.prepare` says otherwise.

    Args:
        folder: has the arrays and the labels.
        dataset: ntu60, ntu120 or one's own.
        own: of own data. Default of the layout: by the number of joints, if that tells.

    Raises:
        FileNotFoundError: one of the four files is not there; of own data, the labels of an array.
        ValueError: not such arrays, or clips in another split or class than their names say.
    """
    if dataset.name not in DATASETS:
        return _read_own(folder, own)
    own.refuse(dataset.name)
    needed = [folder / f"{part}_{rest}" for part in _PARTS for rest in _FILES]
    missing = [path.name for path in needed if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no {', '.join(missing)}: the arrays and labels of train and val belong "
            "together"
        )
    rows: list[_Row] = []
    for part in _PARTS:
        array = _open_array(folder / f"{part}_{_FILES[0]}")
        names, numbers = _read_labels(folder / f"{part}_{_FILES[1]}", array.shape[0])
        rows += [
            _Row(array, i, part, name, label, ntu_splits(name, dataset=dataset.name))
            for i, (name, label) in enumerate(zip(names, numbers, strict=True))
        ]
    _check_splits(folder, rows, dataset)
    check_ntu_labels([(row.id, row.label) for row in rows], where=str(folder), dataset=dataset)
    whole = sha256("".join(map(digest, needed)).encode()).hexdigest()
    source = source_record("2s-AGCN and MS-G3D arrays", [folder], whole)
    return Recordings(
        clips=LazyClips(rows, _read),
        skeleton=skeletons.get("ntu25"),
        preparation={"name": "2s-AGCN", **source},
    )


def _read_own(folder: Path, own: OwnData) -> Recordings:
    """List clips of own data: any joints, persons, names and labels; each part is a split."""
    found = [
        (part, folder / f"{part}_{name}", folder / f"{part}_{_FILES[1]}")
        for part in _OWN_PARTS
        for name in _ARRAYS
        if (folder / f"{part}_{name}").is_file()
    ]
    for _, data, label in found:
        if not label.is_file():
            raise FileNotFoundError(
                f"{folder} has no {label.name}: expected a pickle (names, labels) for {data.name}"
            )
    arrays = [_open_array(path, own=True) for _, path, _ in found]
    kinds = {(a.shape[1], *a.shape[3:4]) for a in arrays}
    if len(kinds) > 1:
        raise ValueError(
            f"{folder}: its arrays differ in channels or joints: "
            f"{', '.join(f'{a.path.name} {a.shape}' for a in arrays)}"
        )
    ((channels, joints),) = kinds
    plan = plan_arrays(own, joints=joints, channels=channels, where=folder)
    rows: list[_Row] = []
    for (part, _, path), array in zip(found, arrays, strict=True):
        names, numbers = _read_labels(path, array.shape[0], own=True)
        rows += [
            _Row(array, i, part, name, label, (part,))
            for i, (name, label) in enumerate(zip(names, numbers, strict=True))
        ]
    classes = name_classes({row.label for row in rows}, own.labels, where=folder.name)
    rows = [row._replace(label=classes.numbers[row.label]) for row in rows]
    files = [path for _, *paths in found for path in paths]
    whole = sha256("".join(map(digest, files)).encode()).hexdigest()
    return Recordings(
        clips=LazyClips(rows, partial(_read, plan=plan)),
        skeleton=plan.layout,
        channels=plan.prepared_channels,
        preparation=plan.record | source_record("2s-AGCN and MS-G3D arrays", [folder], whole),
        label_names=classes.names,
        notes=plan.notes + classes.notes,
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


def _open_array(path: Path, *, own: bool = False) -> _Array:
    array = load_npy(path, memory_map=True)
    fits = array.ndim == 5 and (own or (array.shape[1], *array.shape[3:]) == (3, 25, 2))
    if not fits or not 0 < array.shape[2] <= _MAX_FRAMES or 0 in array.shape:
        expected = "channels, frames, joints, persons" if own else "3, frames, 25, 2"
        cure = "" if own else "; data of your own need a name of their own (--dataset NAME)"
        raise ValueError(
            f"{path}: expected an array (clips, {expected}), found {array.shape}{cure}"
        )
    if array.dtype.kind != "f" or not array.flags.c_contiguous:
        raise ValueError(f"{path}: expected numbers in C order, found {array.dtype!s:.100}")
    start, size = array.offset, path.stat().st_size
    if size != start + array.nbytes:
        raise ValueError(
            f"{path} is damaged: its header claims {array.nbytes} bytes, {size - start} follow: "
            "get it again"
        )
    return _Array(path, start, array.dtype.str, array.shape)


def _read_labels(path: Path, count: int, *, own: bool = False) -> tuple[list[str], list[int]]:
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
    names = [PurePosixPath(n.replace("\\", "/")).name for n in names]
    if not own:
        return [name.split(".")[0] for name in names], list(labels)
    if min(labels) < 0:
        raise ValueError(f"{path}: expected labels from 0, found {min(labels)}")
    # Names of one's own may have points in them.
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


def _read(row: _Row, *, plan: ArrayPlan | None = None) -> Clip | LeftOut:
    clip = row.array.read(row.number).transpose(3, 1, 2, 0)
    with np.errstate(all="ignore"):  # numbers that are not finite are found by the clip's check
        keypoints = np.ascontiguousarray(cut_repetition(clip), dtype=np.float32)
        if plan is not None and keypoints.size:
            keypoints = plan(keypoints)
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
    """The smallest L with frames[L:] == frames[:-L]; T if there is none.

    By the borders of Knuth, Morris and Pratt: the longest proper beginning of a text that is also
    its end, found in linear time, has length T - L.
    """
    flat = np.ascontiguousarray(frames).reshape(len(frames), -1)
    rows = flat.view(np.dtype((np.void, flat.strides[0])))[:, 0]
    if not (rows[1:] == rows[0]).any():
        return len(rows)
    text = np.unique(rows, return_inverse=True)[1].tolist()
    border = [0]
    for value in text[1:]:
        k = border[-1]
        while k and value != text[k]:
            k = border[k - 1]
        border.append(k + 1 if value == text[k] else 0)
    return len(text) - border[-1]


IMPORTER = Importer(
    title="a folder of the arrays of 2s-AGCN and MS-G3D",
    datasets=(get("ntu60"), get("ntu120")),
    is_source=is_source,
    read=lambda sources, **options: read_clips(sources[0], **options),
    options=("layout", "labels", "prepare", "image_size"),
    own=True,
    version=2,
)
