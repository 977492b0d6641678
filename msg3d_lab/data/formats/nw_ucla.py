"""Import Northwestern-UCLA from `all_sqe`, a folder or zip of JSON files.

One file per clip, `aXX_sYY_eZZ_vWW.json` (action, subject, repetition, view), with `skeletons`
(T, 20, 3) and `label` 1 to 10. Views 1 and 2 are the training part, view 3 is the test part
(`xview`). To develop without looking at view 3, `view1to2` trains on view 1 and tests on view 2,
and `view2to1` the other way round.

Sources: Wang et al., CVPR 2014; files and protocol as in CTR-GCN (`feeders/feeder_ucla.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip
from msg3d_lab.data.datasets import DATASETS, Dataset
from msg3d_lab.data.formats.importer import Importer, LazyClips, Recordings, source_record
from msg3d_lab.data.formats.own.options import NOTHING, OwnData
from msg3d_lab.data.formats.zip_or_folder import NamedFile, has_named, list_named, read_member
from msg3d_lab.data.preprocess import center_on, prepare_3d
from msg3d_lab.skeletons import Skeleton

_NAME = re.compile(r"(a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d))\.json")
_ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)  # in the order of the labels
# Views to train on and to test on.
_PROTOCOLS = {"xview": ((1, 2), (3,)), "view1to2": ((1,), (2,)), "view2to1": ((2,), (1,))}
_CENTER = 1  # the spine, as in CTR-GCN


def read_clips(sources: Sequence[Path], *, dataset: Dataset, own: OwnData = NOTHING) -> Recordings:
    """List the clips of folders and zips. Each is read and prepared when it is asked for.

    The preparation of `own` is "center" (the spine of the first frame becomes the origin, as in the
    field; the default) or "align" (`prepare_3d`: also turned to the body).
    """
    prepare = own.prepare or "center"
    if prepare not in ("center", "align"):
        raise ValueError(f"expected a preparation center or align of NW-UCLA, found {prepare!r}")
    files, digest = list_named(sources, _NAME, title="NW-UCLA", example="a01_s01_e00_v01.json")
    aligned = skeletons.get("nw-ucla20") if prepare == "align" else None
    done = {"name": "prepare_3d"} if aligned else {"name": "center_on", "joint": _CENTER}
    return Recordings(
        clips=LazyClips(files, partial(_read, aligned=aligned)),
        skeleton=skeletons.get("nw-ucla20"),
        preparation=done | source_record("NW-UCLA all_sqe", sources, digest),
    )


def _read(file: NamedFile, *, aligned: Skeleton | None) -> Clip:
    document = json.loads(read_member(file.member))
    if not isinstance(document, dict) or "skeletons" not in document:
        raise ValueError("expected a JSON object with 'skeletons'")
    action, subject, _, view = file.numbers
    if action not in _ACTIONS or view not in (1, 2, 3):
        raise ValueError(f"expected an action of {_ACTIONS} and a view 1 to 3, found {file.id}")
    splits = [
        f"{name}_{half}"
        for name, views in _PROTOCOLS.items()
        for half, own in zip(("train", "val"), views, strict=True)
        if view in own
    ]
    label = _ACTIONS.index(action)
    if document.get("label", label + 1) != label + 1:
        raise ValueError(f"'label' is {document['label']}, action {action} has label {label + 1}")
    joints = np.array(document["skeletons"], dtype=np.float64)
    if joints.ndim != 3 or joints.shape[1:] != (20, 3) or not len(joints):
        raise ValueError(f"expected 'skeletons' (frames, 20, 3), found {joints.shape}")
    return Clip(
        id=file.id,
        keypoints=prepare_3d(joints[None], aligned)
        if aligned
        else center_on(joints[None], _CENTER),
        label=label,
        splits=tuple(splits),
        subject=subject,
        camera=view,
    )


IMPORTER = Importer(
    title="NW-UCLA's all_sqe folder or zip",
    datasets=(DATASETS["nw-ucla"],),
    is_source=lambda path: has_named(path, _NAME),
    read=read_clips,
    options=("prepare",),
    version=2,
)
