"""Options of an import, and the joint layout that follows from them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from msg3d_lab import skeletons
from msg3d_lab.skeletons import Skeleton

_FLAT = ("coco17", "openpose18")


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """What a user says besides source and data set, mostly of own recordings. None: not said."""

    # the joints: a layout, its name, or the path of its YAML
    layout: Skeleton | str | Path | None = None
    # the CSV of labels (see `read_labels`); for a pickle or arrays of the field's formats, the list
    # of class names (see `read_label_list`)
    labels: str | Path | None = None
    prepare: str | None = None  # one of `PREPARATIONS`; see `Preparation`
    # (height, width) in pixels of the images that x and y refer to
    image_size: tuple[int, int] | None = None
    channels: str | None = None  # what the channels of arrays are; see `open_folder`
    bodies: str | None = None  # for raw NTU files; see `select_bodies`
    keep_missing: bool | None = None  # for raw NTU files: the authors' missing skeletons too

    @property
    def skeleton(self) -> Skeleton | None:
        """The layout, found by its name or file."""
        layout = self.layout
        if layout is None or isinstance(layout, Skeleton):
            return layout
        if str(layout) in skeletons.names():
            return skeletons.get(str(layout))
        if not Path(layout).is_file():
            raise FileNotFoundError(
                f"no joint layout {layout}: expected the path of a YAML file or one of "
                f"{', '.join(skeletons.names())}"
            )
        return skeletons.load(layout)

    @property
    def given(self) -> tuple[str, ...]:
        """The names of what the user said."""
        names = (field.name for field in fields(self))
        return tuple(name for name in names if getattr(self, name) is not None)

    def refuse(self, dataset: str) -> None:
        """Raise if anything was said of a published data set."""
        if self.given:
            raise ValueError(
                f"{dataset} has its own layout and labels: do not give {', '.join(self.given)}, or "
                "give recordings of your own a name of their own (--dataset)"
            )


NOTHING = OwnData()


def is_flat(layout: Skeleton) -> bool:
    """Whether a layout is that of a 2D pose estimator, whose third number is a score."""
    return layout.name in _FLAT


def choose_layout(
    own: OwnData, *, joints: int, flat: bool, where: Path
) -> tuple[Skeleton, tuple[str, ...]]:
    """Return the layout that the user gave; or the one of the library that fits, and a note."""
    layout, dimensions = own.skeleton, "2D" if flat else "3D"
    if layout is not None:
        if layout.num_joints != joints:
            raise ValueError(
                f"{where} has {joints} joints, the layout {layout.name} has {layout.num_joints}: "
                "name the layout of these recordings (--layout)"
            )
        return layout, ()
    known = [skeletons.get(name) for name in skeletons.names()]
    counted = [layout for layout in known if layout.num_joints == joints]
    fitting = [layout for layout in counted if is_flat(layout) == flat]
    if len(fitting) == 1:
        note = (
            f"layout {fitting[0].name} by the number of joints, {joints} in {dimensions}; if the "
            "joints are in another order, name theirs (--layout)"
        )
        return fitting[0], (note,)
    names = " and ".join(layout.name for layout in fitting or counted)
    found = f"{names} fit" if fitting else f"{names} would be of another dimension"
    if not counted:
        listed = ", ".join(f"{layout.name} {layout.num_joints}" for layout in known)
        found = f"none of the library has as many ({listed})"
    raise ValueError(
        f"{where} has {joints} joints in {dimensions}, and {found}: name the layout or give a YAML "
        "of yours, --layout (layout=); docs/data/own-skeletons.md shows one"
    )
