"""Keeping several processes together: what one finds out, all know."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch

from msg3d_lab.training.distributed.processes import gather

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["any_process", "sum_over_processes", "together"]

_T = TypeVar("_T")


def together(fabric: Fabric, work: Callable[[], _T], *, first: bool = False) -> _T:
    """Do the work on every process, or on the first; where one fails, all raise its error.

    Otherwise the others would wait for the failed one for ever.

    Returns:
        This process's result; on the others than the first None, if `first`.
    """
    result, failed = None, None
    try:
        if fabric.is_global_zero or not first:
            result = work()
    except (OSError, ValueError) as error:
        failed = error
    for problem in gather(fabric, failed):
        if problem is not None:
            raise problem
    return cast(_T, result)


def any_process(fabric: Fabric, *flags: bool) -> list[bool]:
    """Whether each of the flags is set on any process."""
    if fabric.world_size == 1:
        return list(flags)
    return [count > 0 for count in sum_over_processes(fabric, list(flags))]


def sum_over_processes(fabric: Fabric, values: list[Any]) -> list[float]:
    """The sums of numbers over all processes."""
    mine = torch.tensor([float(v) for v in values], device=fabric.device)
    return cast(torch.Tensor, fabric.all_reduce(mine, reduce_op="sum")).tolist()
