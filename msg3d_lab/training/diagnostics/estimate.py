"""What a training will cost, before it is started: memory by batch size, and time."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from msg3d_lab.data.store import Store
from msg3d_lab.model import MSG3D
from msg3d_lab.model.cost import NetworkCost, clip_cost, network_cost
from msg3d_lab.training import recipes
from msg3d_lab.training.diagnostics.held import held_bytes
from msg3d_lab.training.diagnostics.trial import (
    device_type,
    noise_store,
    step_seconds,
    test_seconds,
)
from msg3d_lab.training.distributed.processes import Precision
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.setup import (
    build_model_of,
    open_store_of,
    train_batches_of,
    watched_batches_of,
)
from msg3d_lab.training.validation import split_validation

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Estimate", "estimate"]

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_TYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Estimate:
    """What a training is predicted to cost.

    Attributes:
        recipe: whose training.
        cost: of the network; see `NetworkCost` for the conventions.
        memory: a row per batch size (the index) with the bytes a training step needs: `weights`,
            `optimizer` (its state), `activations` (what autograd keeps until backward), `other`
            (gradients and temporary tensors, as far as they are there at the same time) and
            `total`; of clips with all their persons. If timed on the CPU of a Linux system also
            `process`, what the whole process will hold, in proportion to what a fresh one held at
            two sizes: allocators cannot use every gap again (see `training.held`).
        calibration: what was timed, in words; None where nothing was.
        seconds_per_clip: of training, by the median step.
        test_seconds_per_clip: of evaluation.
        bodies_per_clip: that a training step computes in the mean, at the recipe's batch: those
            that are empty are carried once (`MSG3D.share_empty`), so memory stays below the table's
            in about this proportion to all of them; None without a store.
        clips: trained on in an epoch; None without a store.
        seconds_per_epoch: of training, without looks at other clips; None without a store.
        seconds: of the whole run, looks included; None without a store.
    """

    recipe: Recipe
    cost: NetworkCost
    memory: pd.DataFrame
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
        batch = settings.batch_size
        persons = self.recipe.model.num_persons
        shape = f"{data.clip_len} frames, {persons} person{'s' * (persons > 1)}"
        rows = [
            ("recipe", self.recipe.name),
            ("a clip", shape),
            ("parameters", f"{cost.parameters:,}"),
            ("forward, per clip", f"{_giga(cost.macs)} GMACs, {_giga(cost.flops)} GFLOPs"),
            ("and backward", f"{_giga(cost.training_macs)} GMACs in all"),
            ("activations, per clip", _bytes(cost.activation_bytes)),
        ]
        if self.bodies_per_clip is not None:
            text = f"{self.bodies_per_clip:.3g} of {persons} per clip, empty ones once a batch"
            rows.append(("bodies computed", text))
        if self.seconds_per_clip is None:
            rows.append(("time", "not calibrated"))
        else:
            rows += [
                ("calibrated on", str(self.calibration)),
                ("training, 1000 clips", _duration(1000 * self.seconds_per_clip)),
                ("evaluation, 1000 clips", _duration(1000 * (self.test_seconds_per_clip or 0))),
                ("step", f"{_duration(self.seconds_per_clip * batch * settings.accumulate)}"),
            ]
        if self.seconds_per_epoch is not None and self.seconds is not None:
            rows += [
                ("epoch", f"{_duration(self.seconds_per_epoch)}, {self.clips:,} clips"),
                ("whole run", f"{_duration(self.seconds)}, {settings.epochs} epochs and looks"),
            ]
        lines = [f"{name:24}{text}" for name, text in rows]
        table = self.memory.map(_bytes).rename_axis("batch").reset_index()
        table["batch"] = [f"{n}{' *' if n == batch else '  '}" for n in table["batch"]]
        lines += ["", "Memory of a training step, all persons present (* the recipe's batch)"]
        return "\n".join([*lines, table.to_string(index=False)])


def estimate(
    recipe: Recipe | str,
    *,
    data: Store | str | Path | None = None,
    device: str = "auto",
    precision: Precision = "32-true",
    batch_sizes: Sequence[int] = _SIZES,
    calibrate: bool = True,
    seconds: float = 20,
) -> Estimate:
    """Predict memory and time of a recipe's training on this machine, in one process.

    Memory of tensors is counted, in a step of one clip and one of a few; what a process holds is
    measured, if time is. Time is that of real steps on clips of the store, or on noise without one.
    If the recipe's batch is too large for that, smaller ones are timed, and time is taken to grow
    in proportion to the bodies that are computed.

    Several processes with synchronised normalisation compute empty bodies like all others and keep
    more (docs/clusters.md).

    Args:
        recipe: a recipe, the name of one, or the path of its YAML.
        data: the store; the recipe's default place if left out. Without a store there is no time
            per epoch.
        device: "auto", "cpu", "cuda" or "mps", to time on; memory is counted on the CPU always.
        precision: of the arithmetic.
        batch_sizes: of the table of memory; the recipe's is added.
        calibrate: whether to time steps.
        seconds: that timing may take, about.

    Raises:
        FileNotFoundError: the store named does not exist.
        ValueError: a store that does not fit the recipe; without one, a data set whose classes are
            not known; a batch size or a time that is not positive.
    """
    if not seconds > 0 or not all(size > 0 for size in batch_sizes):
        raise ValueError(
            f"expected batch sizes and seconds above 0, found {list(batch_sizes)} and {seconds}"
        )
    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    try:
        store = open_store_of(recipe, data)
    except FileNotFoundError:
        if data is not None:
            raise
        # Noise has no subjects, and no numbers of clips worth telling.
        section = recipe.data.model_copy(update={"validation_subjects": ()})
        recipe = recipe.model_copy(update={"data": section})
        with tempfile.TemporaryDirectory() as folder:
            noise = noise_store(recipe, Path(folder) / "noise.arrow")
            result = _network(recipe, noise, precision, batch_sizes)
            if calibrate:
                result = _timed(result, noise, "noise", device, precision, seconds)
        return result
    result = _network(recipe, store, precision, batch_sizes)
    bodies = _bodies_per_clip(recipe, store, batch=recipe.training.batch_size)
    result = replace(result, bodies_per_clip=bodies)
    if not calibrate:
        return result
    kind = "synthetic clips" if store.synthetic else "clips"
    result = _timed(result, store, f"{kind} of {store.path.name}", device, precision, seconds)
    return _whole(result, store)


def _network(
    recipe: Recipe, store: Store, precision: Precision, batch_sizes: Sequence[int]
) -> Estimate:
    """What is known without a clock."""
    net = build_model_of(recipe, store)
    cost = network_cost(net, clip_len=recipe.data.clip_len)
    sizes = sorted({*batch_sizes, recipe.training.batch_size})
    return Estimate(recipe, cost, _memory(recipe, net, cost, precision, sizes))


def _memory(
    recipe: Recipe, net: MSG3D, cost: NetworkCost, precision: Precision, sizes: Sequence[int]
) -> pd.DataFrame:
    import pandas as pd

    kept, peak, once = cost.activation_bytes, cost.training_bytes, cost.batch_bytes
    clip_len, settings = recipe.data.clip_len, recipe.training
    if precision in _TYPES:
        clip, once = clip_cost(net, clip_len=clip_len, autocast=_TYPES[precision])
        kept, peak = clip.kept_bytes, clip.peak_bytes
    weights = sum(t.nbytes for t in [*net.parameters(), *net.buffers()])
    copies = 2 if settings.optimizer == "adamw" else int(settings.momentum > 0)
    copies += settings.average_decay > 0
    rows = {}
    for size in sizes:
        tensors = once + size * peak
        activations = min(size * kept, tensors)
        rows[size] = {
            "weights": weights,
            "optimizer": copies * 4 * cost.parameters,
            "activations": activations,
            "other": tensors - activations,
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("batch_size")
    return table.assign(total=table.sum(axis=1))


def _timed(
    result: Estimate, store: Store, what: str, device: str, precision: Precision, seconds: float
) -> Estimate:
    """The estimate with times, of the recipe's batches if they fit into memory and time."""
    asked = result.recipe.training.batch_size
    free = _free_bytes(device_type(device))
    fits = result.memory.index[2 * result.memory["total"] < free]
    there = len(train_batches_of(_with_batch(result.recipe, asked), store).batch(0, epoch=0).labels)
    size = min(there, int(max(fits, default=1)))
    few = min(2, size)

    def step(clips: int, seconds: float) -> float:
        trial = _with_batch(result.recipe, clips)
        time = step_seconds(trial, store, device=device, precision=precision, seconds=seconds)
        return time / len(train_batches_of(trial, store).batch(0, epoch=0).labels)

    per_clip = step(few, seconds / 10)
    # Two steps to warm up and three or more that count, in half of the time there is.
    size = max(few, min(size, int(seconds / (10 * per_clip))))
    if size > few:
        per_clip = step(size, seconds / 2)
    test_per_clip = test_seconds(
        _with_batch(result.recipe, size), store,
        device=device, precision=precision, seconds=seconds / 5,
    )  # fmt: skip
    memory = result.memory
    if device_type(device) == "cpu":
        memory = _with_process(
            result, store, precision, most=min(size, int(seconds / per_clip / 40))
        )
    fewer = f" (the recipe's batch is {asked})" if size < asked else ""
    timed, whole = (_bodies_per_clip(result.recipe, store, batch=n) for n in (size, there))
    return replace(
        result,
        memory=memory,
        calibration=f"{what}, {size} at a time{fewer}",
        seconds_per_clip=per_clip * whole / timed,
        test_seconds_per_clip=test_per_clip,
    )


