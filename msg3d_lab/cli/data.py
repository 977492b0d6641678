"""Shell commands `msg3d-lab data import`, `info`, `check` and `download`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def import_(
    source: Positional[tuple[Path, ...]],
    dataset: str,
    out: Path | None = None,
    layout: str | None = None,
    labels: Path | None = None,
    prepare: Literal["align", "center", "image", "none", "paper", "pyskl"] | None = None,
    image_size: tuple[int, int] | None = None,
    channels: str | None = None,
    bodies: Literal["denoise", "energy"] | None = None,
    keep_missing: bool = False,
    workers: int | None = None,
) -> None:
    """Import recordings into a store. The format is detected from the source.

    An interrupted or killed import of many files continues where it was when the same command is
    given again. What cannot be used is left out and listed, with its reason, in
    STORE.left-out.csv.

    Args:
        source: raw NTU zips or a folder of .skeleton files; OpenMMLab pickles; the folder of
            padded arrays of 2s-AGCN or MS-G3D, or CTR-GCN's .npz; NW-UCLA's all_sqe;
            UTD-MHAD's skeletons; the folder of Kinetics-Skeleton; with a layout, your own
            recordings.
        dataset: ntu60, ntu120, nw-ucla, utd-mhad or kinetics400; for your own recordings, also for
            OpenMMLab pickles and arrays of your own, any other name.
        out: the new store. Default: data/DATASET.arrow, for NTU with -2d or -3d, and -paper or
            -pyskl if it is prepared so.
        layout: for your own recordings: the joint layout, a YAML file
            (docs/data/own-skeletons.md) or the name of one of the library. Pickles and arrays need
            it only if the number of joints does not tell.
        labels: for your own recordings: the CSV of labels (default: labels.csv in the folder or
            beside the table); for pickles and arrays, the list of class names, one per line.
        prepare: what is done to the coordinates. Raw NTU recordings: align (the default; for the
            recipes of mmaction2 and pyskl) or paper (every frame centred, for the *-paper recipes).
            NTU's 2D pickles: image (the default) or pyskl (for the 2D *-pyskl recipes). NW-UCLA:
            center (the default) or align. Others: for your own recordings.
        image_size: for your own recordings in pixels: height and width of the image.
        channels: for your own recordings in arrays: what their channels are, x,y or x,y,z or
            x,y,score or x,y,z,score.
        bodies: for raw NTU: how persons are selected, as for the published pickles (denoise, the
            default) or by how far their joints spread (energy, the default for paper).
        keep_missing: for raw NTU: import the recordings on the authors' list of missing skeletons.
        workers: processes that read many files. Default: one per core.
    """
    from msg3d_lab.data import import_dataset, open_store
    from msg3d_lab.data.checks import describe_store
    from msg3d_lab.data.formats.registry import left_out_path

    path = import_dataset(
        source,
        dataset=dataset,
        out=out,
        layout=layout,
        labels=labels,
        prepare=prepare,
        image_size=image_size,
        channels=channels,
        bodies=bodies,
        keep_missing=keep_missing or None,
        workers=workers,
    )
    store = open_store(path)
    print(describe_store(store))
    if len(store.left_out):
        print(f"Everything that was left out, with reasons: {left_out_path(path)}")


def info(store: Positional[Path]) -> None:
    """Show what is in a store.

    Args:
        store: the store's path.
    """
    from msg3d_lab.data import open_store
    from msg3d_lab.data.checks import describe_store

    print(describe_store(open_store(store)))


def check(
    source: Positional[Path],
    dataset: str | None = None,
    layout: str | None = None,
    labels: Path | None = None,
    image_size: tuple[int, int] | None = None,
    channels: str | None = None,
) -> None:
    """Explain every problem of a store, or of recordings before they are imported.

    Exits with status 1 if there are errors. Warnings are for you to judge.

    Args:
        source: a store; or what `data import` takes: a pickle, arrays, raw files, and with a layout
            a table or folder of recordings.
        dataset: the data set that a pickle, arrays or raw files are of, as for `data import`.
            Default: recordings of your own.
        layout: the joint layout of your own recordings, a YAML file or the name of one of the
            library.
        labels: the CSV of labels (default: labels.csv in the folder or beside the table); for
            pickles and arrays, the list of class names.
        image_size: for coordinates in pixels: height and width of the image.
        channels: what the channels of arrays are, as for `data import`.
    """
    from msg3d_lab.data.checks import check_path, explain_problems

    problems = check_path(
        source,
        dataset=dataset,
        layout=layout,
        labels=labels,
        image_size=image_size,
        channels=channels,
    )
    print(explain_problems(problems))
    if any(problem.severity == "error" for problem in problems):
        raise SystemExit(1)


def download(name: Positional[str | None] = None, folder: Path = Path("data")) -> None:
    """Download a data set, or show how to get one that cannot be downloaded directly.

    An interrupted download continues when the same command is given again.

    Args:
        name: ntu60-2d, ntu60-3d, ntu120-2d or ntu120-3d; gym, ucf101, hmdb51, diving48 or k400 of
            pyskl; ntu60-raw, ntu120-raw, nw-ucla, utd-mhad or kinetics for a guide. Default: list
            all names.
        folder: the folder of the file.
    """
    from msg3d_lab.data import download as library

    if name is None:
        print("To download:", ", ".join(library.SOURCES))
        print("With a guide:", ", ".join(library.GUIDES))
    elif name in library.GUIDES:
        print(library.GUIDES[name])
    else:
        path = library.download_dataset(name, folder=folder)
        dataset = library.SOURCES[name].dataset
        print(f"{path} is whole. Next: msg3d-lab data import {path} --dataset {dataset}")
        if name == "k400":
            print(
                f"It is a table of contents: put the kpfiles into {path.parent} first; pyskl's "
                "tools/data/README.md tells where they are"
            )


def data_help() -> None:
    """Import, download and check data, and show what is in a store: msg3d-lab data --help."""
