"""From the bodies that a Kinect tracked in a recording to the persons of a clip.

The sensor loses people and finds them again under another number, and takes chairs and shadows for
people. Two rules of the field decide who is kept; a network must be tested on the rule that it was
trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["RULES", "NobodyError", "Selection", "Track", "select_bodies"]

RULES = ("denoise", "energy")

_MIN_FRAMES = 12  # of a body beside others; pyskl's `length_threshold`, 11, is still too short
_SPREAD = 0.8  # wider than this share of its height, a body does not look like a standing person
_SPREAD_SHARE = 0.69754  # of its frames, from which on a spread-out body is dropped
_EMPTY = 1e-3  # metres summed over both persons: nobody is there; pyskl's `eps`
_PLACES = 4  # of a frame that the energy rule looks at


class NobodyError(ValueError):
    """There is nobody in a recording."""


@dataclass(frozen=True)
class Track:
    """One body under one number of the sensor.

    Args:
        body_id: the sensor's number, exact: it is often above 2^53.
        frames: (F,) int64, the frames of the recording the body is in, 0-based, ascending.
        places: (F,) int64, its place among the bodies of each of these frames, 0-based.
        joints: (F, 25, 3) float64, metres in the camera frame.
    """

    body_id: int
    frames: np.ndarray
    places: np.ndarray
    joints: np.ndarray


@dataclass(frozen=True)
class Selection:
    """Who was kept.

    Args:
        keypoints: (M, T, 25, 3) float32; zeros where a person is absent.
        frames: (T,) int64, the frames of the recording that were kept. After `denoise`, a body
            that was lost for a while goes on without the gap, so behind it these are approximate.
        kept: for each person, the numbers of the bodies it was put together from.
        dropped: (number, reason) of the other bodies.
    """

    keypoints: np.ndarray
    frames: np.ndarray
    kept: tuple[tuple[int, ...], ...]
    dropped: tuple[tuple[int, str], ...]


def select_bodies(
    tracks: Sequence[Track], num_frames: int, *, bodies: str = "denoise"
) -> Selection:
    """Choose the persons of a clip, at most two.

    "denoise" made OpenMMLab's 3D annotation pickles. A single body is taken as it is. Of several,

    1. those of 11 frames or fewer are dropped;
    2. those that are spread out, wider than 0.8 of their height, in 69.754 % or more of their
       frames are dropped; the others are ordered by motion, the variance of x plus y plus z over
       all joints and frames, or over the frames in which they are not spread out if that is less;
    3. if more than one is left, each goes to the first person if it overlaps nobody there, else to
       the second likewise, else it is dropped. There are two persons then, also where the second
       stays empty;
    4. frames at the ends in which nobody is are cut off, and the persons change places if only the
       second is there in the first frame.

    Frames without any body do not count, and a body's frames follow each other from its first one
    on, gaps closed: that is how the pickles were made.

    "energy" is the older rule, of ST-GCN's and mmaction2's converters. A person is a place in the
    list of bodies of each frame, whoever is there; of the first four places, it keeps the two of
    highest standard deviation, summed over x, y and z. Frames stay as they are. Where a body
    leaves, those after it move up a place: this rule mixes people up.

    Args:
        tracks: the bodies, in the order in which they appear.
        num_frames: the length of the recording.
        bodies: the rule.

    Returns:
        The persons. With "energy", float32 is rounded so that rounding it on to float16 gives what
        float64 would give, as in the field's files.

    Raises:
        ValueError: an unknown rule.
        NobodyError: nobody in any frame, or nobody with joints other than zero is left.

    Source: pyskl `tools/data/ntu_preproc.py` and mmaction2 `tools/data/skeleton/
        gen_ntu_rgbd_raw.py`, restated. pyskl stops where step 1 or 2 would drop everybody; here the
        step is left out then.
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
        return _merge(bodies, frames, dropped)
    (body,) = bodies
    kept = ((body.track.body_id,),)
    return Selection(body.joints[None], body.track.frames, kept, tuple(dropped))


def _motion(joints: np.ndarray) -> float:
    # In float32, as the pickles were made: it decides which of two similar bodies comes first.
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
        fine = width <= _SPREAD * height.astype(np.float64)
        share = 1 - fine.sum() / len(fine)
        if share >= _SPREAD_SHARE:
            spread.append((body.track.body_id, f"spread out in {share:.0%} of its frames"))
        else:
            motion = min(body.motion, _motion(body.joints[fine]))
            upright.append(_Body(body.track, body.joints, body.start, motion))
    if not upright:
        return bodies
    dropped += spread
    return sorted(upright, key=lambda body: -body.motion)


def _merge(bodies: list[_Body], frames: np.ndarray, dropped: list[tuple[int, str]]) -> Selection:
    keypoints = np.zeros((2, max(body.stop for body in bodies), 25, 3), np.float32)
    # What each person takes up, from its first to its last frame. The second one's always begins
    # at 0, as in pyskl: nobody is put before whoever comes first there.
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
        keep = slice(inside[0], inside[-1] + 1)
        keypoints, frames = keypoints[:, keep], frames[keep]
    first, second = np.abs(keypoints[:, 0, 1]).sum(axis=1)
    if first < _EMPTY < second:
        keypoints, kept = keypoints[::-1], kept[::-1]
    return Selection(keypoints, frames[: keypoints.shape[1]], _frozen(kept), tuple(dropped))


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
    # Of two equal ones the later comes first, as where a sorted list is read backwards.
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
    return Selection(keypoints, np.arange(num_frames), _frozen(kept), tuple(dropped))


def _frozen(kept: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(person) for person in kept)


def _to_float32(x: np.ndarray) -> np.ndarray:
    """Round float64 to odd float32: rounded on to float16, it gives what float64 gives directly.

    Rounding to the nearest twice goes wrong where the first rounding ends on a tie of the second.
    Rounded to odd (cut off, and the last bit set if anything was), it never does.

    Source: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008, section 3.
    """
    y = x.astype(np.float32)
    outward = np.abs(y) > np.abs(x)
    y[outward] = np.nextafter(y[outward], np.float32(0))
    y.view(np.uint32)[y != x] |= 1
    return y
