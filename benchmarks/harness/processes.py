"""Run a function in a fresh process, and read the memory of processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from unittest import mock

_T = TypeVar("_T")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def in_fresh_process(function: Callable[..., _T], *arguments: object) -> _T:
    """Call a function of a module in a fresh process with one thread."""
    context = multiprocessing.get_context("spawn")
    with mock.patch.dict(os.environ, _ONE_THREAD), ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def memory_status(process: int | str = "self") -> dict[str, float]:
    """Return a process's memory in MB; empty if it has ended.

    `RssAnon` is memory of its own, `VmRSS` includes pages of mapped files, `VmHWM` is the highest
    `VmRSS` so far.
    """
    keys = ("RssAnon", "VmRSS", "VmHWM")
    with suppress(OSError):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        facts = dict(line.split(":", 1) for line in lines)
        if "VmHWM" in facts:
            return {key: int(facts[key].split()[0]) * 1024 / 1e6 for key in keys}
    return {}


def process_tree(number: int) -> Iterator[int]:
    """Yield the numbers of a process and of all processes it started."""
    yield number
    with suppress(OSError):
        for task in Path(f"/proc/{number}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from process_tree(int(child))
