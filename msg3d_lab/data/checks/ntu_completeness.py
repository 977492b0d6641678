"""Compare the NTU recordings of a source with those of the whole data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set

from msg3d_lab.data.datasets import NTUName, get, missing_skeletons, parse_ntu_name

_RECORDINGS = {"ntu60": 56_880, "ntu120": 114_480}
_ZIPS = {"s001_to_s017": range(1, 18), "s018_to_s032": range(18, 33)}
_CAMERAS = (1, 2, 3)
_EXAMPLES = 3


def ntu_differences(names: Iterable[str], dataset: str) -> list[str]:
    """Compare the recordings of a source with the data set, which includes missing skeletons.

    Compares their number, their setups, their cameras (three cameras film each action at once, so
    that a recording of one implies two more) and the list of missing skeletons.

    Args:
        names: the names of all recordings of the source.
        dataset: "ntu60" or "ntu120".

    Returns:
        A sentence for each difference.

    Raises:
        ValueError: a data set other than ntu60 and ntu120.
    """
    listed = missing_skeletons(dataset)
    parsed = {name: parse_ntu_name(name) for name in names}
    found = {name: n for name, n in parsed.items() if n is not None and n.is_of(dataset)}
    title, expected = get(dataset).title, _RECORDINGS[dataset]
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
    # Only for setups that are there: a missing zip is reported above.
    gone = sorted(name for name in listed - set(found) if int(name[1:4]) in setups)
    if gone:
        sentences.append(
            f"{len(gone)} of the recordings whose skeletons are known to be missing "
            f"{_is_or_are(gone)} not in the source: {_first(gone)}."
        )
    return sentences


def _camera_differences(found: Mapping[str, NTUName], listed: Set[str]) -> list[str]:
    """Find what one camera has and another lacks, except recordings with missing skeletons."""
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
