"""The embedded data set, generated in the style of NTU RGB+D. It is always called "synthetic".

Forty subjects of different size, build, tempo, posture and handedness perform the sixteen actions
of `choreography.py` in front of three cameras. Recordings have names like NTU's, so that X-Sub and
X-View apply. Every clip is a performance of its own, drawn from a generator seeded by its name
(NTU's three cameras film the same performance). `evidence` returns the joints, persons and frames
that carry the action of a clip; attribution can be scored against it.

Difficulties are built in: people sway, shift their weight and move limbs that are not part of the
action; the action starts anywhere in the clip; the sensor is noisy, more so for joints behind the
body, and sometimes loses a limb for a few frames; a bystander may be in the picture.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data import preprocess
from msg3d_lab.data.clips import Clip
from msg3d_lab.data.datasets import NTUName, ntu_splits, parse_ntu_name
from msg3d_lab.data.store import Store, open_store, write_store
from msg3d_lab.data.synthetic.choreography import CLASSES, LIMBS, Scene
from msg3d_lab.data.synthetic.kinematics import (
    Body,
    Motion,
    bump,
    drift,
    joint_positions,
    rotation,
    swing,
)

log = logging.getLogger(__name__)

NUM_SUBJECTS = 40  # the subjects of NTU60: the X-Sub rule trains on 20 of them
SEED = 0  # of the subjects and the performances
# The version of what `generate` returns: change it with anything that changes a clip. It is part of
# the store's fingerprint; this value keeps the fingerprints in data/results.csv valid.
GENERATOR_VERSION = "ba4f0b9679eb"
_VIEWS = {1: -45.0, 2: 0.0, 3: 45.0}  # degrees from the performer's front, to their left
_FRAMES = (40, 110)
_RESTLESS = ("left arm", "right arm", "left leg", "right leg", "trunk")
# Noise of one coordinate in metres; ends of limbs are tracked worse than the trunk.
_NOISE = 0.005 * np.array([1.0] * 25)
_NOISE[[6, 7, 10, 11, 14, 15, 18, 19]] *= 1.5
_NOISE[[21, 22, 23, 24]] *= 2.0


@dataclass(frozen=True)
class Evidence:
    """What carries the action of one clip."""

    joints: tuple[int, ...]  # the joints of the acting limbs, numbers of the ntu25 layout
    # (start, stop) of the action, stop excluded, in frames of the stored clip
    frames: tuple[int, int]
    persons: tuple[int, ...]  # the acting persons


@dataclass(frozen=True)
class _Subject:
    """Properties of a person, the same in all their recordings."""

    body: Body
    tempo: float
    side: int  # of the dominant hand
    posture: np.ndarray  # lean, (3,)
    hands: np.ndarray  # (3,), added to the resting position of the hands
    restless: float


def generate(
    repetitions: int = 1, *, subjects: Sequence[int] = range(1, NUM_SUBJECTS + 1)
) -> Iterator[Clip]:
    """Generate the clips, 16 classes x 3 cameras x subjects x repetitions, prepared as NTU's are.

    Args:
        repetitions: how often each subject performs each action in front of each camera.
        subjects: their numbers; the NTU60 rule decides which are training subjects.
    """
    skeleton = skeletons.get("ntu25")
    takes = product(subjects, _VIEWS, range(1, repetitions + 1), range(1, len(CLASSES) + 1))
    for subject, camera, repetition, action in takes:
        setup = (subject - 1) // 10 + 1
        name = f"S{setup:03d}C{camera:03d}P{subject:03d}R{repetition:03d}A{action:03d}"
        keypoints, _ = record(name)
        yield Clip(
            id=name,
            keypoints=preprocess.prepare_3d(keypoints, skeleton),
            label=action - 1,
            splits=ntu_splits(name),
            subject=subject,
            camera=camera,
            setup=setup,
        )


def evidence(sample_id: str) -> Evidence:
    """Return the joints, frames and persons that carry a clip's action, given its name.

    Example:
        >>> evidence("S001C001P001R001A015").persons
        (0, 1)
    """
    return record(sample_id)[1]


def load_synthetic(folder: str | Path | None = None, *, repetitions: int = 1) -> Store:
    """Open the embedded data set; generate it first if there is no file (some seconds).

    A damaged file is generated again, with a warning in the log. A single damaged clip is found and
    refused when it is first read.

    Args:
        folder: of the store. Default: `data/` of the project that the working folder is in, else
            the user's cache folder.
        repetitions: see `generate`; 1 gives 1,920 clips.
    """
    # A store of another version has another name.
    path = Path(folder or _cache_folder()) / f"synthetic-r{repetitions}-{GENERATOR_VERSION}.arrow"
    if path.is_file():
        try:
            return open_store(path)
        except ValueError as error:
            log.warning("%s is damaged (%s): generating it again", path, error.__cause__)
            path.unlink(missing_ok=True)
    with suppress(FileExistsError):  # another process wrote the same clips meanwhile
        write_store(
            path,
            generate(repetitions),
            dataset="synthetic",
            skeleton=skeletons.get("ntu25"),
            label_names=[action.name for action in CLASSES],
            channels=3,
            preparation={"name": "prepare_3d", "generator": GENERATOR_VERSION, "seed": SEED},
            synthetic=True,
        )
    return open_store(path)


def _cache_folder() -> Path:
    """`data/` of the project that the working folder is in, or the user's cache folder."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "data").is_dir() and (folder / "pyproject.toml").is_file():
            return folder / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msg3d-lab"


