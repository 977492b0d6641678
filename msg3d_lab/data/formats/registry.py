"""From what people have to a store."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msg3d_lab import skeletons
from msg3d_lab.data import datasets
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats import custom, kinetics, ntu_raw, nw_ucla, openmmlab, padded
from msg3d_lab.data.formats.parallel import Chunks
from msg3d_lab.data.formats.recordings import Recordings
from msg3d_lab.data.store import open_store, write_store
from msg3d_lab.files import write_aside
from msg3d_lab.skeletons import Skeleton

__all__ = ["find_layout", "import_dataset", "left_out_path"]

_MANY = 2000  # recordings: more of them are worth several processes, which take seconds to start


class _Format(NamedTuple):
    """A format, how it is recognised, the data sets that come in it, its reader and its options."""

    title: str
    is_source: Callable[[Path], bool]
    datasets: tuple[str, ...]
    read: Callable[..., Recordings]
    options: tuple[str, ...] = ()
    several: bool = False


_NTU = ("ntu60", "ntu120")
_FORMATS = (
    _Format(
        "raw NTU .skeleton files, a folder or zips",
        ntu_raw.is_source,
        _NTU,
        lambda sources, dataset, **options: ntu_raw.read_clips(sources, dataset=dataset, **options),
        ("bodies", "keep_missing"),
        several=True,
    ),
    _Format(
        "an OpenMMLab annotation pickle",
        openmmlab.is_source,
        _NTU,
        lambda sources, dataset: openmmlab.read_clips(sources[0], dataset=dataset),
    ),
    _Format(
        "the padded arrays of 2s-AGCN and MS-G3D (folder) or CTR-GCN (.npz)",
        padded.is_source,
        _NTU,
        lambda sources, dataset: padded.read_clips(sources[0], dataset=dataset),
    ),
    _Format(
        "NW-UCLA's all_sqe folder or zip",
        nw_ucla.is_source,
        ("nw-ucla",),
        lambda sources, dataset: nw_ucla.read_clips(sources[0]),
    ),
    _Format(
        "Kinetics-Skeleton folders or zips of JSON files",
        kinetics.is_source,
        ("kinetics400",),
        lambda sources, dataset: kinetics.read_clips(sources, dataset=dataset),
        several=True,
    ),
)


def import_dataset(
    source: str | Path | Sequence[str | Path],
    *,
    dataset: str,
    out: str | Path | None = None,
    layout: Skeleton | str | Path | None = None,
    labels: str | Path | None = None,
    prepare: str | None = None,
    image_size: tuple[int, int] | None = None,
    bodies: str | None = None,
    keep_missing: bool | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Import recordings into a new store. The format is recognised from the source itself.

    What cannot be used is left out, with its name and reason in `Store.left_out` and in a table
    beside the store (`left_out_path`). An import of many files that was stopped, or killed, goes on
    where it was when it is called again with the same arguments; until it is finished, what has
    been read takes as much room beside the store as the store will.

    Args:
        source: a file or folder; several for data sets that come in parts.
        dataset: "ntu60", "ntu120", "nw-ucla" or "kinetics400"; with `layout`, a name of your own.
        out: the new store; `data/DATASET.arrow`, for NTU with -2d or -3d, if left out. Nothing is
            left there if the import fails.
        layout: of skeletons of your own (see `docs/data/own-skeletons.md`): a layout, its name or
            the path of its YAML.
        labels: for these, the CSV of labels, where it does not lie in the place it is looked for.
        prepare: for these, "align", "center", "image" or "none"; see `custom.read_clips`.
        image_size: for these in 2D, (height, width) in pixels.
        bodies: for raw NTU files, "denoise" (if left out) or "energy"; see `bodies.select_bodies`.
        keep_missing: for raw NTU files, also import recordings whose skeletons are known to be
            missing or incomplete.
        workers: processes for formats of many files; as many as there are cores if left out.
        progress: whether to show a progress bar.

    Returns:
        The store's path.

    Raises:
        FileNotFoundError: there is no such source.
        FileExistsError: there is a file at `out`.
        ValueError: unknown data set, a source of no known format or of another data set, an option
            of another format, or nothing that can be used.
        ChildProcessError: a process that reads recordings died; what it had read is kept.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"expected at least one worker, found {workers}")
    if not re.fullmatch(r"\w[\w.-]*", dataset):
        raise ValueError(
            f"expected a data set's name of letters, digits, '-', '_' and '.', found {dataset!r}"
        )
    sources = [Path(s) for s in ([source] if isinstance(source, (str, Path)) else source)]
    if not sources:
        raise ValueError("expected at least one file or folder to import")
    for path in sources:
        if not path.exists():
            raise FileNotFoundError(f"no file or folder {path} to import")
    _check_free(out)  # before reading for minutes
    own = {"labels": labels, "prepare": prepare, "image_size": image_size}
    raw = {"bodies": bodies, "keep_missing": keep_missing}
    if layout is not None:
        _check_options(raw, tuple(own), "recordings of your own")
        found = custom.read_clips(
            _only(sources),
            layout=find_layout(layout),
            labels=Path(labels) if labels is not None else None,
            prepare=prepare,
            image_size=image_size,
        )
        names = found.label_names or ()
    else:
        if dataset not in datasets.DATASETS:
            raise ValueError(
                f"unknown data set {dataset!r}: expected one of {', '.join(datasets.DATASETS)}; "
                "for recordings of your own, say their joint layout with --layout (layout=)"
            )
        facts = datasets.get(dataset)
        found = _read(sources, facts, {**own, **raw})
        names = found.label_names or facts.label_names
    out = Path(out) if out is not None else datasets.default_store(dataset, found.skeleton.name)
    _check_free(out)
    facts_of_all = {
        "dataset": dataset,
        "skeleton": found.skeleton,
        "label_names": names,
        "channels": found.channels,
        "preparation": found.preparation,
    }
    stamp = _stamp(sources)
    _write(out, found, facts_of_all, stamp=stamp, workers=workers, progress=progress)
    left_out, table = open_store(out).left_out, left_out_path(out)
    if left_out.empty:
        table.unlink(missing_ok=True)  # of a store that was here before
    else:
        with write_aside(table, overwrite=True) as aside:
            left_out.to_csv(aside, index=False)
    return out


def left_out_path(store: str | Path) -> Path:
    """Return where the table of what was left out of a store lies: `STORE.left-out.csv`."""
    return Path(store).with_name(f"{Path(store).name}.left-out.csv")


def _stamp(sources: Sequence[Path]) -> str:
    """Changes when a file of the sources is changed, also where its size stays."""
    stamp = hashlib.sha256()
    for source in sources:
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            facts = path.stat()
            stamp.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return stamp.hexdigest()


def _check_free(out: str | Path | None) -> None:
    if out is not None and Path(out).exists():
        raise FileExistsError(f"{out} exists already: choose another path or remove it first")


def find_layout(layout: Skeleton | str | Path) -> Skeleton:
    """Return a layout, given itself, its name or the path of its YAML.

    Raises:
        FileNotFoundError: neither a name nor a file.
        ValueError: the file is not a layout.
    """
    if isinstance(layout, Skeleton):
        return layout
    if str(layout) in skeletons.names():
        return skeletons.get(str(layout))
    if not Path(layout).is_file():
        raise FileNotFoundError(
            f"no joint layout {layout}: expected the path of a YAML file or one of "
            f"{', '.join(skeletons.names())}"
        )
    return skeletons.load(layout)


def _read(
    sources: Sequence[Path], facts: datasets.Dataset, options: Mapping[str, Any]
) -> Recordings:
    """Recognise the format and start reading."""
    kinds = {path: _recognise(path) for path in sources}
    if len(set(kinds.values())) > 1:
        named = ", ".join(f"{path} ({kind.title})" for path, kind in kinds.items())
        raise ValueError(f"the sources are of different formats: {named}; import them one by one")
    kind = next(iter(kinds.values()))
    if facts.name not in kind.datasets:
        raise ValueError(
            f"{sources[0]} is {kind.title}, in which {' and '.join(kind.datasets)} come, not "
            f"{facts.name}"
        )
    _check_options(options, kind.options, kind.title)
    if not kind.several:
        _only(sources)
    chosen = {key: value for key, value in options.items() if value is not None}
    return kind.read(sources, facts, **chosen)


def _recognise(source: Path) -> _Format:
    for kind in _FORMATS:
        if kind.is_source(source):
            return kind
    if source.is_file() and not zipfile.is_zipfile(source):
        with source.open("rb") as file:
            if file.read(2) == b"PK":
                raise ValueError(f"{source} is a zip that is cut short: download it again")
    known = "; ".join(kind.title for kind in _FORMATS)
    raise ValueError(
        f"{source} is of no format that can be imported: expected {known}. For skeletons of your "
        "own, say their joint layout with --layout (layout=)"
    )


def _check_options(options: Mapping[str, Any], allowed: Sequence[str], title: str) -> None:
    wrong = [key for key, value in options.items() if value is not None and key not in allowed]
    if wrong:
        can = f"it takes {', '.join(allowed)}" if allowed else "it takes none"
        raise ValueError(f"{', '.join(wrong)} is not an option of {title}: {can}")


def _only(sources: Sequence[Path]) -> Path:
    if len(sources) > 1:
        raise ValueError(f"expected one source of this format, found {len(sources)}")
    return sources[0]


def _write(
    out: Path,
    found: Recordings,
    facts: dict[str, Any],
    *,
    stamp: str,
    workers: int | None,
    progress: bool,
) -> None:
    """Read and write, with several processes where that is worth it."""
    from tqdm.auto import tqdm

    def write(entries: Iterable[Clip | LeftOut]) -> None:
        write_store(out, entries, leave_out_unusable=True, **facts)

    settings = {"desc": facts["dataset"], "unit": "clip", "disable": not progress}
    if not isinstance(found.clips, Sequence) or found.count < _MANY:
        with tqdm(found.clips, total=found.count, **settings) as bar:
            return write(bar)
    chunks = Chunks(found.clips, facts, beside=out, stamp=stamp, workers=workers)
    with tqdm(total=found.count, initial=chunks.num_read, **settings) as bar:
        for count in chunks.read():
            bar.update(count)
    with tqdm(chunks.entries(), total=found.count, **settings | {"desc": "writing"}) as bar:
        write(bar)
    return chunks.remove()
