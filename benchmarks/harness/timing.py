"""Time several workloads in turns.

`torch.utils.benchmark.Timer` times one workload after the other. In turns, whatever slows the
machine down for a while slows down all of them, and their ratios remain.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from harness.machine import busy_seconds

_SHORTEST = 0.5  # seconds: the system counts busy time in hundredths


class Sample(NamedTuple):
    """One run: seconds by the clock, and seconds of all threads of the process together."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Timing:
    """The runs of one workload, without warm-up runs."""

    samples: tuple[Sample, ...]

    @property
    def median(self) -> float:
        return statistics.median(sample.seconds for sample in self.samples)

    @property
    def low(self) -> float:
        return min(sample.seconds for sample in self.samples)

    @property
    def high(self) -> float:
        return max(sample.seconds for sample in self.samples)


@dataclass(frozen=True)
class Comparison:
    """Workloads that ran in turns.

    Attributes:
        timings: by name.
        other_load: how many cores other programs kept busy meanwhile, on average; None where the
            system does not tell, and for less than half a second in all.
    """

    timings: dict[str, Timing]
    other_load: float | None


def time_once(work: Callable[[], object]) -> Sample:
    """Run once; waits for a GPU."""
    _synchronize()
    start, cpu = time.perf_counter(), time.process_time()
    work()
    _synchronize()
    return Sample(time.perf_counter() - start, time.process_time() - cpu)


def compare(
    workloads: Mapping[str, Callable[[], object]], *, rounds: int = 7, warmup: int = 2
) -> Comparison:
    """Time workloads in turns, in this process.

    Args:
        workloads: by name.
        rounds: timed runs of each.
        warmup: runs of each before that.

    Raises:
        ValueError: no workloads, or no rounds.
    """
    runs = {name: lambda work=work: time_once(work) for name, work in workloads.items()}
    return take_turns(runs, rounds=rounds, warmup=warmup)


def take_turns(
    runs: Mapping[str, Callable[[], Sample]], *, rounds: int, warmup: int = 0
) -> Comparison:
    """As `compare`, for runs that time themselves, for example in other processes.

    Each round starts with another run, so that none always follows the same one.

    Raises:
        ValueError: no runs, or no rounds.
    """
    if not runs or rounds < 1 or warmup < 0:
        raise ValueError(
            f"expected something to run, rounds >= 1 and warmup >= 0, found {list(runs)}, "
            f"rounds={rounds}, warmup={warmup}"
        )
    names = list(runs)
    for _ in range(warmup):
        for name in names:
            runs[name]()
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    before, start = busy_seconds(), time.perf_counter()
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(runs[name]())
    elapsed, after = time.perf_counter() - start, busy_seconds()
    other = None
    if before is not None and after is not None and elapsed > _SHORTEST:
        own = sum(sample.cpu_seconds for several in samples.values() for sample in several)
        other = max(0.0, (after - before - own) / elapsed)
    return Comparison({name: Timing(tuple(several)) for name, several in samples.items()}, other)


def _synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
