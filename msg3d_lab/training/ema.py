"""An exponential moving average (EMA) of a network's weights.

After update n + 1 (n = 0, 1, ...): `average = d * average + (1 - d) * weights` with
`d = min(decay, n / (n + 10))`. The ramp keeps the average of a short run from being that of its
random start; the first update copies the weights.

The running statistics of the batch normalisations are averaged like the weights they belong to.
Integer buffers (counters) are copied.

Source: `torch.optim.swa_utils.AveragedModel`, with the ramp of
`tf.train.ExponentialMovingAverage(num_updates=...)` (n in place of n + 1 in its numerator).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

_RAMP = 10


def build_ema(net: nn.Module, decay: float) -> AveragedModel:
    """Build the average of a network (under DDP the module inside), which is on its device."""

    @torch.no_grad()
    def average(means: list[Tensor], values: list[Tensor], _: Tensor | int) -> None:
        n = int(ema.n_averaged)  # on the CPU, unlike the last argument
        weight = 1 - min(decay, n / (n + _RAMP))
        if weight == 1 or not means[0].is_floating_point():
            torch._foreach_copy_(means, values)
        else:
            torch._foreach_lerp_(means, values, weight)

    ema = AveragedModel(net, multi_avg_fn=average, use_buffers=True)  # type: ignore[arg-type]
    return ema
