"""Read the kpfiles of pyskl's Kinetics-400: the skeletons of many recordings in one pickle each.

`k400_hrnet.pkl` has no coordinates: `raw_file` names a kpfile, which maps `frame_dir` to a dict
with `keypoint` (N, 17, 3), the x, y and score of N skeletons; `frame_inds` says in which frame each
is.

Source: pyskl, `tools/data/README.md` and `DecompressPose`: frames without a skeleton are dropped;
of too many persons in a frame those with the highest scores are kept, the best first. Of persons
who are no more than that, the order stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from msg3d_lab.data.clips import LeftOut
from msg3d_lab.data.formats.openmmlab.annotation import Compressed, Entry, describe
from msg3d_lab.safe_pickle import load_pickle

_PERSONS = 2


def find_kpfiles(
    entries: Sequence[Entry | Compressed | LeftOut], table: Path
) -> list[Entry | Compressed | LeftOut]:
    """Find the kpfiles on this machine, and order recordings by theirs.

    They are looked for in the folder of the table of contents: `data/k400/kp/a.pkl` there, then
    `k400/kp/a.pkl`, `kp/a.pkl` and `a.pkl`. A recording whose kpfile is not there is left out.
    """
    folder = table.resolve().parent
    needed = {entry.raw_file for entry in entries if isinstance(entry, Compressed)}
    found = {raw: path for raw in needed if (path := _find(folder, raw)) is not None}
    if not found:
        example = min(needed)
        raise FileNotFoundError(
            f"{table} is a table of contents, and none of its {len(needed)} kpfiles is there, for "
            f"example {example}: expected them in {folder} or its folders, such as "
            f"{folder / PurePosixPath(example).name}. pyskl's tools/data/README.md tells where to "
            "get them"
        )
    result: list[Entry | Compressed | LeftOut] = []
    for entry in entries:
        if not isinstance(entry, Compressed):
            result.append(entry)
        elif entry.raw_file in found:
            result.append(entry._replace(raw_file=str(found[entry.raw_file])))
        else:
            result.append(LeftOut(entry.id, "its kpfile is not there", entry.raw_file))
    return sorted(result, key=lambda e: e.raw_file if isinstance(e, Compressed) else "")


def read_skeletons(entry: Compressed) -> tuple[np.ndarray, np.ndarray]:
    """Read a recording: (M, T, 17, 2) pixels and (M, T, 17) scores; T frames with a skeleton."""
    document = _load(Path(entry.raw_file))
    item = document.get(entry.id) if isinstance(document, dict) else None
    points = item.get("keypoint") if isinstance(item, dict) else item
    if not isinstance(points, np.ndarray) or points.ndim != 3 or points.shape[2] != 3:
        raise ValueError(
            f"expected {Path(entry.raw_file).name} to have {entry.id}: 'keypoint' (N, 17, 3), "
            f"found {describe(points)}"
        )
    if len(points) != len(entry.frames):
        raise ValueError(f"'frame_inds' has {len(entry.frames)} numbers, 'keypoint' {points.shape}")
    numbers, frames = np.unique(entry.frames, return_inverse=True)
    if not len(numbers):
        raise ValueError("expected skeletons in some frame, found none")
    counts = np.bincount(frames)
    crowded = counts.max() > _PERSONS
    scores = points[..., 2].astype(np.float64).sum(axis=1)
    # By frame; within it the best first if there are too many anywhere, else as they come.
    order = np.lexsort((-scores * crowded, frames))  # stable
    place = np.arange(len(points)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = place < _PERSONS
    persons = min(_PERSONS, int(counts.max()))
    result = np.zeros((persons, len(numbers), *points.shape[1:]), points.dtype)
    result[place[kept], frames[order][kept]] = points[order][kept]
    return result[..., :2], result[..., 2]


@lru_cache(maxsize=1)  # recordings are ordered by their kpfile
def _load(path: Path) -> Any:
    return load_pickle(path)


def _find(folder: Path, raw_file: str) -> Path | None:
    parts = PurePosixPath(raw_file.replace("\\", "/").removeprefix("/")).parts
    for start in range(len(parts) if ".." not in parts else 0):
        path = folder.joinpath(*parts[start:])
        if path.is_file():
            return path
    return None
