"""What is done to the coordinates of own recordings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from msg3d_lab.data.preprocess import (
    longest_first,
    order_persons,
    prepare_2d,
    prepare_3d,
    prepare_paper,
)
from msg3d_lab.skeletons import Skeleton

PREPARATIONS = ("align", "center", "image", "none", "paper", "pyskl")
IN_IMAGES = ("image", "pyskl")
# The names of those in a store's record that are functions of `preprocess`.
RECORDED = {
    "align": "prepare_3d",
    "image": "prepare_2d",
    "paper": "prepare_paper",
    "pyskl": "prepare_2d_pyskl",
}
_PYSKL_MIN_SCORE = 0.01  # pyskl's PreNormalize2D


@dataclass(frozen=True)
class Preparation:
    """What is done to the coordinates of every clip."""

    # "align" (`prepare_3d`), "center" (the place where the first person's centre is first seen
    # becomes the origin; joints that were not seen stay zero), "image" (`prepare_2d`; if the source
    # has no score, it is 1 for joints that were seen), "none", "paper" (`prepare_paper`) or "pyskl"
    # ("image", and joints with a score of 0.01 or less go to the middle of the image)
    name: str
    layout: Skeleton  # has the centre and the directions to align by
    axes: int  # number of coordinates, 2 or 3
    scored: bool  # whether a score follows the coordinates
    image_size: tuple[int, int] | None = None  # (height, width) in pixels, for "image" and "pyskl"
    # whether persons are sorted by how many frames they are seen in. Default: as in the published
    # stores, only "align" puts the one seen longest first
    longest_first: bool = False

    def __post_init__(self) -> None:
        if self.name not in PREPARATIONS:
            raise ValueError(
                f"unknown preparation {self.name!r}: expected one of {', '.join(PREPARATIONS)}"
            )
        if self.name == "paper" and self.scored:
            raise ValueError("preparation paper takes x, y, z, found a score after them: use align")
        if self.name in ("align", "paper") and not can_align(self.layout, self.axes):
            raise ValueError(
                f"preparation {self.name} needs x, y, z and a layout with align.z and align.x, "
                f"found {self.axes} coordinates and layout {self.layout.name}: use center"
            )
        if (self.name in IN_IMAGES) != (self.image_size is not None):
            raise ValueError(
                f"preparation image and an image size go together, found {self.name} and image "
                f"size {self.image_size}"
            )
        if self.image_size is not None and (self.axes != 2 or min(self.image_size) <= 0):
            raise ValueError(
                f"an image size (height, width) above 0 goes with x, y in pixels, found "
                f"{self.image_size} and {self.axes} coordinates"
            )

    @property
    def channels(self) -> int:
        """Channels of the prepared clips."""
        return self.axes + (self.scored or self.name in IN_IMAGES)

    @property
    def record(self) -> dict[str, Any]:
        """Name and options as recorded in a store."""
        name = RECORDED.get(self.name, self.name)
        document: dict[str, Any] = {"name": name, "scored": self.channels > self.axes}
        if self.name == "center":
            document["joint"] = self.layout.joints[self.layout.center]
        if self.image_size is not None:
            document["image_size"] = list(self.image_size)
        if self.longest_first:
            document["persons"] = "longest first"
        return document

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        """Prepare a clip: (M, T, V, axes [+ 1]) -> (M, T', V, channels) float32."""
        keypoints = keypoints.astype(np.float64)
        if self.longest_first:
            keypoints = keypoints[longest_first(keypoints[..., : self.axes])]
        points, score = keypoints[..., : self.axes], keypoints[..., self.axes :]
        seen: np.ndarray = np.any(points, axis=-1, keepdims=True)
        if self.image_size is not None:
            scores = (score if self.scored else seen)[..., 0]
            least = _PYSKL_MIN_SCORE if self.name == "pyskl" else None
            return prepare_2d(points, scores, self.image_size, min_score=least)
        if self.name == "paper":
            return prepare_paper(points, self.layout)
        if self.name == "align":
            # prepare_3d orders persons and drops frames; scores must follow.
            order, frames = order_persons(points)
            points, score = (part[order][:, frames] for part in (points, score))
            points = prepare_3d(points, self.layout)
        elif self.name == "center":
            where = np.argwhere(seen[:, :, self.layout.center, 0])
            if where.size:
                person, frame = where[0]
                points = (points - points[person, frame, self.layout.center]) * seen
        return np.concatenate([points, score], axis=-1).astype(np.float32)


def can_align(layout: Skeleton, axes: int) -> bool:
    """Whether clips can be turned upright: the layout says which joints are above each other."""
    return axes == 3 and layout.up is not None and layout.across is not None
