"""Changes to make at a named point of a network: see `run_with_interventions`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Intervention = Callable[[Tensor], Tensor]


def zero(value: Tensor) -> Tensor:
    """Put zeros in a value's place."""
    return torch.zeros_like(value)


def replace(other: Tensor) -> Intervention:
    """Return the intervention that puts another value in a value's place."""
    return lambda value: other


def mean() -> Intervention:
    """Return the intervention that puts the mean of each channel in a value's place.

    Unlike `zero`, it keeps the next layer's input within the range that it was trained on.
    """
    return lambda value: value.flatten(0, -2).mean(dim=0).expand_as(value)


def only(
    intervention: Intervention,
    *,
    clips: Sequence[int] | None = None,
    persons: Sequence[int] | None = None,
    frames: Sequence[int] | None = None,
    joints: Sequence[int] | None = None,
    channels: Sequence[int] | None = None,
) -> Intervention:
    """Return an intervention that is limited to some clips, persons, frames, joints or channels.

    Args:
        intervention: what happens there.
        clips: numbers in the batch. Default here and below: all.
        persons: numbers of bodies.
        frames: numbers of the point's own frames; later blocks have fewer than the clip.
        joints: numbers of joints.
        channels: numbers of channels.

    Raises:
        ValueError: persons, frames or joints, when it is used at "pooled", which has none.
    """
    axes = ("clips", "persons", "frames", "joints", "channels")
    chosen = dict(zip(axes, (clips, persons, frames, joints, channels), strict=True))

    def limited(value: Tensor) -> Tensor:
        there = ("clips", "channels") if value.ndim == 2 else axes
        here = torch.ones((), dtype=torch.bool, device=value.device)
        for name, numbers in chosen.items():
            if numbers is not None:
                if name not in there:
                    raise ValueError(f"the value has no {name}: its shape is {tuple(value.shape)}")
                among = torch.zeros(value.shape[there.index(name)], dtype=torch.bool)
                among[list(numbers)] = True
                shape = [-1 if axis == name else 1 for axis in there]
                here = here & among.view(shape).to(value.device)
        return torch.where(here, intervention(value), value)

    return limited
