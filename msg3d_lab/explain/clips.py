"""Clips of a run as its network sees them, and what is planted in them where that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from msg3d_lab.analysis.baselines import make_baseline, mean_pose
from msg3d_lab.analysis.features import Features, make_features
from msg3d_lab.data.batches.loader import TestBatches
from msg3d_lab.data.batches.sampling import replay, resize, uniform_sample
from msg3d_lab.data.store import Store
from msg3d_lab.training.runs import Run, open_run
from msg3d_lab.training.setup import open_store_for

__all__ = [
    "Clips",
    "choose_clips",
    "frames_seen",
    "load_clips",
    "pace",
    "planted",
    "run_in_a_circle",
    "store_of",
]

_POSES = 256  # training clips that the mean pose is taken over


@dataclass(frozen=True)
class Clips:
    """Clips as a run's network sees them.

    Args:
        run: the run.
        store: its data.
        indices: positions in the store.
        x: (N, M, T, V, C), on the device.
        chosen: (N, T) which frames of the stored clips these are.
        pose: (M, V, C) the mean pose of the training clips.
    """

    run: Run
    store: Store
    indices: np.ndarray
    x: Tensor
    chosen: np.ndarray
    pose: Tensor

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Sample ids."""
        return tuple(self.store.ids[i] for i in self.indices)

    @property
    def labels(self) -> np.ndarray:
        """(N,) true classes."""
        return self.store.labels[self.indices]

    def features(self, by: str, *, num_segments: int = 8) -> Features:
        """The features of these clips; see `make_features`."""
        return make_features(
            by, self.store.skeleton, num_frames=self.x.shape[2], num_segments=num_segments
        )

    def baseline(self, name: str) -> Tensor:
        """What takes a feature's place; see `make_baseline`."""
        return make_baseline(self.x, name, pose=self.pose)


def choose_clips(
    store: Store, split: str, *, num_clips: int | None = None, seed: int = 0
) -> np.ndarray:
    """Choose clips of a split, as many of each class as can be; all of them without a number.

    Returns:
        Positions in the store, ascending.

    Raises:
        ValueError: no such split, or less than one clip wanted.
    """
    indices = store.indices(split)
    if num_clips is None or num_clips >= len(indices):
        return indices
    if num_clips < 1:
        raise ValueError(f"expected at least one clip, found {num_clips}")
    shuffled = np.random.default_rng(seed).permutation(indices)
    labels = store.labels[shuffled]
    turn = np.empty(len(labels), dtype=int)  # the how-manieth clip of its class
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:num_clips]])


def load_clips(
    run: Run | str | Path,
    indices: np.ndarray,
    *,
    data: Store | str | Path | None = None,
    device: str | torch.device = "cpu",
    pose: Tensor | None = None,
) -> Clips:
    """Read clips as the run's network sees them in a test with one clip per sample.

    Args:
        run: a run or its folder.
        indices: positions in the store.
        data: the store; the one the run was trained on if left out.
        device: where the clips go.
        pose: the mean pose; that of the training clips if left out.

    Raises:
        FileNotFoundError: no run, or the store is gone.
        ValueError: the store does not fit the run.
    """
    run = run if isinstance(run, Run) else open_run(run)
    store = store_of(run, data)
    if pose is None:
        training = choose_clips(store, run.recipe.data.train_split, num_clips=_POSES)
        pose = mean_pose(_read(run, store, training))
    x = _read(run, store, indices).to(device)
    sampling, clip_len = run.recipe.data.sampling, run.recipe.data.clip_len
    lengths = store.frames[indices].tolist()
    chosen = [frames_seen(n, sampling=sampling, clip_len=clip_len) for n in lengths]
    return Clips(run, store, np.asarray(indices), x, np.stack(chosen), pose)


def store_of(run: Run, data: Store | str | Path | None = None) -> Store:
    """Open the store a run was trained on, or the one given.

    Raises:
        FileNotFoundError: it is gone.
        ValueError: it does not fit the run.
    """
    return open_store_for(run.recipe, data if data is not None else run.environment["data"]["path"])


def planted(ids: Sequence[str], chosen: np.ndarray, features: Features) -> np.ndarray:
    """Return which features carry the action of clips of the embedded synthetic set.

    A feature is planted if one of its joints acts while the event lasts: the event's frames are
    those of the stored clip, and are looked up among the frames that were chosen from it.

    Args:
        ids: the clips' names.
        chosen: (N, T) frames of the stored clips; `Clips.chosen`.
        features: the features.

    Returns:
        (N, F) bool.

    Raises:
        ValueError: not a synthetic clip.
    """
    from msg3d_lab.data.synthetic.dataset import evidence

    truth = np.zeros((len(ids), len(features)), dtype=bool)
    for row, name, frames in zip(truth, ids, chosen, strict=True):
        event = evidence(name)
        lasts = (frames >= event.frames[0]) & (frames < event.frames[1])
        row[np.unique(features.index[lasts][:, list(event.joints)])] = True
    return truth


def _read(run: Run, store: Store, indices: np.ndarray) -> Tensor:
    """The clips of a test with one clip per sample: (N, M, T, V, C)."""
    recipe, data = run.recipe, run.recipe.data
    batches = TestBatches(
        store,
        indices,
        stream=data.stream,
        clip_len=data.clip_len,
        num_persons=recipe.model.num_persons,
        sampling=data.sampling,
        rescale=data.rescale,
    )
    return torch.cat([torch.from_numpy(batch.x[:, 0]) for batch in batches])


def frames_seen(num_frames: int, *, sampling: str, clip_len: int) -> np.ndarray:
    """The frames that `TestBatches` chooses from a recording of this length: (T,)."""
    if sampling == "uniform":
        return uniform_sample(num_frames, clip_len=clip_len, num_clips=1)[0]
    return (replay if sampling == "replay" else resize)(num_frames, clip_len)


def run_in_a_circle(num_frames: np.ndarray, *, sampling: str, clip_len: int) -> np.ndarray:
    """Return which recordings start anew within a clip: lengths (N,) -> (N,) bool.

    Later stretches of such a clip are earlier ones again.
    """
    return (np.asarray(num_frames) < clip_len) & (sampling != "resize")


def pace(chosen: np.ndarray, num_frames: int, *, fps: float = 30) -> float:
    """Return the frames per second at which chosen frames move as they were recorded.

    Frames in a circle, or cut off, follow each other as they were recorded. Others are left out or
    repeated so that they cover the recording, and must last as long as it.

    Args:
        chosen: (T,) frames of the recording; a row of `Clips.chosen`.
        num_frames: the recording's length.
        fps: frames per second of the recording; NTU RGB+D has 30.

    Example:
        >>> pace(np.arange(100) % 60, 60), pace(np.arange(0, 100, 2), 100)
        (30.0, 15.0)
    """
    steps = np.diff(chosen)
    as_recorded = bool((steps < 0).any() or (steps == 1).all())
    return float(fps if as_recorded else fps * len(chosen) / num_frames)
