"""The data sets that can be downloaded, their checksums, and guides to those that cannot.

`FILE.sha256` holds the checksum of the first download, as `sha256sum` writes it, since nobody
publishes one for these files; whatever comes later is held against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msg3d_lab.data.checksums import record_of, recorded_digest
from msg3d_lab.data.fetch import PICKLE_END, PICKLE_START, fetch, say
from msg3d_lab.data.formats.part import Part, sha256_of
from msg3d_lab.files import write_aside

__all__ = ["GUIDES", "SOURCES", "Source", "download", "guide"]


@dataclass(frozen=True)
class Source:
    """A file that can be downloaded: its name here, its data set, its addresses, best first."""

    file: str
    dataset: str
    addresses: tuple[str, ...]


def _openmmlab(dataset: str, ours: str, pyskl: str) -> Source:
    """mmaction2's address, and that of pyskl, where the file has another name."""
    base, file = "https://download.openmmlab.com/mmaction", f"{dataset}_{ours}.pkl"
    mirror = f"{base}/pyskl/data/nturgbd/{dataset}_{pyskl}.pkl"
    return Source(file, dataset, (f"{base}/v1.0/skeleton/data/{file}", mirror))


SOURCES: Mapping[str, Source] = {
    "ntu60-2d": _openmmlab("ntu60", "2d", "hrnet"),
    "ntu60-3d": _openmmlab("ntu60", "3d", "3danno"),
    "ntu120-2d": _openmmlab("ntu120", "2d", "hrnet"),
    "ntu120-3d": _openmmlab("ntu120", "3d", "3danno"),
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
    "kinetics": """Kinetics-Skeleton is free, but lies where only a browser gets it:
  1. Open https://github.com/yysijie/st-gcn/blob/master/OLD_README.md#kinetics-skeleton and follow
     its link; unpack what you get
  2. Give the folder with kinetics_train, kinetics_val and their two label files:
     msg3d-lab data import FOLDER --dataset kinetics400""",
}


def guide(name: str) -> str:
    """Tell how to get and import a data set, step by step.

    Raises:
        ValueError: unknown name.
    """
    if name in GUIDES:
        return GUIDES[name]
    source = _source(name)
    return (
        f"  1. msg3d-lab data download {name}\n"
        f"  2. msg3d-lab data import data/{source.file} --dataset {source.dataset}"
    )


def download(
    name: str,
    *,
    folder: str | Path = "data",
    progress: bool = True,
    addresses: Sequence[str] | None = None,
    retries: int = 5,
    wait: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Download a file of `SOURCES`, or go on with it; check it if it is there already.

    What comes is kept in `FILE.part`, which becomes FILE when it is whole: stop it at any time, the
    same call goes on. Retries, changes of address and checksums are told on the screen.

    Args:
        name: one of `SOURCES`.
        folder: where the file goes; made if missing.
        progress: whether to show progress bars.
        addresses: instead of those of the source, best first. The next one is asked when one does
            not have the file or, as long as nothing came from it, cannot be reached.
        retries: how many attempts in a row may bring less than a mebibyte each, after the first.
        wait: seconds before the first of them; doubled each time, up to a minute.
        timeout: seconds without a connection or a byte after which an attempt has failed.

    Returns:
        The file's path.

    Raises:
        ValueError: unknown name, or one to be fetched by hand (the message is its guide); the
            server sends something else than a pickle; a checksum does not match.
        ConnectionError: no address gave the file; the message says what is kept.
        OSError: the folder cannot be written to, the disk is full, or another process downloads
            the same file.
    """
    if name in GUIDES:
        raise ValueError(f"{name} is to be fetched by hand. {GUIDES[name]}")
    source = _source(name)
    target = Path(folder) / source.file
    expected = recorded_digest(target)  # if it cannot be read, better now than after the download
    if not target.exists():
        with Part(target.with_name(target.name + ".part"), progress=progress) as part:
            if not target.exists():  # else another process has just finished
                fetch(
                    part,
                    source.addresses if addresses is None else addresses,
                    retries=retries,
                    wait=wait,
                    timeout=timeout,
                    progress=progress,
                )
                _keep(part, target, expected)
                return target
    _check(target, expected, progress=progress)
    return target


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise ValueError(
            f"unknown data set {name!r}: {', '.join(SOURCES)} can be downloaded, and there are "
            f"guides to {', '.join(GUIDES)}"
        )
    return SOURCES[name]


def _write_record(target: Path, digest: str) -> None:
    record = record_of(target)
    with write_aside(record) as aside:
        aside.write_text(f"{digest}  {target.name}\n", encoding="utf-8", newline="\n")
    say(f"{target}: sha256 {digest} recorded in {record.name}")


def _keep(part: Part, target: Path, expected: str | None) -> None:
    """Give a whole part its name, if it is what was recorded."""
    digest = part.sha256.hexdigest()
    if expected is None:
        part.rename(target)
        _write_record(target, digest)
    elif digest == expected:
        part.rename(target)
        say(f"{target}: checksum matches")
    else:
        aside = target.with_name(f"{target.stem}.sha256-{digest[:8]}{target.suffix}")
        part.rename(aside)
        raise ValueError(
            f"what was downloaded has another checksum than {record_of(target)} (expected "
            f"{expected}, found {digest}): the file changed at the source, or was damaged on its "
            f"way. It is kept as {aside}. If you want it, remove {record_of(target).name} and "
            f"rename it to {target.name}"
        )


def _check(target: Path, expected: str | None, *, progress: bool) -> None:
    """Hold a file that is there already against its checksum, or record one."""
    digest = sha256_of(target, progress=progress).hexdigest()
    if expected is None:
        with target.open("rb") as file:
            start = file.read(1)
            file.seek(-1 if start else 0, 2)
            whole = start == PICKLE_START and file.read(1) == PICKLE_END
        if not whole:
            raise ValueError(f"{target} is not a whole pickle: remove it and download it again")
        say(f"{target} is there already, without a checksum")
        _write_record(target, digest)
    elif digest == expected:
        say(f"{target} is there already, and its checksum matches")
    else:
        raise ValueError(
            f"{target} has another checksum than {record_of(target)} (expected {expected}, found "
            f"{digest}): it was damaged or replaced. Remove it and download it again; or, if you "
            f"replaced it, remove {record_of(target).name}"
        )
