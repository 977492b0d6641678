"""Random augmentation of training clips. Everything is off by default.

Drawing and applying are separate: `Augment.draw` draws random numbers for every clip of a batch,
and `Draws` applies them to all clips at once without a generator. A process can therefore draw for
the whole global batch and keep its part, and switching one augmentation on does not change what
is drawn for the others.

The order is: crop in time, flip, rotate, scale, shear; then the stream is computed; then frames and
joints are masked; then clips are mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from msg3d_lab.skeletons import Skeleton


class Draws(NamedTuple):
    """What was drawn for the clips of a batch; None where an augmentation is off."""

    # one for each clip's points as rows, with 1 for a score: (N, C, C) float32. A flip of the x
    # axis is included
    matrices: np.ndarray | None = None
    flipped: np.ndarray | None = None  # whether left and right joints are swapped: (N,) bool
    joints: np.ndarray | None = None  # which joints are masked: (N, V) bool
    frames: np.ndarray | None = None  # which of the chosen frames are masked: (N, T) bool
    own: np.ndarray | None = None  # the fraction of a mixed clip that is its own: (N,) float32

    def select(self, part: slice | np.ndarray) -> Draws:
        """Return what was drawn for some of the clips."""
        return Draws(*(drawn if drawn is None else drawn[part] for drawn in self))

    def transform(
        self, points: np.ndarray, clip: np.ndarray, skeleton: Skeleton, *, scored: bool
    ) -> None:
        """Flip, rotate, scale and shear frames of several clips, in place.

        A joint that was not found keeps its coordinates: zero in 3D, score 0 in 2D. So do absent
        persons. `clip` is the number of the clip that each frame belongs to.

        Shapes:
            points: (R, V, C), clip: (R,)
        """
        if self.matrices is not None:
            moved = points @ self.matrices[clip]
            points[...] = np.where(points[..., -1:] != 0, moved, points) if scored else moved
        if self.flipped is not None:
            swapped = self.flipped[clip]
            points[swapped] = points[swapped].take(_mirror_images(skeleton), axis=1)

    def mask(self, x: np.ndarray) -> None:
        """Set masked joints and frames of a batch (N, M, T, V, C) to zero, scores too, in place."""
        if self.joints is not None:
            np.moveaxis(x, 3, 1)[self.joints] = 0
        if self.frames is not None:
            np.moveaxis(x, 2, 1)[self.frames] = 0

    def mix(self, values: np.ndarray) -> np.ndarray:
        """Mix every clip's values, (N, ...) float32, with those of the clip before it."""
        if self.own is None:
            return values
        own = np.expand_dims(self.own, tuple(range(1, values.ndim)))
        return own * values + (1 - own) * np.roll(values, 1, axis=0)


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Which augmentations are on, and how strong they are.

    Every clip draws its own numbers. Geometric ones act on coordinates, never on a score.

    Args:
        rotation: largest angles about x, y and z in degrees, drawn uniformly between minus and plus
            these (CTR-GCN draws whole degrees). The clip is rotated about y, then x, then z.
        scale: smallest and largest factor.
        shear: largest absolute value of the six off-diagonal numbers of the shear matrix.
        flip: probability that x changes its sign (left and right of a prepared body or an image)
            and left and right joints are swapped.
        joint_masking: fraction of the joints that are masked in a whole clip; rounded, at least one
            joint and at most all but one.
        frame_masking: fraction of the chosen frames that are masked, consecutive ones; rounded, at
            least one frame and at most all but one (none of a clip of one frame).
        crop: smallest and largest fraction of the recording that frames are chosen from, a random
            window. Motion of its last frame is still to the recording's next frame.
        mixup: every clip and its label is a weighted mean of its own and those of another one of
            its process's batch. The larger weight, its own, is drawn from Beta(mixup, mixup).
            Off: 0.

    Raises:
        ValueError: a number outside its range.

    Source: rotation and scale: CTR-GCN's NW-UCLA feeder. Shear: CrosSCLR (Li et al., CVPR 2021),
        where it is 0.5. Crop: `valid_crop_resize` of CTR-GCN's NTU feeder (0.5 to 1), which keeps
        at least 64 frames and interpolates between frames; here frames of the window are chosen by
        the recipe's sampling. Mixup: Zhang et al., ICLR 2018, which draws one weight for a batch.
    """

    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    flip: float = 0.0
    joint_masking: float = 0.0
    frame_masking: float = 0.0
    crop: tuple[float, float] = (1.0, 1.0)
    mixup: float = 0.0

    def __post_init__(self) -> None:
        ranges = {  # comparisons with NaN are false, so it is refused as well
            "rotation": ("three angles in 0..180", all(0 <= a <= 180 for a in self.rotation)),
            "scale": ("(smallest, largest) above 0", 0 < self.scale[0] <= self.scale[1] < np.inf),
            "shear": ("0 or more", 0 <= self.shear < np.inf),
            "flip": ("a probability in 0..1", 0 <= self.flip <= 1),
            "joint_masking": ("a fraction below 1", 0 <= self.joint_masking < 1),
            "frame_masking": ("a fraction below 1", 0 <= self.frame_masking < 1),
            "crop": ("(smallest, largest) in 0..1", 0 < self.crop[0] <= self.crop[1] <= 1),
            "mixup": ("0 or more", 0 <= self.mixup < np.inf),
        }
        for name, (expected, fits) in ranges.items():
            if not fits:
                raise ValueError(f"expected {name}: {expected}, found {getattr(self, name)}")

    @property
    def turning_axis(self) -> int | None:
        """The one axis (0, 1, 2) about which clips are turned all the way round; None: no such."""
        axes = [axis for axis, angle in enumerate(self.rotation) if angle == 180]
        return axes[0] if len(axes) == 1 else None

    def check(self, skeleton: Skeleton, *, dimensions: int) -> None:
        """Check that clips of a layout can be augmented like this.

        Raises:
            ValueError: 2D clips rotated out of their plane, or a flip where the layout has no pairs
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
        fractions = rng.uniform(*self.crop, len(lengths))
        kept = np.maximum(1, np.floor(fractions * lengths).astype(np.int64))
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
    ) -> Draws:
        """Draw everything but the window for `count` clips: as many numbers, whatever is on."""
        angles = np.radians(rng.uniform(-1, 1, (count, 3)) * self.rotation)
        factors = rng.uniform(*self.scale, count)
        shears = rng.uniform(-1, 1, (count, 3, 3)) * self.shear
        flipped = rng.random(count) < self.flip
        order = np.argsort(rng.random((count, skeleton.num_joints)), axis=1)
        place = rng.random((count, 1))

        matrices = joints = frames = own = None
        if any(self.rotation) or self.scale != (1.0, 1.0) or self.shear or self.flip:
            shears[:, range(3), range(3)] = 1
            linear = rotations(angles) * factors[:, None, None] @ shears
            linear[flipped, 0] *= -1  # the same as a change of x before all else
            matrices = np.tile(np.eye(channels, dtype=np.float32), (count, 1, 1))
            matrices[:, :dimensions, :dimensions] = linear[:, :dimensions, :dimensions]
        if self.joint_masking:
            masked = np.arange(skeleton.num_joints) < _num_masked(
                self.joint_masking, skeleton.num_joints
            )
            joints = np.zeros(order.shape, dtype=bool)
            np.put_along_axis(joints, order, masked[None], axis=1)
        if self.frame_masking:
            num_masked = _num_masked(self.frame_masking, clip_len)
            since = np.arange(clip_len) - np.floor(place * (clip_len - num_masked + 1))
            frames = (since >= 0) & (since < num_masked)
        if self.mixup:  # drawn last: what is drawn before does not depend on it
            drawn = rng.beta(self.mixup, self.mixup, count)
            own = np.maximum(drawn, 1 - drawn).astype(np.float32)
        return Draws(matrices, flipped if self.flip else None, joints, frames, own)


def turns(axis: int, number: int, *, channels: int, dimensions: int) -> np.ndarray:
    """Rotations by 0, 1, 2, ... of `number` equal steps all the way round: (number, C, C) float32.

    The same kind of matrices as `Draws.matrices`.
    """
    angles = np.zeros((number, 3))
    angles[:, axis] = np.arange(number) * 2 * np.pi / number
    matrices = np.tile(np.eye(channels, dtype=np.float32), (number, 1, 1))
    matrices[:, :dimensions, :dimensions] = rotations(angles)[:, :dimensions, :dimensions]
    return matrices


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
    """Return the joint on the other side of each joint, or itself: (V,) int64."""
    images = np.arange(skeleton.num_joints)
    for left, right in skeleton.mirror:
        images[[left, right]] = right, left
    return images


def _num_masked(fraction: float, count: int) -> int:
    """Return how many of `count` are masked; at least one of them remains."""
    return min(max(1, round(fraction * count)), count - 1)
