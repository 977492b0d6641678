"""Test whether 2D coordinates lie in the image that they are said to be in.

Pixels taken as fractions of the image, fractions taken as pixels, and height and width swapped give
coordinates that no person in the image can have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from msg3d_lab.data.clips import Clip, LeftOut

# From these fractions on, of clips outside their image or of joints of the others, it is a wrong
# image.
_MANY_CLIPS, _MANY_JOINTS = 0.25, 0.05
_MARGIN = 0.1  # of the image: pose estimators follow limbs a little beyond its border
_OUTSIDE = 0.2  # the fraction of a clip's joints beyond it
_CORNER = 0.02  # of the image: a person is larger
_PROBED = 32  # clips that are tested before an import
# What the preparations make of an image: (left, top), (right, bottom).
_IMAGES = {
    "prepare_2d": np.array([[-1.0, -1.0], [1.0, 1.0]]),
    "prepare_2d_pyskl": np.array([[-1.0, -1.0], [1.0, 1.0]]),
    "kinetics": np.array([[-0.5, 0.5], [0.5, -0.5]]),
}


class Extent(NamedTuple):
    """Where the joints of a clip are, in fractions of the image's width and height."""

    low: tuple[float, float]  # smallest x and y
    high: tuple[float, float]  # largest x and y
    outside: float  # the fraction of joints that are well outside the image

    @property
    def in_corner(self) -> bool:
        """Whether the person is a dot in the upper left corner."""
        return max(self.high) < _CORNER and min(self.low) > -_CORNER

    @property
    def is_wrong(self) -> bool:
        """Whether nobody in the image can be there."""
        return self.in_corner or self.outside > _OUTSIDE

    def __str__(self) -> str:
        (left, top), (right, bottom) = self.low, self.high
        return (
            f"x from {left:.3g} to {right:.3g} of the width, y from {top:.3g} to {bottom:.3g} of "
            "the height"
        )


def image_extent(
    keypoints: np.ndarray,
    *,
    preparation: str | None = None,
    image_size: tuple[int, int] | None = None,
) -> Extent | None:
    """Measure where a clip (M, T, V, C), x and y first, is in its image.

    That is known by what was done to the clip ("prepare_2d", "kinetics": then a score comes last),
    or if nothing was done to it by the size of the image (height, width) in pixels.

    Returns:
        None if the clip is of no known image, or no joint is seen.
    """
    if preparation in _IMAGES:
        low, high = _IMAGES[preparation]
        seen = keypoints[..., -1] > 0
    elif preparation is None and image_size is not None:
        low, high = np.zeros(2), np.array([image_size[1], image_size[0]], dtype=np.float64)
        seen = np.any(keypoints[..., :2] != 0, axis=-1)
    else:
        return None
    points = (keypoints[..., :2][seen] - low) / (high - low)
    if not len(points) or not np.isfinite(points).all():
        return None
    beyond = ((points < -_MARGIN) | (points > 1 + _MARGIN)).any(axis=-1)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return Extent((left, top), (right, bottom), float(beyond.mean()))


def clips_outside(extents: Sequence[tuple[str, Extent]]) -> tuple[list[tuple[str, Extent]], bool]:
    """Find the clips outside their image, and whether they are so many that it is a wrong one."""
    wrong = [(name, extent) for name, extent in extents if extent.is_wrong]
    rest = [extent.outside for _, extent in extents if not extent.is_wrong]
    if wrong and len(wrong) >= _MANY_CLIPS * len(extents):
        return wrong, True
    if rest and np.mean(rest) >= _MANY_JOINTS:
        return [(name, extent) for name, extent in extents if extent.outside], True
    return wrong, False


def why_outside(extents: Sequence[Extent]) -> str:
    """Say why clips are not in their image, and what to do: cause and cure, for a message."""
    right, bottom = (float(np.quantile([e.high[i] for e in extents], 0.9)) for i in (0, 1))
    if sum(extent.in_corner for extent in extents) > len(extents) / 2:
        return (
            "coordinates from 0 to 1 were taken as pixels. Give an image size of 1 1 (--image-size "
            "1 1), or multiply x by the width and y by the height"
        )
    if max(right, bottom) > 4:
        return (
            "coordinates in pixels were taken as fractions of the image, or the image is given "
            "too small. Give its size in pixels (--image-size HEIGHT WIDTH)"
        )
    if max(right, bottom) > 1 + _MARGIN and right * bottom <= 1 + _MARGIN:
        return (
            "height and width of the image look swapped. Both img_shape and --image-size are "
            "(height, width): correct them"
        )
    return (
        "the image size is that of another image, perhaps before or after resizing. Give the size "
        "of the images that x and y were found in (--image-size HEIGHT WIDTH)"
    )


def refuse_outside(
    clips: Iterable[Clip | LeftOut], preparation: Mapping[str, Any]
) -> Iterable[Clip | LeftOut]:
    """Test a few clips before many are imported; return all clips.

    Of a sequence 32 clips from its beginning to its end are tested, else the first 32.
    """
    name = str(preparation.get("name"))
    if name not in _IMAGES:
        return clips
    if isinstance(clips, Sequence):
        chosen = np.linspace(0, len(clips) - 1, min(_PROBED, len(clips))).astype(int)
        probed: list[Clip | LeftOut] = [clips[i] for i in chosen.tolist()]
    else:
        rest: Iterator[Clip | LeftOut] = iter(clips)
        probed = list(islice(rest, _PROBED))
        clips = chain(probed, rest)
    found = [
        (clip.id, extent)
        for clip in probed
        if isinstance(clip, Clip)
        and (extent := image_extent(clip.keypoints, preparation=name)) is not None
    ]
    wrong, many = clips_outside(found)
    if many:
        clip_id, extent = wrong[0]
        raise ValueError(
            f"{len(wrong)} of {len(found)} clips that were tested are not in their image, for "
            f"example {clip_id} ({extent}): {why_outside([extent for _, extent in wrong])}"
        )
    return clips
