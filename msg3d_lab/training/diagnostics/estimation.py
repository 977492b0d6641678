"""What a training will cost: operations, memory and time."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from msg3d_lab.data.store import Store
from msg3d_lab.model.cost import NetworkCost, network_cost
from msg3d_lab.training import recipes
from msg3d_lab.training.diagnostics.memory import peak_memory
from msg3d_lab.training.diagnostics.trial import (
    noise_store,
    step_seconds,
    test_seconds,
    with_batch_size,
)
from msg3d_lab.training.distributed.processes import Precision, resolve_device
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.setup import build_batches, build_model, open_store_for
from msg3d_lab.training.step import clips_per_step
from msg3d_lab.training.validation import is_validated, split_validation


@dataclass(frozen=True)
class Estimate:
    """What a training will cost.

    Attributes:
        recipe: whose training.
        cost: of the network; see `NetworkCost` for the conventions.
        peak_memory: bytes by the batch size that was measured (see
            `diagnostics.memory.peak_memory`); empty if it could not be.
        calibration: what was timed, in words; None: nothing was.
        seconds_per_clip: of training, from the median step.
        test_seconds_per_clip: of evaluation.
        bodies_per_clip: that a training step computes on average, in the recipe's batches: of all
            empty bodies of a batch only one is computed. None without a store.
        clips: trained on in an epoch; None without a store.
        seconds_per_epoch: of training, without evaluation; None without a store.
        seconds: of the whole run, with evaluation; None without a store.
    """

    recipe: Recipe
    cost: NetworkCost
    peak_memory: dict[int, int] = field(default_factory=dict)
    calibration: str | None = None
    seconds_per_clip: float | None = None
    test_seconds_per_clip: float | None = None
    bodies_per_clip: float | None = None
    clips: int | None = None
    seconds_per_epoch: float | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        """A table to read."""
        cost, settings, data = self.cost, self.recipe.training, self.recipe.data
        persons = self.recipe.model.num_persons
        convolutions, graphs = cost.published_macs
        shape = f"{data.clip_len} frames, {persons} person{'s' * (persons > 1)}"
        rows = [
            ("recipe", self.recipe.name),
            ("a clip", shape),
            ("parameters", f"{cost.parameters:,}"),
            ("forward, per clip", f"{cost.macs / 1e9:.3g} GMACs"),
            (
                "as published programs",
                f"{convolutions / 1e9:.4g} GMACs in convolutions, {graphs / 1e9:.4g} in graphs",
            ),
            ("and backward", f"{cost.training_macs / 1e9:.3g} GMACs in all"),
            ("activations, per clip", _bytes(cost.activation_bytes)),
        ]
        if self.bodies_per_clip is not None:
            text = f"{self.bodies_per_clip:.3g} of {persons} per clip, empty ones once a batch"
            rows.append(("bodies computed", text))
        if self.seconds_per_clip is None or self.test_seconds_per_clip is None:
            rows.append(("time", "not calibrated"))
        else:
            step = self.seconds_per_clip * settings.batch_size * settings.accumulate
            rows += [
                ("calibrated on", str(self.calibration)),
                ("training, 1000 clips", _duration(1000 * self.seconds_per_clip)),
                ("evaluation, 1000 clips", _duration(1000 * self.test_seconds_per_clip)),
                ("step", _duration(step)),
            ]
        rows += [
            (f"peak memory, {size} clip{'s' * (size > 1)}", _bytes(measured))
            for size, measured in self.peak_memory.items()
        ]
        if self.seconds_per_epoch is not None and self.seconds is not None:
            whole = f"{_duration(self.seconds)}, {settings.epochs} epochs and their evaluations"
            rows += [
                ("epoch", f"{_duration(self.seconds_per_epoch)}, {self.clips:,} clips"),
                ("whole run", whole),
            ]
        return "\n".join(f"{name:24}{text}" for name, text in rows)


def estimate(
    recipe: Recipe | str,
    *,
    data: Store | str | Path | None = None,
    device: str = "auto",
    precision: Precision = "32-true",
    calibrate: bool = True,
    seconds: float = 20,
) -> Estimate:
    """Measure what a recipe's training costs on this machine, in one process.

    Time is that of real steps on clips of the store, or on noise without one. Memory is that of a
    fresh process which trains as many clips at a time. If the recipe's batch is too large for the
    memory or the seconds, a smaller one is measured, and time is taken to grow with the bodies that
    are computed.

    Several processes with synchronised normalisation compute empty bodies like all others and need
    more (docs/clusters.md).

    Args:
        recipe: a recipe, the name of one, or the path of its YAML.
        data: the store or its path. Default: where `msg3d-lab data import` puts it. Without a store
            there is no time per epoch.
        device: "auto", "cpu", "cuda" or "mps".
        precision: of the arithmetic.
        calibrate: whether to measure time and memory. If not, operations are counted only.
        seconds: that measuring may take, about; starting the fresh process comes on top.

    Raises:
        FileNotFoundError: the store named does not exist.
        ValueError: a store that does not fit the recipe; without one, a data set whose classes are
            not known; a time that is not positive.
    """
    if not seconds > 0:
        raise ValueError(f"expected seconds above 0, found {seconds}")
    recipe = recipes.get(recipe)
    with ExitStack() as stack:
        try:
            store, noise = open_store_for(recipe, data), False
        except FileNotFoundError:
            if data is not None:
                raise
            # Noise has no subjects, and its number of clips means nothing.
            section = recipe.data.model_copy(update={"validation_subjects": ()})
            recipe = recipe.model_copy(update={"data": section})
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            store, noise = noise_store(recipe, Path(folder) / "noise.arrow"), True
        bodies = _bodies_per_clip(recipe, store, batch=recipe.training.batch_size)
        result = Estimate(recipe, _cost(recipe, store), bodies_per_clip=None if noise else bodies)
        if calibrate:
            result = _measured(result, store, device, precision, seconds)
    return _with_run_times(result, store) if calibrate and not noise else result


def _cost(recipe: Recipe, store: Store) -> NetworkCost:
    return network_cost(build_model(recipe, store), clip_len=recipe.data.clip_len)


def _measured(
    result: Estimate,
    store: Store,
    device: str,
    precision: Precision,
    seconds: float,
) -> Estimate:
    """The estimate with times and memory, of the recipe's batches if memory and time allow that."""
    recipe, kind = result.recipe, resolve_device(device).type
    what = f"{'synthetic clips' if store.synthetic else 'clips'} of {store.path.name}"
    if result.bodies_per_clip is None:
        what = "noise"
    asked = recipe.training.batch_size
    largest = clips_per_step(build_batches(with_batch_size(recipe, asked), store)[0])
    few = min(2, largest)

    def seconds_per_clip(batch_size: int, seconds: float) -> float:
        trial = with_batch_size(recipe, batch_size)
        time = step_seconds(trial, store, device=device, precision=precision, seconds=seconds)
        return time / clips_per_step(build_batches(trial, store)[0])

    per_clip = seconds_per_clip(few, seconds / 10)
    fits = _free_bytes(kind) / (2 * max(1, result.cost.activation_bytes))
    # Two steps to warm up and three that count, in half of the time.
    size = max(few, int(min(largest, fits, seconds / (10 * per_clip))))
    if size > few:
        per_clip = seconds_per_clip(size, seconds / 2)
    test_per_clip = test_seconds(
        with_batch_size(recipe, size), store,
        device=device, precision=precision, seconds=seconds / 5,
    )  # fmt: skip
    memory = peak_memory(recipe, store, batch_size=size, device=kind, precision=precision)
    smaller = f" (the recipe's batch is {asked})" if size < asked else ""
    timed, whole = (_bodies_per_clip(recipe, store, batch=n) for n in (size, largest))
    return replace(
        result,
        peak_memory={} if memory is None else {size: memory},
        calibration=f"{what}, {size} at a time{smaller}",
        seconds_per_clip=per_clip * whole / timed,
        test_seconds_per_clip=test_per_clip,
    )


