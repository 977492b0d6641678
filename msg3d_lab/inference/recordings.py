"""Read recordings to predict from the files that people have.

- `.skeleton`: NTU RGB+D's text files; persons are selected as for the training data.
- `.npy`: (M, T, V, C), or (T, V, C) for one person.
- long table, CSV or Parquet: see `docs/data/own-skeletons.md`; several samples in one file.
- wide table, CSV or Parquet: a row per frame, with columns such as `nose_x`, `nose_y`,
  `nose_visibility` or `x0`, `y0`, `z0`, `v0`; so MediaPipe's landmarks are usually kept.
- JSON: NW-UCLA's clips (`skeletons`), Kinetics-Skeleton's clips (`data`), MediaPipe's landmarks (a
  list of frames).
- a folder of JSON files, one per frame: OpenPose's `..._keypoints.json` or MediaPipe's landmarks.
- `.pkl`: OpenMMLab's annotations, one or a whole file of them.

Sources: OpenPose `doc/02_output.md` (BODY_25 and COCO orders, `pose_keypoints_2d` of x, y, score);
MediaPipe's Pose Landmarker (33 landmarks with x, y, z, visibility).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.clips import LeftOut
from msg3d_lab.data.formats.ntu.raw import read_ntu_skeleton
from msg3d_lab.data.formats.openmmlab.annotation import Entry, read_annotation
from msg3d_lab.data.formats.own.table import RecordingTable
from msg3d_lab.safe_pickle import load_npy, load_pickle
from msg3d_lab.skeletons import Skeleton

# OpenPose's BODY_25 has a joint between the hips, and feet, that COCO's order has not.
_BODY_25 = (*range(8), *range(9, 15), 15, 16, 17, 18)


@dataclass(frozen=True)
class Recording:
    """A recording as it was found in a file.

    Args:
        id: its name.
        keypoints: (M, T, V, C) float64.
        image_size: (height, width) in pixels, where the file says it.
    """

    id: str
    keypoints: np.ndarray
    image_size: tuple[int, int] | None = None


def read_recordings(
    path: str | Path, *, skeleton: Skeleton, num_persons: int = 2, bodies: str = "denoise"
) -> Iterator[Recording]:
    """Yield the recordings of a file or a folder of frames.

    Args:
        path: a file of one of the formats above, or a folder of JSON files.
        skeleton: the joint layout that the recordings have.
        num_persons: persons that are kept of a frame of OpenPose: those with the highest scores.
        bodies: how persons of `.skeleton` files are selected: "denoise" or "energy".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file of no known format, or one that is damaged or has other joints.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    suffix = path.suffix.lower()
    if path.is_dir():
        yield _read_frames_folder(path, skeleton, num_persons)
    elif suffix == ".skeleton":
        if skeleton.num_joints != 25:
            raise ValueError(f"{path} has 25 joints, the network wants {_wanted(skeleton)}")
        yield Recording(path.stem, read_ntu_skeleton(path, bodies=bodies).astype(np.float64))
    elif suffix == ".npy":
        yield Recording(path.stem, load_npy(path))
    elif suffix == ".json":
        yield _read_json(path, skeleton, num_persons)
    elif suffix in (".pkl", ".pickle"):
        yield from _read_annotations(path)
    elif suffix in (".csv", ".parquet"):
        yield from _read_table(path, skeleton)
    else:
        raise ValueError(
            f"{path} is of no format that can be predicted: expected .skeleton, .npy, .csv, "
            ".parquet, .json, .pkl or a folder of JSON files"
        )


def read_frame(document: Any, skeleton: Skeleton, *, num_persons: int = 2) -> np.ndarray:
    """Read one frame of JSON: (M, V, C) float64; zeros for persons who are absent.

    Args:
        document: numbers (V, C) or (M, V, C); OpenPose's dict with `people`; or MediaPipe's
            landmarks, a list of dicts with x, y, z and visibility (or a dict that holds one).
        skeleton: the joint layout.
        num_persons: M.

    Raises:
        ValueError: none of these, or other joints than the layout's.
    """
    if isinstance(document, Mapping) and "people" in document:
        persons = [_openpose_person(person, skeleton) for person in document["people"]]
        persons.sort(key=lambda joints: -joints[:, 2].sum())
    else:
        persons = [_one_person(joints, skeleton) for joints in _list_persons(document)]
    found = np.zeros((num_persons, skeleton.num_joints, persons[0].shape[1] if persons else 3))
    for m, joints in enumerate(persons[:num_persons]):
        found[m] = joints
    return found


def _wanted(skeleton: Skeleton) -> str:
    return f"the {skeleton.num_joints} joints of {skeleton.name}"


def _list_persons(document: Any) -> Sequence[Any]:
    """The persons of a frame: each a list of joints."""
    if isinstance(document, Mapping):
        for name in ("pose_landmarks", "poseLandmarks", "landmarks", "keypoints"):
            if name in document:
                return _list_persons(document[name])
        raise ValueError(
            "expected a frame with 'people' (OpenPose), 'pose_landmarks' (MediaPipe) or "
            f"'keypoints', found {', '.join(map(str, document))!s:.100}"
        )
    if not isinstance(document, Sequence) or isinstance(document, str):
        raise ValueError(f"expected the joints of a frame, found {document!r:.60}")
    if not document:
        return []
    first = document[0]
    nested = isinstance(first, Sequence) and bool(first) and not isinstance(first[0], (int, float))
    return document if nested else [document]


