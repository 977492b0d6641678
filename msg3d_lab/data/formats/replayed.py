"""Import of the padded arrays of 2s-AGCN and MS-G3D: NTU RGB+D 60 and 120.

A folder per protocol with `train_data_joint.npy`, `val_data_joint.npy` (clips, 3, 300, 25, 2) and
`train_label.pkl`, `val_label.pkl`, each a pair (names, labels).

Source: `data_gen/ntu_gendata.py` and `data_gen/preprocess.py` of both. A person who is not there in
the first frame loses the frames without it; then each person is padded by being replayed from the
start. Each frame is moved so that joint 1 of the main person is the origin, and the whole clip is
turned. `cut_replay` says what of this can be undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.checksums import digest
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import Dataset, ntu_facts, ntu_splits
from msg3d_lab.data.formats.importer import LazyClips, Recordings
from msg3d_lab.data.formats.npy_header import read_header
from msg3d_lab.safe_pickle import load_pickle

__all__ = ["cut_replay", "is_folder", "read_folder"]

_PARTS, _FILES = ("train", "val"), ("data_joint.npy", "label.pkl")
JOINTS, PERSONS = 25, 2  # these three: of CTR-GCN's arrays too
MOST_FRAMES = 10_000  # the field's arrays have 300


def is_folder(path: Path) -> bool:
    """Whether a folder has one of the arrays."""
    return any((path / f"{part}_{_FILES[0]}").is_file() for part in _PARTS)


class _Array(NamedTuple):
    """Where the clips of an .npy file start, and their common shape."""

    path: Path
    start: int
    dtype: str
    shape: tuple[int, ...]

    def read(self, i: int) -> np.ndarray:
        """Read clip `i` only; a map of all would count all that was read as memory."""
        count = int(np.prod(self.shape[1:]))
        offset = self.start + i * count * np.dtype(self.dtype).itemsize
        values = np.fromfile(self.path, self.dtype, count, offset=offset)
        if len(values) != count:
            raise ValueError(f"{self.path.name} is cut short")
        return values.reshape(self.shape[1:])


class _Place(NamedTuple):
    """Where a clip is, and what is known of it."""

    part: int
    row: int
    id: str
    label: int
    splits: tuple[str, ...]


def _read(place: _Place, *, arrays: Sequence[_Array]) -> Clip | LeftOut:
    clip = arrays[place.part].read(place.row).transpose(3, 1, 2, 0)
    with np.errstate(all="ignore"):  # what is not finite is found when the clip is checked
        keypoints = np.ascontiguousarray(cut_replay(clip), dtype=np.float32)
    if not keypoints.size:
        return LeftOut(place.id, "nobody in any frame")
    return Clip(place.id, keypoints, place.label, place.splits, **ntu_facts(place.id))


def cut_replay(clip: np.ndarray) -> np.ndarray:
    """Cut a clip that was padded by being replayed: its first pass is what is left.

    Where zeros follow to the end, those are cut. Otherwise the length is the smallest period of the
    main person (the first who is there at all): the smallest L for which every frame equals, in
    every bit, the one L before it. Without such an L the clip fills the array.

    The arrays do not tell everything. Each person was replayed on its own, so where the second
    person leaves before the main one, its first frames follow again; and a clip whose main person
    stands perfectly still has one frame left. Persons who are never there are dropped.

    Shapes:
        clip: (M, T, V, C) -> (M', L, V, C), L <= T; M' persons are there in some frame.

    Example:
        >>> walk = np.arange(1.0, 8).reshape(1, 7, 1, 1)
        >>> cut_replay(np.tile(walk, (1, 3, 1, 1))[:, :20]).shape
        (1, 7, 1, 1)
    """
    clip = clip[clip.any(axis=(1, 2, 3))]
    filled = np.flatnonzero(clip.any(axis=(0, 2, 3)))
    if not len(filled):
        return clip[:, :0]
    if filled[-1] + 1 < clip.shape[1]:
        return clip[:, : filled[-1] + 1]
    return clip[:, : _period(clip[0])]


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


def read_folder(folder: Path, *, dataset: Dataset) -> Recordings:
    """Read the arrays and labels of a folder.

    Raises:
        FileNotFoundError: one of the four files is not there.
        ValueError: not such arrays, or clips in another split than their names say.
    """
    needed = [folder / f"{part}_{rest}" for part in _PARTS for rest in _FILES]
    missing = [path.name for path in needed if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no {', '.join(missing)}: the arrays and labels of train and val belong "
            "together"
        )
    arrays, places = [], []
    for number, part in enumerate(_PARTS):
        array = _open_npy(folder / f"{part}_{_FILES[0]}")
        names, labels = _labels(folder / f"{part}_{_FILES[1]}", array.shape[0])
        arrays.append(array)
        places += [
            _Place(number, row, name, label, ntu_splits(name, dataset=dataset.name))
            for row, (name, label) in enumerate(zip(names, labels, strict=True))
        ]
    _check_splits(folder, places, dataset)
    preparation = {
        "name": "2s-AGCN",
        "format": "2s-AGCN and MS-G3D arrays",
        "source": folder.name,
        "sha256": sha256("".join(map(digest, needed)).encode()).hexdigest(),
    }
    clips = LazyClips(places, partial(_read, arrays=tuple(arrays)))
    return Recordings(
        clips=clips,
        count=len(clips),
        skeleton=skeletons.get("ntu25"),
        channels=3,
        preparation=preparation,
    )


def _open_npy(path: Path) -> _Array:
    with path.open("rb") as file:
        dtype, shape, start = read_header(file, str(path))
    fits = len(shape) == 5 and (shape[1], *shape[3:]) == (3, JOINTS, PERSONS)
    if not fits or not 0 < shape[2] <= MOST_FRAMES:
        raise ValueError(f"{path}: expected an array (clips, 3, frames, 25, 2), found {shape}")
    expected, found = int(np.prod(shape, dtype=object)) * dtype.itemsize, path.stat().st_size
    if found - start != expected:
        raise ValueError(
            f"{path} is cut short or damaged: its header claims {expected} bytes, {found - start} "
            "follow: get it again"
        )
    return _Array(path, start, dtype.str, shape)


def _labels(path: Path, count: int) -> tuple[list[str], list[int]]:
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
    return [PurePosixPath(n.replace("\\", "/")).name.split(".")[0] for n in names], list(labels)


def _check_splits(folder: Path, places: Sequence[_Place], dataset: Dataset) -> None:
    """Check that for one protocol the two files are its two splits."""
    wrong = {
        protocol: next((p for p in places if f"{protocol}_{_PARTS[p.part]}" not in p.splits), None)
        for protocol in dataset.protocols
    }
    if None not in wrong.values():
        protocol, place = next(iter(wrong.items()))
        raise ValueError(
            f"{folder}: the two parts are the splits of no protocol of {dataset.name}: by "
            f"{protocol}, for instance, {place.id if place else ''} is not in "
            f"{_PARTS[place.part] if place else ''}"
        )