def _with_run_times(result: Estimate, store: Store) -> Estimate:
    """The estimate with the times of an epoch and of the run."""
    settings = result.recipe.training
    per_clip, test_per_clip = result.seconds_per_clip or 0.0, result.test_seconds_per_clip or 0.0
    batches, held_out = build_batches(result.recipe, store)
    clips = min(len(batches) * batches.batch_size, len(batches.indices) * settings.repeat)
    evaluations = sum(is_validated(epoch, settings) for epoch in range(settings.epochs))
    epoch = clips * per_clip
    evaluated = evaluations * len(held_out.indices)
    return replace(
        result,
        clips=clips,
        seconds_per_epoch=epoch,
        seconds=settings.epochs * epoch + evaluated * test_per_clip,
    )


def _bodies_per_clip(recipe: Recipe, store: Store, *, batch: int) -> float:
    """How many bodies per clip a training step computes, on average over random batches.

    Of the empty bodies of a person slot one is computed for all, if the batch has any.
    """
    persons = recipe.model.num_persons
    if recipe.model.dropout > 0:  # then they differ
        return persons
    present = store.persons[split_validation(store, recipe)[0]]
    empty = np.array([(present <= slot).mean() for slot in range(persons)])
    return float(np.sum(1 - empty + (1 - (1 - empty) ** batch) / batch))


def _free_bytes(device: str) -> float:
    if device == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return float("inf")
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable")]
    return 1024 * int(found[0]) if found else float("inf")


def _bytes(count: float) -> str:
    """A number of bytes in decimal units, with three digits."""
    unit = 0
    while count >= 999.5 and unit < 4:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[unit]}"


def _duration(seconds: float) -> str:
    """A time in the largest unit that leaves a number above 1."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"
