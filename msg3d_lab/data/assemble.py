"""From clips and chosen frames to the network's input.

The order is that of the recipes: rotate and scale, scale to [-1, 1] (both over the whole clip),
choose frames, make the stream. Everything but the min-max scaling acts on frames one by one, so it
is done on the chosen frames only, for the whole batch at once.

Motion is to the next frame of the recording with uniform sampling (openmmlab makes streams before
it samples) and to the next chosen frame with replay and resize (the paper's and CTR-GCN's code
make it afterwards).
"""

from __future__ import annotations

import numpy as np

from msg3d_lab.data.sampling import SAMPLINGS
from msg3d_lab.data.store import Store
from msg3d_lab.data.streams import bones, check_stream, motion

__all__ = ["RESCALES", "Assembler", "rotations"]

RESCALES = ("none", "minmax")


class Assembler:
    """Turns clips and chosen frames into the network's input; shared by training and testing.

    Args:
        store, stream, clip_len, num_persons, sampling, rescale: as for `loader.TrainBatches`.

    Raises:
        ValueError: an argument outside what it can be.
    """

    def __init__(
        self,
        store: Store,
        stream: str,
        clip_len: int,
        num_persons: int,
        sampling: str,
        rescale: str,
    ) -> None:
        check_stream(stream)
        if clip_len < 1 or num_persons < 1:
            raise ValueError(
                f"expected at least one frame and person, found clip_len {clip_len}, num_persons "
                f"{num_persons}"
            )
        for what, value, known in (
            ("sampling", sampling, SAMPLINGS),
            ("rescale", rescale, RESCALES),
        ):
            if value not in known:
                raise ValueError(f"unknown {what} {value!r}: expected one of {', '.join(known)}")
        self.store, self.stream, self.sampling = store, stream, sampling
        self.clip_len, self.num_persons, self.rescale = clip_len, num_persons, rescale
        self.dimensions = store.channels - store.scored  # coordinates; a score is none

    def __call__(
        self, indices: np.ndarray, chosen: np.ndarray, linear: np.ndarray | None
    ) -> np.ndarray:
        """Gather the chosen frames and make the stream.

        Shapes:
            indices (N,), chosen (N, T), linear (N, D, D) or None -> (N, M, T, V, C)
        """
        x = self._points(indices, chosen, linear)
        scored = self.store.scored
        if self.stream.startswith("bone"):
            x = bones(x, self.store.skeleton, scored=scored)
        if not self.stream.endswith("motion"):
            return x
        if self.sampling == "uniform":
            last = chosen == self.store.frames[indices][:, None] - 1
            after = self._points(indices, chosen + 1, linear)
            if self.stream == "bone_motion":
                after = bones(after, self.store.skeleton, scored=scored)
        else:
            last = np.broadcast_to(np.arange(self.clip_len) == self.clip_len - 1, chosen.shape)
            after = np.concatenate([x[:, :, 1:], x[:, :, -1:]], axis=2)
        return motion(x, after, last[:, None], scored=scored)

    def _points(
        self, indices: np.ndarray, chosen: np.ndarray, linear: np.ndarray | None
    ) -> np.ndarray:
        """The chosen frames, turned and scaled; absent persons are zeros.

        Past the end there is the last frame again.
        """
        shape = (self.store.skeleton.num_joints, self.store.channels)
        x = np.zeros((len(indices), self.num_persons, self.clip_len, *shape), dtype=np.float32)
        low, high = np.zeros((2, len(indices), self.dimensions), dtype=np.float32)
        for n, i in enumerate(indices):
            clip = self.store.keypoints(i)[: self.num_persons]
            clip.take(chosen[n], axis=1, out=x[n, : len(clip)], mode="clip")
            if self.rescale == "minmax":
                low[n], high[n] = self._extent(clip, None if linear is None else linear[n])
        points = x[..., : self.dimensions]
        if linear is not None:
            turned = points.reshape(len(x), -1, self.dimensions) @ linear
            points[...] = turned.reshape(points.shape)
        if self.rescale == "minmax":
            present = x.any(axis=(3, 4), keepdims=True)
            size = high - low
            factor = np.divide(2, size, out=np.zeros_like(size), where=size > 0)
            middle, factor = ((low + high) / 2)[:, None, None, None], factor[:, None, None, None]
            points[...] = (points - middle) * factor * present
        return x

    def _extent(
        self, clip: np.ndarray, linear: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray] | tuple[float, float]:
        """Smallest and largest value of each axis, over the joints of persons who are there."""
        points = clip[clip.any(axis=(2, 3))][..., : self.dimensions]
        if not points.size:
            return 0.0, 0.0
        points = points if linear is None else points @ linear
        return points.min(axis=(0, 1)), points.max(axis=(0, 1))


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
