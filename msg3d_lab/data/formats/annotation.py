"""Read the fields of one OpenMMLab annotation, as people write them.

Lists are read like arrays, whole numbers like fractions, NumPy's numbers like Python's. Messages
name what was found by its type and shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from msg3d_lab.data.clips import LeftOut

_MAX_NUMBERS = 1 << 27
_MAX_CLASSES = 100_000
_MAX_SIZE = 1 << 20  # pixels


class Entry(NamedTuple):
    """An annotation whose fields are there and fit together.

    Args:
        id: its `frame_dir`.
        label: class number in the file.
        keypoint: (M, T, V, C).
        score: (M, T, V); None if the annotation has none.
        size: (height, width) in pixels; None if the annotation has none.
        splits: the splits it belongs to.
        notes: what had to be assumed.
    """

    id: str
    label: int
    keypoint: np.ndarray
    score: np.ndarray | None
    size: tuple[int, int] | None
    splits: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Compressed(NamedTuple):
    """An annotation of pyskl's Kinetics-400, whose skeletons are in a file of many: a kpfile.

    Args:
        id: its `frame_dir`, the key in the kpfile.
        label: class number in the file.
        raw_file: the kpfile's path, as the annotation has it.
        frames: the frame of each skeleton, (N,).
        size: (height, width) in pixels.
        splits: the splits it belongs to.
        notes: what had to be assumed.
    """

    id: str
    label: int
    raw_file: str
    frames: np.ndarray
    size: tuple[int, int] | None
    splits: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_annotation(
    annotation: Any, where: str, members: Mapping[str, tuple[str, ...]]
) -> Entry | Compressed | LeftOut:
    """Check an annotation.

    Args:
        annotation: of the file.
        where: what it is called if it has no name.
        members: the splits of each name.

    Returns:
        Its fields; or a `LeftOut` with the reason, which names what was found.
    """
    clip_id = annotation.get("frame_dir") if isinstance(annotation, dict) else None
    if isinstance(annotation, dict) and clip_id is None:
        clip_id = annotation.get("filename")  # of older files
    if not isinstance(clip_id, str) or not is_name(clip_id):
        found = describe(clip_id if isinstance(annotation, dict) else annotation)
        return LeftOut(where, "cannot be read", f"expected 'frame_dir', a text, found {found}")
    try:
        label = _label(annotation.get("label"))
        size, notes = _size(annotation)
        splits = members.get(clip_id, ())
        if "keypoint" not in annotation and "raw_file" in annotation:
            raw_file, frames = annotation["raw_file"], annotation.get("frame_inds")
            if not isinstance(raw_file, str):
                raise ValueError(f"expected 'raw_file', a path, found {describe(raw_file)}")
            frames = _array(frames, "frame_inds", ("skeletons",), (1,))
            return Compressed(clip_id, label, raw_file, frames, size, splits, notes)
        keypoint = _array(
            annotation.get("keypoint"),
            "keypoint",
            ("persons", "frames", "joints", "2 or 3"),
            (3, 4),
        )
        if keypoint.ndim == 3:
            keypoint = keypoint[None]
            notes += ("'keypoint' without an axis of persons, taken as one person",)
        if keypoint.shape[3] not in (2, 3) or 0 in keypoint.shape:
            raise ValueError(
                "expected 'keypoint' (persons, frames, joints, 2 or 3), found "
                f"{describe(annotation['keypoint'])}"
            )
        frames = annotation.get("total_frames", keypoint.shape[1])
        if type(frames) not in (int, float) or frames != keypoint.shape[1]:
            number = frames if type(frames) in (int, float) else describe(frames)
            raise ValueError(f"'total_frames' is {number}, 'keypoint' is {keypoint.shape}")
        score = annotation.get("keypoint_score")
        if score is not None and keypoint.shape[3] == 2:
            score = _array(score, "keypoint_score", keypoint.shape[:3], (2, 3, 4))
            fits = math.prod(score.shape) == math.prod(keypoint.shape[:3])
            squeezed = tuple(n for n in score.shape if n != 1)
            if not fits or squeezed != tuple(n for n in keypoint.shape[:3] if n != 1):
                raise ValueError(
                    f"expected 'keypoint_score' {keypoint.shape[:3]} as 'keypoint' is "
                    f"{keypoint.shape}, found {describe(annotation['keypoint_score'])}"
                )
            score = score.reshape(keypoint.shape[:3])
        else:
            score = None
    except ValueError as error:
        return LeftOut(clip_id, "cannot be read", str(error))
    return Entry(clip_id, label, keypoint, score, size, splits, notes)


def describe(value: Any) -> str:
    """Describe a value by its type and shape, in a few words."""
    if value is None:
        return "none"
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} of {value.dtype}"
    if isinstance(value, (list, tuple)):
        inner = value[0] if value else None
        of = f" of {describe(inner)}" if isinstance(inner, np.ndarray) else ""
        shape = _first_shape(value)
        return f"a {type(value).__name__} of shape {shape}" if not of else f"a list{of}"
    if isinstance(value, str):
        return f"text {value!r:.60}"
    if isinstance(value, dict):
        return f"a dict of {len(value)}"
    return f"{type(value).__name__} {value!r:.60}"


def is_name(text: str) -> bool:
    """Whether a text can be written and shown; half a surrogate pair cannot."""
    return 0 < len(text) <= 255 and text.isprintable()


def _label(value: Any) -> int:
    number = _number(value)
    if number is None or number != int(number) or not 0 <= number < _MAX_CLASSES:
        raise ValueError(f"expected a whole number 'label' from 0, found {describe(value)}")
    return int(number)


def _size(annotation: Mapping[str, Any]) -> tuple[tuple[int, int] | None, tuple[str, ...]]:
    """The image's height and width, and a note if they are not where they belong."""
    for name in ("img_shape", "original_shape"):
        value = annotation.get(name)
        if value is None:
            continue
        numbers = value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else value
        usable = isinstance(numbers, (tuple, list)) and len(numbers) in (2, 3)  # cv2: channels too
        found = [_number(n) for n in numbers[:2]] if usable else []
        whole = [int(n) for n in found if n is not None and n == int(n) and 0 < n < _MAX_SIZE]
        if len(whole) != 2:
            raise ValueError(
                f"expected '{name}' (height, width), two whole numbers above 0, found "
                f"{describe(value)}"
            )
        note = f"no 'img_shape', so '{name}' was taken" if name != "img_shape" else ""
        return (whole[0], whole[1]), (note,) if note else ()
    return None, ()


