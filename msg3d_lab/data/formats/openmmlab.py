"""Import OpenMMLab's annotation pickles: NTU RGB+D 60 and 120, in 2D and 3D.

The format is described in mmaction2 (`tools/data/skeleton/README.md`): a dict with `split`
(name -> list of `frame_dir`) and `annotations` (a list of dicts, one per recording). OpenMMLab
writes protocol 2 (mmcv, `fileio/handlers/pickle_handler.py`); that and later ones are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.checksums import checked_digest
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import DATASETS, Dataset, get, ntu_facts
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings, source_record
from msg3d_lab.data.preprocess import is_zero, prepare_2d, prepare_3d
from msg3d_lab.safe_pickle import load_pickle
from msg3d_lab.skeletons import Skeleton

__all__ = ["IMPORTER", "is_source", "read_clips"]

_LAYOUTS: dict[tuple[int, ...], str] = {(17, 2): "coco17", (25, 3): "ntu25"}
_MAX_SPLITS = 100
_MAX_SHARING = 4  # bytes of coordinates per byte of the file: annotations can share an array


def is_source(path: Path) -> bool:
    """Whether a file begins like a pickle of protocol 2 or later."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def read_clips(path: str | Path, *, dataset: Dataset) -> Recordings:
    """Read an annotation pickle into memory; clips are prepared when they are asked for.

    Left out are annotations that cannot be read, recordings with nobody in them, and names that a
    split lists and no annotation has.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the pickle is refused or damaged (see `load_pickle`), has another checksum than
            the record beside it (see `data.download`), is not such a file, or has joints or splits
            of another data set.
    """
    path = Path(path)
    sha256 = checked_digest(path)  # before a damaged file is taken for one of another format
    document = load_pickle(path)
    if not isinstance(document, dict) or not {"split", "annotations"} <= set(document):
        raise ValueError(
            f"{path} is not an OpenMMLab annotation file: expected a dict with 'split' and "
            f"'annotations'"
        )
    annotations = document["annotations"]
    if not isinstance(annotations, list) or not annotations:
        raise ValueError(f"{path}: expected a list of annotations")
    members = _members(document["split"], path)
    entries = [_entry(a, f"annotation {i}", members) for i, a in enumerate(annotations)]
    usable = [entry for entry in entries if isinstance(entry, _Entry)]
    skeleton = _layout(usable, entries, path)
    _check_splits(document["split"], path, dataset)
    described = {entry.id for entry in entries}
    entries += [
        LeftOut(
            name if _is_name(name) else f"{name!r:.255}", "in a split, but without an annotation"
        )
        for name in members
        if name not in described
    ]
    claimed = sum(entry.keypoint.nbytes for entry in usable)
    if claimed > _MAX_SHARING * path.stat().st_size:
        raise ValueError(
            f"{path}: its annotations take {claimed} bytes, the file has {path.stat().st_size}: "
            "too many of them share their coordinates for a file of recordings"
        )
    scored = skeleton.name == "coco17"
    done = {"name": "prepare_2d" if scored else "prepare_3d", "scored": scored}
    return Recordings(
        clips=LazyClips(entries, partial(_read, skeleton=skeleton)),
        skeleton=skeleton,
        preparation=done | source_record("OpenMMLab annotations", [path], sha256),
    )


class _Entry(NamedTuple):
    """An annotation whose fields are there and fit together."""

    id: str
    label: int
    keypoint: np.ndarray
    score: np.ndarray | None
    size: tuple[int, int] | None
    splits: tuple[str, ...]


def _read(entry: _Entry, *, skeleton: Skeleton) -> Clip | LeftOut:
    if _LAYOUTS.get(entry.keypoint.shape[2:]) != skeleton.name:
        raise ValueError(
            f"expected the joints of {skeleton.name} as most have, found 'keypoint' "
            f"{entry.keypoint.shape}"
        )
    keypoint = entry.keypoint
    with np.errstate(all="ignore"):  # numbers that are not finite are found by the clip's check
        if is_zero(keypoint).all():
            return LeftOut(entry.id, "nobody in any frame")
        if entry.score is not None and entry.size is not None:
            keypoints = prepare_2d(keypoint, entry.score, entry.size)
        else:
            keypoints = prepare_3d(keypoint.astype(np.float32), skeleton)
    return Clip(entry.id, keypoints, entry.label, entry.splits, **ntu_facts(entry.id))


