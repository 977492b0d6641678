"""What the joints and channels of padded arrays are, and what is done to the clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msg3d_lab.data.formats.own.options import OwnData, choose_layout, is_flat
from msg3d_lab.data.formats.own.preparation import Preparation
from msg3d_lab.skeletons import Skeleton

MAX_FRAMES = 10_000  # the field's arrays have 300


@dataclass(frozen=True)
class ArrayPlan:
    """The layout of recordings in padded arrays, and what is done to them."""

    layout: Skeleton  # the joints
    channels: int  # numbers per joint in the arrays
    prepared_channels: int  # numbers per joint after the preparation
    prepare: Callable[[np.ndarray], np.ndarray]  # prepares a clip (M, T, V, C)
    record: Mapping[str, Any]  # what a store records of that
    notes: tuple[str, ...] = ()  # what had to be assumed


def as_float32(clip: np.ndarray) -> np.ndarray:
    """Leave the coordinates as they are."""
    return np.ascontiguousarray(clip, dtype=np.float32)


def plan_arrays(own: OwnData, *, joints: int, channels: int, where: Path) -> ArrayPlan:
    """Choose layout and preparation of own arrays.

    Default of the preparation: "image" with an image size, else nothing, since arrays of these
    formats are usually prepared already. In a 2D layout, or with an image size, the third channel
    is a score.
    """
    if channels not in (2, 3):
        raise ValueError(f"{where}: expected 2 or 3 numbers per joint, found {channels}")
    flat = channels == 2 or joints in (17, 18)
    layout, notes = choose_layout(own, joints=joints, flat=flat, where=where)
    scored = channels == 3 and (is_flat(layout) or own.image_size is not None)
    if scored:
        notes += ("3 numbers per joint, taken as x, y, score",)
    if own.prepare is None and own.image_size is None:
        record = {"name": "arrays", "scored": scored}
        return ArrayPlan(layout, channels, channels, as_float32, record, notes)
    plan = Preparation(own.prepare or "image", layout, channels - scored, scored, own.image_size)
    return ArrayPlan(layout, channels, plan.channels, plan, plan.record, notes)