def _number(value: Any) -> float | None:
    """A finite number; also one in an array without dimensions."""
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "fiu":
        value = value.item()
    if type(value) not in (int, float) or not math.isfinite(value):
        return None
    return float(value) if abs(value) < 1e15 else None


def _array(value: Any, name: str, axes: tuple[Any, ...], dimensions: tuple[int, ...]) -> np.ndarray:
    expected = f"an array '{name}' ({', '.join(map(str, axes))}) of numbers"
    if isinstance(value, (list, tuple)):
        shape = _first_shape(value)
        regular = len(shape) in dimensions and math.prod(shape) <= _MAX_NUMBERS
        if not regular or not _is_regular(value, shape):
            raise ValueError(f"expected {expected}, found {describe(value)} or uneven")
        value = np.array(value, dtype=np.float32)
    numbers = isinstance(value, np.ndarray) and value.dtype.kind in "fiu"
    if not numbers or value.ndim not in dimensions:
        raise ValueError(f"expected {expected}, found {describe(value)}")
    return np.asarray(value)


def _first_shape(value: Any) -> tuple[int, ...]:
    """The shape of nested lists, by the first element of each, to five levels."""
    shape: list[int] = []
    while isinstance(value, (list, tuple)) and len(shape) < 5:
        shape.append(len(value))
        value = value[0] if value else None
    return (*shape, *(value.shape if isinstance(value, np.ndarray) else ()))


def _is_regular(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether nested lists have this shape everywhere and hold numbers."""
    if not shape:
        return type(value) in (int, float)
    if isinstance(value, np.ndarray):
        return value.shape == shape and value.dtype.kind in "fiu"
    if not isinstance(value, (list, tuple)) or len(value) != shape[0]:
        return False
    return all(_is_regular(one, shape[1:]) for one in value)
