"""Read your own recordings from `.npy` files in a folder or zip.

One file per sample: (M, T, V, C), or (T, V, C) for one person.
"""

from __future__ import annotations

import io
from collections import Counter
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.importer import LazyClips
from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.formats.zip_or_folder import Member, list_members, read_member
from msg3d_lab.safe_pickle import load_npy
from msg3d_lab.skeletons import Skeleton

__all__ = ["open_folder"]

_CHANNELS = (2, 3, 4)
_PROBED = 16  # arrays from which the number of channels is found


def open_folder(source: Path, layout: Skeleton) -> tuple[LazyClips[Member], int | None]:
    """List the arrays of a folder or zip.

    Returns:
        The clips, without a label (-1), and the number of channels. This is the most frequent one
        of the first 16 arrays that can be used; None if none can.

    Raises:
        ValueError: there are no .npy files, or it is a damaged zip.
    """
    members = list_members([source], suffix=".npy")
    if not members:
        raise ValueError(
            f"{source} holds no .npy files: expected one for each sample, or a table in CSV or "
            "Parquet"
        )
    entries: list[Member | LeftOut] = []
    for before, member in zip([None, *members], members, strict=False):
        twice = before is not None and before.id == member.id
        entries.append(LeftOut(member.id, faults.DUPLICATE, member.name) if twice else member)
    probe = LazyClips(entries, partial(_read, layout=layout, channels=None))
    usable = (clip for clip in probe if isinstance(clip, Clip))
    counts = Counter(clip.keypoints.shape[-1] for clip in islice(usable, _PROBED))
    channels = counts.most_common(1)[0][0] if counts else None
    return LazyClips(entries, partial(_read, layout=layout, channels=channels)), channels


def _read(member: Member, *, layout: Skeleton, channels: int | None) -> Clip | LeftOut:
    name, array = member.id, load_npy(io.BytesIO(read_member(member)))
    shape = array.shape
    keypoints = array[None] if array.ndim == 3 else array
    if array.dtype.kind not in "fiu":
        return LeftOut(name, faults.SHAPE, f"its values are {array.dtype}, not numbers")
    expected = f"expected (M, T, {layout.num_joints}, {channels or '2 to 4'}), found {shape}"
    if keypoints.ndim != 4 or 0 in shape:
        return LeftOut(name, faults.SHAPE, expected)
    *_, V, C = keypoints.shape
    if array.ndim == 4 and shape[0] in _CHANNELS and layout.num_joints == V and C == 1:
        return LeftOut(name, faults.SHAPE, f"{expected}: looks like (C, T, V, M); transpose it")
    if layout.num_joints != V:
        detail = f"{V} joints in {shape}, {layout.name} has {layout.num_joints}"
        return LeftOut(name, faults.JOINTS, detail)
    if C not in (_CHANNELS if channels is None else (channels,)):
        return LeftOut(name, faults.SHAPE, expected)
    lost = ~(np.abs(keypoints.astype(np.float64)) <= faults.LARGEST)
    if lost.any():
        person, frame, joint, _ = np.argwhere(lost)[0]
        where = f"person {person}, frame {frame}, joint {layout.joints[joint]}"
        return LeftOut(name, faults.FINITE, f"{np.count_nonzero(lost)} numbers, e.g. {where}")
    return Clip(name, keypoints, label=-1)
