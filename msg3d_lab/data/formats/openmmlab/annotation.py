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

_MAX_CLASSES = 100_000


class Entry(NamedTuple):
    """An annotation whose fields are there and fit together."""

    id: str  # its `frame_dir`
    label: int  # class number in the file
    keypoint: np.ndarray  # (M, T, V, C)
    score: np.ndarray | None  # (M, T, V); None if the annotation has none
    size: tuple[int, int] | None  # (height, width) in pixels; None if the annotation has none
    splits: tuple[str, ...]  # the splits it belongs to
    notes: tuple[str, ...] = ()  # what had to be assumed


class Compressed(NamedTuple):
    """An annotation of pyskl's Kinetics-400, whose skeletons are in a file of many: a kpfile."""

    id: str  # its `frame_dir`, the key in the kpfile
    label: int  # class number in the file
    raw_file: str  # the kpfile's path, as the annotation has it
    frames: np.ndarray  # the frame of each skeleton, (N,)
    size: tuple[int, int] | None  # (height, width) in pixels
    splits: tuple[str, ...]  # the splits it belongs to
    notes: tuple[str, ...] = ()  # what had to be assumed


def read_annotation(
    annotation: Any, where: str, members: Mapping[str, tuple[str, ...]]
) -> Entry | Compressed | LeftOut:
    """Return an annotation's fields; or a `LeftOut` with the reason, which names what was found.

    `where` is what it is called if it has no name; `members` has the splits of each name.
    """
    fields = annotation if isinstance(annotation, dict) else {}
    clip_id = fields.get("frame_dir", fields.get("filename"))  # the latter in older files
    if not isinstance(clip_id, str) or not is_name(clip_id):
        found = f"expected 'frame_dir', a text, found {describe(clip_id)}"
        return LeftOut(where, "cannot be read", found)
    try:
        return _read_fields(clip_id, fields, members.get(clip_id, ()))
    except ValueError as error:
        return LeftOut(clip_id, "cannot be read", str(error))


def _read_fields(
    clip_id: str, fields: Mapping[str, Any], splits: tuple[str, ...]
) -> Entry | Compressed:
    label = _number(fields.get("label"))
    if label is None or label != int(label) or not 0 <= label < _MAX_CLASSES:
        found = describe(fields.get("label"))
        raise ValueError(f"expected a whole number 'label' from 0, found {found}")
    size, notes = _size(fields)
    if "keypoint" not in fields and "raw_file" in fields:
        frames = _array(fields.get("frame_inds"), "'frame_inds' (skeletons)")
        raw_file = str(fields["raw_file"])
        return Compressed(clip_id, int(label), raw_file, frames, size, splits, notes)
    expected = "'keypoint' (persons, frames, joints, 2 or 3)"
    keypoint = _array(fields.get("keypoint"), expected)
    if keypoint.ndim == 3:
        keypoint = keypoint[None]
        notes += ("'keypoint' without an axis of persons, taken as one person",)
    if keypoint.ndim != 4 or keypoint.shape[3] not in (2, 3) or 0 in keypoint.shape:
        raise ValueError(f"expected an array {expected}, found {describe(fields['keypoint'])}")
    if _number(fields.get("total_frames", keypoint.shape[1])) != keypoint.shape[1]:
        found = describe(fields["total_frames"])
        raise ValueError(f"'total_frames' is {found}, 'keypoint' is {keypoint.shape}")
    score = fields.get("keypoint_score")
    if score is not None and keypoint.shape[3] == 2:
        score = _array(score, f"'keypoint_score' {keypoint.shape[:3]}")
        if [n for n in score.shape if n != 1] != [n for n in keypoint.shape[:3] if n != 1]:
            raise ValueError(
                f"expected 'keypoint_score' {keypoint.shape[:3]} as 'keypoint' is "
                f"{keypoint.shape}, found {describe(fields['keypoint_score'])}"
            )
        score = score.reshape(keypoint.shape[:3])
    else:
        score = None
    return Entry(clip_id, int(label), keypoint, score, size, splits, notes)


def describe(value: Any) -> str:
    """Describe a value by its type and size, in a few words."""
    if value is None:
        return "none"
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} of {value.dtype}"
    if isinstance(value, dict):
        return f"a dict with {', '.join(f'{key!s:.20}' for key in list(value)[:5]) or 'nothing'}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{'text' if isinstance(value, str) else type(value).__name__} {value!r:.60}"


def is_name(text: str) -> bool:
    """Whether a text can be written and shown; half a surrogate pair cannot."""
    return 0 < len(text) <= 255 and text.isprintable()


def _size(fields: Mapping[str, Any]) -> tuple[tuple[int, int] | None, tuple[str, ...]]:
    """The image's height and width, and a note if they are not where they belong."""
    for name in ("img_shape", "original_shape"):
        value = fields.get(name)
        if value is None:
            continue
        numbers = value.tolist() if isinstance(value, np.ndarray) else value
        usable = isinstance(numbers, (tuple, list)) and len(numbers) in (2, 3)  # cv2: channels too
        found = [_number(n) for n in numbers[:2]] if usable else []
        whole = [int(n) for n in found if n is not None and n == int(n) and n > 0]
        if len(whole) != 2:
            raise ValueError(
                f"expected '{name}' (height, width), two whole numbers above 0, found "
                f"{describe(value)}"
            )
        note = () if name == "img_shape" else (f"no 'img_shape', so '{name}' was taken",)
        return (whole[0], whole[1]), note
    return None, ()


def _number(value: Any) -> float | None:
    """A finite number; also one in an array of one number."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


def _array(value: Any, expected: str) -> np.ndarray:
    """An array of numbers; lists are read as one."""
    try:
        found = np.array(value, np.float32) if isinstance(value, (list, tuple)) else value
    except (TypeError, ValueError):  # uneven lists, texts
        found = None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise ValueError(f"expected an array {expected} of numbers, found {describe(value)}")
    return found
