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

from msg3d_lab.data.formats.bodies import Track
from msg3d_lab.files import write_aside

_JOINTS, _BODY_FIELDS, _JOINT_FIELDS = 25, 10, 12
_MAX_FRAMES = 108_000  # an hour; recordings take seconds
_MAX_COORDINATE = 1e6  # metres; the squares of much larger numbers overflow float32
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FILE_CHARACTERS = b"0123456789.+-eENa \r\n"  # NaN: position of a joint outside the image


class _Body(NamedTuple):
    """A body in one frame: its place in the frame's list, and the line of its first joint."""

    body_id: int
    frame: int
    place: int
    line: int


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
    content = content.rstrip() + b"\n"
    newlines = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n"))
    starts = np.concatenate([[0], newlines + 1])  # of each line, and the end
    found: list[_Body] = []
    try:
        num_frames = _find_bodies(content, starts, found)
    except ValueError:
        _read_by_line(content, starts, found)  # raises if an earlier line is the cause
        raise
    joints = _read_quickly(content, starts, found)
    if joints is None:
        joints = _read_by_line(content, starts, found)
    frames = np.array([body.frame for body in found], np.int64)
    places = np.array([body.place for body in found], np.int64)
    tracks: dict[int, list[int]] = {}
    for i, body in enumerate(found):
        tracks.setdefault(body.body_id, []).append(i)
    return [Track(b, frames[i], places[i], joints[i]) for b, i in tracks.items()], num_frames


def _find_bodies(content: bytes, starts: np.ndarray, bodies: list[_Body]) -> int:
    """Follow the counts, checking each against the number of lines; append to `bodies`."""
    num_lines = len(starts) - 1
    num_frames = _count(content, starts, 0, "the number of frames")
    if num_frames > min(num_lines - 1, _MAX_FRAMES):
        raise ValueError(
            f"line 1: {num_frames} frames are claimed, but {num_lines - 1} lines follow: expected "
            f"at least one for each frame, and at most {_MAX_FRAMES} frames"
        )
    k = 1
    for frame in range(num_frames):
        if k == num_lines:
            raise ValueError(
                f"line {k + 1}: expected frame {frame + 1} of {num_frames}, found the end of the "
                "file: it is cut short"
            )
        count = _count(content, starts, k, f"the number of bodies in frame {frame + 1}")
        k += 1
        if count * (2 + _JOINTS) > num_lines - k:
            raise ValueError(
                f"line {k}: {count} bodies are claimed in frame {frame + 1} of {num_frames}: "
                f"expected {count * (2 + _JOINTS)} lines to follow, found {num_lines - k}"
            )
        ids: set[int] = set()
        for place in range(count):
            fields = content[starts[k] : starts[k + 1]].split()
            if len(fields) != _BODY_FIELDS or not fields[0].isdigit() or len(fields[0]) > 20:
                raise _unexpected(content, starts, k, f"{_BODY_FIELDS} fields, a body number first")
            joints = _count(content, starts, k + 1, "the number of joints")
            if joints != _JOINTS:
                raise ValueError(f"line {k + 2}: expected {_JOINTS} joints, found {joints}")
            body_id = int(fields[0])
            if body_id in ids:
                raise ValueError(
                    f"line {k + 1}: expected another body than {body_id}, which is in frame "
                    f"{frame + 1} already"
                )
            ids.add(body_id)
            bodies.append(_Body(body_id, frame, place, k + 2))
            k += 2 + _JOINTS
    if k != num_lines:
        raise _unexpected(content, starts, k, f"the end of the file after {num_frames} frames")
    return num_frames


def _count(content: bytes, starts: np.ndarray, k: int, what: str) -> int:
    text = content[starts[k] : starts[k + 1]].strip()
    if not text.isdigit() or len(text) > 9:
        raise _unexpected(content, starts, k, what)
    return int(text)


def _unexpected(content: bytes, starts: np.ndarray, k: int, expected: str) -> ValueError:
    text = content[starts[k] : starts[k + 1]].strip()
    shown = repr(text[:40].decode("ascii", "backslashreplace")) + "..." * (len(text) > 40)
    return ValueError(f"line {k + 1}: expected {expected}, found {shown}")


def _read_quickly(content: bytes, starts: np.ndarray, bodies: Sequence[_Body]) -> np.ndarray | None:
    """Read x, y and z of all joints at once; None if anything is unusual.

    Arrow's CSV reader checks the number of fields of each line, if they are separated by single
    spaces.
    """
    import pyarrow as pa
    from pyarrow import csv

    if not bodies or content.translate(None, _FILE_CHARACTERS):
        return None
    characters = np.frombuffer(content, np.uint8)
    gaps = characters <= ord(" ")
    crlf = (characters[:-1] == ord("\r")) & (characters[1:] == ord("\n"))
    if not np.array_equal(gaps[:-1] & gaps[1:], crlf):
        return None
    text = b"".join([content[starts[b.line] : starts[b.line + _JOINTS]] for b in bodies])
    names = [str(i) for i in range(_JOINT_FIELDS)]
    xyz = names[:3]
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=names),
            csv.ParseOptions(delimiter=" ", quote_char=False),
            csv.ConvertOptions(
                include_columns=xyz, column_types=dict.fromkeys(xyz, pa.float64()), null_values=[]
            ),
        )
    except pa.ArrowInvalid:
        return None
    joints = np.stack([table[name].to_numpy() for name in xyz], axis=-1)
    if len(joints) != _JOINTS * len(bodies) or not np.abs(joints).max() < _MAX_COORDINATE:
        return None
    return joints.reshape(-1, _JOINTS, 3)


def _read_by_line(content: bytes, starts: np.ndarray, bodies: Sequence[_Body]) -> np.ndarray:
    """Read x, y and z of all joints line by line, or raise an error that names the wrong line."""
    joints = np.empty((len(bodies), _JOINTS, 3))
    for i, body in enumerate(bodies):
        for j in range(_JOINTS):
            k = body.line + j
            fields = content[starts[k] : starts[k + 1]].split()
            if len(fields) != _JOINT_FIELDS:
                what = f"joint {j + 1} of 25 in frame {body.frame + 1}, {_JOINT_FIELDS} fields"
                raise _unexpected(content, starts, k, f"{what} (not {len(fields)})")
            if not all(map(_NUMBER.fullmatch, fields[:3])):
                raise _unexpected(content, starts, k, "numbers x, y and z first")
            joints[i, j] = [float(field) for field in fields[:3]]
            if not np.abs(joints[i, j]).max() < _MAX_COORDINATE:
                raise _unexpected(
                    content, starts, k, f"x, y and z below {_MAX_COORDINATE:.0e} m first"
                )
    return joints


def format_skeleton(tracks: Sequence[Track], num_frames: int, *, newline: str = "\n") -> bytes:
    r"""Format bodies as a `.skeleton` file; fields that a `Track` does not have are zero.

    Args:
        tracks: the bodies; in each frame they are written in the order of their places.
        num_frames: the length of the recording.
        newline: "\n" or "\r\n"; the data set has files of both kinds.

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
    return (newline.join(lines) + newline).encode()


def write_ntu_skeleton(
    path: str | Path, tracks: Sequence[Track], num_frames: int, *, newline: str = "\n"
) -> Path:
    """Write bodies to a new `.skeleton` file, see `format_skeleton`.

    Raises:
        FileExistsError: there is a file at `path`.
    """
    with write_aside(path) as aside:
        aside.write_bytes(format_skeleton(tracks, num_frames, newline=newline))
    return Path(path)