def _one_person(joints: Any, skeleton: Skeleton) -> np.ndarray:
    try:
        if joints and isinstance(joints[0], Mapping):
            rows = []
            for joint in joints:
                score = joint.get("visibility", joint.get("score"))
                axes = [joint[axis] for axis in ("x", "y", "z") if axis in joint]
                rows.append([*axes, *([] if score is None else [score])])
        else:
            rows = joints
        values = np.array(rows, dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected numbers for each joint ({error})") from error
    if values.ndim != 2 or len(values) != skeleton.num_joints:
        raise ValueError(f"expected {_wanted(skeleton)}, found {values.shape}")
    return values


def _openpose_person(person: Any, skeleton: Skeleton) -> np.ndarray:
    try:
        values = np.array(person["pose_keypoints_2d"], dtype=np.float64).reshape(-1, 3)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected 'pose_keypoints_2d' with x, y and score of each joint ({error})"
        ) from error
    if len(values) == 25:
        values = values[list(_BODY_25)]
    if len(values) != 18:
        raise ValueError(f"expected 18 or 25 joints of OpenPose, found {len(values)}")
    names = skeletons.get("openpose18").joints
    missing = [name for name in skeleton.joints if name not in names]
    if missing:
        raise ValueError(
            f"OpenPose has no joint {missing[0]!r}: the network wants {_wanted(skeleton)}"
        )
    return values[[names.index(name) for name in skeleton.joints]]


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _read_json(path: Path, skeleton: Skeleton, num_persons: int) -> Recording:
    document = _load_json(path)
    try:
        if isinstance(document, Mapping) and "skeletons" in document:  # NW-UCLA
            return Recording(path.stem, np.array(document["skeletons"], dtype=np.float64)[None])
        if isinstance(document, Mapping) and "data" in document:  # Kinetics-Skeleton
            frames = [
                {
                    "people": [
                        {"pose_keypoints_2d": _interleaved(person)} for person in frame["skeleton"]
                    ]
                }
                for frame in document["data"]
            ]
            # Coordinates are in image widths and heights.
            keypoints = _stacked(frames, skeleton, num_persons)
            return Recording(path.stem, keypoints, image_size=(1, 1))
        frames = document.get("frames", [document]) if isinstance(document, Mapping) else document
        return Recording(path.stem, _stacked(frames, skeleton, num_persons))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _interleaved(person: Mapping[str, Any]) -> list[float]:
    xy = np.array(person["pose"], dtype=np.float64).reshape(-1, 2)
    values = np.column_stack([xy, person["score"]]).ravel()
    return list(values)


def _stacked(frames: Sequence[Any], skeleton: Skeleton, num_persons: int) -> np.ndarray:
    """(M, T, V, C) of frames; one without anybody is zeros."""
    if not isinstance(frames, Sequence) or isinstance(frames, str) or not frames:
        raise ValueError("expected a list of frames")
    read = []
    for t, frame in enumerate(frames):
        try:
            read.append(read_frame(frame, skeleton, num_persons=num_persons))
        except ValueError as error:
            raise ValueError(f"frame {t}: {error}") from error
    seen = [joints for joints in read if joints.any()]
    channels = seen[0].shape[-1] if seen else 3
    if any(joints.shape[-1] != channels for joints in seen):
        raise ValueError("the frames have different numbers of channels")
    clip = np.zeros((len(read), num_persons, skeleton.num_joints, channels))
    for t, joints in enumerate(read):
        if joints.any():
            clip[t] = joints
    persons = max(1, int(clip.any(axis=(0, 2, 3)).sum()))
    return clip.swapaxes(0, 1)[:persons]


def _read_frames_folder(path: Path, skeleton: Skeleton, num_persons: int) -> Recording:
    files = sorted(path.glob("*.json"), key=_by_number)
    if not files:
        raise ValueError(f"{path} holds no JSON files: expected one for each frame")
    try:
        frames = [_load_json(file) for file in files]
        return Recording(path.name, _stacked(frames, skeleton, num_persons))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _by_number(path: Path) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", path.stem)], path.name


def _read_annotations(path: Path) -> Iterator[Recording]:
    document = load_pickle(path)
    annotations = (
        document.get("annotations", [document]) if isinstance(document, dict) else document
    )
    if not isinstance(annotations, list):
        raise ValueError(f"{path}: expected an OpenMMLab annotation, or a list or dict of them")
    for i, annotation in enumerate(annotations):
        named = annotation
        if isinstance(annotation, dict):  # neither is needed for a prediction
            named = {"frame_dir": f"{path.stem}-{i}", **annotation, "label": 0}
        entry = read_annotation(named, f"annotation {i}", {})
        if not isinstance(entry, Entry):
            wrong = entry.detail if isinstance(entry, LeftOut) else "no 'keypoint'"
            raise ValueError(f"{path}, {entry.id}: {wrong}")
        keypoint = entry.keypoint
        if entry.score is not None:
            keypoint = np.concatenate([keypoint, entry.score[..., None]], axis=-1)
        yield Recording(entry.id, keypoint, entry.size)


def _read_table(path: Path, skeleton: Skeleton) -> Iterator[Recording]:
    for entry in RecordingTable(path, skeleton).samples():
        if isinstance(entry, LeftOut):
            raise ValueError(f"{path}, {entry.id}: {entry.reason} ({entry.detail})")
        yield Recording(entry.id, entry.keypoints)
