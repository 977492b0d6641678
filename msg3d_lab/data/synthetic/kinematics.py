"""A body with the 25 joints of NTU RGB+D: bone lengths, smooth motion, forward kinematics.

A `Motion` has the positions of pelvis, hands and feet over time; `joint_positions` computes the
joints. Knees and elbows follow from two-bone inverse kinematics, so bones keep their lengths.

The body frame is right-handed, in metres: x to the person's left, y up, z to the front; its origin
is on the floor between the feet. Side 0 is left, side 1 is right.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

_SIDES = np.array([1.0, -1.0]).reshape(2, 1, 1)  # the sign of x on the left and on the right


@dataclass(frozen=True)
class Body:
    """Bone lengths of one person, in metres. The defaults are fractions of a person's height.

    Source: Winter, "Biomechanics and Motor Control of Human Movement", figure 4.1 (after Drillis
        and Contini, 1966). Lengths that Kinect's joints divide are estimates.
    """

    upper_arm: float = 0.186
    forearm: float = 0.146
    hand: float = 0.050  # wrist to the middle of the hand; the tip is as far again
    thigh: float = 0.245
    shin: float = 0.246
    ankle: float = 0.039  # height above the floor
    foot: float = 0.075  # ankle to Kinect's foot joint
    shoulder: float = 0.105  # half of the distance between Kinect's shoulder joints
    hip: float = 0.050  # half of the distance between Kinect's hip joints
    spine: float = 0.150  # spine base to spine middle
    chest: float = 0.140  # spine middle to spine shoulder
    neck: float = 0.045
    head: float = 0.070

    @classmethod
    def from_height(cls, height: float, build: np.ndarray | None = None) -> Body:
        """The body of a person of this height (metres); `build` scales each of the 13 lengths."""
        fractions = astuple(cls())
        scales = np.ones(len(fractions)) if build is None else build
        return cls(*(height * f * float(s) for f, s in zip(fractions, scales, strict=True)))

    @property
    def arm(self) -> float:
        """Shoulder to wrist of a straight arm: the unit of hand targets."""
        return self.upper_arm + self.forearm

    @property
    def leg(self) -> float:
        """Hip to ankle of a straight leg: the unit of foot and pelvis targets."""
        return self.thigh + self.shin


@dataclass(frozen=True)
class Contact:
    """Pulls a hand to a point, with a weight (T,): 0 = free, 1 = at the point.

    `point` is (T, 3) in the body frame, or the side of the knee that the hand goes to.
    """

    side: int
    weight: np.ndarray
    point: np.ndarray | int


class Motion:
    """The motion of one person over T frames. It starts as standing still; scripts add to it."""

    def __init__(self, frames: int) -> None:
        self.frames = frames  # T
        # Each wrist from its shoulder: (outwards, up, front) in arm lengths; turns with the chest.
        self.hands = np.tile(np.array([0.13, -0.96, 0.10]), (2, frames, 1))
        # Each ankle from where it stands as (outwards, up, front), in leg lengths.
        self.feet = np.zeros((2, frames, 3))
        self.pelvis = np.zeros((frames, 3))  # displacement in leg lengths (left, up, front)
        # Angles of the chest in radians: forwards, turned left, tilted to the right.
        self.lean = np.zeros((frames, 3))
        self.knees_in = np.zeros((2, frames))  # how far knees point inwards, not to the front
        self.contacts: list[Contact] = []


def minimum_jerk(u: np.ndarray, start: float = 0.0, stop: float = 1.0) -> np.ndarray:
    """Go from 0 (until `start`) to 1 (from `stop`) like a reaching hand.

    Source: Flash and Hogan, J. Neuroscience 1985: x = 10 u^3 - 15 u^4 + 6 u^5.
    """
    s = np.clip((u - start) / (stop - start), 0.0, 1.0)
    return s * s * s * (10 + s * (6 * s - 15))


def bump(u: np.ndarray, start: float, stop: float, *, ramp: float = 0.35) -> np.ndarray:
    """Go from 0 to 1 and back between `start` and `stop`; `ramp` is the fraction of each way."""
    way = ramp * (stop - start)
    return minimum_jerk(u, start, start + way) - minimum_jerk(u, stop - way, stop)


def swing(start: np.ndarray, target: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Move a hand from `start` to `target` on an arc around its shoulder: (T, 3).

    A straight line would fold the arm when it passes the shoulder. The arc goes to the front, at
    a distance from the shoulder between those of the two ends.
    """
    s = s[:, None]
    line = start + s * (target - start) + 4 * s * (1 - s) * np.array([0.15, 0.0, 0.35])
    radius = (1 - s) * np.linalg.norm(start, axis=-1, keepdims=True) + s * np.linalg.norm(target)
    return np.asarray(line * (radius / np.linalg.norm(line, axis=-1, keepdims=True)))


