"""Read PKU-MMD's text files of Kinect skeletons.

PKU-MMD has a text file for each video, several actions after each other, with a line of 150 numbers
for each frame: x, y, z of 25 joints of two persons. A folder of label files of the same names says
in lines of `class,start,end,confidence` what is done from which frame to which (not included).
Source: PKU-MMD, README.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.importer import LazyClips
from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.formats.own.labels import LabelRow, Labels
from msg3d_lab.data.formats.own.source import Source
from msg3d_lab.data.formats.zip_or_folder import Member, list_members, read_member
from msg3d_lab.skeletons import Skeleton

_NUM_JOINTS = 25
_NUMBERS = 2 * _NUM_JOINTS * 3
_PROTOCOLS = {"xsub": "cross-subject.txt", "xview": "cross-view.txt"}
_CAMERAS = {"L": 0, "M": 1, "R": 2}
_LARGEST = 256 << 20  # bytes of a video


class Segment(NamedTuple):
    """An action in a video: frames `start` to `end`, not included."""

    id: str
    member: Member
    start: int
    end: int


def list_segments(source: Path, labels: Path, layout: Skeleton) -> tuple[Source, Labels]:
    """List the actions of PKU-MMD's videos, with their labels and splits.

    An action is called as its video, with its number from 0: "0002-L-3". Its splits are those of
    `cross-subject.txt` (xsub) and `cross-view.txt` (xview), if these lie in the folder of labels,
    beside it or in `Split` beside it.
    """
    if layout.num_joints != _NUM_JOINTS:
        raise ValueError(
            f"{source} has {_NUM_JOINTS} joints of the Kinect, {layout.name} has "
            f"{layout.num_joints}: expected --layout ntu25"
        )
    videos = {member.id: member for member in list_members([source], suffix=".txt")}
    files = {member.id: member for member in list_members([labels], suffix=".txt")}
    common = sorted(videos.keys() & files.keys())
    if not common:
        raise ValueError(
            f"no text file of {source} has a label file of its name in {labels}: expected "
            "PKU-MMD's, such as 0002-L.txt in both"
        )
    splits = _splits(labels)
    found: list[tuple[Segment, int, tuple[str, ...]]] = []
    for name in common:
        for i, (number, start, end) in enumerate(_read_labels(files[name])):
            segment = Segment(f"{name}-{i}", videos[name], start, end)
            found.append((segment, number, splits.get(name, ())))
    numbers = sorted({number for _, number, _ in found})
    rows = {
        segment.id: LabelRow(numbers.index(number), own, camera=_CAMERAS.get(segment.member.id[-1]))
        for segment, number, own in found
    }
    entries: list[Segment | LeftOut] = [segment for segment, _, _ in found]
    entries += [LeftOut(name, faults.NO_LABEL) for name in sorted(videos.keys() - files.keys())]
    names = tuple(str(number) for number in numbers)
    clips = LazyClips(entries, _read_segment)
    return Source(clips, 3, False, "PKU-MMD"), Labels(labels, rows, names, ())


def _read_labels(member: Member) -> list[tuple[int, ...]]:
    lines = read_member(member).decode("utf-8").splitlines()
    try:
        return [tuple(map(int, line.split(",")[:3])) for line in lines if line.strip()]
    except ValueError as error:
        raise ValueError(
            f"{member.name}: expected lines class,start,end,confidence ({error})"
        ) from error


def _splits(labels: Path) -> Mapping[str, tuple[str, ...]]:
    """Each video's splits."""
    found: dict[str, list[str]] = {}
    beside = labels.absolute().parent
    for protocol, file in _PROTOCOLS.items():
        path = next(
            (p / file for p in (labels, beside, beside / "Split") if (p / file).is_file()), None
        )
        half = ""
        for line in path.read_text(encoding="utf-8").splitlines() if path else ():
            if ":" in line:
                half = "train" if "train" in line.lower() else "val"
                line = line.partition(":")[2]
            for name in filter(None, re.split(r"[\s,]+", line)):
                found.setdefault(name, []).append(f"{protocol}_{half}")
    return {name: tuple(splits) for name, splits in found.items()}


def _read_segment(segment: Segment) -> Clip | LeftOut:
    video = _read_video(segment.member)
    if not segment.start < min(segment.end, len(video)):
        detail = f"frames {segment.start} to {segment.end}, the video has {len(video)}"
        return LeftOut(segment.id, faults.FRAMES, detail)
    clip = video[segment.start : segment.end].swapaxes(0, 1)
    persons = clip.any(axis=(1, 2, 3))
    return Clip(segment.id, clip[persons] if persons.any() else clip, label=-1)


@lru_cache(maxsize=2)  # the actions of a video are read after each other
def _read_video(member: Member) -> np.ndarray:
    """The persons of a video: (T, 2, 25, 3) float64."""
    rows = np.loadtxt(io.BytesIO(read_member(member, limit=_LARGEST)), ndmin=2)
    if rows.shape[1] != _NUMBERS:
        raise ValueError(
            f"{member.name}: expected lines of {_NUMBERS} numbers, x, y, z of 25 joints of two "
            f"persons, found {rows.shape[1]}"
        )
    return rows.reshape(-1, 2, 25, 3)
