"""Download data sets; guides to those that need a browser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msg3d_lab.download import fetch_file


@dataclass(frozen=True)
class Source:
    """A file that can be downloaded: its name here, its data set, its addresses, best first.

    That of k400 is a table of contents; its skeletons are in other files, see
    `formats.openmmlab.kpfiles`.
    """

    file: str
    dataset: str
    addresses: tuple[str, ...]


_OPENMMLAB = "https://download.openmmlab.com/mmaction"


def _ntu(dataset: str, ours: str, pyskl: str) -> Source:
    """mmaction2's address, and that of pyskl, where the file has another name."""
    file = f"{dataset}_{ours}.pkl"
    mirror = f"{_OPENMMLAB}/pyskl/data/nturgbd/{dataset}_{pyskl}.pkl"
    return Source(file, dataset, (f"{_OPENMMLAB}/v1.0/skeleton/data/{file}", mirror))


def _pyskl(dataset: str) -> Source:
    """Source: pyskl, `tools/data/README.md`."""
    file = f"{dataset}_hrnet.pkl"
    return Source(file, dataset, (f"{_OPENMMLAB}/pyskl/data/{dataset}/{file}",))


SOURCES: Mapping[str, Source] = {
    "ntu60-2d": _ntu("ntu60", "2d", "hrnet"),
    "ntu60-3d": _ntu("ntu60", "3d", "3danno"),
    "ntu120-2d": _ntu("ntu120", "2d", "hrnet"),
    "ntu120-3d": _ntu("ntu120", "3d", "3danno"),
    **{name: _pyskl(name) for name in ("gym", "ucf101", "hmdb51", "diving48", "k400")},
}

_ZIPS = ("nturgbd_skeletons_s001_to_s017.zip", "nturgbd_skeletons_s018_to_s032.zip")
_ROSE = """The raw recordings are given out on request, for research only:
  1. Ask for them with the form at https://rose1.ntu.edu.sg/dataset/actionRecognition/
  2. Of what is offered then, the skeletons are enough:
{files}
  3. {command}
The zips are read as they are; there is no need to unpack them. Never pass the recordings on."""
GUIDES: Mapping[str, str] = {
    "ntu60-raw": _ROSE.format(
        files=f"     {_ZIPS[0]} (5.8 GB)",
        command=f"msg3d-lab data import {_ZIPS[0]} --dataset ntu60",
    ),
    "ntu120-raw": _ROSE.format(
        files=f"     {_ZIPS[0]} (5.8 GB) and\n     {_ZIPS[1]} (4.5 GB)",
        command=f"msg3d-lab data import {' '.join(_ZIPS)} --dataset ntu120",
    ),
    "nw-ucla": """The clips are free, but lie where only a browser gets them:
  1. Open https://github.com/Uason-Chen/CTR-GCN and follow its link under "NW-UCLA" to
     all_sqe.zip (1,484 clips)
  2. msg3d-lab data import all_sqe.zip --dataset nw-ucla""",
    "utd-mhad": """The skeletons are free for research, but lie where only a browser gets them:
  1. Open https://personal.utdallas.edu/~kehtar/UTD-MHAD.html and get the zip of skeletons (861
     files aA_sS_tT_skeleton.mat, 15 MB); the other modalities are not needed
  2. msg3d-lab data import Skeleton.zip --dataset utd-mhad""",
    "kinetics": """Kinetics-Skeleton is free, but lies where only a browser gets it:
  1. Open https://github.com/yysijie/st-gcn/blob/master/OLD_README.md#kinetics-skeleton and follow
     its link; unpack what you get
  2. Give the folder with kinetics_train, kinetics_val and their two label files:
     msg3d-lab data import FOLDER --dataset kinetics400""",
}


def download_dataset(name: str, *, folder: str | Path = "data", progress: bool = True) -> Path:
    """Download a file of `SOURCES`, or resume its download; check the file if it is there already.

    An interrupted download is resumed by the same call. Retries, other addresses and checksums are
    reported on the screen.

    Returns:
        The file's path.

    Raises:
        ValueError: unknown name, or a data set that needs a browser (the message is its guide); the
            server sends something else than a pickle; a checksum does not match.
        ConnectionError: no address gave the file; the message says what is kept.
        OSError: the folder cannot be written to, the disk is full, or another process downloads
            the same file.
    """
    if name in GUIDES:
        raise ValueError(f"{name} is to be downloaded by hand. {GUIDES[name]}")
    if name not in SOURCES:
        raise ValueError(
            f"unknown data set {name!r}: {', '.join(SOURCES)} can be downloaded, and there are "
            f"guides to {', '.join(GUIDES)}"
        )
    source = SOURCES[name]
    target = Path(folder) / source.file
    return fetch_file(target, source.addresses, kind="pickle", progress=progress)
