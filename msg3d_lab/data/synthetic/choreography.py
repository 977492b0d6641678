"""The actions of the embedded data set: what each class is, and how it is performed.

Classes form groups of two or three that share their poses and differ in one known way: a motion,
the direction of time, a relation between distant joints, an order, a lag. Sides are drawn for each
clip, so that a single joint moves in the same way in all classes of a group.

A script writes one action into the `Motion`s of its performers. Its clock `u` runs from 0 to 1
during the action (below 0 before it, above 1 after it). It returns the limbs that carry the action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from msg3d_lab.data.synthetic.kinematics import Body, Contact, Motion, bump, minimum_jerk, swing

Difference = Literal["motion", "direction", "relation", "order", "lag"]
Limb = Literal["left arm", "right arm", "left leg", "right leg", "trunk", "hips"]

# The joints that move when a limb acts (numbers of the ntu25 layout).
LIMBS: dict[str, tuple[int, ...]] = {
    "left arm": (5, 6, 7, 21, 22),
    "right arm": (9, 10, 11, 23, 24),
    "left leg": (13, 14, 15),
    "right leg": (17, 18, 19),
    "trunk": (0, 1, 2, 3, 20),
    "hips": (12, 13, 16, 17),
}
_ARM: tuple[Limb, Limb] = ("left arm", "right arm")
_LEG: tuple[Limb, Limb] = ("left leg", "right leg")


@dataclass
class Scene:
    """The input of a script."""

    rng: np.random.Generator  # the clip's own generator
    u: np.ndarray  # (T,) the clock of the action
    side: int  # the side of the leading hand; mostly the subject's dominant one
    bodies: list[Body]  # one per performer
    motions: list[Motion]  # one per performer, to be written to
    gap: float  # distance between two performers who face each other, in metres

    def vary(self, value: float, spread: float = 0.12) -> float:
        """A value that differs a little between clips."""
        return value * float(self.rng.uniform(1 - spread, 1 + spread))

    def either(self) -> int:
        """One of the two sides, at random."""
        return int(self.rng.integers(2))


Script = Callable[[Scene], tuple[Limb, ...]]


@dataclass(frozen=True)
class ActionClass:
    """One class of the embedded data set."""

    name: str  # of the action
    description: str  # a sentence
    differs: Difference  # how it differs from the classes that share its poses
    limbs: tuple[Limb, ...]  # the limbs that can carry it; those of a clip are given by `evidence`
    seconds: float  # duration of the action at a normal tempo
    script: Script  # performs it
    persons: int = 1  # number of performers

    @property
    def joints(self) -> tuple[int, ...]:
        """The joints of all its limbs."""
        return tuple(sorted(joint for limb in self.limbs for joint in LIMBS[limb]))


def _hand(scene: Scene, side: int, target: tuple[float, float, float], s: np.ndarray) -> None:
    """Move the first performer's hand a fraction s to (outwards, up, front) of its shoulder."""
    hands = scene.motions[0].hands
    end = np.array(target) + scene.rng.normal(0, 0.06, 3)
    hands[side] = swing(hands[side], end, s)


def _lift_knee(scene: Scene, side: int, s: np.ndarray, *, height: float = 1.0) -> None:
    """Lift a foot and the thigh by a fraction s."""
    scene.motions[0].feet[side] += s[:, None] * height * np.array([-0.05, 0.40, 0.16])


def _stand_on(scene: Scene, side: int, s: np.ndarray) -> None:
    """Move the weight over one foot by a fraction s."""
    scene.motions[0].pelvis[:, 0] += s * (0.07 if side == 0 else -0.07)


def _raise_hand(waves: bool) -> Script:
    def script(scene: Scene) -> tuple[Limb, ...]:
        u, motion, rng = scene.u, scene.motions[0], scene.rng
        _hand(scene, scene.side, (0.40, 0.60, 0.35), bump(u, 0, 1, ramp=0.22))
        if waves:
            turns = 2 * np.pi * (rng.uniform(2.0, 2.5) * u + rng.uniform())
            wave = scene.vary(0.50) * np.sin(turns) * bump(u, 0.12, 0.88, ramp=0.2)
            motion.hands[scene.side] += wave[:, None] * np.array([1.0, -0.6, 0.0])
        return (_ARM[scene.side],)

    return script


