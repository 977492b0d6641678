"""Check a store, or own recordings before they are imported: `msg3d-lab data check`."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msg3d_lab.data.checks import problems
from msg3d_lab.data.checks.coordinates import CoordinateCheck
from msg3d_lab.data.checks.problems import Findings, Problem, notes_of
from msg3d_lab.data.checks.splits import check_splits
from msg3d_lab.data.clips import Clip, LeftOut, checked_clips
from msg3d_lab.data.datasets import DATASETS
from msg3d_lab.data.formats import registry
from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.formats.own.arrays import ChannelsError
from msg3d_lab.data.formats.own.labels import LabelRow, Labels, find_labels, read_labels
from msg3d_lab.data.formats.own.options import NOTHING, OwnData, is_flat
from msg3d_lab.data.formats.own.recordings import are_segments, open_labelled, open_source
from msg3d_lab.data.formats.own.source import Source
from msg3d_lab.data.store import Store, open_store
from msg3d_lab.skeletons import Skeleton


def check_path(
    path: str | Path,
    *,
    dataset: str | None = None,
    layout: Skeleton | str | Path | None = None,
    labels: str | Path | None = None,
    image_size: tuple[int, int] | None = None,
    channels: str | None = None,
    progress: bool = True,
) -> list[Problem]:
    """Check a store, or recordings before they are imported; nothing is written.

    Recordings in one of the field's formats are read as an import with the same options would read
    them, and what it would leave out is named. With a layout, others are own recordings.

    Options are those of `import_dataset`. Default of the data set: that of the format, if it has
    one; recordings of your own, if they may be in it.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a store that cannot be opened, or with options; a source of no known format
            without a layout; recordings that cannot be imported at all.
    """
    from tqdm.auto import tqdm

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path} to check")
    if _is_store(path):
        if (dataset, layout, labels, image_size, channels) != (None,) * 5:
            raise ValueError(
                f"{path} is a store and has its own layout and labels: do not give these options"
            )
        return check_store(open_store(path), progress=progress)
    own = OwnData(layout=layout, labels=labels, image_size=image_size, channels=channels)
    skeleton, importer = own.skeleton, registry.detect_format(path)
    if importer is None or (skeleton is not None and "layout" not in importer.options):
        if skeleton is None:
            raise ValueError(
                f"{path} is neither a store nor of a format of the field: for your own recordings "
                "give their layout (--layout)"
            )
        return check_source(path, skeleton, own, progress=progress)
    if dataset is None:
        dataset = "own" if importer.own else importer.datasets[0].name
    opened = registry.open_recordings([path], dataset=dataset, own=own)
    recordings, document = opened.recordings, opened.document
    clips, count = recordings.clips, recordings.count
    clips = tqdm(clips, desc="check", total=count, unit="clip", disable=not progress)
    return _check(
        checked_clips(clips, document, leave_out=True),
        Findings(),
        skeleton=recordings.skeleton,
        channels=recordings.channels,
        label_names=document["label_names"],
        preparation=document["preparation"],
        published=dataset in DATASETS,
    )


def check_store(store: Store, *, progress: bool = True) -> list[Problem]:
    """Check a store: every clip and its checksum, classes, splits, subjects, what was left out.

    Returns:
        Errors first; empty if nothing was found.
    """
    from tqdm.auto import tqdm

    findings = Findings()

    def entries() -> Iterator[Clip | LeftOut]:
        for i in tqdm(range(len(store)), desc="check", unit="clip", disable=not progress):
            try:
                yield store.clip(i)
            except ValueError:  # the checksum is wrong
                findings.add(problems.DAMAGED, store.ids[i])
        for row in store.left_out.itertuples(index=False):
            yield LeftOut(*map(str, row))

    return _check(
        entries(),
        findings,
        skeleton=store.skeleton,
        channels=store.channels,
        label_names=store.label_names,
        preparation=store.preparation,
        published=store.synthetic or store.dataset in DATASETS,
    )


def _check(
    entries: Iterable[Clip | LeftOut],
    findings: Findings,
    *,
    skeleton: Skeleton,
    channels: int,
    label_names: Sequence[str],
    preparation: Mapping[str, Any],
    published: bool,
) -> list[Problem]:
    """Check prepared clips with their labels, and name what was left out."""
    axes = channels - bool(preparation.get("scored", False))
    if axes == 3 and is_flat(skeleton):
        findings.add(problems.DEPTH, f"{skeleton.name} with x, y, z")
    coordinates = CoordinateCheck(
        findings,
        skeleton,
        axes=axes,
        preparation=str(preparation.get("name", "none")),
        count_unseen=not published,
    )
    rows: dict[str, LabelRow] = {}
    contents: dict[str, Hashable] = {}
    for entry in entries:
        if isinstance(entry, Clip):
            coordinates.observe(entry.id, entry.keypoints)
            contents[entry.id] = _contents(entry)
            rows[entry.id] = LabelRow(entry.label, entry.splits, entry.subject)
        else:
            findings.add(problems.LEFT_OUT + entry.reason, entry.id, entry.detail)
    coordinates.report()
    check_splits(findings, rows, label_names, contents)
    return findings.problems(published=published) + notes_of(preparation.get("notes", ()))


def check_source(
    source: str | Path, layout: Skeleton, own: OwnData = NOTHING, *, progress: bool = True
) -> list[Problem]:
    """Check own recordings before they are imported; faults do not stop the check.

    The source is as for an import. Labels are by default beside the table or in the folder; the
    layout of `own` does not count. Errors come first.
    """
    from tqdm.auto import tqdm

    source, findings = Path(source), Findings()
    known: Labels | None = None
    opened: Source | None = None
    try:
        if own.labels is not None and are_segments(source, Path(own.labels)):
            opened, known = open_labelled(source, layout, own)
        else:
            known = read_labels(find_labels(source) if own.labels is None else Path(own.labels))
        for fault in known.faults:
            findings.add(fault.reason, fault.id, fault.detail)
    except (ValueError, OSError) as error:
        findings.add(problems.UNREADABLE_LABELS, str(error))
    try:
        opened = opened or open_source(source, layout, own)
    except ValueError as error:
        ask = isinstance(error, ChannelsError)
        findings.add(problems.CHANNELS if ask else problems.UNREADABLE, str(error))
        return findings.problems()
    coordinates = CoordinateCheck(
        findings, layout, axes=opened.axes or 0, image_size=own.image_size, count_unseen=True
    )
    contents: dict[str, Hashable] = {}
    others: set[str] = set()  # recordings that cannot be used
    complete = True
    try:
        for entry in tqdm(opened.clips, desc="check", unit="clip", disable=not progress):
            if isinstance(entry, Clip):
                contents[entry.id] = _contents(entry)
                coordinates.observe(entry.id, entry.keypoints)
                continue
            findings.add(entry.reason, entry.id, entry.detail)
            if entry.reason != faults.LENGTH:
                others.add(entry.id)
    except ValueError as error:
        findings.add(problems.UNREADABLE, str(error))
        complete = False
    coordinates.report()
    if known is not None:
        found = {*contents, *others}
        for name in sorted(found - set(known.rows)):
            findings.add(faults.NO_LABEL, name)
        for name in sorted(set(known.rows) - found) if complete else ():
            findings.add(faults.NO_RECORDING, name)
        rows = {name: known.rows[name] for name in contents if name in known.rows}
        check_splits(findings, rows, known.names, contents)
    return findings.problems()


def _contents(clip: Clip) -> Hashable:
    """What is the same for recordings of the same coordinates."""
    return clip.keypoints.shape, zlib.crc32(np.ascontiguousarray(clip.keypoints).data)


def _is_store(path: Path) -> bool:
    """Whether a file is a store, or is called like one."""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return path.suffix == ".arrow" or file.read(6) == b"ARROW1"
