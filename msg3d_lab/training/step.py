"""What the training loop is made of: an epoch of steps, and a look at other clips."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F

from msg3d_lab.data.batches.loader import Batch, TestBatches, TrainBatches, prefetch
from msg3d_lab.model.predict import predict
from msg3d_lab.training.distributed.collectives import any_process, sum_over_processes
from msg3d_lab.training.distributed.processes import gather, share_of_mean
from msg3d_lab.training.optimization import learning_rate_factor
from msg3d_lab.training.progress import Progress
from msg3d_lab.training.settings import Training
from msg3d_lab.training.state import State, advice

__all__ = ["OnNan", "gradients", "look", "train_epoch"]

OnNan = Literal["stop", "skip"]
_MOST_SKIPPED = 10  # steps in a row; a network whose weights are not numbers never recovers


def train_epoch(
    state: State,
    batches: TrainBatches,
    settings: Training,
    *,
    peak: float,
    on_nan: OnNan,
    bar: Progress,
    after_step: Callable[[], None],
) -> dict[str, Any]:
    """Train the rest of an epoch and return its row of metrics.

    Args:
        state: where training is; the epoch goes on after its `step`.
        batches: each with the clips of a whole step, accumulated ones included.
        settings: the recipe's training section.
        peak: the learning rate at its highest.
        on_nan: what to do about a step with a loss or a gradient that is not finite.
        bar: shows progress.
        after_step: called after every step, when all there is to know about it is in the state.

    Raises:
        ValueError: see `on_nan`; the message names the step and its clips.
    """
    state.model.train()
    whole = batches.epoch(state.epoch, start=state.step)
    for batch in prefetch(whole):
        state.lr = peak * learning_rate_factor(
            state.epoch * len(batches) + state.step, steps_per_epoch=len(batches), settings=settings
        )
        for group in state.optimizer.param_groups:
            group["lr"] = state.lr
        buffers = [b.clone() for b in state.net.buffers()] if on_nan == "skip" else []
        sums, norm = gradients(state, batches, batch, settings)
        if _is_finite(state, sums, norm):
            state.optimizer.step()
            if state.average:
                state.average.update(state.net)
            state.sums += sums
            state.seen += len(batch.labels)
            state.skipped_in_a_row = 0
        else:
            state.skipped += 1
            state.skipped_in_a_row += 1
            report = _report(state, batches, batch, sums, norm)
            if on_nan == "skip" and state.skipped_in_a_row == _MOST_SKIPPED:
                raise ValueError(
                    f"{report}, and so were the {_MOST_SKIPPED - 1} steps before; "
                    f"{advice(state.saved)}"
                )
            if on_nan == "stop":
                raise ValueError(f"{report}; {advice(state.saved)}")
            bar.say(f"{report}; this step is skipped")
            _skip(state, buffers, settings)
        state.step += 1
        bar.step(state.sums, state.seen, seconds=time.monotonic() - state.epoch_clock)
        after_step()
    loss, correct, seen = sum_over_processes(state.fabric, [*state.sums.tolist(), state.seen])
    seconds = time.monotonic() - state.epoch_clock
    return {
        "epoch": state.epoch + 1,
        "lr": state.lr,
        "train_loss": loss / seen if seen else math.nan,
        "train_top1": correct / seen if seen else math.nan,
        "skipped": state.skipped,
        "seconds": round(seconds, 2),
        "clips_per_s": round(seen / seconds, 1),
    }


def look(state: State, watched: TestBatches, *, stop: threading.Event) -> dict[str, float] | None:
    """Loss and accuracy on the watched clips; None if told to stop meanwhile.

    The averaged weights are looked at where there is an average.
    """
    if state.average is None:
        return _look(state, watched, stop)
    with state.average.applied(state.net):
        return _look(state, watched, stop)


def _look(state: State, watched: TestBatches, stop: threading.Event) -> dict[str, float] | None:
    fabric, net = state.fabric, state.net
    if fabric.world_size > 1:
        for buffer in net.buffers():  # DDP's own way: those of the first process count
            torch.distributed.broadcast(buffer, 0)
    net.eval()

    def forward(x: torch.Tensor) -> torch.Tensor:
        # The bare network: DDP would wait for the other processes at every batch, and their
        # shares of the samples may be a batch longer or shorter.
        with fabric.autocast():
            return net(x)

    loss_sum = correct = seen = 0.0
    for logits, labels, _ in predict(forward, prefetch(watched), device=fabric.device):
        scores, targets = torch.from_numpy(logits[:, 0]), torch.from_numpy(labels)
        loss_sum += F.cross_entropy(scores, targets, reduction="sum").item()
        correct += (scores.argmax(1) == targets).sum().item()
        seen += len(labels)
        if fabric.world_size == 1 and stop.is_set():  # several would have to agree
            return None
    loss_sum, correct, seen = sum_over_processes(fabric, [loss_sum, correct, seen])
    return {"val_loss": loss_sum / seen, "val_top1": correct / seen}


def gradients(
    state: State, batches: TrainBatches, batch: Batch, settings: Training
) -> tuple[torch.Tensor, torch.Tensor]:
    """Leave a step's gradients in the weights; sums of losses and right answers, and their norm."""
    fabric, model = state.fabric, state.model
    state.optimizer.zero_grad(set_to_none=True)
    # As many parts on every process, whose normalisations wait for each other: those of the
    # smallest share, where there are fewer clips than a step wants.
    clips = min(len(batches.indices) * batches.repeat, batches.batch_size * batches.world_size)
    count = min(settings.accumulate, clips // batches.world_size)
    parts = np.array_split(np.arange(len(batch.labels)), count)
    share = share_of_mean(len(batch.labels), batches=batches)
    sums = torch.zeros_like(state.sums)
    for number, part in enumerate(parts, start=1):
        x = torch.from_numpy(batch.x[part[0] : part[-1] + 1]).to(fabric.device)
        labels = torch.from_numpy(batch.labels[part[0] : part[-1] + 1]).to(fabric.device)
        with fabric.no_backward_sync(model, enabled=number < len(parts)):
            logits = model(x)
            loss = F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
            fabric.backward(loss * (share * len(part) / len(batch.labels)))
        sums[0] += loss.detach() * len(part)
        sums[1] += (logits.detach().argmax(1) == labels).sum()
    if settings.clip_norm:
        norm = fabric.clip_gradients(
            model, state.optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False
        )
        return sums, cast(torch.Tensor, norm)
    found = [p.grad for p in state.net.parameters() if p.grad is not None]
    return sums, torch.nn.utils.get_total_norm(found)


def _is_finite(state: State, sums: torch.Tensor, norm: torch.Tensor) -> bool:
    """Whether loss and gradient are finite on every process."""
    finite = torch.isfinite(sums[0])
    if _scaler(state) is None:  # it looks for gradients that are not finite itself, and has a cure
        finite &= torch.isfinite(norm)
    [wrong] = any_process(state.fabric, not finite)
    return not wrong


def _skip(state: State, buffers: list[torch.Tensor], settings: Training) -> None:
    """Undo what a step without an update has changed: the running statistics."""
    for buffer, before in zip(state.net.buffers(), buffers, strict=True):
        buffer.copy_(before)
    scaler = _scaler(state)
    if scaler is not None and settings.clip_norm:
        scaler.update()  # clipping has told it about these gradients


def _scaler(state: State) -> Any:
    """fp16's loss scaling; None at other precisions."""
    return getattr(state.fabric.strategy.precision, "scaler", None)


def _report(
    state: State, batches: TrainBatches, batch: Batch, sums: torch.Tensor, norm: torch.Tensor
) -> str:
    """What is known about a step that went wrong."""
    ids = [batches.store.ids[i] for i in batch.indices]
    finite = np.isfinite(batch.x).all(axis=tuple(range(1, batch.x.ndim)))
    own = (sums[0].item() / len(ids), ids, [i for i, f in zip(ids, finite, strict=True) if not f])
    everyone = gather(state.fabric, own)
    bad = [p for p in everyone if not math.isfinite(p[0])] or everyone
    clips = ", ".join(i for p in bad for i in p[1])
    broken = ", ".join(i for p in bad for i in p[2])
    culprits = f"; the coordinates of {broken} are not finite" if broken else ""
    return (
        f"the loss is {bad[0][0]:.4g} at epoch {state.epoch + 1}, step {state.step + 1} (norm of "
        f"the gradient {norm.item():.3g}, learning rate {state.lr:.3g}, clips {clips}){culprits}"
    )
