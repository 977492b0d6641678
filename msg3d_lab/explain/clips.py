"""Clips of a run as its network sees them, and the network and store they belong to."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from msg3d_lab.data.batches.sampling import choose_test_frames
from msg3d_lab.data.store import Store
from msg3d_lab.explain.baselines import make_baseline, mean_pose
from msg3d_lab.explain.features import Features, make_features
from msg3d_lab.explain.question import Question
from msg3d_lab.model import MSG3D
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.training.distributed.processes import resolve_device
from msg3d_lab.training.matching.tested_store import open_matching_store
from msg3d_lab.training.runs import Run, open_run
from msg3d_lab.training.setup import build_test_batches

_LOG = logging.getLogger(__name__)
_POSE_CLIPS = 256  # training clips in the mean pose


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which clips of a run are explained, and how.

    Args:
        data: the store. Default: the one the run was trained on.
        split: the clips. Default: the recipe's test split; its training split in `rank_methods`.
        num_clips: how many, balanced over classes. Default: all; 48 in `rank_methods`.
        by: "joint", "part", "segment" or "joint_x_segment".
        num_segments: number of time segments.
        baseline: what replaces a feature: "mean_pose" (of the training clips), "first_frame" or
            "removed".
        score: "logit" or "log_probability".
        seed: of the choice of clips and of everything that is drawn.
        batch_size: the largest number of clips in one forward pass.
        device: "auto", "cpu", "cuda" or "mps".
    """

    data: Store | str | Path | None = None
    split: str | None = None
    num_clips: int | None = None
    by: str = "joint"
    num_segments: int = 8
    baseline: str = "mean_pose"
    score: str = "logit"
    seed: int = 0
    batch_size: int = 64
    device: str = "auto"

    def features(self, skeleton: Skeleton, num_frames: int) -> Features:
        """Return the features of clips of so many frames; see `make_features`."""
        return make_features(
            self.by, skeleton, num_frames=num_frames, num_segments=self.num_segments
        )


DEFAULT_OPTIONS = Options()


@dataclass(frozen=True)
class Clips:
    """Clips as a run's network sees them.

    Args:
        run: the run.
        store: its data.
        indices: positions in the store.
        x: (N, M, T, V, C), on the device.
        frames: (N, T) which frames of the stored clips these are.
        pose: (M, V, C) the mean pose of the training clips.
    """

    run: Run
    store: Store
    indices: np.ndarray
    x: Tensor
    frames: np.ndarray
    pose: Tensor

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Sample ids."""
        return tuple(self.store.ids[i] for i in self.indices)

    @property
    def labels(self) -> np.ndarray:
        """(N,) true classes."""
        return self.store.labels[self.indices]

    def question(self, classes: Tensor, options: Options = DEFAULT_OPTIONS) -> Question:
        """Return the question of why these clips are of these classes, (N,), for a method."""
        return Question(
            x=self.x,
            classes=classes,
            features=options.features(self.store.skeleton, self.x.shape[2]),
            baseline=make_baseline(self.x, options.baseline, pose=self.pose),
            score=options.score,
            ids=self.ids,
            seed=options.seed,
            batch_size=options.batch_size,
        )


def choose_clips(
    store: Store, split: str, *, num_clips: int | None = None, seed: int = 0
) -> np.ndarray:
    """Choose clips of a split, by default all, equally many of each class as far as possible.

    Returns:
        Positions in the store, ascending.

    Raises:
        ValueError: no such split, or fewer than one clip.
    """
    indices = store.indices(split)
    if num_clips is None or num_clips >= len(indices):
        return indices
    if num_clips < 1:
        raise ValueError(f"expected at least one clip, found {num_clips}")
    shuffled = np.random.default_rng(seed).permutation(indices)
    labels = store.labels[shuffled]
    rank = np.empty(len(labels), dtype=int)  # among the clips of the same class
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())
    return np.sort(shuffled[np.argsort(rank, kind="stable")[:num_clips]])


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
        indices: positions in the store.
        data: the store. Default: the one the run was trained on.
        device: where the clips go.
        pose: the mean pose. Default: computed from up to 256 training clips; of test clips, if the
            store has no others.

    Raises:
        FileNotFoundError: no run, or no store.
        ValueError: the store does not fit the run.
    """
    run = run if isinstance(run, Run) else open_run(run)
    store = open_matching_store(run, data, split=run.recipe.data.test_split).store
    if pose is None:
        recipe = run.recipe.data
        has_training = recipe.train_split in store.splits
        part = recipe.train_split if has_training else recipe.test_split
        training = choose_clips(store, part, num_clips=_POSE_CLIPS)
        pose = mean_pose(_read(run, store, training))
    x = _read(run, store, indices).to(device)
    sampling, clip_len = run.recipe.data.sampling, run.recipe.data.clip_len
    lengths = store.frames[indices].tolist()
    frames = [choose_test_frames(n, sampling=sampling, clip_len=clip_len)[0] for n in lengths]
    return Clips(run, store, np.asarray(indices), x, np.stack(frames), pose)


