"""Choose joint layout and preparation of pickles and arrays that do not name theirs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data.formats.own.recordings import FLAT, Preparation, find_layout, is_flat
from msg3d_lab.skeletons import Skeleton


def guess_layout(joints: int, *, flat: bool, where: Path) -> Skeleton:
    """Return the layout of the library that fits, if exactly one does.

    Args:
        joints: V.
        flat: whether the recordings are in 2D.
        where: named in messages.

    Raises:
        ValueError: none or several fit.
    """
    known = [skeletons.get(name) for name in skeletons.names()]
    counted = [layout for layout in known if layout.num_joints == joints]
    fitting = [layout for layout in counted if is_flat(layout) == flat]
    if len(fitting) == 1:
        return fitting[0]
    dimensions = "2D" if flat else "3D"
    if fitting:
        found = f"{' and '.join(layout.name for layout in fitting)} fit"
    elif counted:
        found = f"{' and '.join(layout.name for layout in counted)} would be of another dimension"
    else:
        listed = ", ".join(f"{layout.name} {layout.num_joints}" for layout in known)
        found = f"none of the library has as many ({listed})"
    raise ValueError(
        f"{where} has {joints} joints in {dimensions}, and {found}: name the layout or give a YAML "
        "of yours, --layout (layout=); docs/data/own-skeletons.md shows one"
    )


@dataclass(frozen=True)
class ArrayPlan:
    """The layout of own recordings in padded arrays, and what is done to them.

    Args:
        layout: the joints.
        channels: numbers per joint in the arrays.
        scored: whether the last of them is a score.
        preparation: None if the coordinates stay as they are.
        notes: what had to be assumed.
    """

    layout: Skeleton
    channels: int
    scored: bool
    preparation: Preparation | None
    notes: tuple[str, ...] = ()

    @property
    def record(self) -> dict[str, object]:
        """What a store records of the preparation."""
        if self.preparation is not None:
            return self.preparation.record
        return {"name": "arrays", "scored": self.scored}

    @property
    def prepared_channels(self) -> int:
        """Numbers per joint after the preparation."""
        return self.channels if self.preparation is None else self.preparation.channels

    def __call__(self, clip: np.ndarray) -> np.ndarray:
        """Prepare a clip (M, T, V, C)."""
        if self.preparation is None:
            return np.ascontiguousarray(clip, dtype=np.float32)
        return self.preparation(clip)


def plan_arrays(
    layout: Skeleton | str | Path | None,
    *,
    joints: int,
    channels: int,
    prepare: str | None,
    image_size: tuple[int, int] | None,
    where: Path,
) -> ArrayPlan:
    """Choose layout and preparation of own arrays.

    Args:
        layout: as the user names it. Default: see `guess_layout`.
        joints: V of the arrays.
        channels: C of the arrays, 2 or 3. In a 2D layout, or with an image size, the third is a
            score.
        prepare: see `Preparation`. Default: "image" with an image size, else nothing: arrays of
            these formats are usually prepared already.
        image_size: (height, width) in pixels.
        where: named in messages.

    Raises:
        FileNotFoundError: no such layout.
        ValueError: a layout of another number of joints, none that fits, or a preparation that does
            not fit.
    """
    if channels not in (2, 3):
        raise ValueError(f"{where}: expected 2 or 3 numbers per joint, found {channels}")
    notes: tuple[str, ...] = ()
    if layout is not None:
        found = find_layout(layout)
        if found.num_joints != joints:
            raise ValueError(
                f"{where} has {joints} joints, the layout {found.name} has {found.num_joints}: "
                "name the layout of these recordings (--layout)"
            )
        flat = is_flat(found)
    else:
        flat = channels == 2 or joints in [skeletons.get(n).num_joints for n in FLAT]
        found = guess_layout(joints, flat=flat, where=where)
        notes = (
            f"layout {found.name} by the number of joints, {joints}; if the joints are in another "
            "order, name theirs (--layout)",
        )
    scored = channels == 3 and (flat or image_size is not None)
    if scored:
        notes += ("3 numbers per joint, taken as x, y, score",)
    if prepare is None and image_size is None:
        return ArrayPlan(found, channels, scored, None, notes)
    plan = Preparation(prepare or "image", found, channels - scored, scored, image_size)
    return ArrayPlan(found, channels, scored, plan, notes)
