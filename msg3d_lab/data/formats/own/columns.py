"""Find the columns of a wide table: a row per frame, a column per joint and axis.

Such are `nose_x`, `nose_y`, `nose_visibility`; `LEFT_WRIST.x`; `x1`, `y1`, `z1`, `v1`; `joint0_x`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from msg3d_lab.skeletons import Skeleton

# What a row is about, by columns that may be missing.
KEYS = {
    "sample": ("sample", "video", "clip", "video_id", "clip_id", "filename", "file"),
    "frame": ("frame", "frame_id", "frame_idx", "frame_index", "frame_number"),
    "person": ("person", "person_id", "track", "track_id"),
}
_SCORES = ("visibility", "vis", "score", "confidence", "conf", "likelihood", "v", "c")
_AXIS = f"(?P<axis>x|y|z|{'|'.join(_SCORES)})"
_PATTERNS = (
    re.compile(rf"(?P<joint>.+?)[_. -]{_AXIS}"),  # nose_x, 0_x
    re.compile(rf"{_AXIS}[_. -]?(?P<joint>\d+)"),  # x1, x_1
    re.compile(rf"{_AXIS}[_. -](?P<joint>.+)"),  # x_nose
)
_NUMBER = re.compile(r"(?:joint|keypoint|landmark|point|kp|kpt|lm|pt|j)?[_. -]?(\d+)")


def find_key(key: str, columns: Sequence[str]) -> str | None:
    """Return the column that says which sample, frame or person a row is about."""
    names = {column.strip().lower().replace(" ", "_"): column for column in reversed(columns)}
    return next((names[name] for name in KEYS[key] if name in names), None)


def wide_columns(
    path: Path, columns: Sequence[str], layout: Skeleton
) -> dict[tuple[int, str], str]:
    """Return the column of each joint and axis (x, y, z, score); empty if it is no wide table.

    Joints are called as in the layout (case and separators do not matter), or numbered from 0 or 1.
    Columns of joints that the layout does not have are ignored if joints have names.
    """
    found: dict[tuple[str, str], str] = {}
    for column in columns:
        text = column.strip().lower()
        match = next((m for pattern in _PATTERNS if (m := pattern.fullmatch(text))), None)
        if match is None:
            continue
        axis = "score" if match["axis"] in _SCORES else match["axis"]
        place = (_plain(match["joint"]), axis)
        if place in found:
            raise ValueError(
                f"{path} has two columns for {axis} of joint {place[0]!r}: {found[place]!r} and "
                f"{column!r}; keep one"
            )
        found[place] = column
    axes = [a for a in ("x", "y", "z", "score") if any(axis == a for _, axis in found)]
    if axes[:2] != ["x", "y"]:
        return {}
    names = [_plain(name) for name in layout.joints]
    called = {joint: joint for joint, _ in found}
    if not set(names) & set(called):
        called = _numbered(path, called, names, layout)
    places: dict[tuple[int, str], str] = {}
    for j, name in enumerate(names):
        for axis in axes:
            column_of = found.get((called.get(name, name), axis))
            if column_of is None:
                raise ValueError(
                    f"{path} has no column for {axis} of joint {layout.joints[j]!r} (number {j} of "
                    f"{layout.name}): expected columns such as {name.replace(' ', '_')}_{axis} or "
                    f"{axis}{j}, or a long table with the columns sample, frame, person, joint, x, "
                    "y"
                )
            places[j, axis] = column_of
    return places


def _numbered(
    path: Path, called: dict[str, str], names: Sequence[str], layout: Skeleton
) -> dict[str, str]:
    """Return how the table calls each joint of the layout, if it numbers them."""
    numbers = {int(m[1]): joint for joint in called if (m := _NUMBER.fullmatch(joint))}
    if not numbers:
        return called
    first = int(0 not in numbers)
    count = max(numbers) + 1 - first
    if count > len(names):
        raise ValueError(
            f"{path} has columns of {count} joints, {layout.name} has {len(names)}: expected one "
            "column for each joint and axis; choose the layout of the table (--layout)"
        )
    return {name: numbers.get(j + first, name) for j, name in enumerate(names)}


def _plain(name: str) -> str:
    """A joint's name without case and separators."""
    return " ".join(re.split(r"[_. ()-]+", name.strip().lower())).strip()
