"""A few steps without a run folder: to be timed, or looked at, before a training is started."""

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
from msg3d_lab.model.predict import predict
from msg3d_lab.training.distributed.processes import Precision, launch
from msg3d_lab.training.optimization import Average, build_optimizer
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.setup import build_model_of, train_batches_of, watched_batches_of
from msg3d_lab.training.state import State
from msg3d_lab.training.step import gradients

__all__ = [
    "device_type",
    "endless",
    "new_state",
    "noise_store",
    "own_generators",
    "step_seconds",
    "test_seconds",
]

_WARM = 2  # steps before the clock counts: memory is fetched, kernels are chosen
_MOST = 50  # steps


def new_state(
    recipe: Recipe,
    store: Store,
    *,
    device: str = "auto",
    precision: Precision = "32-true",
    learning_rate: float = 0.0,
) -> State:
    """A network at its start, as `fit` would start it, in one process and without a folder.

    Args:
        recipe: its seed decides the weights.
        store: decides classes, joints and channels.
        device: "auto", "cpu", "cuda" or "mps".
        precision: of the arithmetic.
        learning_rate: of the steps; nothing changes at 0.

    Raises:
        ValueError: no such device.
    """
    fabric = launch(device, devices=1, num_nodes=1, precision=precision)
    settings = recipe.training
    with own_generators(fabric.device):
        torch.manual_seed(settings.seed)
        net = build_model_of(recipe, store)
    optimizer = build_optimizer(net.parameters(), settings, learning_rate=learning_rate)
    model, fabric_optimizer = fabric.setup(net, optimizer)
    average = Average(net, settings.average_decay) if settings.average_decay else None
    return State(fabric, net, model, fabric_optimizer, average)


def own_generators(device: torch.device) -> AbstractContextManager[None]:
    """Leave PyTorch's generators, which `torch.manual_seed` sets on every device, as they were."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def device_type(device: str) -> str:
    """What "auto" and the others come to here: "cpu", "cuda" or "mps"."""
    return launch(device, devices=1, num_nodes=1).device.type


def noise_store(recipe: Recipe, path: Path) -> Store:
    """Write clips of noise that a recipe takes for its data set, enough for a few batches.

    Raises:
        ValueError: the number of the data set's classes is not known.
    """
    data, training = recipe.data, recipe.training
    known = DATASETS.get(data.dataset)
    names = list(known.label_names) if known else []
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
        preparation={"name": "none"},
        synthetic=True,
    )
    return open_store(path)


def endless(batches: TrainBatches) -> Iterator[Batch]:
    """The batches of one epoch after the other."""
    epoch = 0
    while True:
        yield from batches.epoch(epoch)
        epoch += 1


def step_seconds(
    recipe: Recipe, store: Store, *, device: str, precision: Precision, seconds: float
) -> float:
    """The median time of a training step, batches made on the way as in training.

    Args:
        recipe: its `batch_size` counts, its `accumulate` does not.
        store: where the clips are from.
        device: where to compute.
        precision: of the arithmetic.
        seconds: that it may take, about; three steps at least are timed.
    """
    state = new_state(recipe, store, device=device, precision=precision)
    state.model.train()
    batches = train_batches_of(recipe, store)
    settings = recipe.training.model_copy(update={"accumulate": 1})
    times: list[float] = []
    waiting = prefetch(endless(batches))
    with own_generators(state.fabric.device):  # dropout
        while len(times) < _WARM + _MOST and (len(times) < _WARM + 3 or sum(times) < seconds):
            started = time.perf_counter()
            sums, _ = gradients(state, batches, next(waiting), settings)
            state.optimizer.step()
            if state.average:
                state.average.update(state.net)
            sums.tolist()  # waits for a GPU
            times.append(time.perf_counter() - started)
    del waiting  # ends its thread
    return median(times[_WARM:])


def test_seconds(
    recipe: Recipe, store: Store, *, device: str, precision: Precision, seconds: float
) -> float:
    """Evaluation's time per clip, batches made on the way; see `step_seconds`."""
    state = new_state(recipe, store, device=device, precision=precision)
    state.net.eval()

    def forward(x: torch.Tensor) -> torch.Tensor:
        with state.fabric.autocast():
            return state.net(x)

    watched = watched_batches_of(recipe, store, batch_size=recipe.training.batch_size)
    times: list[tuple[float, int]] = []
    began = started = time.perf_counter()
    for _, labels, _ in predict(forward, prefetch(watched), device=state.fabric.device):
        now = time.perf_counter()
        times.append((now - started, len(labels)))
        started = now
        if now - began > seconds and len(times) > 1:
            break
    counted = times[1:] or times  # the first is slow, and may be all there is
    return sum(t for t, _ in counted) / sum(n for _, n in counted)
