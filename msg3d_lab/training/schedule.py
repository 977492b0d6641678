"""The learning-rate schedule: its peak, and the learning rate of every step."""

from __future__ import annotations

import math

from msg3d_lab.training.settings import Training


def peak_lr(settings: Training, world_size: int) -> float:
    """Return the highest learning rate: the recipe's, scaled linearly to the clips of a step."""
    clips = settings.batch_size * settings.accumulate * world_size
    return settings.learning_rate * clips / settings.base_batch_size


def explain_peak_lr(settings: Training, world_size: int) -> str:
    """Return how the highest learning rate comes about, in words."""
    clips = settings.batch_size * settings.accumulate * world_size
    return (
        f"learning rate {peak_lr(settings, world_size):.4g} = {settings.learning_rate:.4g} * "
        f"{clips} / {settings.base_batch_size} (recipe's rate, clips per step, base_batch_size)"
    )


def lr_at(step: int, *, peak: float, steps_per_epoch: int, settings: Training) -> float:
    """Return the learning rate of a step.

    It grows linearly over the warm-up, then falls to 0 along half a cosine, or to a tenth at each
    milestone.

    Args:
        step: steps done before.
        peak: the learning rate after the warm-up (`peak_lr`).
    """
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        factor = (step + 1) / (warmup + 1)
    elif settings.schedule == "steps":
        factor = 0.1 ** sum(step >= m * steps_per_epoch for m in settings.milestones)
    else:
        done = (step - warmup) / (settings.epochs * steps_per_epoch - warmup)
        factor = 0.5 * (1 + math.cos(math.pi * done))
    return float(peak * factor)
