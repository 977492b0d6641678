"""How fast is MS-G3D, and what memory does it take, beside the reference formulation?

    python benchmarks/speed.py               # 45 minutes on two cores of a quiet machine
    python benchmarks/speed.py --only eval   # times of evaluation only, for results/speed-eval.md
    python benchmarks/speed.py --quick       # a trial on small batches; saves nothing
    python benchmarks/speed.py --device cuda # other batch sizes, TF32, CUDA graphs

Training steps, evaluation and latency on noise, and their memory, all in fresh processes. Forms
that are compared take turns in one process with one allocator; then, "as shipped", each has its own
process. Last, on the demo's test clips (synthetic; the demo is trained if there is none): how often
bf16 and the inference form give the same class as the network in fp32.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness.machine import num_cores
from harness.results import Memory, Setting, SpeedResult, Time
from harness.timing import take_turns
from harness.worker import Worker
from harness.workloads import ONE_PERSON, Case, Form, Precision, in_precision, make_form
from torch import Tensor

from msg3d_lab import load_model, tune_allocator
from msg3d_lab.data import load_synthetic
from msg3d_lab.demo import open_demo
from msg3d_lab.model.prediction import predict
from msg3d_lab.training.setup import build_test_batches

RESULTS = Path(__file__).parent / "results"
NTU60: dict[str, Any] = {"num_classes": 60}
CPU_CASES = (
    Case("train", 16),
    Case("train", 16, ONE_PERSON),
    Case("eval", 8),
    Case("eval", 8, ONE_PERSON),
    Case("eval", 1),
)
CUDA_CASES = tuple(
    Case(kind, batch, one_person)
    for kind in ("train", "eval")
    for batch in (16, 64, 128)
    for one_person in (0.0, ONE_PERSON)
)
QUICK_CASES = (Case("train", 4, 0.75), Case("eval", 4, 0.75), Case("eval", 1))
MEMORY_CASES = (
    Case("train", 16),
    Case("train", 16, ONE_PERSON),
    Case("eval", 16),
    Case("eval", 16, ONE_PERSON),
)
AGREEMENT: tuple[tuple[str, Form, Precision], ...] = (
    ("fp32", "ours", "fp32"),
    ("reference, fp32", "reference", "fp32"),
    ("inference form, fp32", "fused", "fp32"),
    ("bf16", "ours", "bf16"),
    ("inference form, bf16", "fused", "bf16"),
    ("reference, bf16", "reference", "bf16"),
)


def measure_speed(
    *,
    cases: Sequence[Case],
    memory_cases: Sequence[Case],
    precisions: Sequence[Precision],
    network: Mapping[str, Any] = NTU60,
    clip_len: int = 100,
    rounds: int = 5,
    threads: int | None = None,
    device: str = "cpu",
    compiled: bool = False,
    quick: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> SpeedResult:
    """Measure times and memory of every form of the network.

    Args:
        cases: what is timed.
        memory_cases: whose memory is measured.
        precisions: of the arithmetic.
        network: arguments of `MSG3D`.
        clip_len: frames of every clip.
        rounds: timed runs of each form.
        threads: of the arithmetic. Default: the number of cores.
        device: "cpu" or "cuda".
        compiled: also measure the inference form under `torch.compile`.
        quick: whether the page warns that this is a trial.
        report: called with a line of progress now and then.

    Raises:
        ValueError: CUDA is asked for and not there; `rounds`, `threads` or `clip_len` below 1.
        RuntimeError: a measuring process failed.
        ChildProcessError: a measuring process was killed, most often because memory ran out.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("expected a CUDA device, PyTorch finds none: leave out --device cuda")
    threads = threads if threads is not None else num_cores()
    for name, value in (("rounds", rounds), ("threads", threads), ("clip_len", clip_len)):
        if value < 1:
            raise ValueError(f"expected {name} of 1 or more, found {value}")
    start = partial(Worker, threads=threads, device=device, network=network, clip_len=clip_len)
    evaluated: tuple[Form, ...] = ("reference", "ours", "fused")
    with start(allocator="tuned") as worker:
        report("the machine's matmul rate, and whether the forms agree")
        facts = worker.call("facts")
        rates: dict[str, float] = {
            p: worker.call("matmul_rate", precision=p, seconds=0.1 if quick else 2)
            for p in precisions
        }
        differences = worker.call("differences", forms=("reference", "fused"))
    times: list[Time] = []
    for case in cases:
        forms = evaluated if case.kind == "eval" else ("reference", "ours")
        if compiled and case.kind == "eval":
            forms += ("compiled",)
        chosen = [(form, precision) for precision in precisions for form in forms]
        report(f"{case.label}: one process")
        with start(allocator="tuned") as worker:
            workers = dict.fromkeys(forms, worker)
            times += _time_case(case, chosen, workers, rounds=rounds, setting="same")
        report(f"{case.label}: as shipped")
        with ExitStack() as stack:
            ours = stack.enter_context(start(allocator="tuned"))
            reference = stack.enter_context(start(allocator="default"))
            workers = dict.fromkeys(forms, ours) | {"reference": reference}
            times += _time_case(case, chosen, workers, rounds=rounds, setting="shipped")
    memory: list[Memory] = []
    for case in memory_cases:
        forms = evaluated if case.kind == "eval" else ("reference", "ours")
        for form, precision in ((form, p) for p in precisions for form in forms):
            report(f"memory, {case.label}, {form}, {precision}")
            options = {"case": case, "form": form, "precision": precision}
            with start(allocator="default" if form == "reference" else "tuned") as worker:
                process = worker.call("process", **options) if device == "cpu" else None
                found = worker.call("tensors", **options)
            memory.append(
                Memory(case.label, form, precision, found.get("kept"), found["peak"], process)
            )
    facts |= {"rounds": rounds, "quick": quick, "device": device, "clip_len": clip_len}
    words = ", ".join(f"{name} {value}" for name, value in network.items())
    return SpeedResult(
        facts=facts,
        network=f"MS-G3D ({words})",
        matmul_rates=rates,
        differences=differences,
        times=tuple(times),
        memory=tuple(memory),
    )


