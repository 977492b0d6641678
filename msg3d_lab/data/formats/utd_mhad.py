"""Import UTD-MHAD from its folder or zip of MATLAB files.

One file per clip, `aA_sS_tT_skeleton.mat` (action 1 to 27, subject 1 to 8, trial 1 to 4), with the
variable `d_skel` (20 joints, 3 coordinates, T frames). Metres in the frame of a Kinect v1, which
stands in front of the performer: x to the performer's right, y up, z away from the camera. Nothing
is turned: every performer stands upright and faces the camera.

Subjects 1, 3, 5 and 7 are the training part, 2, 4, 6 and 8 the test part (`xsub`).

Source: Chen, Jafari and Kehtarnavaz, ICIP 2015; the axes were found in the 861 files.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip
from msg3d_lab.data.datasets import DATASETS, Dataset
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings, source_record
from msg3d_lab.data.formats.zip_or_folder import NamedFile, has_named, list_named, read_member
from msg3d_lab.data.preprocess import center_on

_NAME = re.compile(r"(a(\d{1,2})_s(\d)_t(\d))_skeleton\.mat")
_VARIABLE = "d_skel"
_ACTIONS, _SUBJECTS, _TRIALS = range(1, 28), range(1, 9), range(1, 5)
_CENTER = 2  # the spine, as for NW-UCLA


def read_clips(sources: Sequence[Path], *, dataset: Dataset) -> Recordings:
    """List the clips of folders and zips. Each is read and centred when it is asked for."""
    files, digest = list_named(sources, _NAME, title="UTD-MHAD", example="a1_s1_t1_skeleton.mat")
    record = source_record("UTD-MHAD skeletons", sources, digest)
    return Recordings(
        clips=LazyClips(files, _read),
        skeleton=skeletons.get("utd-mhad20"),
        preparation={"name": "center_on", "joint": _CENTER, **record},
    )


def _read(file: NamedFile) -> Clip:
    import scipy.io

    action, subject, trial = file.numbers
    if action not in _ACTIONS or subject not in _SUBJECTS or trial not in _TRIALS:
        raise ValueError(
            f"expected action 1 to 27, subject 1 to 8 and trial 1 to 4, found {file.id}"
        )
    content = io.BytesIO(read_member(file.member))
    try:
        # The stubs of SciPy know paths only.
        found = scipy.io.loadmat(content, variable_names=_VARIABLE)  # type: ignore[arg-type]
    except Exception as error:  # a damaged file may lead to any
        raise ValueError(f"not a MATLAB file of version 5, or damaged: {error}") from error
    joints = np.asarray(found.get(_VARIABLE))
    if joints.ndim != 3 or joints.shape[:2] != (20, 3) or not joints.shape[2]:
        raise ValueError(f"expected {_VARIABLE} (20, 3, frames), found {joints.shape}")
    return Clip(
        id=file.id,
        keypoints=center_on(joints.transpose(2, 0, 1)[None], _CENTER),
        label=action - 1,
        splits=("xsub_train" if subject % 2 else "xsub_val",),
        subject=subject,
    )


IMPORTER = Importer(
    title="UTD-MHAD's folder or zip of skeletons",
    datasets=(DATASETS["utd-mhad"],),
    is_source=lambda path: has_named(path, _NAME),
    read=read_clips,
)
