"""Find the joint layout of own recordings: by its name, its file, or the number of joints."""

from __future__ import annotations

from pathlib import Path

from msg3d_lab import skeletons
from msg3d_lab.skeletons import Skeleton

_FLAT = ("coco17", "openpose18")


def find_layout(layout: Skeleton | str | Path) -> Skeleton:
    """Return a layout, given itself, its name or the path of its YAML."""
    if isinstance(layout, Skeleton):
        return layout
    if str(layout) in skeletons.names():
        return skeletons.get(str(layout))
    if not Path(layout).is_file():
        raise FileNotFoundError(
            f"no joint layout {layout}: expected the path of a YAML file or one of "
            f"{', '.join(skeletons.names())}"
        )
    return skeletons.load(layout)


def is_flat(layout: Skeleton) -> bool:
    """Whether a layout is that of a 2D pose estimator, whose third number is a score."""
    return layout.name in _FLAT


def guess_layout(joints: int, *, flat: bool, where: Path) -> Skeleton:
    """Return the layout of the library that fits, if exactly one does."""
    known = [skeletons.get(name) for name in skeletons.names()]
    counted = [layout for layout in known if layout.num_joints == joints]
    fitting = [layout for layout in counted if is_flat(layout) == flat]
    if len(fitting) == 1:
        return fitting[0]
    names = " and ".join(layout.name for layout in fitting or counted)
    found = f"{names} fit" if fitting else f"{names} would be of another dimension"
    if not counted:
        listed = ", ".join(f"{layout.name} {layout.num_joints}" for layout in known)
        found = f"none of the library has as many ({listed})"
    raise ValueError(
        f"{where} has {joints} joints in {'2D' if flat else '3D'}, and {found}: name the "
        "layout or give a YAML of yours, --layout (layout=); docs/data/own-skeletons.md shows one"
    )