def _time_case(
    case: Case,
    chosen: Iterable[tuple[Form, Precision]],
    workers: Mapping[Form, Worker],
    *,
    rounds: int,
    setting: Setting,
) -> Iterator[Time]:
    flop = {
        (form, precision): workers[form].call("prepare", case=case, form=form, precision=precision)
        for form, precision in chosen
    }
    runs = {
        f"{form} {precision}": partial(workers[form].call, "run", form=form, precision=precision)
        for form, precision in flop
    }
    # Preparing was a first run, with the counter; this is the second.
    result = take_turns(runs, rounds=rounds, warmup=1)
    for (form, precision), count in flop.items():
        samples = result.timings[f"{form} {precision}"].samples
        yield Time(
            case=case.label,
            clips=case.clips,
            setting=setting,
            form=form,
            precision=precision,
            seconds=tuple(sample.seconds for sample in samples),
            cpu_seconds=tuple(sample.cpu_seconds for sample in samples),
            flop=count,
            other_load=result.other_load,
        )


def measure_agreement(*, quick: bool) -> str:
    """Write a section: top-1 of each form on the synthetic test clips, and agreement with fp32."""
    settings = ["epochs=1", "base_channels=12"] if quick else []
    # A trial does not touch the demo's folder.
    run = open_demo("runs/quick-speed" if quick else "runs/demo", settings=settings)
    recipe, store, model = run.recipe, load_synthetic(), load_model(run.path)
    indices = store.indices(recipe.data.test_split)
    batches = build_test_batches(recipe, store, indices, batch_size=16)
    logits: dict[str, np.ndarray] = {}
    for name, form, precision in AGREEMENT:
        network = _with_precision(make_form(form, model, training=False), precision)
        found = list(predict(network, batches))
        logits[name] = np.concatenate([each[0][:, 0] for each in found])
        labels = np.concatenate([each[1] for each in found])
    top1 = {name: values.argmax(1) for name, values in logits.items()}
    lines = [
        "",
        "## Agreement",
        "",
        f"The demo's network (recipe {recipe.name}, width {recipe.model.base_channels}) on its "
        f"{len(labels)} test clips, which are SYNTHETIC: how often each form predicts the same "
        "class as the network in fp32, and the largest difference of a logit.",
        "",
        "| form | same class | top-1 | largest difference | largest logit |",
        "|---|---|---|---|---|",
    ]
    for name, values in logits.items():
        same = (top1[name] == top1["fp32"]).mean()
        lines.append(
            f"| {name} | {100 * same:.2f} % | {100 * (top1[name] == labels).mean():.2f} % | "
            f"{np.abs(values - logits['fp32']).max():.1e} | {np.abs(values).max():.1f} |"
        )
    return "\n".join([*lines, ""])


def _with_precision(
    network: Callable[[Tensor], Tensor], precision: Precision
) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        with in_precision(precision, device="cpu"):
            return network(x)

    return forward


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a trial; saves nothing")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--only", choices=["train", "eval"], help="no memory, no agreement")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args(arguments)
    quick, cuda = options.quick, options.device == "cuda"
    cases = QUICK_CASES if quick else CUDA_CASES if cuda else CPU_CASES
    memory_cases = QUICK_CASES[:2] if quick else MEMORY_CASES
    result = measure_speed(
        cases=[case for case in cases if options.only in (None, case.kind)],
        memory_cases=() if options.only else memory_cases,
        precisions=("fp32", "tf32", "bf16") if cuda else ("fp32", "bf16"),
        network=NTU60 | {"base_channels": 24} if quick else NTU60,
        clip_len=32 if quick else 100,
        rounds=options.rounds or (2 if quick else 5),
        threads=options.threads,
        device=options.device,
        compiled=not options.no_compile,
        quick=quick,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    name = "-".join(["speed", *(["cuda"] if cuda else []), *filter(None, [options.only])])
    page = RESULTS / f"{name}.md"
    if not quick:
        result.save(page)  # before anything else can fail
    agreement = ""
    if options.only is None and not cuda:
        tune_allocator()
        torch.manual_seed(0)
        agreement = measure_agreement(quick=quick)
    print(result.markdown() + agreement)
    if not quick:
        result.save(page, extra=agreement)
        print(f"saved to {page}")


if __name__ == "__main__":
    main()
