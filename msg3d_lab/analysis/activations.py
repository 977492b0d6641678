"""Run a network and read, or change, the values at its named points.

Hooks exist only while a function here runs; afterwards the network is as before.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from msg3d_lab.analysis.interventions import Intervention
from msg3d_lab.analysis.points import POOLED, list_points
from msg3d_lab.model import MSG3D


def run_with_cache(
    model: MSG3D,
    x: Tensor,
    *,
    names: Sequence[str] | None = None,
    interventions: Mapping[str, Intervention] | None = None,
    gradients: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run a network and keep the values at named points.

    The network runs as it is, in training or evaluation mode, but without its switches that save
    memory and time (`recompute`, `share_empty`, `sliced`), so that every value is of the whole
    batch. Only values asked for are kept.

    Args:
        model: any MSG3D; `points(model)` lists its points.
        names: names of points or patterns, such as "block2.g3d.*". Default: all points, which for
            a wide network takes many times the batch's memory.
        interventions: as in `run_with_interventions`; the changed values are then kept.
        gradients: whether `torch.autograd.grad` can be asked for derivatives of the logits with
            respect to the values.

    Returns:
        Logits, and the values by name in the order in which the network computes them.

    Shapes:
        x: (N, M, T, V, C) -> logits (N, num_classes), and values (N, M, T, V, C) with the point's
            own T and C; "pooled" is (N, C).

    Raises:
        ValueError: no such point, or not an MSG3D.

    Source: the idea, and the name, are TransformerLens's (Nanda and Bloom 2022).
    """
    with torch.set_grad_enabled(gradients):
        return _run(model, x, interventions or {}, names=["*"] if names is None else names)


def run_with_interventions(
    model: MSG3D, x: Tensor, interventions: Mapping[str, Intervention]
) -> Tensor:
    """Run a network in which the values at named points are changed.

    Args:
        model: any MSG3D; `points(model)` lists its points.
        interventions: name or pattern -> function of the value that returns the value to go on
            with, of the same shape: `zero`, `replace(value)`, `mean()`, `only(...)`, or any other.

    Shapes:
        x: (N, M, T, V, C) -> logits (N, num_classes).

    Raises:
        ValueError: no such point, two interventions at one, another shape, or not an MSG3D.

    Example:
        >>> model = MSG3D(num_classes=4, num_persons=1, base_channels=6).eval()
        >>> x = torch.randn(2, 1, 8, 25, 3)
        >>> run_with_interventions(model, x, {"block*.g3d": zero}).shape
        torch.Size([2, 4])
    """
    return _run(model, x, interventions, names=[])[0]


def _match(patterns: Sequence[str], there: Mapping[str, Any]) -> list[str]:
    """The points that a name or pattern means, in the network's order."""
    if isinstance(patterns, str):
        patterns = [patterns]
    found: set[str] = set()
    for pattern in patterns:
        matched = fnmatch.filter(there, pattern)
        if not matched:
            near = difflib.get_close_matches(pattern, there, n=3, cutoff=0.5) or list(there)[:3]
            raise ValueError(
                f"no point is called {pattern!r}: did you mean {', '.join(near)}? points(model) "
                "lists them all"
            )
        found.update(matched)
    return [name for name in there if name in found]


def _run(
    model: MSG3D,
    x: Tensor,
    interventions: Mapping[str, Intervention],
    *,
    names: Sequence[str],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the network; change values, then keep those of `names`."""
    there = {point.name: point for point in list_points(model)}
    keep = _match(names, there)
    values: dict[str, Tensor] = {}
    changes: dict[str, Intervention] = {}
    for pattern, change in interventions.items():
        for name in _match([pattern], there):
            if name in changes:
                raise ValueError(f"two interventions at {name}: their order would be unclear")
            changes[name] = change
    N, M = x.shape[0], model.num_persons

    def visit(name: str, value: Tensor) -> Tensor:
        pooled = name == POOLED
        value = value if pooled else value.reshape(N, M, *value.shape[1:])
        if name in changes:
            changed = changes[name](value)
            if changed.shape != value.shape:
                raise ValueError(
                    f"the intervention at {name} must keep the shape {tuple(value.shape)}, "
                    f"but returned {tuple(changed.shape)}"
                )
            value = changed.to(value)
        if name in keep:
            if torch.is_grad_enabled() and not value.requires_grad:
                value = value.detach().requires_grad_()
            values[name] = value
        # A copy goes on: no layer can write into what was kept, or into what was put in.
        return (value if pooled else value.flatten(0, 1)).clone()

    with _whole_batches(model), ExitStack() as stack:
        for name, point in there.items():
            if name in changes or name in keep:
                for handle in point.watch(partial(visit, name)):
                    stack.callback(handle.remove)
        logits = model(x)
    return logits, {name: values[name] for name in keep}


@contextmanager
def _whole_batches(model: MSG3D) -> Iterator[None]:
    """Run every layer once per batch, with every person in it.

    Recomputation would run layers twice, `sliced` once per slice; `share_empty` leaves out persons.
    """
    before = model.recompute, model.share_empty, model.sliced
    model.recompute = model.share_empty = model.sliced = False
    try:
        yield
    finally:
        model.recompute, model.share_empty, model.sliced = before
