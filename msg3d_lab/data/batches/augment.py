"""Augmentation: what is changed at random in training clips, all of it off by default.

Chance and work are kept apart: `Augment.draw` draws for every clip of a batch at once, and `Drawn`
applies what was drawn, without a generator, to all of them at once. So a process can draw for the
whole global batch and keep its share, and turning one augmentation on leaves the draws of the
others as they were.

The order is: crop in time, mirror, rotate, scale, shear; then the stream is made; then frames and
joints are hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from msg3d_lab.skeletons import Skeleton

__all__ = ["Augment", "Drawn", "rotations"]


class Drawn(NamedTuple):
    """What was drawn for the clips of a batch; None where nothing is to be done.

    Args:
        linear: a matrix for each clip's points as rows, with 1 for a score: (N, C, C) float32.
        mirrored: whether left and right joints change places: (N,) bool.
        joints: which joints are hidden: (N, V) bool.
        frames: which of the chosen frames are hidden: (N, T) bool.
    """

    linear: np.ndarray | None = None
    mirrored: np.ndarray | None = None
    joints: np.ndarray | None = None
    frames: np.ndarray | None = None

    def share(self, part: slice | np.ndarray) -> Drawn:
        """What was drawn for some of the clips."""
        return Drawn(*(drawn if drawn is None else drawn[part] for drawn in self))

    def move(
        self, points: np.ndarray, clip: np.ndarray, skeleton: Skeleton, *, scored: bool
    ) -> None:
        """Mirror, rotate, scale and shear the frames of several clips, in place.

        A joint that was not found stays where its importer put it: at zero in 3D, at score 0 in
        2D. So do absent persons.

        Args:
            points: frames of any of the clips.
            clip: the number of the clip each frame belongs to.
            skeleton: the layout, for its pairs of left and right joints.
            scored: whether the last channel is a score.

        Shapes:
            points: (R, V, C), clip: (R,)
        """
        if self.linear is not None:
            moved = points @ self.linear[clip]
            points[...] = np.where(points[..., -1:] != 0, moved, points) if scored else moved
        if self.mirrored is not None:
            turned = self.mirrored[clip]
            points[turned] = points[turned].take(_mirror_images(skeleton), axis=1)

    def hide(self, x: np.ndarray) -> None:
        """Set hidden joints and frames of a finished batch to zero, scores too, in place.

        Shapes:
            x: (N, M, T, V, C)
        """
        if self.joints is not None:
            np.moveaxis(x, 3, 1)[self.joints] = 0
        if self.frames is not None:
            np.moveaxis(x, 2, 1)[self.frames] = 0


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Which augmentations there are, and how strong.

    Every clip draws its own numbers. Geometry acts on coordinates, never on a score.

    Args:
        rotation: largest angles about x, y and z, degrees, drawn evenly between minus and plus
            these (CTR-GCN draws whole degrees); the clip is turned about y, then x, then z.
        scale: smallest and largest factor.
        shear: largest of the six numbers beside the diagonal of the matrix that shears a clip.
        flip: how probable it is that a clip is mirrored: x changes its sign (from the left to the
            right of a prepared body or of an image) and left and right joints change places.
        joint_masking: share of the joints that are hidden throughout a clip, rounded, at least one
            and at most all but one.
        frame_masking: share of the chosen frames that are hidden, in one stretch, rounded, at
            least one and at most all but one; so of clips with one frame none.
        crop: smallest and largest share of the recording that frames are chosen from, a window
            anywhere in it. A motion at its end still goes to the recording's next frame.

    Raises:
        ValueError: a number outside its range.

    Source: rotation and scale: CTR-GCN's NW-UCLA feeder. Shear: CrosSCLR (Li et al., CVPR 2021),
        where it is 0.5. Crop: `valid_crop_resize` of CTR-GCN's NTU feeder (0.5 to 1), which keeps
        64 frames at least and interpolates between frames; here the share alone decides, and the
        recipe's sampling chooses among the frames.
    """

    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    flip: float = 0.0
    joint_masking: float = 0.0
    frame_masking: float = 0.0
    crop: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        # Written so that NaN is refused as well.
        if not all(0 <= angle <= 180 for angle in self.rotation) or len(self.rotation) != 3:
            raise ValueError(
                f"expected a rotation of three largest angles in 0..180, found {self.rotation}"
            )
        if not 0 < self.scale[0] <= self.scale[1] < np.inf:
            raise ValueError(f"expected a scale (smallest, largest) above 0, found {self.scale}")
        if not 0 <= self.shear < np.inf:
            raise ValueError(f"expected a shear of 0 or more, found {self.shear}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"expected a flip (a probability) in 0..1, found {self.flip}")
        for name in ("joint_masking", "frame_masking"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"expected a {name} (a share) from 0 to less than 1, found "
                    f"{getattr(self, name)}"
                )
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ValueError(
                f"expected a crop (smallest, largest share) above 0 and up to 1, found {self.crop}"
            )

    def check(self, skeleton: Skeleton, *, dimensions: int) -> None:
        """Check that clips of a layout can be augmented like this.

        Args:
            skeleton: their layout.
            dimensions: coordinates per joint, scores not counted.

        Raises:
            ValueError: 2D clips turned out of their plane, or a flip where the layout has no pairs
                of left and right joints.
        """
        if dimensions < 3 and any(self.rotation[:2]):
            raise ValueError(
                f"clips with {dimensions} coordinates per joint have only the rotation about z, "
                f"the third number; found rotation {self.rotation}"
            )
        if self.flip and not skeleton.mirror:
            raise ValueError(
                f"flip {self.flip} needs pairs of left and right joints, and layout "
                f"{skeleton.name} has none: give it a `mirror` entry and import again, or set "
                "flip to 0"
            )

    def window(
        self, lengths: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw the window of each recording that frames are chosen from.

        Shapes:
            lengths: (N,) -> starts (N,), lengths (N,), int64; at least one frame each.
        """
        if self.crop == (1.0, 1.0):
            return np.zeros_like(lengths), lengths
        shares = rng.uniform(*self.crop, len(lengths))
        kept = np.maximum(1, np.floor(shares * lengths).astype(np.int64))
        return rng.integers(0, lengths - kept, endpoint=True), kept

    def draw(
        self,
        count: int,
        rng: np.random.Generator,
        *,
        skeleton: Skeleton,
        clip_len: int,
        channels: int,
        dimensions: int,
    ) -> Drawn:
        """Draw everything but the window for `count` clips.

        Args:
            count: N.
            rng: gives the same numbers whatever is turned on.
            skeleton: the clips' layout.
            clip_len: T, frames per clip.
            channels: C, numbers per joint, a score included.
            dimensions: coordinates among them, which come first.
        """
        angles = np.radians(rng.uniform(-1, 1, (count, 3)) * self.rotation)
        factors = rng.uniform(*self.scale, count)
        shears = rng.uniform(-1, 1, (count, 3, 3)) * self.shear
        mirrored = rng.random(count) < self.flip
        order = np.argsort(rng.random((count, skeleton.num_joints)), axis=1)
        place = rng.random((count, 1))

        linear = joints = frames = None
        if any(self.rotation) or self.scale != (1.0, 1.0) or self.shear or self.flip:
            shears[:, range(3), range(3)] = 1
            matrices = rotations(angles) * factors[:, None, None] @ shears
            matrices[mirrored, 0] *= -1  # the same as a change of x before all else
            linear = np.tile(np.eye(channels, dtype=np.float32), (count, 1, 1))
            linear[:, :dimensions, :dimensions] = matrices[:, :dimensions, :dimensions]
        if self.joint_masking:
            hidden = np.arange(skeleton.num_joints) < _share(
                self.joint_masking, skeleton.num_joints
            )
            joints = np.zeros(order.shape, dtype=bool)
            np.put_along_axis(joints, order, hidden[None], axis=1)
        if self.frame_masking:
            hidden_frames = _share(self.frame_masking, clip_len)
            since = np.arange(clip_len) - np.floor(place * (clip_len - hidden_frames + 1))
            frames = (since >= 0) & (since < hidden_frames)
        return Drawn(linear, mirrored if self.flip else None, joints, frames)


def rotations(angles: np.ndarray) -> np.ndarray:
    """Rotations about y, then x, then z for points as rows: (N, 3) radians -> (N, 3, 3).

    Source: CTR-GCN's `rand_view_transform` for x and y (points @ Ry @ Rx); z follows.
    """
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles).T, np.sin(angles).T
    zero, one = np.zeros_like(cx), np.ones_like(cx)
    x = np.array([[one, zero, zero], [zero, cx, sx], [zero, -sx, cx]])
    y = np.array([[cy, zero, -sy], [zero, one, zero], [sy, zero, cy]])
    z = np.array([[cz, sz, zero], [-sz, cz, zero], [zero, zero, one]])
    return np.einsum("ijn,jkn,kln->nil", y, x, z)


def _mirror_images(skeleton: Skeleton) -> np.ndarray:
    """For every joint the one whose place it takes: (V,) int64."""
    images = np.arange(skeleton.num_joints)
    for left, right in skeleton.mirror:
        images[[left, right]] = right, left
    return images


def _share(share: float, count: int) -> int:
    """How many of `count` are hidden; one is always left, or nothing of the clip would be."""
    return min(max(1, round(share * count)), count - 1)
