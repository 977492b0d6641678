"""What users say of recordings of their own."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from msg3d_lab.data.formats.own.layouts import find_layout
from msg3d_lab.skeletons import Skeleton


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """What a user says of recordings of their own. None: not said.

    Args:
        layout: the joints; see `find_layout`.
        labels: the CSV of labels (see `read_labels`); for a pickle or arrays of the field's
            formats, the list of class names (see `read_label_list`).
        prepare: one of `PREPARATIONS`; see `Preparation`.
        image_size: (height, width) in pixels of the images that x and y refer to.
        channels: what the channels of arrays are; see `open_source`.
    """

    layout: Skeleton | str | Path | None = None
    labels: str | Path | None = None
    prepare: str | None = None
    image_size: tuple[int, int] | None = None
    channels: str | None = None

    @property
    def skeleton(self) -> Skeleton | None:
        """The layout, found by its name or file.

        Raises:
            FileNotFoundError: neither a name nor a file.
            ValueError: the file is not a layout.
        """
        return None if self.layout is None else find_layout(self.layout)

    @property
    def given(self) -> tuple[str, ...]:
        """The names of what the user said."""
        names = (field.name for field in fields(self))
        return tuple(name for name in names if getattr(self, name) is not None)

    def refuse(self, dataset: str) -> None:
        """Raise if anything was said of a published data set.

        Raises:
            ValueError: something was said.
        """
        if self.given:
            raise ValueError(
                f"{dataset} has its own layout and labels: do not give {', '.join(self.given)}, or "
                "give recordings of your own a name of their own (--dataset)"
            )


NOTHING = OwnData()
