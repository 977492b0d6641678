"""Everything about speed and memory at once, for benchmarks/results/speed.md.

    python benchmarks/speed.py               # three quarters of an hour on two cores, quiet machine
    python benchmarks/speed.py --only eval   # evaluation's times alone, for speed-eval.md
    python benchmarks/speed.py --quick       # a trial; saves nothing

`msg3d-lab bench --against yardstick --compile`, and how often bf16 and the inference form answer
like the network itself, on the demo's test clips (synthetic; trained first if there is no demo).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from harness import bench
from harness.bench import CPU_CASES, QUICK_CASES
from harness.workloads import Precision, Side, arithmetic, make_side
from torch import Tensor

from msg3d_lab import load_model, tune_allocator
from msg3d_lab.data import load_synthetic
from msg3d_lab.demo import demo_run
from msg3d_lab.model.predict import predict
from msg3d_lab.training.setup import test_batches_of

RESULTS = Path(__file__).parent / "results"
FORMS: tuple[tuple[str, Side, Precision], ...] = (
    ("fp32", "ours", "fp32"),
    ("yardstick, fp32", "yardstick", "fp32"),
    ("inference form, fp32", "fused", "fp32"),
    ("bf16", "ours", "bf16"),
    ("inference form, bf16", "fused", "bf16"),
    ("yardstick, bf16", "yardstick", "bf16"),
)


def agreement(*, quick: bool) -> list[str]:
    """A table: top-1 of each form on the synthetic test clips, and its agreement with fp32."""
    settings = ["epochs=1", "base_channels=12"] if quick else []
    # A trial leaves the demo's folder alone.
    run = demo_run("runs/quick-speed" if quick else "runs/demo", settings=settings)
    recipe, store, model = run.recipe, load_synthetic(), load_model(run.path)
    batches = test_batches_of(recipe, store, batch_size=16, num_clips=1)
    logits: dict[str, np.ndarray] = {}
    labels = np.empty(0)
    for name, side, precision in FORMS:
        network = make_side(side, model, training=False)
        found = list(predict(_as(network, precision), batches))
        logits[name] = np.concatenate([each[0][:, 0] for each in found])
        labels = np.concatenate([each[1] for each in found])
    top1 = {name: values.argmax(1) for name, values in logits.items()}
    lines = [
        "",
        "## The same answers",
        "",
        f"The demo's network (recipe {recipe.name}, width {recipe.model.base_channels}) on its "
        f"{len(labels)} test clips, which are SYNTHETIC: how often each form's answer is that of "
        "the network in fp32, and the largest difference of a logit.",
        "",
        "| form | same answer | top-1 | largest difference | largest logit |",
        "|---|---|---|---|---|",
    ]
    for name, values in logits.items():
        same = (top1[name] == top1["fp32"]).mean()
        lines.append(
            f"| {name} | {100 * same:.2f} % | {100 * (top1[name] == labels).mean():.2f} % | "
            f"{np.abs(values - logits['fp32']).max():.1e} | {np.abs(values).max():.1f} |"
        )
    return lines


def _as(network: Callable[[Tensor], Tensor], precision: Precision) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        with arithmetic(precision, device="cpu"):
            return network(x)

    return forward


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a trial; saves nothing")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--only", choices=["train", "eval"], help="no memory, no agreement either")
    parser.add_argument("--rounds", type=int, default=None)
    options = parser.parse_args(arguments)
    whole = options.only is None
    page = RESULTS / ("speed.md" if whole else f"speed-{options.only}.md")
    usual = QUICK_CASES if options.quick else CPU_CASES
    result = bench(
        against="yardstick",
        quick=options.quick,
        compile=not options.no_compile,
        rounds=options.rounds,
        cases=[case for case in usual if options.only in (None, case.kind)],
        memory=whole,
        device="cpu",
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if not options.quick:  # before anything else can go wrong
        result.save(page, overwrite=True)
    tune_allocator()
    torch.manual_seed(0)
    answers = agreement(quick=options.quick) if whole else []
    text = "\n".join([result.markdown().rstrip(), *answers, ""])
    print(text)
    if not options.quick:
        page.write_text(text, encoding="utf-8")
        print(f"saved to {page}")


if __name__ == "__main__":
    main()
