"""Parse and write the `.skeleton` text files of NTU RGB+D.

A file has the number of frames. Each frame has the number of bodies. Each body has a line of 10
fields (its number first), the number of joints (25), and for each joint a line of 12 fields:
x, y, z in metres, the positions in the depth and in the colour image, orientation and tracking
state.

Source: shahroudy/NTURGB-D, `Matlab/read_skeleton_file.m`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from msg3d_lab.data.formats.ntu.bodies import Track
from msg3d_lab.files import write_aside

_JOINTS, _BODY_FIELDS, _JOINT_FIELDS = 25, 10, 12
_MAX_COORDINATE = 1e6  # metres; the squares of much larger numbers overflow float32
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class _Body(NamedTuple):
    """A body in one frame: its place in the frame's list, and the line of its first joint."""

    body_id: int
    frame: int
    place: int
    line: int


class _Lines:
    """The lines of a file, read one after the other; errors name the line."""

    def __init__(self, content: bytes) -> None:
        self.lines, self.read = content.rstrip().split(b"\n"), 0

    def next(self, expected: str) -> bytes:
        self.read += 1
        if self.read > len(self.lines):
            raise ValueError(
                f"line {self.read}: expected {expected}, found the end of the file: it is cut short"
            )
        return self.lines[self.read - 1]

    def count(self, expected: str) -> int:
        text = self.next(expected).strip()
        if not text.isdigit() or len(text) > 9:
            raise self.wrong(expected)
        return int(text)

    def wrong(self, expected: str, line: int | None = None) -> ValueError:
        number = self.read if line is None else line
        text = self.lines[number - 1].strip()
        shown = repr(text[:40].decode("ascii", "backslashreplace")) + "..." * (len(text) > 40)
        return ValueError(f"line {number}: expected {expected}, found {shown}")


def parse_skeleton(content: bytes) -> tuple[list[Track], int]:
    """Parse a `.skeleton` file.

    Lines end in LF or CRLF. The number of a body and x, y, z of a joint are read. The other fields
    are only counted: some are NaN in valid files.

    Returns:
        The bodies in order of appearance, and the number of frames.

    Raises:
        ValueError: the file is cut short, continues after its last frame or is not of this format;
            the message has the line, what was expected and what was found.
    """
    lines = _Lines(content)
    found: list[_Body] = []
    try:
        num_frames = _find_bodies(lines, found)
    except ValueError:
        _read_by_line(lines, found)  # raises if an earlier line is the cause
        raise
    joints = _read_quickly(lines, found)
    if joints is None:
        joints = _read_by_line(lines, found)
    frames = np.array([body.frame for body in found], np.int64)
    places = np.array([body.place for body in found], np.int64)
    tracks: dict[int, list[int]] = {}
    for i, body in enumerate(found):
        tracks.setdefault(body.body_id, []).append(i)
    return [Track(b, frames[i], places[i], joints[i]) for b, i in tracks.items()], num_frames


def _find_bodies(lines: _Lines, bodies: list[_Body]) -> int:
    """Follow the counts; append to `bodies`."""
    num_frames = lines.count("the number of frames")
    for frame in range(num_frames):
        ids: set[int] = set()
        for place in range(lines.count(f"the number of bodies in frame {frame + 1}")):
            expected = f"{_BODY_FIELDS} fields, a body number first"
            fields = lines.next(expected).split()
            if len(fields) != _BODY_FIELDS or not fields[0].isdigit() or len(fields[0]) > 20:
                raise lines.wrong(expected)
            body_id = int(fields[0])
            if body_id in ids:
                known = f"{body_id}, which is in frame {frame + 1} already"
                raise lines.wrong(f"another body than {known}")
            ids.add(body_id)
            if lines.count("the number of joints") != _JOINTS:
                raise lines.wrong(f"{_JOINTS} joints")
            bodies.append(_Body(body_id, frame, place, lines.read))
            lines.read += _JOINTS - 1
            lines.next(f"joint {_JOINTS} of {_JOINTS} in frame {frame + 1}")
    if lines.read != len(lines.lines):
        lines.read += 1
        raise lines.wrong(f"the end of the file after {num_frames} frames")
    return num_frames


