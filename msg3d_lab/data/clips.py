"""Clips, recordings that are left out, and the check that every clip of a store passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Clip:
    """One recording of one action.

    Args:
        id: unique in its data set, e.g. "S001C001P001R001A001".
        keypoints: (M, T, V, C) float32. In 3D, a person who is absent in a frame is zeros. In
            prepared 2D clips, a joint that was not found is (-1, -1) with score 0.
        label: class number, 0-based.
        splits: the splits this clip belongs to, e.g. ("xsub_train", "xview_val").
        subject: number of the performer, if known.
        camera: number of the camera or view, if known.
        setup: number of the camera setup, if known.
    """

    id: str
    keypoints: np.ndarray
    label: int
    splits: tuple[str, ...] = ()
    subject: int | None = None
    camera: int | None = None
    setup: int | None = None


@dataclass(frozen=True)
class LeftOut:
    """A recording that was left out, and why.

    Args:
        id: the recording's name.
        reason: a few words, the same for all recordings with this problem.
        detail: details of this recording.
    """

    id: str
    reason: str
    detail: str = ""


def check_clip(clip: Clip, *, num_joints: int, channels: int, num_classes: int) -> None:
    """Check that a clip fits its data set."""
    shape = clip.keypoints.shape
    if len(shape) != 4 or shape[2:] != (num_joints, channels) or 0 in shape:
        raise ValueError(
            f"clip {clip.id}: expected keypoints (M, T, {num_joints}, {channels}) with at least "
            f"one person and frame, found {shape}"
        )
    if not np.isfinite(clip.keypoints).all():
        count = int((~np.isfinite(clip.keypoints)).sum())
        raise ValueError(f"clip {clip.id}: {count} coordinates are NaN or infinite")
    if not 0 <= clip.label < num_classes:
        raise ValueError(f"clip {clip.id}: label {clip.label} is outside 0..{num_classes - 1}")


def checked_clips(
    entries: Iterable[Clip | LeftOut], document: Mapping[str, Any], *, leave_out: bool
) -> Iterator[Clip | LeftOut]:
    """Yield clips that fit their store, and whose ids differ.

    Args:
        entries: clips, and recordings that were left out before, which are passed on.
        document: of the store, see `store_document`.
        leave_out: whether a clip that does not fit, or whose id occurred before, is left out with
            the reason. Otherwise it raises ValueError.
    """
    num_joints, channels = len(document["skeleton"]["joints"]), document["channels"]
    num_classes = len(document["label_names"])
    seen: set[str] = set()
    for entry in entries:
        if isinstance(entry, LeftOut):
            yield entry
            continue
        try:
            check_clip(entry, num_joints=num_joints, channels=channels, num_classes=num_classes)
        except ValueError as error:
            if not leave_out:
                raise
            yield LeftOut(entry.id, "cannot be used", str(error).removeprefix(f"clip {entry.id}: "))
            continue
        if entry.id not in seen:
            seen.add(entry.id)
            yield entry
        elif leave_out:
            yield LeftOut(entry.id, "occurs twice")
        else:
            raise ValueError(f"clip id {entry.id!r} occurs twice: ids must be unique")
