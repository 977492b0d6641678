"""What surrounds the training loop: run folder, lock, signals, checkpoints, progress, callbacks."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from msg3d_lab.data.batches.loader import Batch
from msg3d_lab.data.store import Store, open_store
from msg3d_lab.files import locked, sync
from msg3d_lab.model import save_model
from msg3d_lab.training.callbacks import Callback, CallbackList
from msg3d_lab.training.checkpointing import (
    check_resumable,
    drop_newest,
    read_checkpoint,
    remove_checkpoints,
    write_checkpoint,
)
from msg3d_lab.training.distributed.collectives import any_process, gather, run_on_all_ranks
from msg3d_lab.training.matching.recipe import store_notes
from msg3d_lab.training.progress import Progress
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import LOCK, PROGRESS, Run, create_run, describe_environment, find_run
from msg3d_lab.training.schedule import explain_peak_lr
from msg3d_lab.training.signals import Requeue, Stopped, stop_signal
from msg3d_lab.training.state import TrainState
from msg3d_lab.training.step import StepResult

log = logging.getLogger(__name__)

OnNan = Literal["stop", "skip"]
_MOST_SKIPPED = 10  # steps in a row; a network whose weights are not finite never recovers


@dataclass
class Session:
    """A run that is being trained; a context in which its folder is locked.

    Entering it makes the run folder, or takes over the one to resume and restores its newest
    checkpoint. The loop calls `start_epoch`, `after_step` and `end_epoch`; at the end `finish`.

    Raises:
        TypeError: a callback that cannot be called.
        ValueError: an argument out of range.
    """

    state: TrainState
    recipe: Recipe
    store: Store
    _: KW_ONLY
    path: Path
    steps_per_epoch: int
    resume: bool
    on_nan: OnNan
    checkpoint_minutes: float
    progress: bool
    callbacks: Sequence[Callback]

    def __post_init__(self) -> None:
        if self.on_nan not in ("stop", "skip") or not self.checkpoint_minutes >= 0:
            raise ValueError(
                'expected on_nan "stop" or "skip" and checkpoint_minutes of 0 or more, found '
                f"{self.on_nan!r} and {self.checkpoint_minutes}"
            )
        first = self.state.fabric.is_global_zero
        self.run, self._fabric = Run(self.path), self.state.fabric
        self._callbacks = CallbackList(self.callbacks, enabled=first)
        self._show = self.progress and first
        self._stack = ExitStack()
        self._finished_before = False

    def __enter__(self) -> Session:
        fabric, state, recipe = self._fabric, self.state, self.recipe
        # On every process, before the first one makes the folder.
        old = find_run(self.run.path, resume=self.resume)
        environment = describe_environment(recipe, self.store, fabric, state.net)
        if state.initial is not None:
            environment["init"] = state.initial.record
        differences = run_on_all_ranks(
            fabric, lambda: check_resumable(old, recipe, environment) if old else []
        )
        if old is not None and old.finished:
            log.info("%s is finished already", old.path)
            self._finished_before = True
            self._callbacks.report(old)
            return self
        run_on_all_ranks(fabric, lambda: check_unchanged(self.store))
        with ExitStack() as stack:  # undone if something fails in this block
            self._stop = stack.enter_context(stop_signal())
            run_on_all_ranks(fabric, lambda: self._take_folder(old, environment, stack), first=True)
            notes = self._restore()
            done = state.epoch * self.steps_per_epoch + state.step
            self._bar = stack.enter_context(
                Progress(
                    recipe,
                    self.steps_per_epoch,
                    done=done,
                    enabled=self._show,
                    folder=self.run.path if fabric.is_global_zero else None,
                )
            )
            self._bar.say(explain_peak_lr(recipe.training, fabric.world_size))
            for note in store_notes(recipe, self.store):
                self._bar.say(note)
            if state.initial is not None and old is None:
                self._bar.say(state.initial.describe(state.net, label_names=self.store.label_names))
            if differences:
                listed = ", ".join(differences)
                notes.append(f"results may differ in their last digits ({listed})")
            if old is not None:
                self._bar.say("; ".join([f"resumed from {state.place}", *notes]))
            self._first_epoch, self._saved_at = state.epoch, time.monotonic()
            stack.enter_context(self._callbacks).start(self.run)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        error = exception[1]
        if error is not None and not self._finished_before:
            told = isinstance(error, Requeue | Stopped)
            name = "" if told else f"{type(error).__name__}: "
            self._bar.note(f"{name}{getattr(error, 'message', error)}")
        self._stack.__exit__(*exception)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train: all epochs are done, or patience has ended."""
        settings, state = self.recipe.training, self.state
        out_of_patience = 0 < settings.patience <= state.without_best
        return self._finished_before or state.epoch >= settings.epochs or out_of_patience

    def start_epoch(self) -> None:
        """Check that nobody wants to stop and that the store is still there."""
        if any(any_process(self._fabric, self._stop.is_set())):
            self._save_and_stop()
        run_on_all_ranks(self._fabric, lambda: check_unchanged(self.store))
        self._bar.start_epoch(self.state.epoch)

    def after_step(self, batch: Batch, result: StepResult) -> None:
        """Count the step; write a checkpoint if it is time, or if somebody wants to stop.

        Raises:
            Requeue: SIGTERM came; a checkpoint is written.
            Stopped: SIGINT came; a checkpoint is written.
            ValueError: the step was not finite, and `on_nan` does not allow that (any more).
        """
        state = self.state
        if result.finite:
            state.sums += result.sums
            state.seen += len(batch.labels)
            state.skipped_in_a_row = 0
        else:
            state.skipped += 1
            state.skipped_in_a_row += 1
            self._handle_nan(batch, result)
        state.step += 1
        self._bar.step(state)
        self._callbacks.step(state, steps_per_epoch=self.steps_per_epoch)
        # All processes do the same, or some would write and the others train on.
        late = time.monotonic() - self._saved_at >= 60 * self.checkpoint_minutes
        stopped, late = any_process(self._fabric, self._stop.is_set(), late)
        if stopped:
            self._save_and_stop()
        if late:
            self._save()

    def stop_if_asked(self) -> None:
        """Stop within an evaluation; several processes, which would have to agree, go on."""
        if self._fabric.world_size == 1 and self._stop.is_set():
            self._save_and_stop()

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Write the epoch's row of metrics.csv and a checkpoint.

        Args:
            row: of metrics.csv; loss and top-1 on the held-out clips are NaN if not evaluated.
        """
        state = self.state
        self._bar.finish_epoch(row)
        if self.recipe.training.chooses and not math.isnan(row["val_top1"]):
            self._keep_best(row["val_top1"])
        state.end_epoch(row)
        run_on_all_ranks(self._fabric, lambda: self.run.write_metrics(state.rows), first=True)
        self._save()
        self._callbacks.epoch(state.rows)

    def finish(self) -> None:
        """Write the weights that are kept, and remove the checkpoints."""
        if self._finished_before:
            return
        if self.state.epoch == self._first_epoch:  # killed before the callbacks saw the last epoch
            self._callbacks.epoch(self.state.rows)
        run_on_all_ranks(self._fabric, lambda: check_unchanged(self.store))
        run_on_all_ranks(self._fabric, self._write_weights, first=True)

    def _take_folder(self, old: Run | None, environment: dict[str, Any], stack: ExitStack) -> None:
        """Make the run folder, or take over the old one, and lock it."""
        if old is None:
            state, names = self.state, self.store.label_names
            initial = None
            if state.initial is not None:
                initial = state.initial.tensors(state.net, label_names=names)
            create_run(self.run.path, self.recipe, environment, initial=initial)
        stack.enter_context(locked(self.run.path / LOCK))
        if old is not None:
            if old.finished:
                raise FileExistsError(f"{old.path} was finished by another process meanwhile")
            old.remove_parts()
            facts = old.environment
            old.write_environment({**facts, "resumed": facts.get("resumed", 0) + 1})

    def _restore(self) -> list[str]:
        """Restore the newest complete checkpoint, if any; return what was wrong with the newest."""
        path, fabric = self.run.path, self._fabric
        saved, damaged = run_on_all_ranks(fabric, lambda: read_checkpoint(path))
        if saved is not None:
            self.state.restore(saved)
        fabric.barrier()
        if not damaged:
            return []
        run_on_all_ranks(fabric, lambda: drop_newest(path), first=True)
        return [f"{damaged}: gone back to the one before it"]

    def _save(self) -> None:
        state = self.state
        captured = run_on_all_ranks(self._fabric, state.capture)
        run_on_all_ranks(
            self._fabric, lambda: write_checkpoint(self.run.path, captured), first=True
        )
        state.saved, self._saved_at = state.place, time.monotonic()

    def _save_and_stop(self) -> None:
        self._save()
        raise self._stop.error(
            f"stopped: the checkpoint is of {self.state.place}; go on with --resume (resume=True)"
        )

    def _handle_nan(self, batch: Batch, result: StepResult) -> None:
        """Stop at a step that is not finite, or say that it is skipped."""
        state = self.state
        store, fabric = self.store, self._fabric
        ids = [store.ids[i] for i in batch.indices]
        finite = np.isfinite(batch.x).all(axis=tuple(range(1, batch.x.ndim)))
        broken = [i for i, whole in zip(ids, finite, strict=True) if not whole]
        loss = result.sums[0].item() / len(ids)
        reports = gather(fabric, (loss, ids, broken))
        bad = [r for r in reports if not math.isfinite(r[0])] or reports
        report = (
            f"the loss is {bad[0][0]:.4g} at epoch {state.epoch + 1}, step {state.step + 1} (norm "
            f"of the gradient {result.norm.item():.3g}, learning rate {state.lr:.3g}, clips "
            f"{', '.join(i for r in bad for i in r[1])})"
        )
        if any(r[2] for r in bad):
            names = ", ".join(i for r in bad for i in r[2])
            report += f"; the coordinates of {names} are not finite"
        if self.on_nan == "stop":
            raise ValueError(f"{report}; {state.advice()}")
        if state.skipped_in_a_row == _MOST_SKIPPED:
            raise ValueError(
                f"{report}, and so were the {_MOST_SKIPPED - 1} steps before; {state.advice()}"
            )
        self._bar.say(f"{report}; this step is skipped")

    def _keep_best(self, top1: float) -> None:
        """Keep the epoch with the highest validation top-1; ties go to the earlier epoch."""
        state = self.state
        state.without_best += 1
        if state.best and top1 <= state.best["top1"]:
            return
        state.without_best = 0
        state.best = {"epoch": state.epoch + 1, "top1": top1}
        if self.recipe.training.keep == "best":
            weights = state.evaluated.state_dict()
            state.best["network"] = {n: value.cpu().clone() for n, value in weights.items()}

    def _write_weights(self) -> None:
        state, run, store = self.state, self.run, self.store
        kept, weights = state.epoch, state.evaluated.state_dict()
        if self.recipe.training.keep == "best":
            kept, weights = state.best["epoch"], state.best["network"]
        state.net.load_state_dict(weights)
        run.write_metrics(state.rows)
        notes = {
            "label_names": list(store.label_names),
            "preparation": store.preparation,
            "recipe": self.recipe.model_dump(mode="json"),
            "synthetic": store.synthetic,
        }
        save_model(state.net, run.checkpoint, notes=notes, overwrite=True)
        seconds = round(time.monotonic() - state.run_clock, 1)
        run.write_environment({**run.environment, "kept_epoch": kept, "seconds": seconds})
        for path in (run.checkpoint, run.path):
            sync(path)
        remove_checkpoints(run.path)
        (run.path / PROGRESS).unlink(missing_ok=True)
        self._bar.note(f"finished: the weights of epoch {kept} are kept")


def check_unchanged(store: Store) -> None:
    """Refuse to go on with a store that was removed or replaced while it is in use.

    Training itself would not notice: it has the file open. But the run folder would then name data
    that no longer exist.
    """
    try:
        found = open_store(store.path).fingerprint
    except FileNotFoundError:
        raise FileNotFoundError(
            f"the store {store.path} was removed while it was in use: put it back, then go on with "
            "--resume (resume=True)"
        ) from None
    if found != store.fingerprint:
        raise ValueError(
            f"the store {store.path} was changed while it was in use: its fingerprint was "
            f"{store.fingerprint} and is {found} now. Put the old one back, then go on with "
            "--resume (resume=True), or start a new run"
        )
