"""Check the coordinates of clips, one clip after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from msg3d_lab.data.checks import problems
from msg3d_lab.data.checks.problems import Findings
from msg3d_lab.data.formats.image_range import (
    Extent,
    clips_outside,
    image_extent,
    why_outside,
)
from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.preprocess import prepare_3d
from msg3d_lab.skeletons import Skeleton

_METRES = (0.5, 3.0)  # the size of a body
_STILL = 1e-5  # of the largest coordinate: rounding
_MEASURED = 16  # frames of a clip in which the size of a body is measured
_UPSIDE_DOWN = 0.3  # of the clips; if bodies face any direction, one in seven is
_AGAINST_X = -0.9  # cosine of the angle to x


class _Observation(NamedTuple):
    """What is compared between clips."""

    name: str  # the clip's id
    joints: np.ndarray  # which joints are seen, (V,) bool
    # in how many frames of persons who are there each joint is not seen, (V,); None if that is not
    # counted
    unseen: np.ndarray | None = None
    size: float | None = None  # of a body
    upside_down: bool = False  # whether `prepare_3d` turns the body over
    extent: Extent | None = None  # where it is in its image, if it has one


class CoordinateCheck:
    """Observes clips, then reports what is wrong with them.

    `preparation` is what was done to the clips (`prepare_3d`, ...); None: nothing yet, then an
    `image_size`, (height, width) in pixels, says where 2D is. `axes` counts no score.
    """

    def __init__(
        self,
        findings: Findings,
        layout: Skeleton,
        *,
        axes: int,
        preparation: str | None = None,
        image_size: tuple[int, int] | None = None,
        count_unseen: bool = False,
    ) -> None:
        self.findings, self.layout, self.axes = findings, layout, axes
        self.preparation, self.image_size = preparation, image_size
        self.count_unseen = count_unseen
        # Clips relative to a joint have zeros there.
        self._origins = [layout.center, *(layout.up or ())[1:]]
        self._observations: list[_Observation] = []
        self._joints: dict[bytes, np.ndarray] = {}  # stored once: most clips have the same

    def observe(self, name: str, keypoints: np.ndarray) -> None:
        """Observe a clip (M, T, V, C)."""
        if not np.isfinite(keypoints).all():
            self.findings.add(
                faults.FINITE, name, f"{np.count_nonzero(~np.isfinite(keypoints))} numbers"
            )
            return
        M, T = keypoints.shape[:2]
        points = keypoints[..., : self.axes]
        # prepare_2d puts a joint that was not found at (-1, -1) with score 0.
        found = keypoints[..., -1:] if (self.preparation or "").startswith("prepare_2d") else points
        seen: np.ndarray = np.any(found, axis=-1)  # (M, T, V)
        present: np.ndarray = np.any(seen, axis=-1)  # (M, T)
        persons = present.any(axis=-1)
        joints: np.ndarray = np.any(seen, axis=(0, 1))
        joints = self._joints.setdefault(joints.tobytes(), joints)
        if not persons.any():
            self.findings.add(faults.NOBODY, name)
            self._observations.append(_Observation(name, joints))
            return
        for absent in np.flatnonzero(~persons):
            self.findings.add(problems.NEVER_PRESENT, name, f"person {absent} of {M}")
        if (count := np.count_nonzero(persons)) > problems.MOST_PERSONS:
            seen_in = f"{count} persons, {_frames_seen(present)}"
            self.findings.add(problems.SURPLUS, name, seen_in)
        unseen = None
        if self.count_unseen:
            unseen = (present[..., None] & ~seen).sum(axis=(0, 1))
            if self.preparation is not None:
                unseen[self._origins] = 0
        empty = T - np.count_nonzero(present.any(axis=0))
        if 2 * empty > T:
            self.findings.add(problems.MOSTLY_EMPTY, name, f"{empty} of {T} frames")
        if T == 1:
            self.findings.add(problems.ONE_FRAME, name)
        elif not any(_moves(points[m], present[m]) for m in np.flatnonzero(persons)):
            self.findings.add(problems.STILL, name, f"{T} frames")
        size, upside_down = None, False
        if self.axes == 3:
            m = int(persons.argmax())
            frames = np.flatnonzero(present[m])
            frames = frames[:: -(-len(frames) // _MEASURED)]
            size = _body_size(points[m, frames], seen[m, frames])
            m = int(present.sum(axis=1).argmax())
            upside_down = self._is_upside_down(points[m, present[m].argmax()])
        extent = None
        if self.axes == 2:
            extent = image_extent(
                keypoints, preparation=self.preparation, image_size=self.image_size
            )
        self._observations.append(_Observation(name, joints, unseen, size, upside_down, extent))

    def _is_upside_down(self, body: np.ndarray) -> bool:
        """Whether prepare_3d turns a clip over, or may, that starts with this body (V, 3).

        If `across` points against x, the smallest rotation to x is half a turn about any axis.
        """
        up, across = self.layout.up, self.layout.across
        if up is None or across is None:
            return False
        if self.preparation in ("prepare_3d", "prepare_paper"):
            return bool(body[up[1], 2] < body[up[0], 2])
        if self.preparation is not None:
            return False
        # A line from a joint to itself has no direction, so this aligns `up` only.
        upright = prepare_3d(body[None, None], replace(self.layout, across=(up[0], up[0])))
        if not upright.size:  # coordinates so close to zero count as nobody
            return False
        line = upright[0, 0, across[0]] - upright[0, 0, across[1]]
        return bool(line[0] < _AGAINST_X * np.linalg.norm(line))

    def report(self) -> None:
        """Add what a comparison of the clips shows to the findings."""
        clips = self._observations
        if not clips:
            return
        joints = np.any([clip.joints for clip in clips], axis=0)
        for clip in clips:
            # Joints that are seen in no clip are another problem.
            if clip.unseen is not None and (count := clip.unseen[joints].sum()):
                worst = self.layout.joints[int(np.where(joints, clip.unseen, 0).argmax())]
                self.findings.add(problems.UNSEEN, clip.name, f"{count} times, most often {worst}")
        for joint in np.flatnonzero(~joints):
            if joint not in self._origins and joints.any():
                self.findings.add(problems.ZERO_JOINTS, self.layout.joints[joint])
        upside_down = [clip.name for clip in clips if clip.upside_down]
        if len(upside_down) > _UPSIDE_DOWN * len(clips):
            for name in upside_down:
                self.findings.add(problems.UPSIDE_DOWN, name)
        extents = [(clip.name, clip.extent) for clip in clips if clip.extent is not None]
        outside, many = clips_outside(extents)
        for i, (name, extent) in enumerate(outside):
            why = f"{extent}: {why_outside([e for _, e in outside])}" if not i and many else ""
            kind = problems.NOT_IN_IMAGE if many else problems.PARTLY_OUTSIDE
            self.findings.add(kind, name, why or str(extent))
        low, high = _METRES
        sizes = [(clip.name, clip.size) for clip in clips if clip.size is not None]
        if sizes and not low <= float(np.median([size for _, size in sizes])) <= high:
            for name, size in sizes:
                if not low <= size <= high:
                    self.findings.add(problems.SIZE, name, f"{size:.3g} across")


def _frames_seen(present: np.ndarray) -> str:
    """In how many frames each person is seen, (M, T), most first."""
    counts = sorted(present.sum(axis=1).tolist(), reverse=True)
    return f"seen in {', '.join(map(str, counts))} of {present.shape[1]} frames"


def _moves(points: np.ndarray, present: np.ndarray) -> bool:
    """Whether a person's points (T, V, axes) change while the person is present."""
    points = points if present.all() else points[present]
    span = (points.max(axis=0) - points.min(axis=0)).max()
    return bool(span > _STILL * np.abs(points).max())


def _body_size(points: np.ndarray, seen: np.ndarray) -> float:
    """The extent of the joints along the widest axis: (T, V, 3), (T, V) -> median over frames."""
    points = np.where(seen[..., None], points, np.nan)
    span = np.nanmax(points, axis=1) - np.nanmin(points, axis=1)
    return float(np.median(span.max(axis=-1)))
