"""Prepare one recording as the clips of a store were prepared, by the store's own record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msg3d_lab.data.formats.own.preparation import IN_IMAGES, RECORDED, Preparation
from msg3d_lab.data.preprocess import center_on, is_zero, prepare_kinetics, zero_unseen
from msg3d_lab.skeletons import Skeleton

# The names in a store's record, and what `Preparation` calls the same.
_NAMES = {recorded: name for name, recorded in RECORDED.items()}
_NAMES |= {"center": "center", "none": "none"}


class RecordedPreparation:
    """What was done to every clip of a store, for another recording.

    Args:
        record: `Store.preparation`.
        skeleton: the joint layout.
        channels: C of the prepared clips.

    Attributes:
        record: as given.
        scored: whether the last channel is a confidence score.
        dimensions: coordinates per joint, 2 or 3.
        bodies: how persons of raw NTU files were selected.
        needs_image_size: whether a recording comes in pixels and with the size of its images.

    Raises:
        ValueError: the clips were prepared by another program, which left only the result.
    """

    def __init__(self, record: Mapping[str, Any], *, skeleton: Skeleton, channels: int) -> None:
        self.record = dict(record)
        self.name = str(record.get("name"))
        self.skeleton = skeleton
        self.scored = bool(record.get("scored", False))
        self.dimensions = channels - self.scored
        self.needs_image_size = self.name == "kinetics" or _NAMES.get(self.name) in IN_IMAGES
        self.bodies = str(record.get("bodies", "denoise"))
        self._image_size = tuple(record["image_size"]) if "image_size" in record else None
        self._joint = record.get("joint")
        if self.name not in (*_NAMES, "center_on", "kinetics"):
            raise ValueError(
                f"the store was prepared by another program ({record.get('format', self.name)}), "
                "which cannot be repeated for one recording: train on a store that `msg3d-lab data "
                "import` made of the recordings themselves"
            )

    def has_person(self, keypoints: np.ndarray) -> bool:
        """Whether anybody is in any frame; joints that are NaN or zero were not seen."""
        points = zero_unseen(keypoints, self.dimensions)
        return not is_zero(points[..., : self.dimensions]).all()

    def __call__(
        self, keypoints: np.ndarray, *, image_size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Prepare a recording.

        Args:
            keypoints: coordinates as recorded. A score may follow them; without one, it is 1 for
                joints that were seen, where the network wants it.
            image_size: (height, width) in pixels. Default: the one in the record.

        Shapes:
            keypoints: (M, T, V, C) or (T, V, C) -> (M, T', V, channels) float32.

        Raises:
            ValueError: another shape, numbers that are not finite, nobody in any frame, or no image
                size where one is needed.
        """
        points = self._check(with_persons(keypoints))
        size = image_size or self._image_size
        if self.needs_image_size and size is None:
            raise ValueError(
                "the network was trained on coordinates in an image: give the size of yours, "
                "--image-size HEIGHT WIDTH (image_size=)"
            )
        if self.name == "center_on":
            return center_on(points, int(self._joint))  # type: ignore[arg-type]
        if self.name == "kinetics":
            clip = prepare_kinetics(points[..., :2], points[..., 2], size)  # type: ignore[arg-type]
            return clip.astype(np.float32)
        prepare = Preparation(
            _NAMES[self.name],
            self.skeleton,
            self.dimensions,
            self.scored,
            size if self.needs_image_size else None,
            longest_first=self.record.get("persons") == "longest first",
        )
        return prepare(points)

    def _check(self, points: np.ndarray) -> np.ndarray:
        joints, wanted = self.skeleton.num_joints, self.dimensions + self.scored
        _, _, found, channels = points.shape
        if found != joints or channels not in (self.dimensions, wanted):
            raise ValueError(
                f"expected a recording (persons, frames, {joints}, {wanted}) of layout "
                f"{self.skeleton.name}, found {points.shape}"
            )
        points = zero_unseen(points, self.dimensions)
        if np.isinf(points).any():
            raise ValueError(f"{int(np.isinf(points).sum())} coordinates are infinite")
        if not self.has_person(points):
            raise ValueError("nobody is in any frame: all coordinates are zero")
        if channels < wanted:
            seen = np.any(points, axis=-1, keepdims=True)
            points = np.concatenate([points, seen], axis=-1)
        return points


class PreparedClips:
    """Prepared recordings in memory, with what `Assembler` wants to know of a store.

    Args:
        clips: (M, T, V, C) each.
        skeleton: their joint layout.
        scored: whether the last channel is a confidence score.
    """

    def __init__(self, clips: Sequence[np.ndarray], *, skeleton: Skeleton, scored: bool) -> None:
        self.clips, self.skeleton, self.scored = clips, skeleton, scored
        self.channels = clips[0].shape[-1]
        self.dimensions = self.channels - scored
        self.persons = np.array([clip.shape[0] for clip in clips])
        self.frames = np.array([clip.shape[1] for clip in clips])

    def keypoints(self, i: int) -> np.ndarray:
        """Return clip `i`: (M, T, V, C) float32."""
        return self.clips[i]

    def read_into(self, out: np.ndarray, i: int) -> None:
        """Copy clip `i` into an array of as many numbers."""
        out[...] = self.clips[i].reshape(out.shape)


def with_persons(keypoints: np.ndarray) -> np.ndarray:
    """Return a recording of one person, (T, V, C), as (1, T, V, C); others as they are.

    Raises:
        ValueError: another number of dimensions, or a dimension of size 0.
    """
    keypoints = np.asarray(keypoints)
    if keypoints.ndim == 3:
        keypoints = keypoints[None]
    if keypoints.ndim != 4 or 0 in keypoints.shape or keypoints.dtype.kind not in "fiu":
        raise ValueError(
            "expected numbers (persons, frames, joints, channels), or without persons for one "
            f"person, found {keypoints.shape} of {keypoints.dtype}"
        )
    return keypoints.astype(np.float64)
