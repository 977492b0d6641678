"""Training steps of narrow networks: bodies of a batch one at a time, or as many as fit.

    python benchmarks/narrow.py

For each recipe, milliseconds of a step on one thread (median of 9, in turns).
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
import torch.nn.functional as F
from harness.machine import describe_machine, machine_facts
from harness.timing import compare

import msg3d_lab as lab
from msg3d_lab.model.kernels import matmul
from msg3d_lab.training import recipes

AS_SHIPPED = matmul.VALUES_AT_ONCE


def step(recipe: recipes.Recipe, *, values_at_once: int) -> Callable[[], None]:
    """Return a training step on random clips of one person."""
    skeleton = lab.skeletons.get(recipe.data.layout, edge_set=recipe.model.edge_set)
    model = lab.MSG3D(num_classes=10, skeleton=skeleton, **recipe.model.model_dump())
    optimizer = torch.optim.AdamW(model.parameters())
    clips, M, T = recipe.training.batch_size, recipe.model.num_persons, recipe.data.clip_len
    x = torch.randn(clips, M, T, len(skeleton.joints), 3)
    x[:, 1:] = 0
    labels = torch.arange(clips) % 10

    def run() -> None:
        matmul.VALUES_AT_ONCE = values_at_once
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return run


def main() -> None:
    lab.tune_allocator()
    torch.set_num_threads(1)
    rows = []
    for name in ("synthetic-joint", "nw-ucla-joint-compact", "nw-ucla-joint"):
        recipe = recipes.get(name)
        forms = {
            "one body at a time": step(recipe, values_at_once=1),
            "as shipped": step(recipe, values_at_once=AS_SHIPPED),
        }
        found = compare(forms, rounds=9)
        times = {form: round(1000 * timing.median) for form, timing in found.timings.items()}
        rows.append({"recipe": name, **times, "load of others": found.other_load})
    print(describe_machine(machine_facts()))
    print(pd.DataFrame(rows).round(2).to_markdown(index=False))


if __name__ == "__main__":
    main()
