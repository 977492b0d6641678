"""Training and test batches of a store's clips.

A training batch is a pure function of (seed, epoch, step): the order of the epoch, the frames and
the augmentation of every clip of the global batch are drawn from generators seeded with these
numbers, and each process keeps its part. A run can therefore be resumed in the middle of an epoch,
and any number of processes trains on the same global batches. (With mixup in other pairs: a clip is
mixed with another one of its process.)

How clips are computed, and in which order: `msg3d_lab.data.batches.assemble`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from msg3d_lab.data.batches.assemble import Assembler
from msg3d_lab.data.batches.augment import Augment
from msg3d_lab.data.batches.sampling import choose_train_frames
from msg3d_lab.data.store import Store

# The purpose of a generator is the first number of its seed: NumPy pads seeds with zeros, so one at
# the end could be lost.
_ORDER, _STEP = 1, 2
_T = TypeVar("_T")


class Batch(NamedTuple):
    """Clips for the network."""

    x: np.ndarray  # (N, M, T, V, C) float32 for training, (N, clips, M, T, V, C) for testing
    labels: (
        np.ndarray
    )  # (N,) int64; of mixed clips the fraction of each class, (N, classes) float32
    indices: np.ndarray  # (N,) int64, positions in the store


class TrainBatches:
    """Shuffled, augmented batches; `batch(step, epoch=e)` returns any of them.

    Args:
        assemble: computes clips of an open store.
        indices: the training clips, e.g. `store.indices("xsub_train")`.
        batch_size: clips per process; the global batch is batch_size * world_size.
        augment: random augmentation. Default: none.
        repeat: how often an epoch goes through the clips.
        balanced: whether every class is drawn equally often in an epoch of the same length.
        seed: of everything that is drawn.
        rank, world_size: this process's number, and how many there are.

    Raises:
        ValueError: too few clips, or clips that cannot be augmented so.
    """

    def __init__(
        self,
        assemble: Assembler[Store],
        indices: np.ndarray,
        *,
        batch_size: int = 16,
        augment: Augment | None = None,
        repeat: int = 1,
        balanced: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        store = assemble.store
        self.indices = _check_indices(store, indices)
        if len(self.indices) * repeat < world_size:
            raise ValueError(
                f"{len(self.indices)} training clips cannot be shared by {world_size} processes: "
                "use fewer"
            )
        self.augment = augment or Augment()
        self.augment.check(store.skeleton, dimensions=store.dimensions)
        self.assemble, self.store, self.batch_size = assemble, store, batch_size
        self.repeat, self.balanced = repeat, balanced
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Steps per epoch. A last batch that is not full is dropped, unless it is the only one."""
        total = len(self.indices) * self.repeat
        return max(1, total // (self.batch_size * self.world_size))

    def batch(self, step: int, *, epoch: int) -> Batch:
        """Return one batch: this process's part of the global batch; `step` is below `len`."""
        global_batch_size = self.batch_size * self.world_size
        start = step * global_batch_size
        indices = self._epoch_order(epoch)[start : start + global_batch_size]
        rng = np.random.default_rng((_STEP, self.seed, epoch, step))
        clip_len = self.assemble.clip_len
        # The window is drawn from a generator of its own: the step's gives the same without one.
        starts, lengths = self.augment.window(self.store.frames[indices], rng.spawn(1)[0])
        chosen = starts[:, None] + choose_train_frames(
            lengths, sampling=self.assemble.sampling, clip_len=clip_len, rng=rng
        )
        draws = self.augment.draw(
            len(indices),
            rng,
            skeleton=self.store.skeleton,
            clip_len=clip_len,
            channels=self.store.channels,
            dimensions=self.store.dimensions,
        )
        mine = np.arange(self.rank, len(indices), self.world_size)
        indices, draws = indices[mine], draws.select(mine)
        x = self.assemble(indices, chosen[mine, None], draws)[:, 0]
        draws.mask(x)
        labels = self.store.labels[indices]
        if self.augment.mixup:
            labels = draws.mix(np.eye(self.store.num_classes, dtype=np.float32)[labels])
        return Batch(draws.mix(x), labels, indices)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from step `start` on."""
        for step in range(start, len(self)):
            yield self.batch(step, epoch=epoch)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        """The epoch's clips in order; cached for one epoch."""
        order = self._order
        if order is None or order[0] != epoch:
            rng = np.random.default_rng((_ORDER, self.seed, epoch))
            drawn = (
                draw_balanced(self.indices, self.store.labels, self.repeat, rng)
                if self.balanced
                else np.tile(self.indices, self.repeat)
            )
            order = self._order = (epoch, rng.permutation(drawn))
        return order[1]


class TestBatches:
    """Every clip once, in the order of `indices`, without augmentation.

    Iterating gives batches with x (N, num_clips, M, T, V, C). With several processes, process r
    takes every world_size-th clip from r on; nothing is padded, so the numbers of clips of two
    processes differ by one at most.

    Args:
        assemble: computes clips of an open store.
        indices: the clips, e.g. `store.indices("xsub_val")`.
        batch_size: samples per batch, each with num_clips clips.
        num_clips, axis, seed: test clips per sample and how they differ, see
            `Assembler.test_clips`.
        rank, world_size: this process's number, and how many there are.
    """

    __test__ = False  # pytest: this class is not a test

    def __init__(
        self,
        assemble: Assembler[Store],
        indices: np.ndarray,
        *,
        batch_size: int = 16,
        num_clips: int = 1,
        axis: int | None = None,
        seed: int = 255,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.assemble, self.store, self.batch_size = assemble, assemble.store, batch_size
        self.num_clips, self.axis, self.seed = num_clips, axis, seed
        self.indices = _check_indices(self.store, indices)[rank::world_size]

    def __len__(self) -> int:
        """Batches of this process."""
        return math.ceil(len(self.indices) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.indices), self.batch_size):
            indices = self.indices[start : start + self.batch_size]
            x = self.assemble.test_clips(
                indices, num_clips=self.num_clips, axis=self.axis, seed=self.seed
            )
            yield Batch(x, self.store.labels[indices], indices)


def draw_balanced(
    indices: np.ndarray, labels: np.ndarray, repeat: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw `len(indices) * repeat` clips in which every class occurs equally often.

    Where the classes do not divide that number, some that are drawn occur once more. Within a class
    every clip occurs equally often, or some that are drawn once more.
    """
    own = labels[indices]
    present = np.unique(own)
    times, more = divmod(len(indices) * repeat, len(present))
    wanted = np.full(len(present), times)
    wanted[rng.permutation(len(present))[:more]] += 1
    parts = []
    for label, number in zip(present, wanted, strict=True):
        clips = indices[own == label]
        whole, rest = divmod(int(number), len(clips))
        parts += [np.tile(clips, whole), rng.permutation(clips)[:rest]]
    return np.concatenate(parts)


def prefetch(batches: Iterable[_T], depth: int = 2) -> Iterator[_T]:
    """Compute the next items in a thread while the current one is used.

    An exception is raised where the item would have come. The thread ends when the consumer stops,
    also before the last item.
    """
    iterator, end = iter(batches), object()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        try:
            waiting = deque(pool.submit(next, iterator, end) for _ in range(max(1, depth)))
            while (item := waiting.popleft().result()) is not end:
                waiting.append(pool.submit(next, iterator, end))
                yield item  # type: ignore[misc]  # never `end`
        finally:
            pool.shutdown(cancel_futures=True)


def _check_indices(store: Store, indices: np.ndarray) -> np.ndarray:
    indices = np.asarray(indices, dtype=np.int64)
    if not len(indices):
        raise ValueError(f"expected at least one clip of {store.path.name}, found none")
    return indices
