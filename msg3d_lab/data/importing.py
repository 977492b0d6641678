"""From what people download to a store, and what a store says about itself."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from msg3d_lab.data import datasets, nw_ucla, openmmlab
from msg3d_lab.data.recordings import Recordings
from msg3d_lab.data.store import Store, write_store

__all__ = ["describe", "import_dataset"]

_FORMATS = "an OpenMMLab annotation pickle (ntu60, ntu120) or NW-UCLA's all_sqe folder or zip"


def import_dataset(
    source: str | Path, *, dataset: str, out: str | Path | None = None, progress: bool = True
) -> Path:
    """Import a download into a new store. The format is recognised from the source itself.

    Args:
        source: an OpenMMLab pickle, or NW-UCLA's `all_sqe` as a folder or zip.
        dataset: "ntu60", "ntu120" or "nw-ucla"; decides class names and layouts.
        out: the new store; `data/DATASET.arrow`, for NTU with -2d or -3d, if left out. Nothing is
            left there if the import fails.
        progress: whether to show a progress bar.

    Returns:
        The store's path.

    Raises:
        FileNotFoundError: there is no such source.
        FileExistsError: there is a file at `out`.
        ValueError: unknown data set, a source of no known format or of another data set, or a clip
            that cannot be used.
    """
    from tqdm.auto import tqdm

    source, facts = Path(source), datasets.get(dataset)
    if not source.exists():
        raise FileNotFoundError(f"no file or folder {source} to import")
    _check_free(out)  # before reading for minutes
    found = _read(source, facts)
    out = Path(out) if out is not None else datasets.default_store(dataset, found.skeleton.name)
    _check_free(out)
    bar = tqdm(found.clips, total=found.count, desc=dataset, unit="clip", disable=not progress)
    with bar:
        return write_store(
            out,
            bar,
            dataset=dataset,
            skeleton=found.skeleton,
            label_names=facts.label_names,
            channels=found.channels,
            preparation=found.preparation,
        )


def _check_free(out: str | Path | None) -> None:
    if out is not None and Path(out).exists():
        raise FileExistsError(f"{out} exists already: choose another path or remove it first")


def _read(source: Path, facts: datasets.Dataset) -> Recordings:
    """Recognise the format and start reading."""
    if _is_nw_ucla(source):
        if facts.name != "nw-ucla":
            raise ValueError(f"{source} holds NW-UCLA clips, not {facts.name}: use nw-ucla")
        return nw_ucla.read_clips(source)
    if source.is_file():
        with source.open("rb") as file:
            start = file.read(2)
        if start[:1] == b"\x80":  # every pickle since protocol 2
            if facts.name == "nw-ucla":
                raise ValueError(f"{source} is a pickle; nw-ucla comes as a folder or zip of JSONs")
            return openmmlab.read_clips(source, dataset=facts)
        if start == b"PK" and not zipfile.is_zipfile(source):
            raise ValueError(f"{source} is a zip that is cut short: download it again")
    raise ValueError(f"{source} is of no format that can be imported: expected {_FORMATS}")


def _is_nw_ucla(source: Path) -> bool:
    if source.is_dir():
        return any(nw_ucla.is_member(path.name) for path in source.rglob("*.json"))
    if not zipfile.is_zipfile(source):
        return False
    with zipfile.ZipFile(source) as archive:
        return any(map(nw_ucla.is_member, archive.namelist()))


def describe(store: Store) -> str:
    """Say what is in a store, in a few lines: the text of `msg3d-lab data info`."""
    size, preparation = store.path.stat().st_size, store.preparation
    seen = np.bincount(store.labels, minlength=store.num_classes)
    persons = [f"{count} with {m}" for m, count in enumerate(np.bincount(store.persons)) if count]
    frames = store.frames
    options = {k: v for k, v in preparation.items() if k not in ("name", "sha256", "left_out")}
    made = [preparation.get("name", "none"), *(f"{k} {v}" for k, v in options.items())]
    lines = {
        "data set": store.dataset + (" (SYNTHETIC: made-up recordings)" if store.synthetic else ""),
        "file": f"{store.path} ({size / 1e6:.1f} MB)",
        "fingerprint": store.fingerprint,
        "layout": f"{store.skeleton.name}, {store.skeleton.num_joints} joints, {_channels(store)}",
        "clips": f"{len(store)} of {np.count_nonzero(seen)} classes out of {store.num_classes}, "
        f"{seen[seen > 0].min()} to {seen.max()} per class",
        "splits": ", ".join(f"{name} {count}" for name, count in store.splits.items()) or "none",
        "persons": ", ".join(persons),
        "frames": f"{frames.min()} to {frames.max()}, median {np.median(frames):g}",
        "preparation": ", ".join(made),
        "source hash": str(preparation.get("sha256", "none"))[:16],
    }
    left_out = preparation.get("left_out")
    if left_out:
        lines["left out"] = f"{len(left_out)} clips without a person: {', '.join(left_out[:5])}" + (
            ", ..." if len(left_out) > 5 else ""
        )
    return "\n".join(f"{name + ':':14}{text}" for name, text in lines.items())


def _channels(store: Store) -> str:
    axes = "xyz"[: store.channels - store.scored]
    return f"{store.channels} channels ({', '.join([*axes, *(['score'] * store.scored)])})"