def _read(run: Run, store: Store, indices: np.ndarray) -> Tensor:
    """(N, M, T, V, C)."""
    batches = build_test_batches(run.recipe, store, indices, batch_size=64)
    return torch.cat([torch.from_numpy(batch.x[:, 0]) for batch in batches])


def open_network(
    run: Run | str | Path,
    data: Store | str | Path | None = None,
    *,
    device: torch.device | str = "cpu",
) -> tuple[MSG3D, Store]:
    """Open a run's network, in evaluation mode, and its store: `data`, or that of the training.

    Raises:
        FileNotFoundError: no weights, or no store.
        ValueError: they do not fit.
    """
    run = run if isinstance(run, Run) else open_run(run)
    matched = open_matching_store(run, data, split=run.recipe.data.test_split)
    for note in matched.notes:
        _LOG.warning(note)
    return run.model().to(device), matched.store


class RunClips(NamedTuple):
    """A run's network and store, and the clips that are explained: see `choose_run_clips`."""

    run: Run
    model: MSG3D
    store: Store
    device: torch.device
    split: str
    indices: np.ndarray


def choose_run_clips(
    run: Run | str | Path, options: Options, *, training: bool = False
) -> RunClips:
    """Open a run's network and store, and choose clips, by default of the test split."""
    run = run if isinstance(run, Run) else open_run(run)
    device = resolve_device(options.device)
    model, store = open_network(run, options.data, device=device)
    recipe = run.recipe.data
    split = options.split or (recipe.train_split if training else recipe.test_split)
    indices = choose_clips(store, split, num_clips=options.num_clips, seed=options.seed)
    return RunClips(run, model, store, device, split, indices)


def predict_classes(model: MSG3D, x: Tensor, *, batch_size: int = 64) -> Tensor:
    """Return the predicted classes: (N, M, T, V, C) -> (N,), on the clips' device."""
    with torch.inference_mode():
        found = torch.cat([model(part).argmax(dim=1) for part in torch.split(x, batch_size)])
    return found.clone()


def planted_features(ids: Sequence[str], frames: np.ndarray, features: Features) -> np.ndarray:
    """Return which features carry the action, for clips of the embedded synthetic data set.

    A feature is planted if it holds one of the acting joints in one of the event's frames.

    Shapes:
        frames of the stored clips, `Clips.frames`: (N, T) -> (N, F) bool

    Raises:
        ValueError: not a synthetic clip.
    """
    from msg3d_lab.data.synthetic.dataset import evidence

    truth = np.zeros((len(ids), len(features)), dtype=bool)
    for row, name, own in zip(truth, ids, frames, strict=True):
        event = evidence(name)
        during = (own >= event.frames[0]) & (own < event.frames[1])
        row[np.unique(features.index[during][:, list(event.joints)])] = True
    return truth


def playback_fps(frames: np.ndarray, num_frames: int) -> float:
    """Return the frame rate at which sampled frames show the motion at its recorded speed.

    Consecutive frames (repeated or cut off at the end) keep the recorded rate, 30 frames per second
    as in NTU RGB+D. Frames spread over the whole recording last as long as the recording.

    Args:
        frames: (T,) frames of the recording; a row of `Clips.frames`.
        num_frames: the recording's length.

    Example:
        >>> playback_fps(np.arange(100) % 60, 60), playback_fps(np.arange(0, 100, 2), 100)
        (30.0, 15.0)
    """
    steps = np.diff(frames)
    consecutive = bool((steps < 0).any() or (steps == 1).all())
    return 30.0 if consecutive else 30 * len(frames) / num_frames