def _chair(down: bool) -> Script:
    def script(scene: Scene) -> tuple[Limb, ...]:
        u, motion = scene.u, scene.motions[0]
        sits = minimum_jerk(u) if down else 1 - minimum_jerk(u)
        seat = np.array([0.0, -scene.vary(0.43, 0.08), -scene.vary(0.42, 0.08)])
        motion.pelvis += sits[:, None] * seat
        motion.lean[:, 0] += scene.vary(0.65) * bump(u, -0.1, 1.1, ramp=0.5)
        for side in (0, 1):
            motion.hands[side] = swing(motion.hands[side], np.array([-0.1, -0.62, 0.5]), sits)
        return ("trunk", "hips")

    return script


def _touch_knee(opposite: bool) -> Script:
    def script(scene: Scene) -> tuple[Limb, ...]:
        u, motion, hand = scene.u, scene.motions[0], scene.either()
        leg = 1 - hand if opposite else hand
        # Either knee is lifted to the middle: the position of the hand hardly shows which one.
        lift = bump(u, 0, 1, ramp=0.4)
        _lift_knee(scene, leg, lift, height=scene.vary(1.0))
        _stand_on(scene, 1 - leg, lift)
        motion.knees_in[leg] += 0.36
        motion.lean[:, 0] += scene.vary(0.50) * lift
        reach = bump(u, 0.02, 0.98, ramp=0.42)
        motion.contacts.append(Contact(hand, reach, leg))
        return _ARM[hand], _LEG[leg]

    return script


def _hand_and_foot(together: bool) -> Script:
    def script(scene: Scene) -> tuple[Limb, ...]:
        u, hand = scene.u, scene.either()
        foot = 1 - hand
        envelope = bump(u, 0, 1, ramp=0.12)
        start = scene.rng.choice([0, np.pi]) + scene.rng.normal(0, 0.3)
        turns = 2 * np.pi * scene.rng.uniform(1.9, 2.3) * u + start
        _hand(scene, hand, (0.15, 0.15, 0.90), envelope * (0.5 - 0.5 * np.cos(turns)))
        shift = 0.0 if together else np.pi
        lift = envelope * (0.5 - 0.5 * np.cos(turns + shift))
        _lift_knee(scene, foot, lift, height=scene.vary(0.85))
        _stand_on(scene, 1 - foot, envelope)
        return _ARM[hand], _LEG[foot]

    return script


def _reach_and_kick(reach: tuple[float, float], kick: tuple[float, float]) -> Script:
    """Reach and kick at (start, stop) on the clock each."""

    def script(scene: Scene) -> tuple[Limb, ...]:
        u, motion, foot = scene.u, scene.motions[0], scene.either()
        kicks = bump(u, *kick)
        _hand(scene, scene.side, (0.15, 0.95, 0.25), bump(u, *reach))
        motion.feet[foot] += scene.vary(1.0) * kicks[:, None] * np.array([0.0, 0.22, 0.50])
        motion.lean[:, 0] -= 0.18 * kicks
        _stand_on(scene, 1 - foot, kicks)
        return _ARM[scene.side], _LEG[foot]

    return script


def _raise_arms(lag: float) -> Script:
    """One arm follows the other after a lag, a fraction of the action."""

    def script(scene: Scene) -> tuple[Limb, ...]:
        u, first, late = scene.u, scene.either(), scene.vary(lag)
        start = 0.5 * (0.4 - late)
        for side, begin in ((first, start), (1 - first, start + late)):
            _hand(scene, side, (0.45, 0.80, 0.25), bump(u, begin, begin + 0.6, ramp=0.45))
        return _ARM

    return script


