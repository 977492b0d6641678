"""How well is the time of training predicted?

    python benchmarks/estimate.py

The time of `fit` on the embedded data, against `Estimate.seconds`. Default: CPU time, which other
programs do not change. The allocator is tuned, as in the shell.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

import msg3d_lab
from msg3d_lab.data import load_synthetic
from msg3d_lab.training import estimate, fit, recipes
from msg3d_lab.training.diagnostics import trial

TIME = [
    ["epochs=3", "clip_len=16", "base_channels=12", "num_gcn_scales=9", "num_g3d_scales=3"],
    ["epochs=2"],
]


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
    parser.add_argument("--wall", action="store_true", help="wall-clock time")
    parser.add_argument("--seconds", type=float, default=20, help="of the calibration")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| synthetic-joint with | predicted | measured | difference |\n|---|---|---|---|")
    for settings, expected, found in time_rows(wall=options.wall, seconds=options.seconds):
        print(
            f"| {settings} | {expected:.1f} s | {found:.1f} s | {expected / found - 1:+.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
