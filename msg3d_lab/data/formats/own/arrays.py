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
from msg3d_lab.data.formats.own.options import OwnData, is_flat
from msg3d_lab.data.formats.own.source import Source, leave_out_duplicates
from msg3d_lab.data.formats.zip_or_folder import Member, list_members, read_member
from msg3d_lab.data.preprocess import zero_unseen
from msg3d_lab.safe_pickle import load_npy
from msg3d_lab.skeletons import Skeleton

_CHANNELS = (2, 3, 4)
_NAMED_CHANNELS = ("x,y", "x,y,z", "x,y,score", "x,y,z,score")
_HIGHEST_SCORE = 1.2  # pose estimators give a little more than 1 at times
_PROBED = 16  # arrays from which the number of channels is found
FORMAT = "folder of .npy"


class ChannelsError(ValueError):
    """The number of channels does not say what they are."""


def open_folder(source: Path, layout: Skeleton, own: OwnData) -> Source:
    """List the arrays of a folder or zip.

    The number of channels is the most frequent one of the first 16 arrays that can be used.

    Args:
        source: the folder or zip.
        layout: the joints.
        own: what its channels are: "x,y", "x,y,z", "x,y,score" or "x,y,z,score". Default: by their
            number. 2 are x, y; 3 are x, y, z, or x, y, score if there is an image size; 4 are x, y,
            z, score.
    """
    members = list_members([source], suffix=".npy")
    if not members:
        raise ValueError(
            f"{source} holds no .npy and no .csv files: expected one for each sample, or a table "
            "in CSV or Parquet; text files of PKU-MMD need the folder of their labels (--labels)"
        )
    entries = leave_out_duplicates(members)
    probe = LazyClips(entries, partial(_read, layout=layout, channels=None))
    probed = [*islice((clip for clip in probe if isinstance(clip, Clip)), _PROBED)]
    counts = Counter(clip.keypoints.shape[-1] for clip in probed)
    count = counts.most_common(1)[0][0] if counts else None
    clips = LazyClips(entries, partial(_read, layout=layout, channels=count))
    if count is None:
        return Source(clips, None, False, FORMAT)
    if own.channels is not None:
        named = own.channels.split(",")
        if own.channels not in _NAMED_CHANNELS:
            expected = " or ".join(_NAMED_CHANNELS)
            raise ValueError(f"expected channels {expected}, found {own.channels!r}")
        if len(named) != count:
            raise ValueError(
                f"channels {own.channels} are {len(named)}, the arrays in {source} have {count}"
            )
        scored = named[-1] == "score"
    else:
        scored = count == 4 or (count == 3 and own.image_size is not None)
        if count == 3 and not scored and is_flat(layout):
            third = [c.keypoints[..., 2] for c in probed if c.keypoints.shape[-1] == count]
            low, high = min(float(z.min()) for z in third), max(float(z.max()) for z in third)
            if 0 <= low < high <= _HIGHEST_SCORE:
                raise ChannelsError(
                    f"the third channel of the arrays in {source} is {low:.3g} to {high:.3g}, like "
                    f"a score, and {layout.name} is found in images: say what it is, with "
                    "--channels x,y,score or --channels x,y,z (channels=)"
                )
    return Source(clips, count - scored, scored, FORMAT)


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
