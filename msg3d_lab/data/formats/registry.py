"""Detect a source's format and import it into a store."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from msg3d_lab.data.clips import checked_clips
from msg3d_lab.data.datasets import Dataset, default_store
from msg3d_lab.data.formats import kinetics, nw_ucla, utd_mhad
from msg3d_lab.data.formats.image_range import refuse_outside
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings
from msg3d_lab.data.formats.ntu import raw
from msg3d_lab.data.formats.openmmlab import pickles
from msg3d_lab.data.formats.own import recordings as own
from msg3d_lab.data.formats.own.options import OwnData
from msg3d_lab.data.formats.padded import agcn, ctrgcn
from msg3d_lab.data.formats.parallel import Chunks
from msg3d_lab.data.store import open_store, store_document, write_entries
from msg3d_lab.files import write_aside
from msg3d_lab.skeletons import Skeleton

# In this order they are asked whether a source is theirs.
IMPORTERS: tuple[Importer, ...] = (
    raw.IMPORTER,
    pickles.IMPORTER,
    agcn.IMPORTER,
    ctrgcn.IMPORTER,
    nw_ucla.IMPORTER,
    utd_mhad.IMPORTER,
    kinetics.IMPORTER,
)

# With fewer recordings, starting processes takes longer than reading.
_MIN_PARALLEL = 2000


def import_dataset(
    source: str | Path | Sequence[str | Path],
    *,
    dataset: str,
    out: str | Path | None = None,
    layout: Skeleton | str | Path | None = None,
    labels: str | Path | None = None,
    prepare: str | None = None,
    image_size: tuple[int, int] | None = None,
    channels: str | None = None,
    bodies: str | None = None,
    keep_missing: bool | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Import recordings into a new store. The format is detected from the source.

    What cannot be used is left out, with its name and reason in `Store.left_out` and in a table
    beside the store (`left_out_path`). An interrupted or killed import of many files continues
    where it was when it is called again with the same arguments. Until it is finished, what has
    been read takes as much space beside the store as the store will.

    Args:
        source: a file or folder; several for data sets that come in parts.
        dataset: "ntu60", "ntu120", "nw-ucla", "utd-mhad" or "kinetics400"; for recordings of your
            own, any other name.
        out: the new store; no file is left there if the import fails. Default:
            `data/DATASET.arrow`, for NTU `data/DATASET-2d.arrow` or `-3d`, and then `-paper` or
            `-pyskl` if `prepare` is that.
        layout: for your own recordings (see `docs/data/own-skeletons.md`): a layout, its name or
            the path of its YAML. A pickle or arrays of the field's formats need it only if no
            layout of the library has as many joints, or several have.
        labels: for your own recordings, also .skeleton files: the CSV of labels (default: see
            `find_labels`); for a pickle or arrays of the field's formats, the list of class names
            (see `read_label_list`).
        prepare: "align", "center", "image", "none", "paper" or "pyskl"; see `Preparation`. For raw
            NTU files "align" (default) or "paper", for NTU's pickles in 2D "image" (default) or
            "pyskl", for NW-UCLA "center" (default) or "align".
        image_size: for your own recordings in 2D: (height, width) in pixels.
        channels: for your own recordings in arrays: "x,y", "x,y,z", "x,y,score" or "x,y,z,score".
            Default: by their number.
        bodies: for raw NTU files: "denoise" (default; with "paper" "energy") or "energy"; see
            `select_bodies`.
        keep_missing: for raw NTU files: also import recordings whose skeletons are known to be
            missing or incomplete.
        workers: processes for formats of many files. Default: one per core, at most 16.
        progress: whether to show a progress bar.

    Returns:
        The store's path.

    Raises:
        FileNotFoundError: there is no such source.
        FileExistsError: there is a file at `out`.
        ValueError: an unknown data set, a source of an unknown format or of another data set, an
            option of another format, or no recording that can be used.
        ChildProcessError: a process that reads recordings died; what was read is kept.
    """
    if workers is not None and workers < 1:  # before minutes of listing
        raise ValueError(f"expected at least one worker, found {workers}")
    sources = [Path(s) for s in ([source] if isinstance(source, (str, Path)) else source)]
    if out is not None:
        _check_free(Path(out))  # before minutes of reading
    said = OwnData(
        layout=layout,
        labels=labels,
        prepare=prepare,
        image_size=image_size,
        channels=channels,
        bodies=bodies,
        keep_missing=keep_missing,
    )
    opened = open_recordings(sources, dataset=dataset, own=said)
    recordings, document = opened.recordings, opened.document
    done = recordings.preparation
    path = default_store(dataset, recordings.skeleton.name, preparation=done.get("name"))
    path = path if out is None else Path(out)
    _check_free(path)
    recordings = replace(recordings, clips=refuse_outside(recordings.clips, done))
    stamp = f"{opened.importer.version} {_modification_stamp(sources)}"
    _write(path, recordings, document, stamp=stamp, workers=workers, progress=progress)
    left_out, table = open_store(path).left_out, left_out_path(path)
    if left_out.empty:
        table.unlink(missing_ok=True)  # of an earlier store
    else:
        with write_aside(table, overwrite=True) as aside:
            left_out.to_csv(aside, index=False)
    return path


