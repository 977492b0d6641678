"""Times of several workloads that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from harness.machine import busy_seconds

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "Sample", "Timing", "clocked", "compare", "take_turns"]

_SHORTEST = 0.5  # seconds in which the system's count of busy ones means something


class Sample(NamedTuple):
    """One run.

    Attributes:
        seconds: by the clock.
        cpu_seconds: of this process's threads, all together.
    """

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Timing:
    """The runs of one workload.

    Attributes:
        samples: in the order they were run, without those that warmed up.
    """

    samples: tuple[Sample, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(sample.seconds for sample in self.samples)

    @property
    def low(self) -> float:
        """Seconds of the quickest run."""
        return min(sample.seconds for sample in self.samples)

    @property
    def high(self) -> float:
        """Seconds of the slowest run."""
        return max(sample.seconds for sample in self.samples)


@dataclass(frozen=True)
class Comparison:
    """Workloads that were run in turns.

    Attributes:
        timings: by name.
        other_load: how many cores other programs kept busy meanwhile, on average; None where the
            system does not tell, and for runs of less than half a second, since it counts in
            hundredths. Times of a machine that is not quiet prove little.
    """

    timings: dict[str, Timing]
    other_load: float | None

    def ratio(self, name: str, *, to: str) -> float:
        """How many times as long `to` takes, by the medians."""
        return self.timings[to].median / self.timings[name].median

    def table(self, *, reference: str | None = None) -> pd.DataFrame:
        """Median, spread and ratio by workload.

        Args:
            reference: the workload the others are compared with; the first if left out.

        Units: milliseconds.
        """
        import pandas as pd

        to = reference if reference is not None else next(iter(self.timings))
        rows = {
            name: {
                "median ms": 1e3 * timing.median,
                "from": 1e3 * timing.low,
                "to": 1e3 * timing.high,
                "times as fast": self.ratio(name, to=to),
            }
            for name, timing in self.timings.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")


def clocked(work: Callable[[], object]) -> Sample:
    """Run once; a GPU's work is waited for."""
    _wait()
    start, cpu = time.perf_counter(), time.process_time()
    work()
    _wait()
    return Sample(time.perf_counter() - start, time.process_time() - cpu)


def compare(
    workloads: Mapping[str, Callable[[], object]], *, rounds: int = 7, warmup: int = 2
) -> Comparison:
    """Time workloads in turns, in this process.

    Whatever slows the machine for a while then slows all of them, and their ratio stays.

    Args:
        workloads: by name.
        rounds: times each is measured.
        warmup: times each is run before.

    Raises:
        ValueError: nothing to run, or no rounds.

    Example:
        >>> result = compare({"short": lambda: sum(range(9)), "long": lambda: sum(range(9999))})
        >>> result.ratio("short", to="long") > 1
        True
    """
    runs = {name: lambda work=work: clocked(work) for name, work in workloads.items()}
    return take_turns(runs, rounds=rounds, warmup=warmup)


def take_turns(
    runs: Mapping[str, Callable[[], Sample]], *, rounds: int, warmup: int = 0
) -> Comparison:
    """As `compare`, for runs that clock themselves, in other processes for example.

    Every round begins with another one, so that none always follows the same.

    Raises:
        ValueError: nothing to run, or no rounds.
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
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            samples[name].append(runs[name]())
    elapsed, after = time.perf_counter() - start, busy_seconds()
    other = None
    if before is not None and after is not None and elapsed > _SHORTEST:
        own = sum(sample.cpu_seconds for several in samples.values() for sample in several)
        other = max(0.0, (after - before - own) / elapsed)
    return Comparison({name: Timing(tuple(several)) for name, several in samples.items()}, other)


def _wait() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