def _read_quickly(lines: _Lines, bodies: Sequence[_Body]) -> np.ndarray | None:
    """Read x, y and z of all joints at once; None if there is anything but enough numbers."""
    import pyarrow as pa
    from pyarrow import csv

    if not bodies:
        return None
    text = b"\n".join(
        line.strip() for b in bodies for line in lines.lines[b.line : b.line + _JOINTS]
    )
    names = [str(i) for i in range(_JOINT_FIELDS)]
    types = dict.fromkeys(names[:3], pa.float64())
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            csv.ReadOptions(use_threads=False, column_names=names),
            csv.ParseOptions(delimiter=" ", quote_char=False),
            csv.ConvertOptions(column_types=types, include_columns=names[:3], null_values=[]),
        )
    except pa.ArrowInvalid:  # another number of fields, or no number
        return None
    joints = np.stack([table[name].to_numpy() for name in types], axis=-1)
    usable = len(joints) == len(bodies) * _JOINTS and (np.abs(joints) < _MAX_COORDINATE).all()
    return joints.reshape(-1, _JOINTS, 3) if usable else None


def _read_by_line(lines: _Lines, bodies: Sequence[_Body]) -> np.ndarray:
    """Read x, y and z of all joints line by line, or raise an error that names the wrong line."""
    joints = np.empty((len(bodies), _JOINTS, 3))
    for i, body in enumerate(bodies):
        for j, line in enumerate(lines.lines[body.line : body.line + _JOINTS]):
            number, fields = body.line + j + 1, line.split()
            if len(fields) != _JOINT_FIELDS:
                what = f"joint {j + 1} of 25 in frame {body.frame + 1}, {_JOINT_FIELDS} fields"
                raise lines.wrong(f"{what} (not {len(fields)})", number)
            if not all(map(_NUMBER.fullmatch, fields[:3])):
                raise lines.wrong("numbers x, y and z first", number)
            joints[i, j] = [float(field) for field in fields[:3]]
            if not np.abs(joints[i, j]).max() < _MAX_COORDINATE:
                raise lines.wrong(f"x, y and z below {_MAX_COORDINATE:.0e} m first", number)
    return joints


def format_skeleton(tracks: Sequence[Track], num_frames: int) -> bytes:
    """Format bodies as a `.skeleton` file; fields that a `Track` does not have are zero.

    Raises:
        ValueError: a track with a frame outside the recording.
    """
    frames: list[list[tuple[int, int, Track]]] = [[] for _ in range(num_frames)]
    for track in tracks:
        if len(track.frames) and not 0 <= track.frames.min() <= track.frames.max() < num_frames:
            raise ValueError(
                f"body {track.body_id}: expected frames 0 to {num_frames - 1}, found "
                f"{track.frames.min()} to {track.frames.max()}"
            )
        for i, (frame, place) in enumerate(zip(track.frames, track.places, strict=True)):
            frames[frame].append((int(place), i, track))
    lines = [str(num_frames)]
    for present in frames:
        lines.append(str(len(present)))
        for _, i, track in sorted(present, key=lambda entry: entry[0]):
            lines += [f"{track.body_id} 0 0 0 0 0 0 0 0 2", str(_JOINTS)]
            lines += [
                f"{x!r} {y!r} {z!r} 0 0 0 0 0 0 0 0 2" for x, y, z in track.joints[i].tolist()
            ]
    return ("\n".join(lines) + "\n").encode()


def write_ntu_skeleton(path: str | Path, tracks: Sequence[Track], num_frames: int) -> Path:
    """Write bodies to a new `.skeleton` file, see `format_skeleton`."""
    with write_aside(path) as aside:
        aside.write_bytes(format_skeleton(tracks, num_frames))
    return Path(path)