@dataclass(frozen=True)
class Opened:
    """Recordings that are ready to be read, one after the other."""

    importer: Importer
    recordings: Recordings
    document: dict[str, Any]  # of the store that they would become, see `store_document`


def open_recordings(sources: Sequence[Path], *, dataset: str, own: OwnData) -> Opened:
    """Find the format of sources, and open them; see `import_dataset`.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: an unknown data set, a source of an unknown format or of another data set, or an
            option of another format.
    """
    if not re.fullmatch(r"\w[\w.-]*", dataset):
        raise ValueError(
            f"expected a data set's name of letters, digits, '-', '_' and '.', found {dataset!r}"
        )
    if not sources:
        raise ValueError("expected at least one file or folder to import")
    for path in sources:
        if not path.exists():
            raise FileNotFoundError(f"no file or folder {path} to import")
    importer, facts = _choose(sources, dataset, layout=own.layout is not None)
    wrong = [name for name in own.given if name not in importer.options]
    if wrong:
        raise ValueError(
            f"{', '.join(wrong)} is not an option of {importer.title}: it takes "
            f"{', '.join(importer.options) or 'none'}"
        )
    if len(sources) > 1 and not importer.several_sources:
        raise ValueError(f"expected one source of this format, found {len(sources)}")
    options = {"own": own} if own.given else {}
    recordings = importer.read(sources, dataset=facts, **options)
    notes = list(recordings.notes)
    document = store_document(
        dataset=dataset,
        skeleton=recordings.skeleton,
        label_names=recordings.label_names or facts.label_names,
        channels=recordings.channels,
        preparation=recordings.preparation | ({"notes": notes} if notes else {}),
    )
    return Opened(importer, recordings, document)


def left_out_path(store: str | Path) -> Path:
    """Return the path of the table of what was left out of a store: `STORE.left-out.csv`."""
    return Path(store).with_name(f"{Path(store).name}.left-out.csv")


def detect_format(source: Path) -> Importer | None:
    """Return the importer of a file or folder in one of the field's formats, if it is one."""
    return next((importer for importer in IMPORTERS if importer.is_source(source)), None)


def _choose(sources: Sequence[Path], name: str, *, layout: bool) -> tuple[Importer, Dataset]:
    """Find the importer of the sources, and what is known of their data set.

    With a layout, what is of no format of the field is a table or a folder of arrays.
    """
    mine = Dataset(name, title=name, layouts=(), label_names=(), protocols=())
    known = {dataset.name: dataset for importer in IMPORTERS for dataset in importer.datasets}
    found = {source: detect_format(source) for source in sources}
    importer = found[sources[0]]
    if layout and (importer is None or "layout" not in importer.options):
        return own.IMPORTER, mine
    for source, one in found.items():
        if one is None:
            raise ValueError(_describe_unknown(source))
    assert importer is not None
    if len(set(map(id, found.values()))) > 1:
        named = ", ".join(f"{path} ({one.title})" for path, one in found.items() if one is not None)
        raise ValueError(f"the sources are of different formats: {named}; import them one by one")
    if known.get(name) in importer.datasets:
        return importer, known[name]
    if name in known:
        names = " and ".join(other.name for other in importer.datasets)
        own_name = "; recordings of your own need a name of their own" if importer.own else ""
        raise ValueError(
            f"{sources[0]} is {importer.title}, the format of {names}, not of {name}{own_name}"
        )
    if importer.own:
        return importer, mine
    raise ValueError(
        f"unknown data set {name!r}: expected one of {', '.join(known)}; for recordings of "
        "your own, give their joint layout with --layout (layout=)"
    )


def _describe_unknown(source: Path) -> str:
    if source.is_file() and not zipfile.is_zipfile(source):
        with source.open("rb") as file:
            if file.read(2) == b"PK":
                return f"{source} is a zip that is cut short: download it again"
    known = "; ".join(importer.title for importer in IMPORTERS)
    return (
        f"{source} is of no format that can be imported: expected {known}. For skeletons of your "
        "own, give their joint layout with --layout (layout=)"
    )


def _check_free(out: Path) -> None:
    if out.exists():
        raise FileExistsError(f"{out} exists already: choose another path or remove it first")


def _modification_stamp(sources: Sequence[Path]) -> str:
    """A hash that changes when a file of the sources is modified, even if its size is the same."""
    stamp = hashlib.sha256()
    for source in sources:
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            facts = path.stat()
            stamp.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return stamp.hexdigest()


def _write(
    out: Path,
    recordings: Recordings,
    document: Mapping[str, Any],
    *,
    stamp: str,
    workers: int | None,
    progress: bool,
) -> None:
    """Read the recordings, in several processes if there are many, and write the store."""
    from tqdm.auto import tqdm

    clips, name = recordings.clips, document["dataset"]
    bar = partial(tqdm, unit="clip", disable=not progress)
    if not isinstance(clips, LazyClips) or len(clips) < _MIN_PARALLEL:
        with bar(clips, desc=name, total=recordings.count) as entries:
            write_entries(out, checked_clips(entries, document, leave_out=True), document)
        return
    chunks = Chunks(clips, document, out=out, stamp=stamp, workers=workers)
    with bar(desc=name, total=len(clips), initial=chunks.num_read) as read:
        for size in chunks.read():
            read.update(size)
    with bar(chunks.entries(), desc="writing", total=len(clips)) as entries:
        write_entries(out, entries, document)
    chunks.remove()
