"""The benchmark: which cases are measured, in which processes, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from harness.machine import cores
from harness.timing import Comparison, take_turns
from harness.worker import Allocator, Worker
from harness.workloads import ONE_PERSON, Case, Precision, Side, yardstick
from msg3d_lab.files import write_aside

__all__ = ["BenchResult", "Memory", "Time", "bench"]

CPU_CASES = (
    Case("train", 16),
    Case("train", 16, ONE_PERSON),
    Case("eval", 8),
    Case("eval", 8, ONE_PERSON),
    Case("eval", 1),
)
CUDA_CASES = tuple(
    Case(kind, batch, share)
    for kind in ("train", "eval")
    for batch in (16, 64, 128)
    for share in (0.0, ONE_PERSON)
)
QUICK_CASES = (Case("train", 4, 0.75), Case("eval", 4, 0.75), Case("eval", 1))
MEMORY_CASES = (
    Case("train", 16),
    Case("train", 16, ONE_PERSON),
    Case("eval", 16),
    Case("eval", 16, ONE_PERSON),
)
NTU60: dict[str, Any] = {"num_classes": 60}
Setting = Literal["same", "shipped"]


@dataclass(frozen=True)
class Time:
    """The runs of one side.

    Attributes:
        case: what was done.
        clips: clips of one run.
        setting: "same", all sides in one process with the tuned allocator; "shipped", each in a
            process of its own with the allocator it comes with.
        side: "yardstick", "ours", "fused" or "compiled".
        precision: "fp32", "tf32" or "bf16".
        seconds: of each run, by the clock.
        cpu_seconds: of each run, all threads.
        flop: of one run's products, as executed; 0 if unknown.
        other_load: cores that other programs kept busy meanwhile.
    """

    case: str
    clips: int
    setting: Setting
    side: Side
    precision: Precision
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    flop: int
    other_load: float | None


@dataclass(frozen=True)
class Memory:
    """Bytes that one side needs for one run, beyond its weights and batch.

    Attributes:
        case: what was done.
        side: as in `Time`.
        precision: as in `Time`.
        kept: tensors kept for backward; None in evaluation.
        peak: tensors, at most.
        process: growth of a fresh process with the side's own allocator; None if not measured.
    """

    case: str
    side: Side
    precision: Precision
    kept: int | None
    peak: int
    process: int | None


@dataclass(frozen=True)
class BenchResult:
    """All that a benchmark found.

    Attributes:
        facts: of the machine and the measuring: versions, threads, allocators, rounds.
        network: what was measured, in words.
        peaks: FLOP per second of large products, by precision.
        differences: of logits in evaluation, relative, by side and arithmetic.
        times: one row per case, setting, side and precision.
        memory: one row per case, side and precision.
    """

    facts: dict[str, Any]
    network: str
    peaks: dict[str, float]
    differences: dict[str, float]
    times: tuple[Time, ...]
    memory: tuple[Memory, ...]

    def markdown(self) -> str:
        """A page of Markdown."""
        from harness.page import page

        return page(self)

    def save(self, path: str | Path, *, overwrite: bool = False) -> tuple[Path, Path]:
        """Write the page, and every single number as JSON beside it.

        Args:
            path: the page, ending in .md.
            overwrite: whether existing files may be replaced.

        Raises:
            ValueError: another ending.
            FileExistsError: a file exists; neither is written then.
        """
        path = Path(path)
        if path.suffix != ".md":
            raise ValueError(f"expected a path ending in .md, found {path}")
        numbers = path.with_suffix(".json")
        if numbers.exists() and not overwrite:
            raise FileExistsError(f"{numbers} exists already: choose another path or remove it")
        with write_aside(path, overwrite=overwrite) as aside:
            aside.write_text(self.markdown(), encoding="utf-8")
            with write_aside(numbers, overwrite=overwrite) as other:
                other.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path, numbers


def bench(
    *,
    against: Literal["yardstick"] | None = None,
    quick: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    rounds: int | None = None,
    compile: bool = False,
    memory: bool = True,
    network: Mapping[str, Any] | None = None,
    clip_len: int | None = None,
    cases: Sequence[Case] | None = None,
    memory_cases: Sequence[Case] | None = None,
    precisions: Sequence[Precision] = (),
    say: Callable[[str], None] | None = None,
) -> BenchResult:
    """Measure training steps, evaluation and latency on noise, and their memory.

    Everything runs in fresh processes. Sides that are compared take turns in one process with one
    allocator; then, "as shipped", each has a process of its own, ours with the tuned allocator as
    the shell sets it, the yardstick with the C library's default, and they take turns again.

    Args:
        against: "yardstick" measures the plain formulation too: what the published implementations
            do, step by step (`benchmarks/plain_msg3d.py` of a checkout).
        quick: a narrow network, small batches, short clips, few rounds: to see that it works, not
            to quote.
        device: where; on CUDA there are other batch sizes and TF32.
        threads: of the arithmetic; as many as cores if left out.
        rounds: times each is measured.
        compile: also measure the inference form under `torch.compile`, which needs a C++ compiler.
        memory: also measure memory.
        network: arguments of `MSG3D`; those of NTU60 if left out.
        clip_len: frames of every clip; 100, or 32 if quick.
        cases: what is timed, instead of the usual.
        memory_cases: whose memory is measured, instead of the usual.
        precisions: fp32 and bf16, on CUDA also tf32, if left out.
        say: called with a line of progress now and then.

    Raises:
        FileNotFoundError: there is no yardstick, see `yardstick`.
        ValueError: CUDA is asked for and not there, or `rounds`, `threads` or `clip_len` is below
            1.
        RuntimeError: a measuring process failed.
        ChildProcessError: a measuring process was killed, most often for want of memory.
    """
    import torch

    if against is not None:
        yardstick()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("expected a CUDA device, PyTorch finds none: leave out --device cuda")
    if network is None:
        network = NTU60 | {"base_channels": 24} if quick else NTU60
    rounds = rounds if rounds is not None else (2 if quick else 5)
    length = clip_len if clip_len is not None else (32 if quick else 100)
    threads = threads if threads is not None else cores()
    for name, value in (("rounds", rounds), ("threads", threads), ("clip_len", length)):
        if value < 1:
            raise ValueError(f"expected {name} of 1 or more, found {value}")
    if cases is None:
        cases = QUICK_CASES if quick else CUDA_CASES if device == "cuda" else CPU_CASES
    if memory_cases is None:
        memory_cases = QUICK_CASES[:2] if quick else MEMORY_CASES
    if not precisions:
        precisions = ("fp32", "tf32", "bf16") if device == "cuda" else ("fp32", "bf16")
    start = partial(Worker, threads=threads, device=device, network=network, clip_len=length)
    tell = say or (lambda line: None)
    sides: tuple[Side, ...] = ("yardstick", "ours") if against else ("ours",)
    forms: tuple[Side, ...] = ("fused", "compiled") if compile else ("fused",)

    def chosen(case: Case) -> list[tuple[Side, Precision]]:
        several = sides if case.kind == "train" else sides + forms
        return [(side, precision) for precision in precisions for side in several]

    with start(allocator="tuned") as worker:
        tell("the machine's peak, and whether the sides agree")
        facts = worker.call("facts")
        peaks: dict[str, float] = {
            p: worker.call("peak", precision=p, seconds=0.1 if quick else 2) for p in precisions
        }
        forms_equal = tuple(side for side in sides + forms if side not in ("ours", "compiled"))
        differences = worker.call("differences", sides=forms_equal)
    times: list[Time] = []
    for case in cases:
        tell(f"{case.label}: one process")
        with start(allocator="tuned") as worker:
            workers = dict.fromkeys(sides + forms, worker)
            times += _timed(case, chosen(case), workers, rounds=rounds, setting="same")
        if against:
            tell(f"{case.label}: as shipped")
            with ExitStack() as stack:
                allocators: dict[Side, Allocator] = {"yardstick": "default", "ours": "tuned"}
                own = {s: stack.enter_context(start(allocator=a)) for s, a in allocators.items()}
                workers = {**dict.fromkeys(sides + forms, own["ours"]), **own}
                times += _timed(case, chosen(case), workers, rounds=rounds, setting="shipped")
    rows: list[Memory] = []
    for case, side, precision in _memory_plan(memory_cases if memory else (), sides, precisions):
        tell(f"memory, {case.label}, {side}, {precision}")
        options = {"case": case, "side": side, "precision": precision}
        with start(allocator="default" if side == "yardstick" else "tuned") as worker:
            process = worker.call("process", **options) if device == "cpu" else None
            found = worker.call("tensors", **options)
        rows.append(Memory(case.label, side, precision, found.get("kept"), found["peak"], process))
    facts |= {"rounds": rounds, "quick": quick, "device": device, "clip_len": length}
    words = ", ".join(f"{name} {value}" for name, value in network.items())
    return BenchResult(
        facts=facts,
        network=f"MS-G3D ({words})",
        peaks=peaks,
        differences=differences,
        times=tuple(times),
        memory=tuple(rows),
    )


def _timed(
    case: Case,
    chosen: Iterable[tuple[Side, Precision]],
    workers: Mapping[Side, Worker],
    *,
    rounds: int,
    setting: Setting,
) -> Iterator[Time]:
    flop = {
        (side, precision): workers[side].call("prepare", case=case, side=side, precision=precision)
        for side, precision in chosen
    }
    runs = {
        f"{side} {precision}": partial(workers[side].call, "run", side=side, precision=precision)
        for side, precision in flop
    }
    # Preparing was a first run, under a counter; this is the second.
    result: Comparison = take_turns(runs, rounds=rounds, warmup=1)
    for (side, precision), count in flop.items():
        samples = result.timings[f"{side} {precision}"].samples
        yield Time(
            case=case.label,
            clips=case.clips,
            setting=setting,
            side=side,
            precision=precision,
            seconds=tuple(sample.seconds for sample in samples),
            cpu_seconds=tuple(sample.cpu_seconds for sample in samples),
            flop=count,
            other_load=result.other_load,
        )


def _memory_plan(
    cases: Iterable[Case], sides: Sequence[Side], precisions: Sequence[Precision]
) -> Iterator[tuple[Case, Side, Precision]]:
    for case in cases:
        for precision in precisions:
            for side in sides if case.kind == "train" else (*sides, "fused"):
                yield case, side, precision
