"""A few training steps without a run folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median

import numpy as np
import torch

from msg3d_lab import skeletons
from msg3d_lab.data.batches.loader import Batch, TrainBatches, prefetch
from msg3d_lab.data.clips import Clip
from msg3d_lab.data.datasets import DATASETS
from msg3d_lab.data.store import Store, open_store, write_store
from msg3d_lab.training.distributed.processes import Precision, launch
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.setup import build_batches
from msg3d_lab.training.state import TrainState, build_state
from msg3d_lab.training.step import clips_per_step, train_step
from msg3d_lab.training.validation import predict_batches

_WARM_UP = 2  # steps before the clock counts: memory is allocated, kernels are chosen
_MOST = 50  # steps


def new_state(
    recipe: Recipe, store: Store, *, device: str = "auto", precision: Precision = "32-true"
) -> TrainState:
    """Build what `fit` starts with, in one process; PyTorch's generators are left as they were."""
    fabric = launch(device, devices=1, num_nodes=1, precision=precision)
    with own_generators(fabric.device):
        torch.manual_seed(recipe.training.seed)
        return build_state(recipe, store, fabric)


def own_generators(device: torch.device) -> AbstractContextManager[None]:
    """Restore PyTorch's random generators after a block."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def with_batch_size(recipe: Recipe, batch_size: int) -> Recipe:
    """Return the recipe with steps of one batch of this size."""
    training = recipe.training.model_copy(update={"batch_size": batch_size, "accumulate": 1})
    return recipe.model_copy(update={"training": training})


def noise_store(recipe: Recipe, path: Path) -> Store:
    """Write a store of noise that fits the recipe's data set, with a few batches of clips.

    Raises:
        ValueError: the number of the data set's classes is not known.
    """
    data, training = recipe.data, recipe.training
    names = list(recipe.label_names)
    if data.dataset == "kinetics400":
        names = [f"class {i}" for i in range(400)]
    if not names:
        raise ValueError(
            f"there is no store of {data.dataset} to count its classes in, and it is none of "
            f"{', '.join(DATASETS)}: name your store with --data (data=...)"
        )
    skeleton = skeletons.get(data.layout)
    rng = np.random.default_rng(0)
    shape = (recipe.model.num_persons, data.clip_len, skeleton.num_joints, 3)
    clips = (
        Clip(
            f"noise{i:04d}",
            rng.standard_normal(shape).astype(np.float32),
            i % len(names),
            (data.train_split, data.test_split),
        )
        for i in range(2 * training.batch_size * training.accumulate)
    )
    write_store(
        path,
        clips,
        dataset=data.dataset,
        skeleton=skeleton,
        label_names=names,
        channels=3,
        preparation={"name": data.preparation or "none"},
        synthetic=True,
    )
    return open_store(path)


def endless(batches: TrainBatches) -> Iterator[Batch]:
    """Yield the batches of one epoch after the other."""
    epoch = 0
    while True:
        yield from batches.epoch(epoch)
        epoch += 1


def step_seconds(
    recipe: Recipe, store: Store, *, device: str, precision: Precision, seconds: float
) -> float:
    """Return the median time of a training step; batches are loaded meanwhile, as in `fit`.

    About so many seconds are spent, but three steps at least are timed.
    """
    state = new_state(recipe, store, device=device, precision=precision)
    state.train()
    batches, _ = build_batches(recipe, store)
    times: list[float] = []
    waiting = prefetch(endless(batches))
    with own_generators(state.fabric.device):  # dropout
        while len(times) < _WARM_UP + _MOST and (len(times) < _WARM_UP + 3 or sum(times) < seconds):
            started = time.perf_counter()
            result = train_step(state, next(waiting), total_clips=clips_per_step(batches), lr=0.0)
            result.sums.tolist()  # waits for a GPU
            times.append(time.perf_counter() - started)
    del waiting  # ends its thread
    return median(times[_WARM_UP:])


def test_seconds(
    recipe: Recipe, store: Store, *, device: str, precision: Precision, seconds: float
) -> float:
    """Return the evaluation's time per clip; see `step_seconds`."""
    state = new_state(recipe, store, device=device, precision=precision)
    state.net.eval()
    _, held_out = build_batches(recipe, store)
    times: list[tuple[float, int]] = []
    began = started = time.perf_counter()
    for _, labels, _ in predict_batches(state.net, held_out, fabric=state.fabric):
        now = time.perf_counter()
        times.append((now - started, len(labels)))
        started = now
        if now - began > seconds and len(times) > 1:
            break
    counted = times[1:] or times  # the first is slow, and may be the only one
    return sum(t for t, _ in counted) / sum(n for _, n in counted)
