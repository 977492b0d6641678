"""Select the persons of a clip from the bodies that a Kinect tracked.

The sensor loses people and finds them again under another number, and it tracks chairs and shadows.
The field has two rules for who is kept. Test a network with the rule it was trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RULES = ("denoise", "energy")

_MIN_FRAMES = 12  # of one of several bodies; pyskl's `length_threshold` is 11, also too short
_MAX_WIDTH = 0.8  # of its height; a wider body is "spread out", not a standing person
_MAX_SPREAD_FRACTION = 0.69754  # of its frames; more often spread out, a body is dropped
_EMPTY = 1e-3  # metres, summed over both persons; a smaller sum is nobody; pyskl's `eps`
_PLACES = 4  # the energy rule considers so many bodies of a frame


class NobodyError(ValueError):
    """No frame of a recording has a person."""


@dataclass(frozen=True)
class Track:
    """One body under one number of the sensor."""

    body_id: int  # the sensor's number. It is often above 2^53, so never a float
    # (F,) int64, the frames of the recording that have the body, 0-based, ascending
    frames: np.ndarray
    # (F,) int64, its place in the list of bodies of each of these frames, 0-based
    places: np.ndarray
    joints: np.ndarray  # (F, 25, 3) float64, metres in the camera frame


@dataclass(frozen=True)
class Selection:
    """The persons that were kept."""

    keypoints: np.ndarray  # (M, T, 25, 3) float32; zeros where a person is absent
    # for each person, the numbers of the bodies that it consists of
    kept: tuple[tuple[int, ...], ...]
    dropped: tuple[tuple[int, str], ...]  # (number, reason) of the other bodies


def select_bodies(
    tracks: Sequence[Track], num_frames: int, *, bodies: str = "denoise"
) -> Selection:
    """Select the persons of a clip, at most two.

    "denoise" made OpenMMLab's 3D annotation pickles. A single body is taken as it is. Of several,

    1. bodies of 11 frames or fewer are dropped;
    2. bodies that are spread out (wider than 0.8 of their height) in 69.754 % or more of their
       frames are dropped. The others are ordered by motion: the variance of x plus y plus z over
       all joints and frames, or over the frames in which they are not spread out if that is less;
    3. if more than one is left, each is added to the first person if it overlaps no body there,
       else to the second person likewise, else it is dropped. The result has two persons, even if
       the second is empty;
    4. frames with nobody are cut off at both ends, and the persons change places if only the second
       is present in the first frame.

    Frames without any body are removed first, and gaps in a body's frames are closed: the pickles
    were made so.

    "energy" is the older rule, of ST-GCN's and mmaction2's converters. A person is a place in the
    list of bodies of each frame, whichever body has it. Of the first four places, the two with the
    highest standard deviation, summed over x, y and z, are kept. All frames are kept. If a body
    leaves, those after it move up a place: this rule mixes people up.

    Args:
        tracks: the bodies, in the order in which they appear.
        num_frames: the length of the recording.
        bodies: the rule.

    Returns:
        The persons. With "energy", float32 is rounded such that rounding it to float16 gives the
        same as rounding float64 to float16, as in the field's files.

    Raises:
        ValueError: an unknown rule.
        NobodyError: nobody in any frame, or nobody with joints other than zero is left.

    Source: pyskl `tools/data/ntu_preproc.py` and mmaction2 `tools/data/skeleton/
        gen_ntu_rgbd_raw.py`, restated. If step 1 or 2 would drop all bodies, pyskl stops; here the
        step is skipped.
    """
    if bodies not in RULES:
        raise ValueError(f"unknown rule {bodies!r} for bodies: expected {' or '.join(RULES)}")
    if tracks:
        selection = _denoise(tracks) if bodies == "denoise" else _energy(tracks, num_frames)
        if selection.keypoints.any():
            return selection
    raise NobodyError(f"expected somebody in at least one frame, found nobody in {num_frames}")


@dataclass(frozen=True)
class _Body:
    track: Track
    joints: np.ndarray  # float32
    start: int  # among the frames with somebody
    motion: float

    @property
    def stop(self) -> int:
        return self.start + len(self.joints)


def _denoise(tracks: Sequence[Track]) -> Selection:
    frames = np.unique(np.concatenate([track.frames for track in tracks]))
    bodies = []
    for track in tracks:
        joints = track.joints.astype(np.float32)
        start = int(np.searchsorted(frames, track.frames[0]))
        bodies.append(_Body(track, joints, start, _motion(joints)))
    bodies.sort(key=lambda body: -body.motion)
    dropped: list[tuple[int, str]] = []
    if len(bodies) > 1:
        bodies = _drop_short(bodies, dropped)
    if len(bodies) > 1:
        bodies = _drop_spread(bodies, dropped)
    if len(bodies) > 1:
        return _merge(bodies, dropped)
    (body,) = bodies
    kept = ((body.track.body_id,),)
    return Selection(body.joints[None], kept, tuple(dropped))


def _motion(joints: np.ndarray) -> float:
    # In float32, as the pickles were made: this decides the order of two similar bodies.
    return float(joints.reshape(-1, 3).var(axis=0).sum())


def _drop_short(bodies: list[_Body], dropped: list[tuple[int, str]]) -> list[_Body]:
    long = [body for body in bodies if len(body.joints) >= _MIN_FRAMES]
    if not long:
        return bodies
    for body in bodies:
        if len(body.joints) < _MIN_FRAMES:
            dropped.append((body.track.body_id, f"short: {len(body.joints)} frames"))
    return long


def _drop_spread(bodies: list[_Body], dropped: list[tuple[int, str]]) -> list[_Body]:
    upright, spread = [], []
    for body in bodies:
        width, height, _ = (body.joints.max(axis=1) - body.joints.min(axis=1)).T
        fine = width <= _MAX_WIDTH * height.astype(np.float64)
        fraction = 1 - fine.sum() / len(fine)
        if fraction >= _MAX_SPREAD_FRACTION:
            spread.append((body.track.body_id, f"spread out in {fraction:.0%} of its frames"))
        else:
            motion = min(body.motion, _motion(body.joints[fine]))
            upright.append(_Body(body.track, body.joints, body.start, motion))
    if not upright:
        return bodies
    dropped += spread
    return sorted(upright, key=lambda body: -body.motion)


def _merge(bodies: list[_Body], dropped: list[tuple[int, str]]) -> Selection:
    keypoints = np.zeros((2, max(body.stop for body in bodies), 25, 3), np.float32)
    # The frames of each person, first to last. Those of the second person begin at 0, as in pyskl:
    # no body is put before its first one.
    taken = [(bodies[0].start, bodies[0].stop), (0, 0)]
    kept: list[list[int]] = [[], []]
    for i, body in enumerate(bodies):
        for person, (start, stop) in enumerate(taken):
            if i == 0 or max(start, body.start) >= min(stop, body.stop):
                keypoints[person, body.start : body.stop] = body.joints
                taken[person] = (min(start, body.start), max(stop, body.stop))
                kept[person].append(body.track.body_id)
                break
        else:
            dropped.append((body.track.body_id, "there together with two of more motion"))
    inside = np.flatnonzero(np.abs(keypoints).sum(axis=(0, 2, 3)) >= _EMPTY)
    if len(inside):
        keypoints = keypoints[:, inside[0] : inside[-1] + 1]
    first, second = np.abs(keypoints[:, 0, 1]).sum(axis=1)
    if first < _EMPTY < second:
        keypoints, kept = keypoints[::-1], kept[::-1]
    return Selection(keypoints, _frozen(kept), tuple(dropped))


def _energy(tracks: Sequence[Track], num_frames: int) -> Selection:
    frames = np.concatenate([track.frames for track in tracks])
    places = np.concatenate([track.places for track in tracks])
    joints = np.concatenate([track.joints for track in tracks])
    owners = np.repeat(np.arange(len(tracks)), [len(track.frames) for track in tracks])
    energies = []
    for place in range(_PLACES):
        there = joints[places == place]
        there = there[there.any(axis=(1, 2))]
        energies.append(sum(there[..., c].std() for c in range(3)) if len(there) else -1.0)
    # Of two equal ones the later comes first, as in a sorted list that is read backwards.
    chosen = [m for m in np.argsort(energies, kind="stable")[::-1] if energies[m] >= 0][:2]
    keypoints = np.zeros((len(chosen), num_frames, 25, 3), np.float32)
    kept: list[list[int]] = []
    for person, place in enumerate(chosen):
        here = places == place
        keypoints[person, frames[here]] = _to_float32(joints[here])
        in_time = owners[here][np.argsort(frames[here])]
        kept.append([tracks[owner].body_id for owner in dict.fromkeys(in_time.tolist())])
    whole = {body_id for person in kept for body_id in person}
    dropped = [
        (track.body_id, "less motion in its place of the list than in two others")
        if track.places.min() < _PLACES
        else (track.body_id, f"never among the first {_PLACES} of a frame")
        for track in tracks
        if track.body_id not in whole
    ]
    return Selection(keypoints, _frozen(kept), tuple(dropped))


def _frozen(kept: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(person) for person in kept)


def _to_float32(x: np.ndarray) -> np.ndarray:
    """Round float64 to odd float32: rounded on to float16, it gives what float64 gives directly.

    Rounding to nearest twice is wrong if the first result is a tie of the second. Rounding to odd
    (cut off, and set the last bit if anything was cut) never gives a tie.

    Source: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008, section 3.
    """
    y = x.astype(np.float32)
    outward = np.abs(y) > np.abs(x)
    y[outward] = np.nextafter(y[outward], np.float32(0))
    y.view(np.uint32)[y != x] |= 1
    return y
