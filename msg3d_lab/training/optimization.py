"""Steps of the weights: the optimizer, its learning rate over time, and the average behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from msg3d_lab.training.settings import Training

__all__ = ["Average", "build_optimizer", "learning_rate_factor"]

_RAMP = 10  # see `Average`


def build_optimizer(
    parameters: Iterable[nn.Parameter], settings: Training, *, learning_rate: float
) -> torch.optim.Optimizer:
    """Build the recipe's optimizer: SGD with Nesterov momentum, or AdamW.

    Both decay every parameter, as the field's recipes do. The numbers are not exchangeable: AdamW
    takes `learning_rate * weight_decay` off the weights, SGD adds the decay to the gradient.

    Args:
        parameters: what to train.
        settings: the recipe's training section.
        learning_rate: at its peak, scaled to the total batch.

    Source: Loshchilov and Hutter, ICLR 2019 (AdamW).
    """
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, lr=learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
        )
    return torch.optim.SGD(
        parameters,
        lr=learning_rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay,
    )


def learning_rate_factor(step: int, *, steps_per_epoch: int, settings: Training) -> float:
    """The learning rate at a step, as a share of its peak.

    Linear growth over the warm-up, then half a cosine to 0 per step, or a tenth at each milestone.

    Args:
        step: steps done so far.
        steps_per_epoch: steps in an epoch.
        settings: the recipe's training section.
    """
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.schedule == "steps":
        return float(0.1 ** sum(step >= m * steps_per_epoch for m in settings.milestones))
    share = (step - warmup) / (settings.epochs * steps_per_epoch - warmup)
    return 0.5 * (1 + math.cos(math.pi * share))


class Average:
    """An exponential moving average of a network's weights, which often tests better than they do.

    After update n + 1 (n = 0, 1, ...): `average = d * average + (1 - d) * weights` with
    `d = min(decay, n / (n + 10))`. The ramp keeps a short run's average from being that of its
    random start: it covers about the last tenth of the steps until that is more than
    1 / (1 - decay) of them; the first update copies.

    The running statistics of the batch normalisations are averaged like the weights, because they
    belong to them: the network's own are those of its last few steps. Counters are copied.

    Args:
        net: the network, already on its device; under DDP the module inside.
        decay: of the average, in [0, 1).

    Raises:
        ValueError: a decay outside [0, 1).

    Source: the ramp is that of `tf.train.ExponentialMovingAverage(num_updates=...)`, with n for
    n + 1 in its numerator. timm's `ModelEmaV2` and torchvision's reference training average
    buffers too; `torch.optim.swa_utils.AveragedModel` has no ramp and averages counters.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"expected a decay of at least 0 and below 1, found {decay}")
        self.decay, self.updates = decay, 0
        self._mean = {name: value.detach().clone() for name, value in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take the weights after an optimizer step into the average."""
        share = 1 - min(self.decay, self.updates / (self.updates + _RAMP))
        self.updates += 1
        means: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in net.state_dict().items():
            if share == 1 or not value.is_floating_point():
                self._mean[name].copy_(value)
            else:
                means.append(self._mean[name])
                values.append(value)
        if means:
            torch._foreach_lerp_(means, values, share)  # one launch for all on a GPU

    @contextmanager
    def applied(self, net: nn.Module) -> Iterator[None]:
        """Let the network have the averaged weights within a block, and its own again after it."""
        own = {name: value.detach().clone() for name, value in net.state_dict().items()}
        net.load_state_dict(self._mean)
        try:
            yield
        finally:
            net.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on as if nothing had happened; no copies."""
        return {"updates": self.updates, "mean": dict(self._mean)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: it is another network's.
        """
        mean: Mapping[str, Tensor] = state["mean"]
        shapes, expected = (
            {name: tuple(value.shape) for name, value in values.items()}
            for values in (mean, self._mean)
        )
        if shapes != expected:
            other = sorted(n for n, _ in shapes.items() ^ expected.items())
            raise ValueError(
                f"expected the average of a network with the same weights, found {other[0]} to "
                "differ: resume with the recipe that the run was started with"
            )
        for name, value in mean.items():
            self._mean[name].copy_(value)
        self.updates = int(state["updates"])
