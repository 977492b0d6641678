"""Import your own recordings: a long or wide table, or a folder of arrays or of tables.

Both come with a CSV of labels. `docs/data/own-skeletons.md` describes the formats.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from msg3d_lab.checksums import digest
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import Dataset
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings, source_record
from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.formats.own.arrays import open_folder
from msg3d_lab.data.formats.own.kinect import (
    NUM_JOINTS,
    Segment,
    list_segments,
)
from msg3d_lab.data.formats.own.labels import LabelRow, Labels, find_labels, read_labels
from msg3d_lab.data.formats.own.layouts import find_layout, is_flat
from msg3d_lab.data.formats.own.options import OwnData
from msg3d_lab.data.formats.own.preparation import Preparation, can_align
from msg3d_lab.data.formats.own.table import RecordingTable, open_tables
from msg3d_lab.data.formats.zip_or_folder import (
    digest_members,
    has_members,
    list_members,
)
from msg3d_lab.skeletons import Skeleton

FOLDER = "folder of .npy"  # the format of arrays; `RecordingTable.format` is that of a table
TABLES = "folder of tables"
SEGMENTS = "PKU-MMD"
OWN_FORMATS = (
    FOLDER,
    TABLES,
    SEGMENTS,
    *(f"{k} table, {t}" for k in ("long", "wide") for t in ("CSV", "Parquet")),
)
_CHANNELS = ("x,y", "x,y,z", "x,y,score", "x,y,z,score")


class ChannelsError(ValueError):
    """The number of channels does not say what they are."""


@dataclass(frozen=True)
class Source:
    """An open table or folder.

    Args:
        clips: unprepared clips without a label (-1); in place of one that cannot be used, each of
            its faults.
        axes: 2 or 3 coordinates; None for a folder without any array that can be used.
        scored: whether a score follows the coordinates.
        format: the format's name in `data info`.
    """

    clips: Iterable[Clip | LeftOut]
    axes: int | None
    scored: bool
    format: str


def read_clips(sources: Sequence[Path], *, dataset: Dataset, own: OwnData) -> Recordings:
    """Read own recordings. One that cannot be used is left out, with the reason.

    Args:
        sources: one table (CSV, Parquet), long or wide; or one folder or zip of `.npy` files or of
            tables of a clip each.
        dataset: only its name is known.
        own: has a layout. Defaults: for the labels see `find_labels`; prepared as "image" with an
            image size, "align" in 3D if the layout has directions, else "center".

    Raises:
        FileNotFoundError: there is no such source, layout or labels.
        ValueError: neither such a table nor such a folder; no labels, or labels with faults; a
            preparation that does not fit. When the clips of a table are read: a row of another
            length, a sample whose rows are not together.
    """
    source, layout = sources[0], find_layout(own.layout or "")
    opened, known = open_labelled(source, layout, own)
    if known.faults:
        raise ValueError(_summary(f"{known.path} cannot be used", known.faults))
    if opened.axes is None:
        unusable = [fault for fault in opened.clips if isinstance(fault, LeftOut)]
        raise ValueError(_summary(f"{source} has no file that can be used", unusable))
    default = "align" if can_align(layout, opened.axes) else "center"
    preparation = Preparation(
        own.prepare or (default if own.image_size is None else "image"),
        layout,
        opened.axes,
        opened.scored,
        own.image_size,
        longest_first=True,
    )
    clips: Iterable[Clip | LeftOut]
    if isinstance(opened.clips, LazyClips):
        files = dict.fromkeys(
            entry.member if isinstance(entry, Segment) else entry
            for entry in opened.clips.entries
            if not isinstance(entry, LeftOut)
        )
        clips, sha256 = _with_labels(opened.clips, known, preparation), digest_members([*files])
    else:
        clips, sha256 = _from_table(source, opened, known, preparation), digest(source)
    return Recordings(
        clips=clips,
        skeleton=layout,
        preparation={
            **preparation.record,
            **source_record(opened.format, sources, sha256),
            "labels": f"{known.path.name} {_digest_labels(known.path)[:12]}",
        },
        channels=preparation.channels,
        count=len(known.rows),
        label_names=known.names,
    )


def open_labelled(source: Path, layout: Skeleton, own: OwnData) -> tuple[Source, Labels]:
    """Open a source with its labels; see `open_source` and `read_labels`.

    Raises:
        FileNotFoundError: there is no such source or labels.
        ValueError: what `open_source` and `read_labels` raise.
    """
    labels = None if own.labels is None else Path(own.labels)
    if (
        labels is not None
        and (labels.is_dir() or zipfile.is_zipfile(labels))
        and has_members(source, lambda name: name.endswith(".txt"))
    ):
        _check_kinect(source, layout)
        _refuse_channels(source, own)
        segments, known = list_segments(source, labels)
        return Source(segments, 3, False, SEGMENTS), known
    return open_source(source, layout, own), read_labels(labels or find_labels(source))


def _check_kinect(source: Path, layout: Skeleton) -> None:
    if layout.num_joints != NUM_JOINTS:
        raise ValueError(
            f"{source} has {NUM_JOINTS} joints of the Kinect, {layout.name} has "
            f"{layout.num_joints}: expected --layout ntu25"
        )


def _digest_labels(path: Path) -> str:
    return digest_members(list_members([path], suffix=".txt")) if path.is_dir() else digest(path)


def open_source(source: Path, layout: Skeleton, own: OwnData) -> Source:
    """Open a table or a folder without its labels; used by `read_clips` and by `check`.

    Args:
        source: the table or folder.
        layout: the joints.
        own: channels of arrays, "x,y", "x,y,z", "x,y,score" or "x,y,z,score". Default: by their
            number. 2 are x, y; 3 are x, y, z, or x, y, score if there is an image size; 4 are x, y,
            z, score.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: neither such a table nor such a folder; other channels than are found; joints of
            an image with a third channel that may be a score.
    """
    channels = own.channels
    if channels is not None and channels not in _CHANNELS:
        raise ValueError(f"expected channels {' or '.join(_CHANNELS)}, found {channels!r}")
    if not source.exists():
        raise FileNotFoundError(f"no file or folder {source}")
    if not source.is_dir() and not zipfile.is_zipfile(source):
        table = RecordingTable(source, layout)
        _refuse_channels(source, own)
        return Source(table.samples(), len(table.axes), table.scored, table.format)
    if not has_members(source, lambda name: name.lower().endswith(".npy")):
        tables = open_tables(source, layout)
        if tables is not None:
            _refuse_channels(source, own)
            return Source(tables.clips, tables.axes, tables.scored, TABLES)
    clips, count, third = open_folder(source, layout)
    if count is None:
        return Source(clips, None, False, FOLDER)
    if channels is None:
        scored = count == 4 or (count == 3 and own.image_size is not None)
        if count == 3 and not scored and is_flat(layout) and third is not None:
            raise ChannelsError(
                f"the third channel of the arrays in {source} is {third[0]:.3g} to {third[1]:.3g}, "
                f"like a score, and {layout.name} is found in images: say what it is, with "
                "--channels x,y,score or --channels x,y,z (channels=)"
            )
        return Source(clips, count - scored, scored, FOLDER)
    named = channels.split(",")
    if len(named) != count:
        raise ValueError(
            f"channels {channels} are {len(named)}, the arrays in {source} have {count}"
        )
    scored = named[-1] == "score"
    return Source(clips, count - scored, scored, FOLDER)


def _refuse_channels(source: Path, own: OwnData) -> None:
    if own.channels is not None:
        raise ValueError(
            f"channels are for arrays: the columns of {source} say what they are; leave it out"
        )


class _LabelledFile(NamedTuple):
    id: str
    member: Any
    row: LabelRow


def _with_labels(
    raw: LazyClips[Any], known: Labels, preparation: Preparation
) -> LazyClips[_LabelledFile]:
    """Add labels to the arrays of a folder. Arrays without a label are left out and not read."""
    entries: list[_LabelledFile | LeftOut] = []
    for entry in raw.entries:
        if isinstance(entry, LeftOut):
            entries.append(entry)
        elif entry.id in known.rows:
            entries.append(_LabelledFile(entry.id, entry, known.rows[entry.id]))
        else:
            entries.append(LeftOut(entry.id, faults.NO_LABEL))
    entries += _without_recording(known, {entry.id for entry in entries})
    return LazyClips(entries, partial(_read, read=raw.read, preparation=preparation))


def _read(
    file: _LabelledFile, *, read: Callable[[Any], Clip | LeftOut], preparation: Preparation
) -> Clip | LeftOut:
    raw = read(file.member)
    return raw if isinstance(raw, LeftOut) else _prepared(raw, file.row, preparation)


def _from_table(
    path: Path, opened: Source, known: Labels, preparation: Preparation
) -> Iterator[Clip | LeftOut]:
    found: set[str] = set()
    for name, entries in groupby(opened.clips, key=lambda entry: entry.id):
        found.add(name)
        wrong: list[LeftOut] = []
        for entry in entries:
            if isinstance(entry, Clip):
                row = known.rows.get(name)
                yield _prepared(entry, row, preparation) if row else LeftOut(name, faults.NO_LABEL)
            elif entry.reason in (faults.LENGTH, faults.NOT_TOGETHER):  # faults of the whole table
                raise ValueError(_summary(f"{path} cannot be imported", [entry]))
            else:
                wrong.append(entry)
        if wrong:
            more = [f"{fault.reason}: {fault.detail}" for fault in wrong[1:]]
            yield replace(wrong[0], detail="; ".join([wrong[0].detail, *more]))
    yield from _without_recording(known, found)


def _without_recording(known: Labels, found: set[str]) -> list[LeftOut]:
    return [LeftOut(name, faults.NO_RECORDING) for name in known.rows if name not in found]


def _prepared(raw: Clip, row: LabelRow, preparation: Preparation) -> Clip | LeftOut:
    if not raw.keypoints[..., : preparation.axes].any():
        return LeftOut(raw.id, faults.NOBODY)
    keypoints = preparation(raw.keypoints)
    if not keypoints.size:  # prepare_3d takes coordinates that are almost zero for nobody
        return LeftOut(raw.id, faults.NOBODY)
    return Clip(raw.id, keypoints, row.label, row.splits, row.subject, row.camera, row.setup)


def _summary(what: str, found: Sequence[LeftOut]) -> str:
    """Return a line with each kind of fault, its number and an example."""
    counts = Counter(fault.reason for fault in found)
    first = {fault.reason: fault for fault in reversed(found)}
    listed = [
        f"{reason} ({count}, e.g. {first[reason].id}: {first[reason].detail})"
        for reason, count in counts.items()
    ]
    return f"{what}: {'; '.join(listed)}. `msg3d-lab data check` explains each"


# Chosen by a layout, not detected: any table or folder of arrays could be of this format.
IMPORTER = Importer(
    title="recordings of your own",
    datasets=(),
    is_source=lambda path: False,
    read=read_clips,
    options=("layout", "labels", "prepare", "image_size", "channels"),
    version=2,
)
