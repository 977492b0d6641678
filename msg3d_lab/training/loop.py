"""The training loop."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from msg3d_lab.data.batches.loader import TestBatches, TrainBatches
from msg3d_lab.data.store import Store
from msg3d_lab.files import locked, sync
from msg3d_lab.model import save_model
from msg3d_lab.training import recipes
from msg3d_lab.training.callbacks import Watcher, Watchers
from msg3d_lab.training.checkpointing import (
    Requeue,
    StoreWatch,
    check_resumable,
    drop_newest,
    read_checkpoint,
    remove_checkpoints,
    stop_signal,
    write_checkpoint,
)
from msg3d_lab.training.distributed.collectives import any_process, together
from msg3d_lab.training.distributed.processes import Precision, launch
from msg3d_lab.training.distributed.sync_norm import synchronise
from msg3d_lab.training.optimization import Average, build_optimizer
from msg3d_lab.training.progress import Progress
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import Run, create_run, machine_facts, open_run
from msg3d_lab.training.setup import (
    build_model_of,
    open_store_of,
    train_batches_of,
    watched_batches_of,
)
from msg3d_lab.training.state import State
from msg3d_lab.training.step import OnNan, look, train_epoch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["fit"]

log = logging.getLogger(__name__)


def fit(
    recipe: Recipe | str,
    *,
    data: Store | str | Path | None = None,
    run: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Precision = "32-true",
    on_nan: OnNan = "stop",
    checkpoint_minutes: float = 5,
    progress: bool = True,
    watchers: Sequence[Watcher] = (),
) -> Run:
    """Train the recipe's network and return its run.

    The recipe says which weights are kept. Without a validation part the test split is watched
    (columns `val_*` of metrics.csv); it decides nothing.

    A run that is killed loses what it did since its last checkpoint and no more: resumed, it ends
    with the weights and metrics of one that was not, to the last bit on a CPU with as many threads.

    Args:
        recipe: a recipe, the name of one, or the path of its YAML.
        data: the store; the recipe's default place if left out.
        run: the run's folder; `runs/<recipe's name>` if left out.
        resume: whether to go on with the run of that folder, if there is one. A finished one is
            returned as it is.
        device: "auto", "cpu", "cuda" or "mps".
        devices: processes per machine; what torchrun or srun started if left out, else one.
        num_nodes: machines, likewise.
        precision: of the arithmetic, in Lightning Fabric's words.
        on_nan: at a loss or a gradient that is not finite "stop", or "skip" the step; ten in a row
            stop too.
        checkpoint_minutes: between two checkpoints; there is one at the end of every epoch anyway.
        progress: whether to show a progress bar.
        watchers: called after each epoch, by the first process, with the rows of metrics.csv so
            far (see `training.watching`), and once if no epoch is left to train; one that fails
            costs the run nothing.

    Raises:
        FileExistsError: the run folder exists, and `resume` is not set.
        FileNotFoundError: no store, or it was removed meanwhile; a folder to resume that is no run.
        BlockingIOError: another process is at work in the run folder.
        OSError: something cannot be written; the checkpoints are as they were.
        Requeue: SIGTERM came; the run can be resumed.
        TypeError: a watcher that cannot be called.
        ValueError: the store does not fit the recipe, or was changed meanwhile; another number of
            processes runs than was asked for; an argument out of range; the run to resume is of
            another recipe, store, precision or number of processes, or has no checkpoint that is
            whole; the loss is not finite.
    """
    if on_nan not in ("stop", "skip") or not checkpoint_minutes >= 0:
        raise ValueError(
            'expected on_nan "stop" or "skip" and checkpoint_minutes of 0 or more, found '
            f"{on_nan!r} and {checkpoint_minutes}"
        )
    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    path = Path(run) if run is not None else Path("runs") / recipe.name
    old = _existing(path, resume=resume)  # on every process, before any waits for another
    store = open_store_of(recipe, data)
    fabric = launch(device, devices=devices, num_nodes=num_nodes, precision=precision)
    settings = recipe.training
    torch.manual_seed(settings.seed)
    batches, watched = _batches(recipe, store, fabric)
    total_batch = settings.batch_size * settings.accumulate * fabric.world_size
    peak = settings.learning_rate * total_batch / settings.learning_rate_batch
    net = build_model_of(recipe, store)
    optimizer = build_optimizer(net.parameters(), settings, learning_rate=peak)
    watching = Watchers(watchers, enabled=fabric.is_global_zero)
    environment: dict[str, Any] = {
        **machine_facts(),
        "device": str(fabric.device),
        "world_size": fabric.world_size,
        "precision": precision,
        "data": {"path": str(store.path), "fingerprint": store.fingerprint},
        "synthetic": store.synthetic,
        "recipe_hash": recipe.hash,
        "learning_rate": peak,
        "parameters": sum(p.numel() for p in net.parameters()),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    changes = together(fabric, lambda: check_resumable(old, recipe, environment) if old else [])
    if old is not None and old.finished:
        log.info("%s is finished already", path)
        if watchers:
            with watching:
                watching.start(old)
                watching.epoch(old.metrics.to_dict("records"))
        return old
    store_watch = StoreWatch(store)
    together(fabric, store_watch.check)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_signal())
        result = together(
            fabric,
            lambda: _take(path, recipe, environment, old, stack),
            first=True,
        ) or Run(path)
        model, fabric_optimizer = fabric.setup(
            synchronise(net, fabric) if settings.sync_norm else net, optimizer
        )
        average = Average(net, settings.average_decay) if settings.average_decay else None
        state = State(fabric, net, model, fabric_optimizer, average)
        if fabric.global_rank:  # dropout of its own; the first process goes on with the seed's
            torch.manual_seed(settings.seed + 1_000_003 * fabric.global_rank)
        damaged = _restore(state, result)
        done = state.epoch * len(batches) + state.step
        bar = stack.enter_context(
            Progress(recipe, len(batches), done=done, enabled=progress and fabric.is_global_zero)
        )
        bar.say(
            f"learning rate {peak:.4g} = {settings.learning_rate:.4g} * {total_batch} / "
            f"{settings.learning_rate_batch} (recipe's rate, this batch, recipe's batch)"
        )
        if old is not None:
            notes = [damaged] if damaged else []
            if changes:
                notes.append(f"results may differ in their last digits ({', '.join(changes)})")
            bar.say("; ".join([f"resumed from {state.place}", *notes]))
        stack.enter_context(watching).start(result)
        _train(
            state, result, batches, watched, recipe,
            peak=peak, on_nan=on_nan, seconds=60 * checkpoint_minutes,
            stop=stop, store_watch=store_watch, bar=bar, watching=watching,
        )  # fmt: skip
        together(fabric, lambda: _finish(state, result, settings, store, environment), first=True)
    return result


def _existing(path: Path, *, resume: bool) -> Run | None:
    """The run to go on with; None where a new one can be made."""
    if not path.exists():
        return None
    if resume:
        return open_run(path)
    unfinished = (path / "recipe.yaml").is_file() and not Run(path).finished
    advice = "go on with it by --resume (resume=True), " if unfinished else ""
    raise FileExistsError(
        f"{path} exists already: {advice}name another run folder with --run, or remove it"
    )


def _batches(recipe: Recipe, store: Store, fabric: Fabric) -> tuple[TrainBatches, TestBatches]:
    """Batches to train on, each with the clips of a whole step, and batches to look at."""
    settings = recipe.training
    share: dict[str, int] = {"rank": fabric.global_rank, "world_size": fabric.world_size}
    step = settings.model_copy(update={"batch_size": settings.batch_size * settings.accumulate})
    whole = recipe.model_copy(update={"training": step})
    return (
        train_batches_of(whole, store, **share),
        watched_batches_of(recipe, store, batch_size=settings.batch_size, **share),
    )


def _take(
    path: Path, recipe: Recipe, environment: dict[str, Any], old: Run | None, stack: ExitStack
) -> Run:
    """Make the run folder, or take over an old one, and lock it."""
    result = old or create_run(path, recipe, environment)
    stack.enter_context(locked(path / ".lock"))
    if old is not None:
        if old.finished:
            raise FileExistsError(f"{path} was finished by another process meanwhile")
        old.remove_parts()
        facts = old.environment
        old.write_environment({**facts, "resumed": facts.get("resumed", 0) + 1})
    return result


def _restore(state: State, run: Run) -> str | None:
    """Go on from the newest checkpoint that is whole, if any; what is wrong with a damaged one."""
    fabric = state.fabric
    saved, damaged = together(fabric, lambda: read_checkpoint(run.path))
    if saved is not None:
        state.restore(saved)
    fabric.barrier()
    if damaged:
        together(fabric, lambda: drop_newest(run.path), first=True)
        return f"{damaged}: gone back to the one before it"
    return None


def _train(
    state: State,
    run: Run,
    batches: TrainBatches,
    watched: TestBatches,
    recipe: Recipe,
    *,
    peak: float,
    on_nan: OnNan,
    seconds: float,
    stop: threading.Event,
    store_watch: StoreWatch,
    bar: Progress,
    watching: Watchers,
) -> None:
    """Train until the last epoch or until patience ends."""
    settings, fabric = recipe.training, state.fabric
    saved_at, first = time.monotonic(), state.epoch

    def save() -> None:
        nonlocal saved_at
        captured = together(fabric, state.capture)
        together(fabric, lambda: write_checkpoint(run.path, captured), first=True)
        state.saved, saved_at = state.place, time.monotonic()

    def after_step() -> None:
        watching.step(state, steps_per_epoch=len(batches))
        # What one knows all do, or some would write and the others train on.
        late = time.monotonic() - saved_at >= seconds
        stopped, late = any_process(fabric, stop.is_set(), late)
        if stopped or late:
            save()
        if stopped:
            message = f"told to stop: the checkpoint is of {state.place}; go on with --resume"
            bar.say(message)
            raise Requeue(message)

    while state.epoch < settings.epochs and not _out_of_patience(state, settings):
        if any(any_process(fabric, stop.is_set())):
            after_step()
        together(fabric, store_watch.check)
        bar.start_epoch(state.epoch)
        row = train_epoch(
            state, batches, settings, peak=peak, on_nan=on_nan, bar=bar, after_step=after_step
        )
        turn = settings.watch_every and (state.epoch + 1) % settings.watch_every == 0
        seen: dict[str, float] | None = {"val_loss": math.nan, "val_top1": math.nan}
        if turn or state.epoch + 1 == settings.epochs:
            seen = look(state, watched, stop=stop)
        if seen is not None:
            row |= seen
            bar.finish_epoch(row)
            _choose(state, row, settings)
            state.rows.append(row)
            state.epoch += 1
            state.start_epoch()
            together(fabric, lambda: run.write_metrics(state.rows), first=True)
            save()
            watching.epoch(state.rows)
    if state.epoch == first:  # killed behind the last epoch: nobody may have been told of it
        watching.epoch(state.rows)
    together(fabric, store_watch.check)


def _choose(state: State, row: dict[str, Any], settings: recipes.Training) -> None:
    """Keep the weights if they are the best so far, where the recipe wants them."""
    if not settings.chooses or math.isnan(row["val_top1"]):
        return
    state.looks += 1
    if state.best and row["val_top1"] <= state.best["val_top1"]:
        return
    state.looks = 0
    state.best = {"epoch": row["epoch"], "val_top1": row["val_top1"]}
    if settings.keep == "best":
        weights = state.average.state_dict()["mean"] if state.average else state.net.state_dict()
        state.best["network"] = {name: value.cpu().clone() for name, value in weights.items()}


def _out_of_patience(state: State, settings: recipes.Training) -> bool:
    return 0 < settings.patience <= state.looks


def _finish(
    state: State, run: Run, settings: recipes.Training, store: Store, environment: dict[str, Any]
) -> None:
    """Write the weights to keep, then remove what the run could have been resumed from."""
    kept = state.epoch
    if settings.keep == "best":
        kept = state.best["epoch"]
        state.net.load_state_dict(state.best["network"])
    elif state.average:
        state.net.load_state_dict(state.average.state_dict()["mean"])
    run.write_metrics(state.rows)
    notes = {"label_names": list(store.label_names), "synthetic": store.synthetic}
    save_model(state.net, run.checkpoint, notes=notes, overwrite=True)
    seconds = round(time.monotonic() - state.run_clock, 1)
    run.write_environment({**run.environment, "kept_epoch": kept, "seconds": seconds})
    for path in (run.checkpoint, run.path):
        sync(path)
    remove_checkpoints(run.path)
