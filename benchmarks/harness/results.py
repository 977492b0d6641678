"""Results of `benchmarks/speed.py`: every number, and a page of Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harness.machine import describe_machine
from harness.workloads import Form, Precision

Setting = Literal["same", "shipped"]
_NAMES = {
    "reference": "reference",
    "ours": "ours",
    "fused": "ours, inference form",
    "compiled": "ours, inference form, compiled",
}
_QUIET = 0.1  # cores that other programs may keep busy before the page warns


@dataclass(frozen=True)
class Time:
    """The runs of one form.

    Attributes:
        case: label of the workload.
        clips: clips of one run.
        setting: "same": all forms in one process with the tuned allocator; "shipped": each in a
            process of its own with the allocator it comes with.
        form: "reference", "ours", "fused" or "compiled".
        precision: "fp32", "tf32" or "bf16".
        seconds: of each run, by the clock.
        cpu_seconds: of each run, all threads.
        flop: of one run's products, as executed; 0 if unknown.
        other_load: cores that other programs kept busy meanwhile.
    """

    case: str
    clips: int
    setting: Setting
    form: Form
    precision: Precision
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    flop: int
    other_load: float | None


@dataclass(frozen=True)
class Memory:
    """Bytes that one form needs for one run, beyond its weights and batch.

    Attributes:
        case: label of the workload.
        form: as in `Time`.
        precision: as in `Time`.
        kept: tensors kept for backward; None in evaluation.
        peak: tensors, at most.
        process: growth of a fresh process with the form's own allocator; None if not measured.
    """

    case: str
    form: Form
    precision: Precision
    kept: int | None
    peak: int
    process: int | None


@dataclass(frozen=True)
class SpeedResult:
    """All results.

    Attributes:
        facts: of the machine and the measuring: versions, threads, rounds.
        network: what was measured, in words.
        matmul_rates: FLOP per second of large products, by precision.
        differences: of logits in evaluation in float32, relative, by form.
        times: one row per case, setting, form and precision.
        memory: one row per case, form and precision.
    """

    facts: dict[str, Any]
    network: str
    matmul_rates: dict[str, float]
    differences: dict[str, float]
    times: tuple[Time, ...]
    memory: tuple[Memory, ...]

    def save(self, page: Path, *, extra: str = "") -> None:
        """Write the page and, beside it, every number as JSON; existing files are replaced."""
        numbers = json.dumps(asdict(self), indent=1) + "\n"
        page.with_suffix(".json").write_text(numbers, encoding="utf-8")
        page.write_text(self.markdown() + extra, encoding="utf-8")

    def markdown(self) -> str:
        """Write a page of Markdown."""
        facts = self.facts
        rates = [f"{1e-9 * rate:.0f} GFLOP/s {name}" for name, rate in self.matmul_rates.items()]
        paragraphs = [
            "# Speed and memory",
            f"{describe_machine(facts)}.",
            f"{self.network}, {facts['clip_len']} frames, noise. Medians of {facts['rounds']} "
            "runs, in turns; in brackets the fastest and the slowest. GFLOP/s count the products "
            "that were executed, two operations per multiplication, recomputed ones included; the "
            "peak is the rate of large matrix products and 1 x 1 convolutions on this machine: "
            f"{', '.join(rates)}. bf16 is autocast.",
        ]
        if facts["quick"]:
            paragraphs.append("**A trial on small batches: these numbers are not to be quoted.**")
        loads = [time.other_load for time in self.times if time.other_load is not None]
        if loads and max(loads) > _QUIET:
            paragraphs.append(
                "**The machine was not quiet:** other programs kept up to "
                f"{max(loads):.1f} cores busy."
            )
        words = ", ".join(f"{name}: {value:.0e}" for name, value in self.differences.items())
        paragraphs += [
            f"Difference of logits from ours, norm relative to theirs: {words}.",
            "## One process, the same allocator",
            "The allocator is tuned as the shell does it (`msg3d_lab/allocator.py`).",
            "\n".join(self._time_rows("same")),
            "## As shipped",
            "Each form in a process of its own: ours with the tuned allocator, the reference with "
            "the C library's default.",
            "\n".join(self._time_rows("shipped")),
        ]
        if self.memory:
            paragraphs += [
                "## Memory",
                "MB beyond weights and batch. Kept: tensors kept from forward to backward. Peak: "
                "tensors, at most; both as requested from PyTorch's allocator. Process: growth of "
                "a fresh process, ours with the tuned allocator, the reference with the default. "
                "In brackets the ratio to the reference in the same precision.",
                "\n".join(self._memory_rows()),
            ]
        return "\n\n".join(paragraphs) + "\n"

    def _time_rows(self, setting: Setting) -> Iterator[str]:
        times = [time for time in self.times if time.setting == setting]
        head = ["", "", "seconds", "clips/s", "GFLOP/s", "of the peak", "times as fast"]
        yield _row([*head, "than the reference in fp32"])
        yield _row(["---"] * 8)
        for time in times:
            seconds = statistics.median(time.seconds)
            rate = time.flop / seconds
            percent = 100 * rate / self.matmul_rates[time.precision]
            yield _row(
                [
                    time.case,
                    f"{_NAMES[time.form]}, {time.precision}",
                    f"{seconds:.3g} ({min(time.seconds):.3g} to {max(time.seconds):.3g})",
                    f"{time.clips / seconds:.3g}",
                    *((f"{1e-9 * rate:.0f}", f"{percent:.0f} %") if time.flop else ("", "")),
                    _speedup(times, time, time.precision),
                    _speedup(times, time, "fp32"),
                ]
            )

    def _memory_rows(self) -> Iterator[str]:
        reference = {(r.case, r.precision): r for r in self.memory if r.form == "reference"}
        yield _row(["", "", "kept", "peak", "process"])
        yield _row(["---"] * 5)
        for row in self.memory:
            other = reference.get((row.case, row.precision))
            cells = [
                _megabytes(getattr(row, name), getattr(other, name, None) if other != row else None)
                for name in ("kept", "peak", "process")
            ]
            yield _row([row.case, f"{_NAMES[row.form]}, {row.precision}", *cells])


def _speedup(times: Iterable[Time], time: Time, precision: str) -> str:
    """How many times as fast as the reference in a precision."""
    for other in times:
        if (other.case, other.form, other.precision) == (time.case, "reference", precision):
            ratio = statistics.median(other.seconds) / statistics.median(time.seconds)
            return "" if other == time else f"{ratio:.2f}"
    return ""


def _megabytes(value: int | None, reference: int | None) -> str:
    if value is None:
        return ""
    ratio = f" ({value / reference:.2f})" if reference else ""
    return f"{value / 1e6:,.0f}{ratio}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
