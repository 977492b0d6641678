"""What all processes do together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
import torch.distributed

if TYPE_CHECKING:
    from lightning_fabric import Fabric


_T = TypeVar("_T")


def gather(fabric: Fabric, mine: Any) -> list[Any]:
    """Return every process's object, in the order of their ranks, on every process."""
    if fabric.world_size == 1:
        return [mine]
    everyone: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def run_on_all_ranks(fabric: Fabric, work: Callable[[], _T], *, first: bool = False) -> _T:
    """Call `work` on every process, or on the first only; if it fails on one, all raise its error.

    Otherwise the others would wait for the failed process for ever.

    Returns:
        The result on this process; None on all but the first, if `first`.

    Raises:
        OSError: raised by `work` on some process; likewise `ValueError`.
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
    """Return whether each of the flags is set on any process."""
    if fabric.world_size == 1:
        return list(flags)
    return [count > 0 for count in sum_over_processes(fabric, list(flags))]


def sum_over_processes(fabric: Fabric, values: list[Any]) -> list[float]:
    """Return the sums of numbers over all processes."""
    mine = torch.tensor([float(v) for v in values], device=fabric.device)
    return cast(torch.Tensor, fabric.all_reduce(mine, reduce_op="sum")).tolist()
