"""Import of OpenMMLab's annotation pickles: NTU RGB+D 60 and 120, in 2D and 3D.

The format is described in mmaction2 (`tools/data/skeleton/README.md`): a dict with `split`
(name -> list of `frame_dir`) and `annotations` (a list of dicts, one per recording).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip
from msg3d_lab.data.datasets import Dataset, parse_ntu_name
from msg3d_lab.data.preprocess import prepare_2d, prepare_3d
from msg3d_lab.data.recordings import Recordings, digest
from msg3d_lab.data.safe_pickle import load_pickle
from msg3d_lab.skeletons import Skeleton

__all__ = ["read_clips"]

_LAYOUTS = {(17, 2): "coco17", (25, 3): "ntu25"}  # joints and coordinates tell the layout


def read_clips(path: str | Path, *, dataset: Dataset) -> Recordings:
    """Read an annotation pickle; the coordinates are prepared when the clips are asked for.

    Recordings in which nobody was found are left out and named in `preparation["left_out"]`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the pickle is refused or damaged (see `load_pickle`), is not such a file, or has
            joints that the data set does not have.
    """
    path = Path(path)
    document = load_pickle(path)
    if not isinstance(document, dict) or not {"split", "annotations"} <= set(document):
        raise ValueError(
            f"{path} is not an OpenMMLab annotation file: expected a dict with 'split' and "
            f"'annotations'"
        )
    annotations, split = document["annotations"], document["split"]
    if not isinstance(annotations, list) or not annotations or not isinstance(split, dict):
        raise ValueError(f"{path}: expected a list of annotations and a dict of splits")
    for number, annotation in enumerate(annotations):
        _check(annotation, f"{path}, annotation {number}")
    joints, coordinates = annotations[0]["keypoint"].shape[2:]
    layout = _LAYOUTS.get((joints, coordinates))
    if layout is None or layout not in dataset.layouts:
        raise ValueError(
            f"{path} has {joints} joints with {coordinates} coordinates each: expected "
            f"{' or '.join(f'{v} with {c} ({name})' for (v, c), name in _LAYOUTS.items())}, and of "
            f"these one that {dataset.name} comes in: {', '.join(dataset.layouts)}"
        )
    skeleton = skeletons.get(layout)
    members: dict[str, list[str]] = {}
    for name, ids in split.items():
        for clip_id in ids:
            members.setdefault(str(clip_id), []).append(str(name))
    left_out = [a["frame_dir"] for a in annotations if np.isclose(a["keypoint"], 0).all()]
    kept = [a for a in annotations if a["frame_dir"] not in set(left_out)]
    preparation = {
        "name": "prepare_2d" if layout == "coco17" else "prepare_3d",
        "scored": layout == "coco17",
        "format": "OpenMMLab annotations",
        "source": path.name,
        "sha256": digest(path),
        "left_out": left_out,
    }

    def clips() -> Iterator[Clip]:
        for annotation in kept:
            yield _clip(annotation, skeleton, tuple(members.get(annotation["frame_dir"], ())))

    return Recordings(clips(), len(kept), skeleton, 3, preparation)


def _check(annotation: Any, where: str) -> None:
    """Check what `_clip` relies on."""
    if not isinstance(annotation, dict) or not isinstance(annotation.get("frame_dir"), str):
        raise ValueError(f"{where}: expected a dict with 'frame_dir', a text")
    where = f"{where} ({annotation['frame_dir']})"
    if not isinstance(annotation.get("label"), (int, np.integer)):
        raise ValueError(f"{where}: expected a whole number 'label'")
    keypoint = annotation.get("keypoint")
    if not isinstance(keypoint, np.ndarray) or keypoint.ndim != 4 or keypoint.dtype.kind != "f":
        raise ValueError(f"{where}: expected an array 'keypoint' (persons, frames, joints, 2 or 3)")
    frames = annotation.get("total_frames", keypoint.shape[1])
    if frames != keypoint.shape[1]:
        raise ValueError(f"{where}: 'total_frames' is {frames}, 'keypoint' is {keypoint.shape}")
    if keypoint.shape[3] == 2:
        score = annotation.get("keypoint_score")
        if not isinstance(score, np.ndarray) or score.shape != keypoint.shape[:3]:
            raise ValueError(f"{where}: expected 'keypoint_score' {keypoint.shape[:3]} for 2D")
        size = annotation.get("img_shape")
        if not isinstance(size, (tuple, list)) or len(size) != 2:
            raise ValueError(f"{where}: expected 'img_shape' (height, width) for 2D, found {size}")


def _clip(annotation: dict[str, Any], skeleton: Skeleton, splits: tuple[str, ...]) -> Clip:
    clip_id, keypoint = annotation["frame_dir"], annotation["keypoint"]
    try:
        if keypoint.shape[3] == 2:
            height, width = annotation["img_shape"]
            prepared = prepare_2d(keypoint, annotation["keypoint_score"], (height, width))
        else:
            prepared = prepare_3d(keypoint.astype(np.float32), skeleton)
    except ValueError as error:
        raise ValueError(f"clip {clip_id}: {error}") from error
    numbers = parse_ntu_name(clip_id)
    return Clip(
        id=clip_id,
        keypoints=prepared,
        label=int(annotation["label"]),
        splits=splits,
        subject=numbers.subject if numbers else None,
        camera=numbers.camera if numbers else None,
        setup=numbers.setup if numbers else None,
    )
