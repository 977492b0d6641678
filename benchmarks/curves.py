"""How does time grow with frames, joints, batch, scales and windows?

    python benchmarks/curves.py                 # MS-G3D at NTU60 settings; minutes, quiet machine
    python benchmarks/curves.py --quick         # a trial with a small network; saves nothing

One quantity is varied at a time. Evaluation and training steps of one size take turns in one
process, with the shell's allocator. The page is results/curves.md, with a figure beside it.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from harness.machine import describe_machine, machine_facts, num_cores
from harness.timing import compare
from harness.workloads import Case, make_clips, make_work
from matplotlib.figure import Figure

from msg3d_lab import MSG3D, skeletons, tune_allocator
from msg3d_lab.model.cost import network_cost
from msg3d_lab.viz.elements import add_figure_title, add_grid
from msg3d_lab.viz.style import CATEGORIES, new_figure, png, styled

RESULTS = Path(__file__).parent / "results"
BATCH, CLIP_LEN, JOINTS = 4, 100, 25
FULL: dict[str, Any] = {"num_classes": 60}
SMALL: dict[str, Any] = {"num_classes": 60, "base_channels": 12}
KINDS = {"eval": "evaluation", "train": "training step"}


def chain(num_joints: int) -> skeletons.Skeleton:
    """An artificial layout: chains of four joints around a centre joint."""
    names = tuple(f"joint {i}" for i in range(num_joints))
    parents = tuple(0 if i % 4 == 1 else max(i - 1, 0) for i in range(num_joints))
    return skeletons.Skeleton(
        name=f"chains {num_joints}",
        joints=names,
        edges=tuple((i, parents[i]) for i in range(1, num_joints)),
        parents=parents,
        center=0,
    )


def sizes() -> Iterator[tuple[str, float, dict[str, Any], dict[str, int]]]:
    """(what is varied, its value, changes to the network, batch and clip_len)."""
    for frames in (25, 50, 100, 200, 300):
        yield "frames", frames, {}, {"clip_len": frames}
    for joints in (9, 17, 25, 41, 57):
        yield "joints", joints, {"skeleton": chain(joints)}, {}
    for batch in (1, 2, 4, 8, 16):
        yield "batch", batch, {}, {"batch": batch}
    for scales in (1, 4, 8, 13):
        yield (
            "scales",
            scales,
            {"num_gcn_scales": scales, "num_g3d_scales": (scales + 1) // 2},
            {},
        )
    for size in (1, 3, 5, 7, 9):
        windows = {"window_sizes": (size,), "window_dilations": (1,)}
        yield "window size (one pathway)", size, windows, {}


def measure(
    network: dict[str, Any], *, rounds: int, batch: int = BATCH, clip_len: int = CLIP_LEN
) -> list[dict[str, Any]]:
    """Median, range and multiplications of one batch, in evaluation and in training."""
    model = MSG3D(**network)
    cost = network_cost(model, clip_len=clip_len)
    macs = {"eval": batch * cost.macs, "train": batch * cost.training_macs}
    works = {}
    for kind in KINDS:
        case = Case(kind, batch)
        own = copy.deepcopy(model).train(kind == "train")
        clips = make_clips(case, clip_len=clip_len, model=model)
        works[kind] = make_work(case, own, clips, precision="fp32")
    result = compare(works, rounds=rounds, warmup=1)
    return [
        {
            "kind": KINDS[kind],
            "seconds": timing.median,
            "low": timing.low,
            "high": timing.high,
            "macs": macs[kind],
            "other_load": result.other_load,
        }
        for kind, timing in result.timings.items()
    ]


def page(tables: dict[str, pd.DataFrame], *, network: str, rounds: int) -> str:
    loads = [load for t in tables.values() for load in t["other_load"].dropna()]
    lines = [
        "# How the cost grows",
        "",
        f"{describe_machine(machine_facts())}, tuned allocator. "
        f"`python benchmarks/curves.py`: {network}, batches of {BATCH} clips of {CLIP_LEN} frames, "
        f"two persons and {JOINTS} joints on noise, except for what is varied; fp32; medians of "
        f"{rounds} runs with their range. The multiplications are those of `model/cost.py` as "
        "executed; layouts of other sizes are artificial.",
        "",
        "![Measured times and the multiplications, for each quantity](curves.png)",
    ]
    if loads and max(loads) > 0.1:
        busy = f"{max(loads):.1f} cores busy"
        lines += ["", f"**The machine was not quiet:** other programs kept {busy}."]
    for name, table in tables.items():
        lines += [
            "",
            f"## By {name}",
            "",
            f"| {name} | | ms | range | GMAC | GMAC/s |",
            "|---|---|---|---|---|---|",
        ]
        for row in table.itertuples():
            lines.append(
                f"| {row[1]:g} | {row.kind} | {1e3 * row.seconds:.0f} | {1e3 * row.low:.0f} to "
                f"{1e3 * row.high:.0f} | {1e-9 * row.macs:.3g} | "
                f"{1e-9 * row.macs / row.seconds:.0f} |"
            )
    return "\n".join([*lines, ""])


@styled
def draw_growth(
    tables: dict[str, pd.DataFrame], *, columns: int = 3, title: str | None = None
) -> Figure:
    """Draw measured times (dots) beside the times predicted from the multiply-accumulates.

    The prediction uses one rate per kind, the median over its rows.

    Args:
        tables: quantity that was varied -> one row per measurement: its value, `kind`, `seconds`,
            `low`, `high` and `macs`.
        columns: panels per row.
        title: of the figure.
    """
    rows = -(-len(tables) // columns)
    figure, axes = new_figure((3.5 * columns, 2.9 * rows + 0.7), rows, columns)
    for ax, (x, table) in zip(axes.flat, tables.items(), strict=False):
        for color, (kind, own) in zip(CATEGORIES, table.groupby("kind", sort=False), strict=False):
            own = own.sort_values(x)
            ax.vlines(own[x], 1e3 * own["low"], 1e3 * own["high"], color=color, lw=1.4)
            ax.plot(own[x], 1e3 * own["seconds"], "o", color=color, ms=5, label=f"{kind}, measured")
            predicted = 1e3 * float(np.median(own["seconds"] / own["macs"])) * own["macs"]
            label = f"{kind}, in proportion to multiplications"
            ax.plot(own[x], predicted, color=color, lw=1.4, ls="--", label=label)
        ax.set_ylim(bottom=0)
        ax.set_xlim(left=0)
        add_grid(ax)
        ax.set(xlabel=x, ylabel="ms")
    for ax in axes.flat[len(tables) :]:
        ax.set_axis_off()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
    add_figure_title(figure, title)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small network; saves nothing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=num_cores())
    options = parser.parse_args(arguments)
    tune_allocator()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = SMALL if options.quick else FULL
    rounds = 1 if options.quick else options.rounds
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, value, changes, run in sizes():
        print(f"{name} {value:g}", flush=True)
        found = measure({**network, **changes}, rounds=rounds, **run)
        rows.setdefault(name, []).extend({name: value, **row} for row in found)
    tables = {name: pd.DataFrame(several) for name, several in rows.items()}
    width = network.get("base_channels", 96)
    text = page(tables, network=f"MS-G3D of width {width}, 60 classes", rounds=rounds)
    print(text)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "curves.md").write_text(text, encoding="utf-8")
        figure = draw_growth(tables, title="How the cost grows")
        (RESULTS / "curves.png").write_bytes(png(figure, dpi=110))
        print(f"saved to {RESULTS / 'curves.md'}")


if __name__ == "__main__":
    main()