def drift(rng: np.random.Generator, frames: int, size: int) -> np.ndarray:
    """Slow random motion of unit size: (frames, size), a sum of sines of 0.1 to 0.7 Hz."""
    frequency = rng.uniform(0.1, 0.7, (3, 1, size)) * (2 * np.pi / 30)
    phase = rng.uniform(0, 2 * np.pi, (3, 1, size))
    return np.asarray(np.sin(frequency * np.arange(frames)[:, None] + phase).sum(0) * 0.8)


def rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation matrices for (..., 3) angles: about x, then y, then z, in radians."""
    cx, cy, cz = np.moveaxis(np.cos(angles), -1, 0)
    sx, sy, sz = np.moveaxis(np.sin(angles), -1, 0)
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def joint_positions(body: Body, motion: Motion) -> np.ndarray:
    """Forward kinematics: the joints of the ntu25 layout in the body frame, (T, 25, 3), metres."""
    out = np.empty((motion.frames, 25, 3))
    # Trunk: half of the bend is in the lower spine, all of it in the chest.
    lower, upper = rotation(0.5 * motion.lean), rotation(motion.lean)
    stand = np.array([0.0, body.ankle + 0.985 * body.leg, 0.0])
    base = out[:, 0] = stand + body.leg * motion.pelvis
    out[:, 1] = base + lower[:, :, 1] * body.spine
    chest = out[:, 20] = out[:, 1] + upper[:, :, 1] * body.chest
    out[:, 2] = chest + upper[:, :, 1] * body.neck
    # The head bends less.
    out[:, 3] = out[:, 2] + rotation(0.8 * motion.lean)[:, :, 1] * body.head

    hip = base + _SIDES * (lower[:, :, 0] * body.hip)
    ground = np.array([0.0, body.ankle, 0.0]) + _SIDES * np.array([1.5 * body.hip, 0.0, 0.0])
    outwards = np.concatenate([_SIDES, np.ones((2, 1, 2))], axis=-1)
    ankle = ground + body.leg * outwards * motion.feet
    pole = np.zeros((2, motion.frames, 3))
    pole[..., 0] = _SIDES[..., 0] * (0.25 - motion.knees_in)
    pole[..., 1], pole[..., 2] = 0.3, 1.0
    knee, ankle = _bend(hip, ankle, body.thigh, body.shin, pole)
    toes = outwards * np.array([0.2 * body.foot, -0.5 * body.ankle, body.foot])
    out[:, [12, 16]], out[:, [13, 17]] = np.moveaxis(hip, 0, 1), np.moveaxis(knee, 0, 1)
    out[:, [14, 18]], out[:, [15, 19]] = np.moveaxis(ankle, 0, 1), np.moveaxis(ankle + toes, 0, 1)

    def with_chest(vectors: np.ndarray) -> np.ndarray:
        return np.einsum("tij,stj->sti", upper, outwards * vectors)

    at_shoulder = np.broadcast_to(np.array([body.shoulder, -0.1 * body.shoulder, 0]), (2, 1, 3))
    shoulder = chest + with_chest(np.broadcast_to(at_shoulder, motion.hands.shape))
    wrist = shoulder + body.arm * with_chest(motion.hands)
    for contact in motion.contacts:
        point = knee[contact.point] if isinstance(contact.point, int) else contact.point
        wrist[contact.side] += contact.weight[:, None] * (point - wrist[contact.side])
    pole = with_chest(np.broadcast_to(np.array([0.45, -0.5, -0.75]), motion.hands.shape))
    elbow, wrist = _bend(shoulder, wrist, body.upper_arm, body.forearm, pole)
    along = (wrist - elbow) / body.forearm
    inwards = np.cross(along, pole)
    inwards *= -_SIDES / np.maximum(np.linalg.norm(inwards, axis=-1, keepdims=True), 1e-6)
    joints = (
        ([4, 8], shoulder),
        ([5, 9], elbow),
        ([6, 10], wrist),
        ([7, 11], wrist + body.hand * along),
        ([21, 23], wrist + 2 * body.hand * along),
        ([22, 24], wrist + body.hand * (0.8 * along + 0.6 * inwards)),
    )
    for index, positions in joints:
        out[:, index] = np.moveaxis(positions, 0, 1)
    return out


def _bend(
    origin: np.ndarray, target: np.ndarray, first: float, second: float, pole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Two-bone inverse kinematics: (middle joint, end); the middle bends towards `pole`.

    A target out of reach is approached as far as the bones allow.
    """
    line = target - origin
    distance = np.linalg.norm(line, axis=-1, keepdims=True)
    line = line / np.maximum(distance, 1e-6)
    distance = np.clip(distance, abs(first - second) + 0.12 * first, 0.999 * (first + second))
    aside = pole - (pole * line).sum(-1, keepdims=True) * line
    aside /= np.maximum(np.linalg.norm(aside, axis=-1, keepdims=True), 1e-6)
    cosine = (first**2 + distance**2 - second**2) / (2 * first * distance)
    middle = origin + first * (cosine * line + np.sqrt(1 - np.minimum(cosine**2, 1)) * aside)
    return middle, origin + distance * line