def _entry(annotation: Any, where: str, members: dict[str, tuple[str, ...]]) -> _Entry | LeftOut:
    """Check an annotation. Its values go into messages only if they are short."""
    clip_id = annotation.get("frame_dir") if isinstance(annotation, dict) else None
    if not isinstance(clip_id, str) or not _is_name(clip_id):
        return LeftOut(where, "cannot be read", "expected a dict with 'frame_dir', a text")
    try:
        label, keypoint = annotation.get("label"), annotation.get("keypoint")
        if type(label) is not int:
            raise ValueError("expected a whole number 'label'")
        if not _is_array(keypoint, 4):
            raise ValueError("expected an array 'keypoint' (persons, frames, joints, 2 or 3)")
        frames = annotation.get("total_frames", keypoint.shape[1])
        if frames != keypoint.shape[1]:
            number = frames if isinstance(frames, int) else "no number"
            raise ValueError(f"'total_frames' is {number}, 'keypoint' is {keypoint.shape}")
        score = size = None
        if keypoint.shape[3] == 2:
            score, size = annotation.get("keypoint_score"), annotation.get("img_shape")
            if not _is_array(score, 3) or score.shape != keypoint.shape[:3]:
                raise ValueError(f"expected 'keypoint_score' {keypoint.shape[:3]} for 2D")
            if not (
                isinstance(size, (tuple, list))
                and len(size) == 2
                and all(type(n) is int and 0 < n < 1 << 20 for n in size)
            ):
                raise ValueError("expected 'img_shape' (height, width) above 0 for 2D")
            size = (size[0], size[1])
    except ValueError as error:
        return LeftOut(clip_id, "cannot be read", str(error))
    return _Entry(clip_id, label, keypoint, score, size, members.get(clip_id, ()))


def _is_name(text: str) -> bool:
    """Whether a text can be written and shown; half a surrogate pair cannot."""
    return 0 < len(text) <= 255 and text.isprintable()


def _is_array(value: Any, ndim: int) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == ndim and value.dtype.kind == "f"


def _members(split: Any, path: Path) -> dict[str, tuple[str, ...]]:
    """The splits of each recording."""
    if not isinstance(split, dict) or len(split) > _MAX_SPLITS:
        raise ValueError(f"{path}: expected a dict of at most {_MAX_SPLITS} splits")
    members: dict[str, tuple[str, ...]] = {}
    for name, ids in split.items():
        if isinstance(ids, np.ndarray):
            ids = ids.tolist()
        if not isinstance(ids, (list, tuple)) or not all(isinstance(one, str) for one in ids):
            raise ValueError(f"{path}: expected split {name!s:.40} to be a list of names")
        for one in dict.fromkeys(ids):
            members[one] = (*members.get(one, ()), str(name))
    return members


def _check_splits(found: Iterable[Any], path: Path, dataset: Dataset) -> None:
    """Check for the data set's splits: by these NTU60 and NTU120 can be told apart."""
    names = {name for name in found if isinstance(name, str) and _is_name(name)}
    needed = _splits(dataset)
    if needed <= names:
        return
    like = [d for d in DATASETS.values() if d.layouts == dataset.layouts]
    others = [d.name for d in like if _splits(d) <= names]
    raise ValueError(
        f"{path} has the splits {', '.join(sorted(names)) or 'none':.200}: expected "
        f"{', '.join(sorted(needed))} for {dataset.name}"
        + (f"; is it {' or '.join(others)}? Then import it as that" if others else "")
    )


def _splits(dataset: Dataset) -> set[str]:
    return {f"{protocol}_{part}" for protocol in dataset.protocols for part in ("train", "val")}


def _layout(usable: Sequence[_Entry], entries: Sequence[_Entry | LeftOut], path: Path) -> Skeleton:
    """The layout of most annotations; the others are left out when they are read."""
    if not usable:
        first = entries[0]
        raise ValueError(
            f"{path}: none of its {len(entries)} annotations can be read; the first, {first.id}: "
            f"{first.detail if isinstance(first, LeftOut) else ''}"
        )
    shapes = Counter(entry.keypoint.shape[2:] for entry in usable)
    joints, coordinates = shapes.most_common(1)[0][0]
    layout = _LAYOUTS.get((joints, coordinates))
    if layout is None:
        raise ValueError(
            f"{path} has {joints} joints with {coordinates} coordinates each: expected "
            f"{' or '.join(f'{v} with {c} ({name})' for (v, c), name in _LAYOUTS.items())}"
        )
    return skeletons.get(layout)


IMPORTER = Importer(
    title="an OpenMMLab annotation pickle",
    datasets=(get("ntu60"), get("ntu120")),
    is_source=is_source,
    read=lambda sources, dataset: read_clips(sources[0], dataset=dataset),
)