def _meet_hands(shakes: bool) -> Script:
    def script(scene: Scene) -> tuple[Limb, ...]:
        u, rng = scene.u, scene.rng
        height = 0.60 * np.mean([body.leg + body.spine + body.chest for body in scene.bodies])
        height *= rng.uniform(1.14, 1.3)
        reach, aside = bump(u, 0, 1, ramp=0.3), rng.uniform(-0.06, 0.06)
        lift = np.zeros_like(u)
        if shakes:
            times = 2 * np.pi * rng.uniform(2.0, 2.6)
            wave = np.sin(times * u + rng.uniform(0, 6.3)) * bump(u, 0.18, 0.82, ramp=0.2)
            lift = scene.vary(0.145) * wave
        for person, motion in enumerate(scene.motions):
            to_front = 0.5 * scene.gap
            across = aside if person == 0 else -aside
            point = np.stack([across + 0 * u, height + lift, to_front - 0.03 + 0 * u], axis=-1)
            motion.contacts.append(Contact(1, reach, point))
            motion.lean[:, 0] += scene.vary(0.15) * reach
        return ("right arm",)

    return script


CLASSES: tuple[ActionClass, ...] = (
    ActionClass(
        "wave", "One hand is raised and waves.",
        "motion", _ARM, 2.2, _raise_hand(waves=True),
    ),
    ActionClass(
        "raise hand", "One hand is raised, held and lowered.",
        "motion", _ARM, 2.2, _raise_hand(waves=False),
    ),
    ActionClass(
        "sit down", "From standing to sitting.",
        "direction", ("trunk", "hips"), 1.5, _chair(down=True),
    ),
    ActionClass(
        "stand up", "From sitting to standing.",
        "direction", ("trunk", "hips"), 1.5, _chair(down=False),
    ),
    ActionClass(
        "touch opposite knee", "A knee is lifted; the hand of the other side touches it.",
        "relation", (*_ARM, *_LEG), 1.5, _touch_knee(opposite=True),
    ),
    ActionClass(
        "touch same knee", "A knee is lifted; the hand of the same side touches it.",
        "relation", (*_ARM, *_LEG), 1.5, _touch_knee(opposite=False),
    ),
    ActionClass(
        "hand and foot together", "A hand and the opposite foot go up and down together.",
        "relation", (*_ARM, *_LEG), 2.2, _hand_and_foot(together=True),
    ),
    ActionClass(
        "hand and foot in turn", "A hand goes up while the opposite foot goes down.",
        "relation", (*_ARM, *_LEG), 2.2, _hand_and_foot(together=False),
    ),
    ActionClass(
        "reach then kick", "A hand reaches up, then a foot kicks.",
        "order", (*_ARM, *_LEG), 2.2, _reach_and_kick((0, 0.52), (0.48, 1)),
    ),
    ActionClass(
        "kick then reach", "A foot kicks, then a hand reaches up.",
        "order", (*_ARM, *_LEG), 2.2, _reach_and_kick((0.48, 1), (0, 0.52)),
    ),
    ActionClass(
        "reach and kick", "A hand reaches up while a foot kicks.",
        "order", (*_ARM, *_LEG), 2.2, _reach_and_kick((0.24, 0.76), (0.24, 0.76)),
    ),
    ActionClass(
        "raise arms together", "Both arms go up and down at the same time.",
        "lag", _ARM, 2.0, _raise_arms(0.0),
    ),
    ActionClass(
        "raise arms, one behind", "Both arms go up and down, one a little behind the other.",
        "lag", _ARM, 2.0, _raise_arms(0.17),
    ),
    ActionClass(
        "raise arms in turn", "Both arms go up and down, one when the other is up already.",
        "lag", _ARM, 2.0, _raise_arms(0.36),
    ),
    ActionClass(
        "shake hands", "Two people take each other's right hand and shake it.",
        "motion", ("right arm",), 2.2, _meet_hands(shakes=True), persons=2,
    ),
    ActionClass(
        "hand over", "Two people stretch out their right hands; a small thing changes hands.",
        "motion", ("right arm",), 2.2, _meet_hands(shakes=False), persons=2,
    ),
)  # fmt: skip
