"""Changes to make at a named point of a network: see `run_with_interventions`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Intervention = Callable[[Tensor], Tensor]
_AXES = ("clips", "persons", "frames", "joints", "channels")
_POOLED_AXES = ("clips", "channels")


def zero(value: Tensor) -> Tensor:
    """Put zeros in a value's place."""
    return torch.zeros_like(value)


def replace(other: Tensor) -> Intervention:
    """Return the intervention that puts another value in a value's place."""
    return lambda value: other


def mean(*, over: Sequence[str] = ("clips", "persons", "frames", "joints")) -> Intervention:
    """Return the intervention that puts a value's mean in its place.

    Unlike `zero`, it keeps the next layer's input within the range that it was trained on.

    Args:
        over: what to average over: "clips" of the batch, "persons", "frames", "joints", "channels".
            "pooled" is a mean over persons, frames and joints already.

    Raises:
        ValueError: an unknown axis.
    """
    for name in over:
        _check_axis(name)

    def averaged(value: Tensor) -> Tensor:
        found = [_axis(name, value) for name in over]
        axes = [axis for axis in found if axis is not None]
        # PyTorch takes a mean over no axis for one over all.
        return value.mean(dim=axes, keepdim=True).expand_as(value) if axes else value

    return averaged


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
    chosen = dict(zip(_AXES, (clips, persons, frames, joints, channels), strict=True))

    def limited(value: Tensor) -> Tensor:
        here = torch.ones((), dtype=torch.bool, device=value.device)
        for name, numbers in chosen.items():
            if numbers is not None:
                axis = _axis(name, value)
                if axis is None:
                    raise ValueError(
                        f"the value has no {name}: its shape is {tuple(value.shape)}, "
                        f"{' x '.join(_axes(value))}"
                    )
                among = torch.zeros(value.shape[axis], dtype=torch.bool, device=value.device)
                among[list(numbers)] = True
                shape = [1] * value.ndim
                shape[axis] = -1
                here = here & among.view(shape)
        return torch.where(here, intervention(value), value)

    return limited


def _check_axis(name: str) -> None:
    if name not in _AXES:
        raise ValueError(f"unknown axis {name!r}: expected {', '.join(_AXES)}")


def _axes(value: Tensor) -> tuple[str, ...]:
    return _AXES if value.ndim == len(_AXES) else _POOLED_AXES


def _axis(name: str, value: Tensor) -> int | None:
    """Where an axis is; None if the value has no such axis."""
    axes = _axes(value)
    return axes.index(name) if name in axes else None
