"""Compute the network's input from a store's clips and the frames chosen from each.

The order is that of the recipes: augment, scale to [-1, 1] (both over the whole recording), compute
the stream, choose frames. With uniform sampling, motion is to the next frame of the recording
(openmmlab computes streams before it samples); with replay and resize, to the next chosen frame
(the paper's and CTR-GCN's code compute motion afterwards).

Several recordings are processed at once: the frames of all persons are the rows of one array, and
every operation acts on all rows. Absent persons have no rows; the last step gathers the chosen rows
and zeros for absent persons.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Generic, Literal, Protocol, TypeVar, get_args

import numpy as np

from msg3d_lab.data.batches.augment import Draws, turns
from msg3d_lab.data.batches.sampling import SAMPLINGS, UNIFORM, choose_test_frames
from msg3d_lab.data.batches.streams import (
    STREAMS,
    BoneScores,
    bones,
    motion,
    motion_along_frames,
)
from msg3d_lab.skeletons import Skeleton

Rescale = Literal["none", "minmax"]
_AT_ONCE = 16  # recordings: their rows, half a MB of NTU, stay in a core's cache
_LONG = 4  # recordings longer than this times the chosen frames are read in part


class StoredClips(Protocol):
    """What is asked of a `Store`, or of recordings in memory."""

    skeleton: Skeleton
    channels: int  # numbers per joint
    scored: bool  # whether the last one is a score
    dimensions: int  # coordinates per joint
    persons: np.ndarray  # of each clip, (clips,)
    frames: np.ndarray  # of each clip, (clips,)

    def keypoints(self, i: int) -> np.ndarray:
        """Return clip `i`: (M, T, V, C)."""

    def read_into(self, out: np.ndarray, i: int) -> None:
        """Read clip `i` into an array of as many numbers."""


Clips = TypeVar("Clips", bound=StoredClips)


class Assembler(Generic[Clips]):
    """Computes clips of one stream, length and number of persons; for training and testing.

    Args:
        store: an open store, or clips in memory.
        stream: "joint", "bone", "joint_motion" or "bone_motion".
        clip_len: frames per clip.
        num_persons: persons per clip; further persons are dropped, missing ones are zeros.
        sampling: see `msg3d_lab.data.batches.sampling`.
        rescale: "minmax" scales each axis of each clip to [-1, 1] over its frames and joints.
        bone_scores: the score of a bone in 2D: the "mean" of its joints' or their "difference".
    """

    def __init__(
        self,
        store: Clips,
        *,
        stream: str = "joint",
        clip_len: int = 100,
        num_persons: int = 2,
        sampling: str = "uniform",
        rescale: str = "none",
        bone_scores: str = "mean",
    ) -> None:
        for name, value, known in (
            ("stream", stream, STREAMS),
            ("sampling", sampling, SAMPLINGS),
            ("rescale", rescale, get_args(Rescale)),
            ("bone_scores", bone_scores, get_args(BoneScores)),
        ):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}: expected one of {', '.join(known)}")
        self.store, self.stream, self.sampling = store, stream, sampling
        self.clip_len, self.num_persons, self.rescale = clip_len, num_persons, rescale
        self.bone_scores = bone_scores

    def __call__(
        self, indices: np.ndarray, chosen: np.ndarray, draws: Draws | None = None
    ) -> np.ndarray:
        """Compute K clips of each recording from its chosen frames. Masking is left to the caller.

        Shapes:
            indices (N,), chosen (N, K, T) -> (N, K, M, T, V, C)
        """
        joints = (self.store.skeleton.num_joints, self.store.channels)
        shape = (*chosen.shape[:2], self.num_persons, self.clip_len, *joints)
        x = np.empty(shape, dtype=np.float32)
        draws = draws or Draws()
        for start in range(0, len(indices), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            self._fill(x[part], indices[part], chosen[part], draws.select(part))
        return x

    def test_clips(
        self, indices: np.ndarray, *, num_clips: int = 1, axis: int | None = None, seed: int = 255
    ) -> np.ndarray:
        """Compute the test clips of each recording; they depend on nothing but the recording.

        With uniform sampling they differ by their frames. With another sampling they are one clip,
        turned about an axis by equal steps all the way round.

        Shapes:
            indices (N,) -> (N, num_clips, M, T, V, C)

        Args:
            axis: 0, 1, 2 for x, y, z. Default: clips are not turned.
            seed: of the frames.

        Raises:
            ValueError: several clips that would all be the same; fewer than one.
        """
        by_frames = self.sampling in UNIFORM
        if num_clips < 1 or (num_clips > 1 and not by_frames and axis is None):
            raise ValueError(
                f"expected one test clip, found {num_clips} with {self.sampling} sampling: several "
                "need uniform sampling, or training clips that are turned all the way round one "
                "axis (`rotation` with one angle of 180)"
            )
        chosen = np.stack(
            [
                _test_frames(n, self.sampling, self.clip_len, num_clips if by_frames else 1, seed)
                for n in self.store.frames[indices].tolist()
            ]
        )
        if by_frames or num_clips == 1 or axis is None:
            return self(indices, chosen)
        turned = turns(
            axis, num_clips, channels=self.store.channels, dimensions=self.store.dimensions
        )
        draws = [Draws(matrices=np.tile(turn, (len(indices), 1, 1))) for turn in turned]
        return np.concatenate([self(indices, chosen, draw) for draw in draws], axis=1)

    def _fill(self, x: np.ndarray, indices: np.ndarray, chosen: np.ndarray, draws: Draws) -> None:
        """Compute the clips of a few recordings in place."""
        skeleton, scored = self.store.skeleton, self.store.scored
        persons = np.minimum(self.store.persons[indices], self.num_persons)
        frames = self.store.frames[indices]
        needed: dict[int, np.ndarray] = {}
        if self.rescale == "none":
            frames, chosen, needed = _keep_needed_frames(frames, chosen)
        counts = persons * frames
        owner = np.repeat(np.arange(len(indices)), counts)  # the clip that a row belongs to
        rows = np.empty((len(owner) + 1, *x.shape[4:]), dtype=np.float32)
        rows[-1] = 0  # for absent persons
        ends = np.cumsum(counts).tolist()
        whole = (persons == self.store.persons[indices]).tolist()
        for n, (i, start, end) in enumerate(zip(indices.tolist(), [0, *ends], ends, strict=False)):
            if whole[n] and n not in needed:
                self.store.read_into(rows[start:end], i)
            else:
                clip = self.store.keypoints(i)[: persons[n], needed.get(n, slice(None))]
                rows[start:end] = clip.reshape(-1, *x.shape[4:])

        draws.transform(rows[:-1], owner, skeleton, scored=scored)
        if self.rescale == "minmax":
            self._rescale(rows[:-1], owner)
        if self.stream.startswith("bone"):
            rows = bones(rows, skeleton, scored=scored and self.bone_scores == "mean")
        if self.stream.endswith("motion") and self.sampling in UNIFORM:
            last = np.zeros(len(owner), dtype=bool)
            last[np.cumsum(np.repeat(frames, persons)) - 1] = True
            rows = motion(rows[:-1], rows[1:], last, scored=scored)  # whose last row is zero too

        person = np.arange(self.num_persons)
        first = (np.cumsum(counts) - counts)[:, None] + person * frames[:, None]  # (N, M)
        place = first[:, None, :, None] + chosen[:, :, None]  # (N, K, M, T)
        absent = (person >= persons[:, None])[:, None, :, None]
        rows.take(np.where(absent, len(rows) - 1, place), axis=0, out=x, mode="clip")
        if self.stream.endswith("motion") and self.sampling not in UNIFORM:
            x[...] = motion_along_frames(x, scored=scored)

    def _rescale(self, rows: np.ndarray, owner: np.ndarray) -> None:
        """Scale each axis of each clip to [-1, 1] over the joints of those present, in place.

        Shapes:
            rows: (R, V, C), owner: (R,)
        """
        points = rows[..., : self.store.dimensions]
        present = np.any(rows, axis=(1, 2))
        mask, start = present[:, None, None], np.flatnonzero(np.diff(owner, prepend=-1))
        low = np.minimum.reduceat(np.where(mask, points, np.inf), start).min(axis=1)
        high = np.maximum.reduceat(np.where(mask, points, -np.inf), start).max(axis=1)
        empty = low > high  # no person in any frame
        low[empty] = high[empty] = 0
        size, middle = high - low, (low + high) / 2
        factor = np.divide(2, size, out=np.zeros_like(size), where=size > 0)
        # Repeated for each joint first: NumPy broadcasts over the joints more slowly.
        joints = points.shape[1]
        points -= np.repeat(middle[:, None], joints, axis=1)[owner]
        points *= np.repeat(factor[:, None], joints, axis=1)[owner]
        points[~present] = 0


@lru_cache(maxsize=4096)
def _test_frames(
    num_frames: int, sampling: str, clip_len: int, num_clips: int, seed: int
) -> np.ndarray:
    """The frames of a recording's test clips, which are not to be written to: (num_clips, T)."""
    return choose_test_frames(
        num_frames, sampling=sampling, clip_len=clip_len, num_clips=num_clips, seed=seed
    )


def _keep_needed_frames(
    frames: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    """Reduce long recordings to the chosen frames and the frame after each.

    Returns:
        The remaining number of frames of each recording; the positions of the chosen frames among
        them; for the long recordings, the frames that remain.
    """
    frames, chosen, needed = frames.copy(), chosen.copy(), {}
    for n in np.flatnonzero(frames > _LONG * chosen[0].size):
        kept = np.union1d(chosen[n], chosen[n] + 1)
        needed[int(n)] = kept = kept[kept < frames[n]]
        frames[n], chosen[n] = len(kept), np.searchsorted(kept, chosen[n])
    return frames, chosen, needed
