"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import torch

from msg3d_lab.data.batches.loader import prefetch
from msg3d_lab.data.store import Store
from msg3d_lab.training import recipes
from msg3d_lab.training.callbacks import Callback
from msg3d_lab.training.distributed.collectives import run_on_all_ranks
from msg3d_lab.training.distributed.processes import Precision, launch
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import Run
from msg3d_lab.training.schedule import lr_at, peak_lr
from msg3d_lab.training.session import OnNan, Session
from msg3d_lab.training.setup import build_batches, open_store_for
from msg3d_lab.training.signals import say_when_interrupted
from msg3d_lab.training.state import build_state
from msg3d_lab.training.step import clips_per_step, train_step
from msg3d_lab.training.validation import is_validated, validate
from msg3d_lab.training.weights.initial import read_initial_weights


class JobOptions(TypedDict, total=False):
    """Options of `fit` that a Slurm job takes over."""

    precision: Precision
    on_nan: OnNan
    checkpoint_minutes: float
    callbacks: Sequence[Callback]
    init: str | Path | None


class FitOptions(JobOptions, total=False):
    """Options of `fit` that functions which train several runs pass on."""

    data: Store | str | Path | None
    device: str
    devices: int | None
    num_nodes: int | None
    progress: bool


@say_when_interrupted(
    "stopped at once: the newest checkpoint is kept, if there is one; go on with --resume "
    "(resume=True)"
)
def fit(
    recipe: Recipe | str,
    *,
    data: Store | str | Path | None = None,
    run: str | Path | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Precision = "32-true",
    on_nan: OnNan = "stop",
    checkpoint_minutes: float = 5,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train the recipe's network and return its run.

    During training the validation part is evaluated, if the recipe has one, and the recipe says
    which epoch's weights are kept. Without a validation part the test split is evaluated (columns
    `test_*` of metrics.csv); it decides nothing.

    A run that is killed loses what it did since its last checkpoint. Resumed, it ends with the
    weights and metrics of an undisturbed run, bit for bit on a CPU with as many threads.

    Args:
        recipe: a recipe, the name of one, or the path of its YAML.
        data: the store or its path. Default: where `msg3d-lab data import` puts it.
        run: the run's folder. Default: `runs/<recipe's name>`.
        init: the weights to start from: a file that `load_model` reads, a run's folder, or the name
            of published weights. The classifier is new where the classes differ. A run that is
            resumed knows its own. Default: random weights.
        resume: whether to go on with the run of that folder, if there is one. A finished one is
            returned as it is.
        device: "auto", "cpu", "cuda" or "mps".
        devices: processes per machine. Default: as many as torchrun or srun started, else one.
        num_nodes: machines. Default: likewise.
        precision: of the arithmetic, as Lightning Fabric calls it.
        on_nan: what to do if a loss or a gradient is not finite: "stop", or "skip" the step; ten
            such steps in a row stop the training too.
        checkpoint_minutes: between two checkpoints; one is written after every epoch anyway.
        progress: whether to show a progress bar.
        callbacks: called after each epoch with the rows of metrics.csv so far, by the first process
            (see `msg3d_lab.training.callbacks`). Their errors are logged, and training goes on.

    Raises:
        FileExistsError: the run folder exists, and `resume` is not set.
        FileNotFoundError: no store, or it was removed meanwhile; no initial weights; the folder to
            resume is no run.
        BlockingIOError: another process is training in the run folder.
        OSError: something cannot be written; the checkpoints are unchanged.
        Requeue: SIGTERM; a checkpoint is written first.
        Stopped: Ctrl-C, or a notebook's stop button; a checkpoint is written first.
        TypeError: a callback that cannot be called.
        ValueError: the store does not fit the recipe, or was changed meanwhile; another number of
            processes runs than was asked for; an argument out of range; the initial weights are of
            another network; the run to resume has another recipe, store, precision, number of
            processes or initial weights, or no complete checkpoint; the loss is not finite.
    """
    recipe = recipes.get(recipe)
    settings = recipe.training
    store = open_store_for(recipe, data)
    fabric = launch(
        device,
        devices=devices,
        num_nodes=num_nodes,
        precision=precision,
        broadcast_buffers=not settings.average_statistics,
    )
    rank, world_size = fabric.global_rank, fabric.world_size
    path = Path(run) if run is not None else Path("runs") / recipe.name
    initial = run_on_all_ranks(fabric, lambda: read_initial_weights(init, run=path, resume=resume))

    torch.manual_seed(settings.seed)
    batches, held_out = build_batches(recipe, store, rank=rank, world_size=world_size)
    # Network, optimizer, EMA, and where training is.
    state = build_state(recipe, store, fabric, initial=initial)
    if rank:  # dropout differs between the processes; the first keeps the recipe's seed
        torch.manual_seed(settings.seed + 1_000_003 * rank)

    session = Session(
        state,
        recipe,
        store,
        path=path,
        resume=resume,
        steps_per_epoch=len(batches),
        on_nan=on_nan,
        checkpoint_minutes=checkpoint_minutes,
        progress=progress,
        callbacks=callbacks,
    )
    with session:
        while not session.finished:
            session.start_epoch()
            state.train()
            for batch in prefetch(batches.epoch(state.epoch, start=state.step)):
                state.lr = lr_at(
                    state.epoch * len(batches) + state.step,
                    peak=peak_lr(settings, world_size),
                    steps_per_epoch=len(batches),
                    settings=settings,
                )
                result = train_step(
                    state,
                    batch,
                    total_clips=clips_per_step(batches),
                    lr=state.lr,
                    restore_buffers=on_nan == "skip",
                )
                session.after_step(batch, result)
            row = state.epoch_metrics()
            if settings.average_statistics:
                state.average_statistics()
            loss = top1 = math.nan
            if is_validated(state.epoch, settings):
                loss, top1 = validate(
                    state.evaluated, held_out, fabric=fabric, after_batch=session.stop_if_asked
                )
            row |= {f"{recipe.held_out}_loss": loss, f"{recipe.held_out}_top1": top1}
            session.end_epoch(row)
        session.finish()
    return session.run
