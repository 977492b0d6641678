"""Narrow networks, trained and evaluated: bodies of a batch one at a time, or as many as fit.

    python benchmarks/narrow.py

For each recipe, milliseconds of a training step and of the evaluation of a batch, on one thread
(medians of 9, in turns).
"""

from __future__ import annotations

import itertools
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


def step(recipe: recipes.Recipe, *, training: bool, values_at_once: int) -> Callable[[], None]:
    """Return a training step on random clips of one person, or their evaluation."""
    skeleton = lab.skeletons.get(recipe.data.layout, edge_set=recipe.model.edge_set)
    model = lab.MSG3D(num_classes=10, skeleton=skeleton, **recipe.model.model_dump())
    model.train(training)
    optimizer = torch.optim.AdamW(model.parameters())
    clips, M, T = recipe.training.batch_size, recipe.model.num_persons, recipe.data.clip_len
    x = torch.randn(clips, M, T, len(skeleton.joints), 3)
    x[:, 1:] = 0
    labels = torch.arange(clips) % 10

    def train() -> None:
        matmul.VALUES_AT_ONCE = values_at_once
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()

    def evaluate() -> None:
        matmul.VALUES_AT_ONCE = values_at_once
        with torch.inference_mode():
            model(x)

    return train if training else evaluate


def main() -> None:
    lab.tune_allocator()
    torch.set_num_threads(1)
    rows = []
    names = ("synthetic-joint", "nw-ucla-joint-compact", "nw-ucla-joint")
    for training, name in itertools.product((True, False), names):
        recipe = recipes.get(name)
        forms = {
            "one body at a time": step(recipe, training=training, values_at_once=1),
            "as shipped": step(recipe, training=training, values_at_once=AS_SHIPPED),
        }
        found = compare(forms, rounds=9)
        times = {form: round(1000 * timing.median) for form, timing in found.timings.items()}
        work = "training step" if training else "evaluation"
        rows.append({"recipe": name, "work": work, **times, "load of others": found.other_load})
    print(describe_machine(machine_facts()))
    print(pd.DataFrame(rows).round(2).to_markdown(index=False))


if __name__ == "__main__":
    main()