def _with_process(
    result: Estimate, store: Store, precision: Precision, *, most: int
) -> pd.DataFrame:
    """The table of memory with what a process holds, from two sizes up to `most` clips."""
    batch = max(1, most // 2)
    less, more = (
        held_bytes(result.recipe, store, batch=n, precision=precision) for n in (batch, 2 * batch)
    )
    if less is None or more is None:
        return result.memory
    held = less + (result.memory.index.to_numpy() - batch) * (more - less) / batch
    return result.memory.assign(process=held.clip(min=result.memory["total"]))


def _whole(result: Estimate, store: Store) -> Estimate:
    """The estimate with the times of an epoch and of the run."""
    recipe, settings = result.recipe, result.recipe.training
    per_clip, test_per_clip = result.seconds_per_clip or 0.0, result.test_seconds_per_clip or 0.0
    step = settings.batch_size * settings.accumulate
    batches = train_batches_of(_with_batch(recipe, step), store)
    clips = min(len(batches) * step, len(batches.indices) * settings.repeat)
    watched = len(watched_batches_of(recipe, store, batch_size=1).indices)
    every = settings.watch_every or settings.epochs
    looks = -(-settings.epochs // every)  # the last epoch is looked at always
    epoch = clips * per_clip
    return replace(
        result,
        clips=clips,
        seconds_per_epoch=epoch,
        seconds=settings.epochs * epoch + looks * watched * test_per_clip,
    )


def _bodies_per_clip(recipe: Recipe, store: Store, *, batch: int) -> float:
    """How many bodies per clip the network computes in training, in the mean over random batches.

    Of the empty bodies of a person slot one is carried for all, if the batch has any.
    """
    persons = recipe.model.num_persons
    if recipe.model.dropout > 0:  # they differ then
        return persons
    there = store.persons[split_validation(store, recipe)[0]]
    empty = np.array([(there <= slot).mean() for slot in range(persons)])
    return float(np.sum(1 - empty + (1 - (1 - empty) ** batch) / batch))


def _with_batch(recipe: Recipe, size: int) -> Recipe:
    training = recipe.training.model_copy(update={"batch_size": size, "accumulate": 1})
    return recipe.model_copy(update={"training": training})


def _free_bytes(device: str) -> float:
    if device == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux: whoever asks knows
        return float("inf")
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable")]
    return 1024 * int(found[0]) if found else float("inf")


def _giga(count: float) -> str:
    return f"{count / 1e9:.3g}"


def _bytes(count: float) -> str:
    """A number of bytes to read: decimal units, three digits."""
    unit = 0
    while count >= 999.5 and unit < 4:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[unit]}"


def _duration(seconds: float) -> str:
    """A time to read, in the largest unit that leaves a number above 1."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"
