"""How well memory and time of training are predicted: python benchmarks/estimate.py

Memory: the most that fresh processes hold which train a few steps of noise at the batch size,
against the column `process` of `Estimate.memory`, which is from two smaller sizes; and what their
tensors need, `total`. Time: `fit` on the embedded data, against `Estimate.seconds`; by the
processor's time unless --wall is given, so that what else the machine does is in neither. The
allocator is tuned, as in the shell.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from msg3d_lab.training.diagnostics.held import held_bytes

import msg3d_lab
from msg3d_lab.data import load_synthetic
from msg3d_lab.training import estimate, fit, recipes
from msg3d_lab.training.diagnostics import trial
from msg3d_lab.training.diagnostics.estimate import _network, _with_process

# (recipe, settings, batch sizes): the demo's network, and the published one on clips as long as
# there is memory for.
MEMORY = [
    ("synthetic-joint", [], (8, 16, 32)),
    ("synthetic-joint", ["optimizer=adamw", "recompute=true"], (16, 64)),
    ("ntu60-xsub-3d-joint", [], (4, 8)),
]
TIME = [
    ["epochs=3", "clip_len=16", "base_channels=12", "num_gcn_scales=9", "num_g3d_scales=3"],
    ["epochs=2"],
]


def memory_rows():
    for name, settings, sizes in MEMORY:
        recipe = recipes.with_settings(recipes.get(name), settings)
        with tempfile.TemporaryDirectory() as folder:
            if recipe.data.dataset == "synthetic":
                store = load_synthetic()
            else:
                store = trial.noise_store(recipe, Path(folder) / "noise.arrow")
            known = _network(recipe, store, "32-true", sizes)
            predicted = _with_process(known, store, "32-true", most=min(sizes) // 2)
            for batch in sizes:
                found = held_bytes(recipe, store, batch=batch)
                row = predicted.loc[batch]
                yield name, " ".join(settings), batch, row["total"], row["process"], found


def time_rows(*, wall, seconds):
    clock = time.perf_counter if wall else time.process_time
    if not wall:
        trial.time = type("Clock", (), {"perf_counter": staticmethod(time.process_time)})
    msg3d_lab.tune_allocator()
    store = load_synthetic()
    for settings in TIME:
        recipe = recipes.with_settings(recipes.get("synthetic-joint"), settings)
        predicted = estimate(recipe, data=store, device="cpu", seconds=seconds)
        with tempfile.TemporaryDirectory() as folder:
            started = clock()
            fit(recipe, data=store, run=Path(folder) / "run", device="cpu", progress=False)
            yield " ".join(settings), predicted.seconds, clock() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wall", action="store_true", help="time by the clock on the wall")
    parser.add_argument("--seconds", type=float, default=20, help="that a calibration may take")
    parser.add_argument("--skip", choices=["memory", "time"], nargs="*", default=[])
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    if "memory" not in options.skip:
        print("| recipe | settings | batch | tensors | process, predicted | measured | |")
        print("|---|---|---|---|---|---|---|")
        for name, settings, batch, tensors, expected, found in memory_rows():
            print(
                f"| {name} | {settings} | {batch} | {tensors / 1e6:.0f} MB "
                f"| {expected / 1e6:.0f} MB | {found / 1e6:.0f} MB | {expected / found - 1:+.0%} |",
                flush=True,
            )
        print()
    if "time" not in options.skip:
        print("| synthetic-joint with | predicted | measured | difference |\n|---|---|---|---|")
        for settings, expected, found in time_rows(wall=options.wall, seconds=options.seconds):
            print(
                f"| {settings} | {expected:.1f} s | {found:.1f} s | {expected / found - 1:+.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