def record(sample_id: str) -> tuple[np.ndarray, Evidence]:
    """Generate the keypoints of a clip as the camera records them, before preparation.

    Returns:
        Keypoints (M, T, 25, 3) float32, zeros where a person is not tracked; and the evidence.

    Units: metres in the camera's frame (x to its left, y up, z away from it); frames at 30 fps.
    """
    name = _parse(sample_id)
    action = CLASSES[name.action - 1]
    rng = np.random.default_rng((SEED, 1, *name))
    performers = [_subject(name.subject)]
    if action.persons == 2:
        performers.append(_someone_else(rng, name))
    frames, start, stop = _clock(rng, action.seconds / performers[0].tempo)
    bodies = [p.body for p in performers]
    motions = [_at_rest(rng, p, frames) for p in performers]
    scene = Scene(
        rng=rng,
        u=(np.arange(frames) - start) / (stop - start),
        side=performers[0].side if rng.random() < 0.7 else 1 - performers[0].side,
        bodies=bodies,
        motions=motions,
        gap=0.75 * (bodies[0].arm + bodies[-1].arm) * rng.uniform(0.9, 1.15) + 0.25,
    )
    limbs = action.script(scene)
    for performer, motion in zip(performers, motions, strict=True):
        _fidget(rng, performer, motion, idle=[limb for limb in _RESTLESS if limb not in limbs])
    people = [joint_positions(b, m) for b, m in zip(bodies, motions, strict=True)]
    if action.persons == 2:
        people[1] = people[1] * np.array([-1, 1, -1]) + np.array([0, 0, scene.gap])
        people = [p - np.array([0, 0, scene.gap / 2]) for p in people]
        heading = rng.uniform(50, 130) * rng.choice([-1, 1])  # seen from the side
    else:
        heading = rng.normal(0, 15)
        if rng.random() < 0.06:
            people.append(_bystander(rng, _someone_else(rng, name), frames))
    keypoints = _film(rng, np.stack(people), setup=name.setup, camera=name.camera, heading=heading)
    if len(people) > action.persons and rng.random() < 0.7:  # the bystander comes or goes
        cut = int(rng.integers(frames // 4, frames - frames // 4))
        keypoints[1, slice(cut) if rng.random() < 0.5 else slice(cut, None)] = 0
    joints = tuple(sorted(joint for limb in limbs for joint in LIMBS[limb]))
    return keypoints, Evidence(joints, (start, stop), tuple(range(action.persons)))


def _parse(sample_id: str) -> NTUName:
    name = parse_ntu_name(sample_id)
    if (
        name is None
        or name.camera not in _VIEWS
        or not 1 <= name.subject <= NUM_SUBJECTS
        or not 1 <= name.action <= len(CLASSES)
    ):
        raise ValueError(
            f"{sample_id!r} is not a clip of the synthetic data set: expected SsssCcccPpppRrrrAaaa "
            f"with cameras 1 to {len(_VIEWS)}, subjects 1 to {NUM_SUBJECTS} and actions 1 to "
            f"{len(CLASSES)}"
        )
    return name


@lru_cache(maxsize=256)
def _subject(number: int) -> _Subject:
    rng = np.random.default_rng((SEED, 0, number))
    return _Subject(
        body=Body.from_height(rng.uniform(1.55, 1.92), rng.uniform(0.94, 1.06, 13)),
        tempo=rng.uniform(0.85, 1.18),
        side=int(rng.random() < 0.85),
        posture=rng.normal(0, [0.06, 0.03, 0.02]),
        hands=rng.normal(0, 0.04, 3),
        restless=rng.uniform(0.5, 1.3),
    )


def _someone_else(rng: np.random.Generator, name: NTUName) -> _Subject:
    """Another subject of the same side of X-Sub, so that test subjects are never in training."""
    side = _xsub_side(name.subject)
    others = [n for n in range(1, NUM_SUBJECTS + 1) if n != name.subject and _xsub_side(n) == side]
    return _subject(int(rng.choice(others)))


@lru_cache(maxsize=NUM_SUBJECTS)
def _xsub_side(subject: int) -> str:
    return ntu_splits(f"S001C001P{subject:03d}R001A001")[0]


def _clock(rng: np.random.Generator, seconds: float) -> tuple[int, int, int]:
    """Frames of the clip; start and stop of the action, which is anywhere in it."""
    event = round(30 * seconds * rng.uniform(0.9, 1.1))
    frames = int(rng.integers(max(_FRAMES[0], event + 8), min(_FRAMES[1], event + 32) + 1))
    start = int(rng.integers(3, frames - event - 3))
    return frames, start, start + event


def _at_rest(rng: np.random.Generator, subject: _Subject, frames: int) -> Motion:
    """Stand in the subject's posture with hanging hands, swaying a little."""
    motion = Motion(frames)
    wander = drift(rng, frames, 11) * subject.restless
    motion.pelvis += wander[:, :3] * np.array([0.012, 0.003, 0.010])
    motion.pelvis[:, 1] -= 0.006
    motion.lean += subject.posture + wander[:, 3:5] @ np.array([[0.03, 0, 0.01], [0, 0.05, 0.0]])
    motion.hands += subject.hands + wander[:, 5:].reshape(frames, 2, 3).swapaxes(0, 1) * 0.025
    motion.feet[:, :, [0, 2]] += rng.normal(0, 0.03, (2, 1, 2))
    return motion


def _fidget(
    rng: np.random.Generator, subject: _Subject, motion: Motion, idle: Sequence[str]
) -> None:
    """Now and then move a limb that is not part of the action."""
    u = np.arange(motion.frames) / motion.frames
    for limb in idle:
        if rng.random() > subject.restless * (0.6 if limb.endswith("arm") else 0.35):
            continue
        start = rng.uniform(-0.5, 0.7)
        s = bump(u, start, start + rng.uniform(0.3, 1.2), ramp=0.3)
        if limb == "trunk":
            motion.lean += s[:, None] * rng.normal(0, [0.08, 0.15, 0.05])
        elif limb.endswith("arm"):
            side = int(limb == "right arm")
            goal = np.array([-0.2, -0.5, 0.4]) + rng.normal(0, 0.15, 3)
            motion.hands[side] = swing(motion.hands[side], goal, s * rng.uniform(0.4, 1.0))
        else:
            side = int(limb == "right leg")
            motion.feet[side] += s[:, None] * rng.uniform([-0.05, 0.02, -0.15], [0.12, 0.06, 0.15])


def _bystander(rng: np.random.Generator, other: _Subject, frames: int) -> np.ndarray:
    """A person who stands to the side and behind: (T, 25, 3)."""
    motion = _at_rest(rng, other, frames)
    _fidget(rng, other, motion, idle=_RESTLESS)
    turn = rotation(np.array([0, rng.uniform(-1, 1), 0]))
    place = np.array([rng.choice([-1, 1]) * rng.uniform(0.8, 1.3), 0, -rng.uniform(0.2, 0.8)])
    return joint_positions(other.body, motion) @ turn.T + place


def _film(
    rng: np.random.Generator, people: np.ndarray, *, setup: int, camera: int, heading: float
) -> np.ndarray:
    """Record people (M, T, 25, 3), given in room coordinates, with a camera and a noisy sensor."""
    angle = np.deg2rad(_VIEWS[camera] + heading)
    distance, height = 2.6 + 0.3 * (setup % 3) + rng.uniform(-0.2, 0.4), 1.0 + 0.15 * (setup % 4)
    stand = np.array([np.sin(angle), 0, np.cos(angle)]) * distance
    # A camera's axes are left, up, front, as a body's; it faces the performers, tilted to them.
    tilt = np.arctan2(height - 0.95, distance)
    axes = rotation(np.array([0, angle + np.pi, 0])) @ rotation(np.array([tilt, 0, 0]))
    seen = (people - stand - np.array([0, height, 0])) @ axes
    # Joints further away than the body's middle are partly hidden by it.
    hidden = np.clip((seen[..., 2] - seen[:, :, [1], 2]) / 0.15, 0, 1)
    sigma = _NOISE * (1 + hidden) * (distance / 3)
    seen += rng.standard_normal(seen.shape) * sigma[..., None]
    M, T = seen.shape[:2]
    for _ in range(rng.poisson(1.0)):
        joints = list(LIMBS[_RESTLESS[rng.integers(4)]])
        person, first, length = rng.integers(M), rng.integers(1, T - 4), rng.integers(3, 9)
        lost = slice(first, first + length)
        if rng.random() < 0.5:  # frozen at the last position
            seen[person, lost, joints] = seen[person, first - 1, joints][:, None]
        else:  # a bad estimate
            seen[person, lost, joints] += rng.normal(0, 0.03, seen[person, lost, joints].shape)
    return seen.astype(np.float32)
