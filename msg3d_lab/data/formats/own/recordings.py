"""Import your own recordings: a long or wide table, or a folder of arrays or of tables.

Both come with a CSV of labels. `docs/data/own-skeletons.md` describes the formats.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from msg3d_lab.checksums import digest
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import Dataset
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings, source_record
from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.formats.own.arrays import open_folder
from msg3d_lab.data.formats.own.kinect import Segment, list_segments
from msg3d_lab.data.formats.own.labels import (
    Labelled,
    LabelRow,
    Labels,
    add_labels,
    find_labels,
    read_labels,
    summarize,
)
from msg3d_lab.data.formats.own.options import OwnData
from msg3d_lab.data.formats.own.preparation import Preparation, can_align
from msg3d_lab.data.formats.own.source import Source, join
from msg3d_lab.data.formats.own.table import RecordingTable, open_tables
from msg3d_lab.data.formats.zip_or_folder import digest_members, has_members
from msg3d_lab.skeletons import Skeleton


def read_clips(sources: Sequence[Path], *, dataset: Dataset, own: OwnData) -> Recordings:
    """Read own recordings. One that cannot be used is left out, with the reason.

    Default of the labels: see `find_labels`; of the preparation: "image" with an image size,
    "align" in 3D if the layout has directions, else "center".
    """
    source, layout = sources[0], own.skeleton
    assert layout is not None  # without one, `registry` does not choose this importer
    opened, known = open_labelled(source, layout, own)
    known.refuse_faults()
    if opened.axes is None:
        unusable = [fault for fault in opened.clips if isinstance(fault, LeftOut)]
        raise ValueError(summarize(f"{source} has no file that can be used", unusable))
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
        read = partial(_read, read=opened.clips.read, preparation=preparation)
        clips = LazyClips(add_labels(opened.clips.entries, known), read)
        sha256 = digest_members([*files])
    else:
        clips, sha256 = _from_table(source, opened, known, preparation), digest(source)
    return Recordings(
        clips=clips,
        skeleton=layout,
        preparation={
            **preparation.record,
            **source_record(opened.format, sources, sha256),
            "labels": known.record,
        },
        channels=preparation.channels,
        count=len(known.rows),
        label_names=known.names,
    )


def open_labelled(source: Path, layout: Skeleton, own: OwnData) -> tuple[Source, Labels]:
    """Open a source with its labels; see `open_source` and `read_labels`."""
    labels = None if own.labels is None else Path(own.labels)
    if labels is not None and are_segments(source, labels):
        return list_segments(source, labels, layout)
    return open_source(source, layout, own), read_labels(labels or find_labels(source))


def are_segments(source: Path, labels: Path) -> bool:
    """Whether labels are those of PKU-MMD: a folder or zip of the segments of each recording."""
    packed = labels.is_dir() or zipfile.is_zipfile(labels)
    return packed and has_members(source, lambda name: name.endswith(".txt"))


def open_source(source: Path, layout: Skeleton, own: OwnData) -> Source:
    """Open a table or a folder without its labels; used by `read_clips` and by `check`."""
    if not source.exists():
        raise FileNotFoundError(f"no file or folder {source}")
    if not source.is_dir() and not zipfile.is_zipfile(source):
        table = RecordingTable(source, layout)
        opened = Source(table.samples(), len(table.axes), table.scored, table.format)
    elif has_members(source, lambda name: name.lower().endswith(".npy")):
        return open_folder(source, layout, own)
    else:
        opened = open_tables(source, layout) or open_folder(source, layout, own)
    if own.channels is not None:
        raise ValueError(
            f"channels are for arrays: the columns of {source} say what they are; leave it out"
        )
    return opened


def _read(
    file: Labelled[Any], *, read: Callable[[Any], Clip | LeftOut], preparation: Preparation
) -> Clip | LeftOut:
    raw = read(file.entry)
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
            elif entry.reason == faults.LENGTH:  # a fault of the whole table
                raise ValueError(summarize(f"{path} cannot be imported", [entry]))
            else:
                wrong.append(entry)
        if wrong:
            yield join(wrong)
    yield from known.without_recording(found)


def _prepared(raw: Clip, row: LabelRow, preparation: Preparation) -> Clip | LeftOut:
    if not raw.keypoints[..., : preparation.axes].any():
        return LeftOut(raw.id, faults.NOBODY)
    keypoints = preparation(raw.keypoints)
    if not keypoints.size:  # prepare_3d takes coordinates that are almost zero for nobody
        return LeftOut(raw.id, faults.NOBODY)
    return row.clip(raw.id, keypoints)


# Chosen by a layout, not detected: any table or folder of arrays could be of this format.
IMPORTER = Importer(
    title="recordings of your own",
    datasets=(),
    is_source=lambda path: False,
    read=read_clips,
    options=("layout", "labels", "prepare", "image_size", "channels"),
    version=2,
)
