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
from msg3d_lab.data.preprocess import zero_unseen
from msg3d_lab.safe_pickle import load_npy
from msg3d_lab.skeletons import Skeleton

_CHANNELS = (2, 3, 4)
_HIGHEST_SCORE = 1.2  # pose estimators give a little more than 1 at times
_PROBED = 16  # arrays from which the number of channels is found


def open_folder(
    source: Path, layout: Skeleton
) -> tuple[LazyClips[Member], int | None, tuple[float, float] | None]:
    """List the arrays of a folder or zip.

    Returns:
        The clips, without a label (-1); the number of channels; and the smallest and largest number
        of the third channel, if they are like scores (0 to 1, or a little more), else None. The
        first 16 arrays that can be used say so. The number of channels is their most frequent one,
        None if none can be used.

    Raises:
        ValueError: there are no .npy files, or it is a damaged zip.
    """
    members = list_members([source], suffix=".npy")
    if not members:
        raise ValueError(
            f"{source} holds no .npy and no .csv files: expected one for each sample, or a table "
            "in CSV or Parquet"
        )
    entries: list[Member | LeftOut] = []
    for before, member in zip([None, *members], members, strict=False):
        twice = before is not None and before.id == member.id
        entries.append(LeftOut(member.id, faults.DUPLICATE, member.name) if twice else member)
    probe = LazyClips(entries, partial(_read, layout=layout, channels=None))
    usable = (clip for clip in probe if isinstance(clip, Clip))
    probed = list(islice(usable, _PROBED))
    counts = Counter(clip.keypoints.shape[-1] for clip in probed)
    channels = counts.most_common(1)[0][0] if counts else None
    third = None
    if channels is not None and channels > 2:
        alike = [clip.keypoints[..., 2] for clip in probed if clip.keypoints.shape[-1] == channels]
        low, high = float(min(map(np.min, alike))), float(max(map(np.max, alike)))
        third = (low, high) if 0 <= low < high <= _HIGHEST_SCORE else None
    return LazyClips(entries, partial(_read, layout=layout, channels=channels)), channels, third


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
    if keypoints.dtype.kind == "f":
        keypoints = zero_unseen(keypoints, 2 if C == 2 else 3)
    lost = ~(np.abs(keypoints.astype(np.float64)) <= faults.LARGEST)
    if lost.any():
        person, frame, joint, _ = np.argwhere(lost)[0]
        where = f"person {person}, frame {frame}, joint {layout.joints[joint]}"
        return LeftOut(name, faults.FINITE, f"{np.count_nonzero(lost)} numbers, e.g. {where}")
    return Clip(name, keypoints, label=-1)
