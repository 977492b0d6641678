"""One training step: forward, backward, clip, update."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msg3d_lab.data.batches.loader import Batch, TrainBatches
from msg3d_lab.training.distributed.collectives import any_process

if TYPE_CHECKING:
    from msg3d_lab.training.state import TrainState


class StepResult(NamedTuple):
    """What a step computed, on this process.

    Args:
        sums: (2,), the sum of the clips' losses and the number of right answers.
        norm: of the gradient, before it was clipped.
        finite: whether loss and gradient were finite on every process; if not, no weight changed.
    """

    sums: Tensor
    norm: Tensor
    finite: bool


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    total_clips: int,
    lr: float,
    restore_buffers: bool = False,
) -> StepResult:
    """Train on the clips of a step: forward, backward, optimizer, EMA.

    Args:
        state: its network is in training mode.
        batch: this process's clips of the step.
        total_clips: of the step, on all processes together (`clips_per_step`).
        restore_buffers: whether to undo the running statistics of a step that is not finite.
    """
    model, optimizer, fabric = state.model, state.optimizer, state.fabric
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    buffers = [b.clone() for b in model.buffers()] if restore_buffers else []
    # The same number of parts on every process: synchronised normalisations wait for each other.
    num_parts = min(state.settings.accumulate, total_clips // fabric.world_size)
    parts = np.array_split(np.arange(len(batch.labels)), num_parts)
    weight = loss_weight(len(batch.labels), total_clips, fabric.world_size)
    sums = torch.zeros(2, device=fabric.device)
    for number, part in enumerate(parts, start=1):
        x = torch.from_numpy(batch.x[part[0] : part[-1] + 1]).to(fabric.device)
        labels = torch.from_numpy(batch.labels[part[0] : part[-1] + 1]).to(fabric.device)
        with fabric.no_backward_sync(model, enabled=number < len(parts)):
            logits = model(x)
            loss = clip_loss(
                logits,
                labels,
                label_smoothing=state.settings.label_smoothing,
                class_weights=state.class_weights,
            )
            fabric.backward(loss * (weight * len(part) / len(batch.labels)))
        sums[0] += loss.detach() * len(part)
        classes = labels if labels.ndim == 1 else labels.argmax(1)
        sums[1] += (logits.detach().argmax(1) == classes).sum()
    norm = _gradient_norm(state)
    scaler = getattr(fabric.strategy.precision, "scaler", None)  # fp16's loss scaler
    finite = torch.isfinite(sums[0])
    if scaler is None:  # else the scaler looks for such gradients itself, and lowers its scale
        finite &= torch.isfinite(norm)
    [broken] = any_process(fabric, not finite)
    if not broken:
        optimizer.step()
        if state.ema:
            state.ema.update_parameters(state.net)
    else:
        for buffer, before in zip(model.buffers(), buffers, strict=False):
            buffer.copy_(before)
        if scaler is not None and state.settings.clip_norm:
            scaler.update()  # clipping has unscaled these gradients
    return StepResult(sums, norm, not broken)


def clips_per_step(batches: TrainBatches) -> int:
    """Return the clips of a step, on all processes together."""
    return min(len(batches.indices) * batches.repeat, batches.batch_size * batches.world_size)


def clip_loss(
    logits: Tensor, labels: Tensor, *, label_smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Return the mean over clips of the cross entropy, each multiplied by its class's weight.

    It is divided by the number of clips and not by the sum of their weights, as PyTorch's weighted
    mean is: else it would depend on which clips are computed together.

    Shapes:
        logits: (N, classes); labels: (N,), or the fraction of each class, (N, classes);
        class_weights: (classes,) -> ().
    """
    if class_weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    losses = F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
    weights = class_weights[labels] if labels.ndim == 1 else labels @ class_weights
    return (weights * losses).mean()


def loss_weight(clips: int, total_clips: int, world_size: int) -> float:
    """Return what to multiply a process's mean loss with, so that all clips count the same.

    DDP averages the gradients of the processes. That is the mean over clips only if every process
    has as many, which is not so where the training set does not fill one batch.
    """
    return clips * world_size / total_clips


def _gradient_norm(state: TrainState) -> Tensor:
    """The norm of the gradient, which is clipped if the recipe says so."""
    model, clip_norm = state.model, state.settings.clip_norm
    if clip_norm:
        norm = state.fabric.clip_gradients(
            model, state.optimizer, max_norm=clip_norm, error_if_nonfinite=False
        )
        return cast(Tensor, norm)
    return nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
