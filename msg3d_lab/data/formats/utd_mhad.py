"""Import UTD-MHAD from its folder or zip of MATLAB files.

One file per clip, `aA_sS_tT_skeleton.mat` (action 1 to 27, subject 1 to 8, trial 1 to 4), with the
variable `d_skel` (20 joints, 3 coordinates, T frames). Metres in the frame of a Kinect v1, which
stands in front of the performer: x to the performer's right, y up, z away from the camera. Nothing
is turned: every performer stands upright and faces the camera.

Source: Chen, Jafari and Kehtarnavaz, ICIP 2015; the axes were found in the 861 files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip
from msg3d_lab.data.datasets import DATASETS, Dataset, utd_mhad_splits
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings, source_record
from msg3d_lab.data.formats.matlab import read_array
from msg3d_lab.data.formats.zip_or_folder import (
    Member,
    digest_members,
    has_members,
    list_members,
    read_member,
)
from msg3d_lab.data.preprocess import center_on

_NAME = re.compile(r"(a(\d{1,2})_s(\d)_t(\d))_skeleton")
_VARIABLE = "d_skel"
_ACTIONS, _SUBJECTS, _TRIALS = range(1, 28), range(1, 9), range(1, 5)
_CENTER = 2  # the spine, as for NW-UCLA
_LARGEST_FILE = 1 << 18  # bytes; those of the data set have up to 30,000


class _Recording(NamedTuple):
    id: str
    member: Member


def _is_source(path: Path) -> bool:
    return has_members(path, _is_clip)


def _is_clip(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix == ".mat" and _NAME.fullmatch(path.stem) is not None


def read_clips(sources: Sequence[Path], *, dataset: Dataset) -> Recordings:
    """List the clips of folders and zips. Each is read and centred when it is asked for.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: not a zip, or no clips in it.
    """
    members = [m for m in list_members(sources, suffix=".mat") if _is_clip(m.name)]
    if not members:
        raise ValueError(
            f"{sources[0]} has no UTD-MHAD clips: expected files such as a1_s1_t1_skeleton.mat"
        )
    record = source_record("UTD-MHAD skeletons", sources, digest_members(members))
    return Recordings(
        clips=LazyClips([_Recording(m.id.removesuffix("_skeleton"), m) for m in members], _read),
        skeleton=skeletons.get("utd-mhad20"),
        preparation={"name": "center_on", "joint": _CENTER, **record},
    )


def _read(recording: _Recording) -> Clip:
    match = _NAME.fullmatch(recording.member.id)
    action, subject, trial = map(int, match.groups()[1:]) if match else (0, 0, 0)
    if action not in _ACTIONS or subject not in _SUBJECTS or trial not in _TRIALS:
        raise ValueError(
            f"expected action 1 to 27, subject 1 to 8 and trial 1 to 4, found {recording.id}"
        )
    joints = _joints(read_member(recording.member, limit=_LARGEST_FILE))
    return Clip(
        id=recording.id,
        keypoints=center_on(joints[None], _CENTER),
        label=action - 1,
        splits=utd_mhad_splits(subject),
        subject=subject,
    )


def _joints(content: bytes) -> np.ndarray:
    """Read a MATLAB file's joints: (20, 3, T) in the file -> (T, 20, 3)."""
    joints = read_array(content, _VARIABLE)
    if joints.ndim != 3 or joints.shape[:2] != (20, 3) or not joints.shape[2]:
        raise ValueError(f"expected {_VARIABLE} (20, 3, frames), found {joints.shape}")
    return joints.transpose(2, 0, 1)


IMPORTER = Importer(
    title="UTD-MHAD's folder or zip of skeletons",
    datasets=(DATASETS["utd-mhad"],),
    is_source=_is_source,
    read=read_clips,
)
