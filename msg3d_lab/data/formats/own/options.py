"""What users say of recordings of their own."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from msg3d_lab.data.formats.own.layouts import find_layout, guess_layout
from msg3d_lab.skeletons import Skeleton


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """What a user says of recordings of their own. None: not said."""

    layout: Skeleton | str | Path | None = None  # the joints; see `find_layout`
    # the CSV of labels (see `read_labels`); for a pickle or arrays of the field's formats, the list
    # of class names (see `read_label_list`)
    labels: str | Path | None = None
    prepare: str | None = None  # one of `PREPARATIONS`; see `Preparation`
    # (height, width) in pixels of the images that x and y refer to
    image_size: tuple[int, int] | None = None
    channels: str | None = None  # what the channels of arrays are; see `open_source`

    @property
    def skeleton(self) -> Skeleton | None:
        """The layout, found by its name or file."""
        return None if self.layout is None else find_layout(self.layout)

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


def choose_layout(
    own: OwnData, *, joints: int, flat: bool, where: Path
) -> tuple[Skeleton, tuple[str, ...]]:
    """Return the layout that the user gave, or guess it and return a note that says so."""
    layout = own.skeleton
    if layout is None:
        layout = guess_layout(joints, flat=flat, where=where)
        note = (
            f"layout {layout.name} by the number of joints, {joints} in {'2D' if flat else '3D'}; "
            "if the joints are in another order, name theirs (--layout)"
        )
        return layout, (note,)
    if layout.num_joints != joints:
        raise ValueError(
            f"{where} has {joints} joints, the layout {layout.name} has {layout.num_joints}: name "
            "the layout of these recordings (--layout)"
        )
    return layout, ()
