"""Check a store, or own recordings before they are imported: `msg3d-lab data check`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from msg3d_lab.data.checks import problems
from msg3d_lab.data.checks.coordinates import CoordinateCheck
from msg3d_lab.data.checks.problems import Findings, Origin, Problem
from msg3d_lab.data.checks.splits import check_splits
from msg3d_lab.data.clips import Clip
from msg3d_lab.data.datasets import DATASETS
from msg3d_lab.data.formats import registry
from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.formats.own.labels import Labels, find_labels, read_labels
from msg3d_lab.data.formats.own.layouts import is_flat
from msg3d_lab.data.formats.own.options import NOTHING, OwnData
from msg3d_lab.data.formats.own.recordings import (
    FOLDER,
    OWN_FORMATS,
    ChannelsError,
    Source,
    open_labelled,
    open_source,
)
from msg3d_lab.data.store import Store, open_store
from msg3d_lab.skeletons import Skeleton

# Formats of the field that own recordings come in too.
_OWN_FORMATS = (
    "OpenMMLab annotations",
    "2s-AGCN and MS-G3D arrays",
    "CTR-GCN arrays",
    "Kinetics-Skeleton JSON",
)


def check_path(
    path: str | Path,
    *,
    layout: Skeleton | None = None,
    labels: str | Path | None = None,
    image_size: tuple[int, int] | None = None,
    channels: str | None = None,
    progress: bool = True,
) -> list[Problem]:
    """Check a store, or, with a layout, own recordings.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a store that cannot be opened, or with a layout or labels; recordings without a
            layout.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path} to check")
    if _is_store(path):
        if (layout, labels, image_size, channels) != (None, None, None, None):
            raise ValueError(
                f"{path} is a store and has its own layout and labels: do not give these options"
            )
        return check_store(open_store(path), progress=progress)
    if layout is None:
        raise ValueError(
            f"{path} is not a store: for your own recordings give their layout (--layout); "
            "pickles, arrays and data sets of the field can be checked after their import"
        )
    importer = registry.detect_format(path)
    if importer is not None and "layout" in importer.options:
        raise ValueError(
            f"{path} is {importer.title}: import it (msg3d-lab data import {path} --dataset NAME), "
            "then check the store"
        )
    own = OwnData(labels=labels, image_size=image_size, channels=channels)
    return check_source(path, layout, own, progress=progress)


def check_store(store: Store, *, progress: bool = True) -> list[Problem]:
    """Check a store: every clip and its checksum, classes, splits, subjects, what was left out.

    Returns:
        Errors first; empty if nothing was found.
    """
    from tqdm.auto import tqdm

    findings = Findings()
    preparation = str(store.preparation.get("name", "none"))
    axes = store.dimensions
    coordinates = CoordinateCheck(
        findings,
        store.skeleton,
        axes=axes,
        preparation=preparation,
        count_unseen=_origin(store) != "published",
    )
    if axes == 3 and is_flat(store.skeleton):
        findings.add(problems.DEPTH, f"{store.skeleton.name} with x, y, z")
    seen: set[str] = set()
    ids = tqdm(store.ids, desc="check", unit="clip", disable=not progress)
    for i, name in enumerate(ids):
        if name in seen:
            findings.add(faults.DUPLICATE, name)
        seen.add(name)
        try:
            keypoints = store.keypoints(i)
        except ValueError:  # the checksum is wrong
            findings.add(problems.DAMAGED, name)
            continue
        coordinates.observe(name, keypoints)
    coordinates.report()
    subjects = store.samples["subject"]
    check_splits(
        findings,
        ids=store.ids,
        labels=store.labels,
        label_names=store.label_names,
        splits={split: store.indices(split) for split in store.splits},
        subjects=[
            None if unknown else int(subject)
            for subject, unknown in zip(subjects, subjects.isna(), strict=True)
        ],
    )
    for name, reason, detail in store.left_out.itertuples(index=False):
        findings.add(problems.LEFT_OUT + reason, name, detail)
    return findings.problems(_origin(store))


def check_source(
    source: str | Path, layout: Skeleton, own: OwnData = NOTHING, *, progress: bool = True
) -> list[Problem]:
    """Check own recordings before they are imported; faults do not stop the check.

    Args:
        source: a table, or a folder or zip of `.npy` files or of tables of a clip each.
        layout: the joints.
        own: what else is known of them; its layout does not count. Labels are by default beside
            the table or in the folder.
        progress: whether to show a progress bar.

    Returns:
        Errors first; empty if nothing was found.

    Raises:
        FileNotFoundError: there is no such source.
    """
    from tqdm.auto import tqdm

    source, findings = Path(source), Findings()
    known: Labels | None = None
    opened: Source | None = None
    try:
        if own.labels is not None and not Path(own.labels).is_file():
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
    clips: list[str] = []
    others: set[str] = set()  # recordings that cannot be used
    scattered: set[str] = set()  # recordings of which only a part was read
    complete = True
    try:
        for entry in tqdm(opened.clips, desc="check", unit="clip", disable=not progress):
            if isinstance(entry, Clip):
                clips.append(entry.id)
                coordinates.observe(entry.id, entry.keypoints)
                continue
            findings.add(entry.reason, entry.id, entry.detail)
            if entry.reason != faults.LENGTH:
                others.add(entry.id)
            if entry.reason == faults.NOT_TOGETHER:
                scattered.add(entry.id)
    except ValueError as error:
        findings.add(problems.UNREADABLE, str(error))
        complete = False
    coordinates.report(without=scattered)
    if known is not None:
        _check_labels(findings, known, clips, others, complete)
    return findings.problems("arrays" if opened.format == FOLDER else "table")


def _check_labels(
    findings: Findings, known: Labels, clips: list[str], others: set[str], complete: bool
) -> None:
    """Compare labels and recordings; `complete` says whether all recordings were read."""
    for name in sorted({*clips, *others} - set(known.rows)):
        findings.add(faults.NO_LABEL, name)
    for name in sorted(set(known.rows) - {*clips, *others}) if complete else ():
        findings.add(faults.NO_RECORDING, name)
    ids = [name for name in clips if name in known.rows]
    rows = [known.rows[name] for name in ids]
    splits: defaultdict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        for split in row.splits:
            splits[split].append(i)
    check_splits(
        findings,
        ids=ids,
        labels=np.array([row.label for row in rows], dtype=np.int64),
        label_names=known.names,
        splits={split: np.array(splits[split]) for split in sorted(splits)},
        subjects=[row.subject for row in rows],
    )


def _origin(store: Store) -> Origin:
    kind = store.preparation.get("format")
    if kind == FOLDER:
        return "arrays"
    if kind in OWN_FORMATS:
        return "table"
    if kind in _OWN_FORMATS and store.dataset not in DATASETS:
        return "arrays"
    # A store without a format was written by a user's own program.
    return "published" if kind or store.synthetic or store.dataset in DATASETS else "table"


def _is_store(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return path.suffix == ".arrow" or file.read(6) == b"ARROW1"
