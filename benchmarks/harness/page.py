"""The benchmark's page of Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.bench import BenchResult, Memory, Setting, Time

__all__ = ["page"]

_NAMES = {
    "yardstick": "yardstick",
    "ours": "ours",
    "fused": "ours, inference form",
    "compiled": "ours, inference form, compiled",
}
_QUIET = 0.1  # cores that others may keep busy before the page warns


def page(result: BenchResult) -> str:
    """Write the page."""
    facts = result.facts
    where = f"{facts['processor']} ({facts['cores']} cores)"
    if "gpu" in facts:
        where = f"{facts['gpu']}, CUDA {facts['cuda']}; {where}"
    extra = [
        f"{k}={facts[k]}"
        for k in ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_ARENA_MAX")
        if k in facts
    ]
    lines = [
        "# Speed and memory",
        "",
        f"{facts['date']}, {where}, {facts['threads']} threads, Python {facts['python']}, torch "
        f"{facts['packages']['torch']}, {facts['c_library']}{', ' if extra else ''}"
        f"{', '.join(extra)}, commit {facts['commit'] or 'unknown'}.",
        "",
        f"{result.network}, {facts['clip_len']} frames, noise. Medians of {facts['rounds']} runs, "
        "in turns; in brackets the quickest and the slowest. GFLOP/s count the products that were "
        "executed, two operations per multiplication, those of recomputed ones included; the peak "
        "is that of large matrix products "
        f"and 1 x 1 convolutions here: {_peaks(result)}. bf16 is autocast.",
    ]
    if facts["quick"]:
        lines += ["", "**A quick look, on small batches: to see that it works, not to quote.**"]
    loads = [time.other_load for time in result.times if time.other_load is not None]
    if loads and max(loads) > _QUIET:
        lines += [
            "",
            f"**The machine was not quiet:** others kept up to {max(loads):.1f} cores busy.",
        ]
    lines += _differences(result)
    lines += [
        "",
        "## One process, the same allocator",
        "",
        "The allocator is tuned as the shell does it (`msg3d_lab/allocator.py`).",
        "",
        *_table(result, "same"),
    ]
    if any(time.setting == "shipped" for time in result.times):
        lines += [
            "",
            "## As shipped",
            "",
            "Each side in a process of its own: ours with the tuned allocator, the yardstick with "
            "the C library's default.",
            "",
            *_table(result, "shipped"),
        ]
    if result.memory:
        lines += ["", "## Memory", "", *_memory(result.memory)]
    return "\n".join([*lines, ""])


def _peaks(result: BenchResult) -> str:
    return ", ".join(f"{1e-9 * peak:.0f} GFLOP/s {name}" for name, peak in result.peaks.items())


def _differences(result: BenchResult) -> list[str]:
    if not result.differences:
        return []
    words = ", ".join(f"{name}: {value:.0e}" for name, value in result.differences.items())
    return ["", f"Logits against ours, norm of the difference relative to theirs: {words}."]


def _table(result: BenchResult, setting: Setting) -> Iterator[str]:
    times = [time for time in result.times if time.setting == setting]
    compared = any(time.side == "yardstick" for time in times)
    head = ["", "", "seconds", "clips/s", "GFLOP/s", "of the peak"]
    head += ["times as fast", "than the yardstick in fp32"] if compared else []
    yield _row(head)
    yield _row(["---"] * len(head))
    for time in times:
        seconds = statistics.median(time.seconds)
        row = [
            time.case,
            f"{_NAMES[time.side]}, {time.precision}",
            f"{_short(seconds)} ({_short(min(time.seconds))} to {_short(max(time.seconds))})",
            f"{time.clips / seconds:.3g}",
        ]
        rate = time.flop / seconds
        share = 100 * rate / result.peaks[time.precision]
        row += [f"{1e-9 * rate:.0f}", f"{share:.0f} %"] if time.flop else ["", ""]
        if compared:
            row += [_ratio(times, time, time.precision), _ratio(times, time, "fp32")]
        yield _row(row)


def _ratio(times: Iterable[Time], time: Time, precision: str) -> str:
    """How many times as fast as the yardstick, where there is one."""
    for other in times:
        if (other.case, other.side, other.precision) == (time.case, "yardstick", precision):
            ratio = statistics.median(other.seconds) / statistics.median(time.seconds)
            return "" if other == time else f"{ratio:.2f}"
    return ""


def _memory(rows: Iterable[Memory]) -> Iterator[str]:
    rows = list(rows)
    compared = any(row.side == "yardstick" for row in rows)
    yield (
        "MB beyond weights and batch. Kept: tensors held from forward to backward. Peak: tensors, "
        "at most; both as PyTorch's allocator was asked, to the byte. Process: growth of a fresh "
        "process, ours with the tuned allocator"
        + (
            ", the yardstick with the default. In brackets the share of the yardstick's in the "
            "same precision."
            if compared
            else "."
        )
    )
    yield ""
    yield _row(["", "", "kept", "peak", "process"])
    yield _row(["---"] * 5)
    for row in rows:
        same = (row.case, "yardstick", row.precision)
        others = [o for o in rows if (o.case, o.side, o.precision) == same and o is not row]
        cells = [
            _bytes(getattr(row, name), [getattr(other, name) for other in others])
            for name in ("kept", "peak", "process")
        ]
        yield _row([row.case, f"{_NAMES[row.side]}, {row.precision}", *cells])


def _bytes(value: int | None, others: list[int | None]) -> str:
    if value is None:
        return ""
    share = f" ({value / others[0]:.2f})" if others and others[0] else ""
    return f"{value / 1e6:,.0f}{share}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _short(seconds: float) -> str:
    return f"{seconds:.3g}"
