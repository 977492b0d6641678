"""Import of NTU RGB+D as the ROSE Lab ships it: one `.skeleton` text file per recording.

The two zips, of setups 1 to 17 (NTU RGB+D 60) and 18 to 32 (what NTU RGB+D 120 adds), are read
as they are.

Source: shahroudy/NTURGB-D, README and the lists in `Matlab/`.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cache, partial
from pathlib import Path

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data import datasets
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import Dataset, NTUName, ntu_facts, ntu_splits, parse_ntu_name
from msg3d_lab.data.formats.bodies import RULES, NobodyError, select_bodies
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings
from msg3d_lab.data.formats.skeleton_file import parse_skeleton
from msg3d_lab.data.formats.zip_or_folder import (
    Member,
    digest_members,
    list_members,
    read_member,
)
from msg3d_lab.data.preprocess import prepare_3d
from msg3d_lab.skeletons import Skeleton

__all__ = [
    "IMPORTER",
    "count_differences",
    "missing_skeletons",
    "read_clips",
    "read_ntu_skeleton",
]

_SUFFIX = ".skeleton"
_RECORDINGS = {"ntu60": 56_880, "ntu120": 114_480}
_ZIPS = {"s001_to_s017": range(1, 18), "s018_to_s032": range(18, 33)}
_CAMERAS = (1, 2, 3)
_EXAMPLES = 3
_MISSING = Path(__file__).with_name("missing")


def read_ntu_skeleton(path: str | Path, *, bodies: str = "denoise") -> np.ndarray:
    """Read the persons of one recording from its `.skeleton` file.

    Args:
        path: the file.
        bodies: how persons are selected, "denoise" or "energy": see `select_bodies`.

    Shapes:
        (M, T, 25, 3) float32, M 1 or 2; zeros where a person is absent.

    Units: metres in the camera frame; 30 frames a second.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or there is nobody in any frame.

    Example:
        >>> import tempfile
        >>> from msg3d_lab.data.formats.bodies import Track
        >>> from msg3d_lab.data.formats.skeleton_file import write_ntu_skeleton
        >>> walker = Track(7, np.arange(9), np.zeros(9, int), np.ones((9, 25, 3)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_ntu_skeleton(f"{folder}/S001C001P001R001A059.skeleton", [walker], 9)
        ...     read_ntu_skeleton(path).shape
        (1, 9, 25, 3)
    """
    try:
        tracks, num_frames = parse_skeleton(Path(path).read_bytes())
        return select_bodies(tracks, num_frames, bodies=bodies).keypoints
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _is_source(path: Path) -> bool:
    if path.is_file() and not zipfile.is_zipfile(path):
        return False
    return bool(list_members([path], suffix=_SUFFIX))


def read_clips(
    sources: Sequence[Path],
    *,
    dataset: Dataset,
    bodies: str = "denoise",
    keep_missing: bool = False,
) -> Recordings:
    """List the recordings of folders and zips; each is read and prepared when it is asked for.

    Args:
        sources: the ROSE Lab's zips as they are, or folders with `.skeleton` files.
        dataset: ntu60 or ntu120. Recordings of the other setups and actions are left out unread.
        bodies: how persons are selected, "denoise" or "energy": see `select_bodies`.
        keep_missing: whether to keep the recordings on the authors' list of missing skeletons.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: not a zip, no recordings in any source, or an unknown rule or data set.
    """
    missing = missing_skeletons(dataset.name)
    if bodies not in RULES:
        raise ValueError(f"unknown rule {bodies!r} for bodies: expected {' or '.join(RULES)}")
    members = list_members(sources, suffix=_SUFFIX)
    if not members:
        names = ", ".join(str(source) for source in sources)
        raise ValueError(f"{names} has no files such as S001C001P001R001A001{_SUFFIX}")
    entries: list[Member | LeftOut] = []
    seen: set[str] = set()
    for member in members:
        numbers, reason = parse_ntu_name(member.id), ""
        if numbers is None:
            reason = "not an NTU name"
        elif not _belongs(numbers, dataset.name):
            reason = f"not of {dataset.name}"
        elif member.id in missing and not keep_missing:
            reason = "on the authors' list of missing skeletons"
        elif member.id in seen:
            reason = "occurs twice"
        seen.add(member.id)
        where = f"{member.source.name}: {member.name}"
        entries.append(LeftOut(member.id, reason, where) if reason else member)
    preparation = {
        "name": "prepare_3d",
        "scored": False,
        "bodies": bodies,
        "keep_missing": keep_missing,
        "format": "NTU RGB+D raw",
        "source": ", ".join(Path(source).name for source in sources),
        "sha256": digest_members(members),
    }
    skeleton = skeletons.get("ntu25")
    read = partial(_read, dataset=dataset.name, bodies=bodies, skeleton=skeleton)
    clips = LazyClips(entries, read)
    return Recordings(clips, len(clips), skeleton, 3, preparation)


def _read(member: Member, *, dataset: str, bodies: str, skeleton: Skeleton) -> Clip | LeftOut:
    name = member.id
    numbers = parse_ntu_name(name)
    assert numbers is not None  # others are left out when listed
    tracks, num_frames = parse_skeleton(read_member(member))
    try:
        selection = select_bodies(tracks, num_frames, bodies=bodies)
    except NobodyError:
        return LeftOut(name, "nobody in any frame", f"{num_frames} frames")
    return Clip(
        id=name,
        keypoints=prepare_3d(selection.keypoints, skeleton),
        label=numbers.action - 1,
        splits=ntu_splits(name, dataset=dataset),
        **ntu_facts(name),
    )


IMPORTER = Importer(
    title="raw NTU .skeleton files, a folder or zips",
    datasets=(datasets.get("ntu60"), datasets.get("ntu120")),
    is_source=_is_source,
    read=read_clips,
    options=("bodies", "keep_missing"),
    several_sources=True,
)


def _belongs(numbers: NTUName, dataset: str) -> bool:
    if dataset == "ntu60":
        return 1 <= numbers.setup <= 17 and 1 <= numbers.action <= 60
    return 1 <= numbers.setup <= 32 and 1 <= numbers.action <= 120


@cache
def missing_skeletons(dataset: str) -> frozenset[str]:
    """The recordings whose skeletons are missing or incomplete, by the data set's authors.

    Raises:
        ValueError: a data set other than ntu60 and ntu120.
    """
    if dataset not in _RECORDINGS:
        raise ValueError(f"raw skeletons are those of ntu60 and ntu120, found {dataset!r}")
    lines = (_MISSING / f"{dataset}.txt").read_text(encoding="ascii").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def count_differences(names: Iterable[str], dataset: str) -> list[str]:
    """Compare the recordings of a source with all there are, those with missing skeletons included.

    Compared are how many there are, their setups, their cameras (three filmed everything at once,
    so that a recording of one tells that there are two more) and the list of missing skeletons.

    Returns:
        A sentence for each difference; none if there is none.

    Raises:
        ValueError: a data set other than ntu60 and ntu120.
    """
    listed = missing_skeletons(dataset)
    parsed = {name: parse_ntu_name(name) for name in names}
    found = {name: n for name, n in parsed.items() if n is not None and _belongs(n, dataset)}
    title, expected = datasets.get(dataset).title, _RECORDINGS[dataset]
    sentences = []
    if len(found) != expected:
        sentences.append(
            f"{title} has {expected:,} recordings, {expected - len(listed):,} of them usable; the "
            f"source has {len(found):,}, {len(set(found) - listed):,} of them usable."
        )
    setups = {n.setup for n in found.values()}
    for zip_name, numbers in list(_ZIPS.items())[: 1 if dataset == "ntu60" else None]:
        absent = [setup for setup in numbers if setup not in setups]
        if len(absent) == len(numbers):
            zip_name = f"nturgbd_skeletons_{zip_name}.zip"
            sentences.append(
                f"No recording is of setups {numbers[0]} to {numbers[-1]}: they are in {zip_name}."
            )
        elif absent:
            sentences.append(f"No recording is of setup {', '.join(map(str, absent))}.")
    sentences += _camera_differences(found, listed)
    # Of the setups that are there, so that a zip that is not does not fill the report with names.
    gone = sorted(name for name in listed - set(found) if int(name[1:4]) in setups)
    if gone:
        sentences.append(
            f"{len(gone)} of the recordings whose skeletons are known to be missing "
            f"{_is_or_are(gone)} not in the source: {_first(gone)}."
        )
    return sentences


def _camera_differences(found: Mapping[str, NTUName], listed: Set[str]) -> list[str]:
    """Name what one camera has and another lacks, but for recordings with missing skeletons."""
    filmed = {f"{name[:5]}{camera:03d}{name[8:]}" for name in found for camera in _CAMERAS}
    lacking = sorted(filmed - set(found) - listed)
    if not lacking:
        return []
    counts = Counter((numbers.setup, numbers.camera) for numbers in found.values())
    rows = [
        f"{', '.join(f'{counts[setup, camera]:,}' for camera in _CAMERAS)} of setup {setup}"
        for setup in sorted({int(name[1:4]) for name in lacking})
    ]
    return [
        f"Three cameras filmed everything at once; of the recordings to be expected from that, "
        f"{len(lacking):,} {_is_or_are(lacking)} not in the source: {_first(lacking)}. Recordings "
        f"of camera 1, 2 and 3: {'; '.join(rows)}."
    ]


def _first(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _EXAMPLES:,} more" if len(names) > _EXAMPLES else ""
    return f"{', '.join(names[:_EXAMPLES])}{rest}"


def _is_or_are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
