"""Does a training on NTU60 work at full size, from the pickle to the first steps?

    python benchmarks/ntu60_full_size.py --folder FOLDER                # 20 minutes, 4 GB
    python benchmarks/ntu60_full_size.py --clips 300 --steps 2 --quick  # a trial; saves nothing

The recordings are generated, in the files that OpenMMLab distributes: 56,880 clips with NTU60's
names, in 3D and in 2D. Each file is imported, checked, read for a whole epoch, tested in part and
trained on for some steps with its recipe. Losses of small batches are compared with those of the
reference (reference.py), which starts from the same weights and is trained by PyTorch's SGD on the
same batches. Times are of the processor, so that other programs hardly change them. The page is
results/ntu60_full_size.md.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import import_pickle
import ntu60_size_store
import numpy as np
import torch
import torch.nn.functional as F
from harness.machine import describe_machine, machine_facts
from harness.processes import in_fresh_process, memory_status
from reference import ReferenceMSG3D

from msg3d_lab import tune_allocator
from msg3d_lab.data import datasets, open_store
from msg3d_lab.data.batches.loader import prefetch
from msg3d_lab.data.checks import check_path
from msg3d_lab.model.cost import network_cost
from msg3d_lab.model.prediction import predict
from msg3d_lab.training import Recipe, recipes
from msg3d_lab.training.diagnostics.trial import new_state
from msg3d_lab.training.setup import build_batches, build_optimizer, build_test_batches
from msg3d_lab.training.step import clips_per_step, train_step

PAGE = Path(__file__).parent / "results" / "ntu60_full_size.md"
SMALL = ["base_channels=12", "clip_len=16", "num_gcn_scales=3", "num_g3d_scales=2"]
COMPARED = 2  # clips per step beside the reference
RANDOM = 20_000  # single clips read in random order
TESTED = 40  # samples tested, of 10 clips each
DISTINCT = 2000  # recordings; the names go round through them


def write_pickle(path: Path, clips: int, layout: str) -> None:
    """Write a file as OpenMMLab's: every annotation has arrays of its own."""
    known = [import_pickle.annotation(i, layout) for i in range(min(clips, DISTINCT))]
    annotations, split = [], {}
    for i in range(clips):
        name = ntu60_size_store.name(i)
        own = {
            key: value.copy() if isinstance(value, np.ndarray) else value
            for key, value in known[i % len(known)].items()
        }
        annotations.append(own | {"frame_dir": name, "label": int(name[-3:]) - 1})
        for part in datasets.ntu_splits(name):
            split.setdefault(part, []).append(name)
    with path.open("wb") as file:
        pickle.Pickler(file, 4).dump({"split": split, "annotations": annotations})


def recipe_of(layout: str, *, quick: bool) -> Recipe:
    """The published recipe, or a small network with its other settings."""
    recipe = recipes.get(f"ntu60-xsub-{layout}-joint")
    return recipes.with_settings(recipe, SMALL if quick else [])


def timed(function: Callable[..., Any], *arguments: object) -> dict[str, Any]:
    """Call a function in a fresh process; its result, processor seconds and peak memory (GB)."""
    return in_fresh_process(_timed, function, *arguments)


def _timed(function: Callable[..., Any], *arguments: object) -> dict[str, Any]:
    tune_allocator()
    start = time.process_time()
    result = function(*arguments)
    seconds = time.process_time() - start
    return {"result": result, "seconds": seconds, "memory": memory_status()["VmHWM"] / 1000}


def check(store: Path) -> list[str]:
    """`data check`: the problems it names."""
    return [f"{one.severity}: {one.kind}" for one in check_path(store, progress=False)]


def read_epoch(store: Path, recipe: Recipe) -> dict[str, float]:
    """Read every batch of the first epoch, as training does."""
    batches, _ = build_batches(recipe, open_store(store))
    clips = sum(len(batch.labels) for batch in prefetch(batches.epoch(0)))
    return {"steps": len(batches), "clips": clips}


def read_clips(store: Path) -> dict[str, float]:
    """Open the store, and read single clips in random order."""
    start = time.process_time()
    opened = open_store(store)
    opened.indices("xsub_train")
    ready = time.process_time()
    chosen = np.random.default_rng(0).integers(len(opened), size=RANDOM).tolist()
    for i in chosen:
        opened.keypoints(i)
    return {"open": ready - start, "rate": RANDOM / (time.process_time() - ready)}


def test(store: Path, recipe: Recipe, samples: int) -> dict[str, float]:
    """Score some samples of the test split as `test` does; seconds of one, and how many it has."""
    opened = open_store(store)
    net = new_state(recipe, opened, device="cpu").net.eval()
    indices = opened.indices(recipe.data.test_split)
    clips = recipe.test_clips

    def seconds(some: np.ndarray) -> float:
        start = time.process_time()
        for _ in predict(
            net,
            prefetch(
                build_test_batches(
                    recipe, opened, some, batch_size=max(1, 16 // clips), num_clips=clips
                )
            ),
        ):
            pass
        return time.process_time() - start

    seconds(indices[:1])
    spread = np.random.default_rng(0).choice(indices, samples, replace=False)
    return {
        "per_sample": seconds(np.sort(spread)) / samples,
        "samples": len(indices),
        "clips": clips,
    }


def train(store: Path, recipe: Recipe, steps: int) -> list[float]:
    """The losses of the first steps, as in `fit`."""
    opened = open_store(store)
    state = new_state(recipe, opened, device="cpu")
    batches, _ = build_batches(recipe, opened)
    state.train()
    losses = []
    for batch in prefetch(batches.batch(step, epoch=0) for step in range(steps)):
        result = train_step(state, batch, total_clips=clips_per_step(batches), lr=recipe_lr(recipe))
        losses.append(result.sums[0].item() / len(batch.labels))
    return losses


def train_reference(store: Path, recipe: Recipe, steps: int) -> list[float]:
    """The same of the reference, in float32 as well."""
    opened = open_store(store)
    reference = ReferenceMSG3D.from_model(
        new_state(recipe, opened, device="cpu").net, training=True
    )
    optimizer = build_optimizer(reference.parameters(), recipe.training, lr=recipe_lr(recipe))
    batches, _ = build_batches(recipe, opened)
    losses = []
    for step in range(steps):
        batch = batches.batch(step, epoch=0)
        loss = F.cross_entropy(reference(torch.from_numpy(batch.x)), torch.from_numpy(batch.labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def recipe_lr(recipe: Recipe) -> float:
    """The recipe's learning rate for the steps of one process."""
    training = recipe.training
    return training.learning_rate * training.batch_size / training.base_batch_size


def training_macs(store: Path, recipe: Recipe) -> int:
    """Multiply-accumulates of a clip's forward and backward, all persons."""
    net = new_state(recipe, open_store(store), device="cpu").net
    return network_cost(net, clip_len=recipe.data.clip_len).training_macs


def measure(
    layout: str,
    folder: Path,
    found: dict[str, Any],
    *,
    clips: int,
    steps: int,
    quick: bool,
    save: Callable[[], None],
) -> None:
    """Measure a layout step by step, and save after each; its files are removed."""
    recipe = recipe_of(layout, quick=quick)
    few = recipes.with_settings(recipe, [f"batch_size={COMPARED}"])
    source, store = folder / f"ntu60_{layout}.pkl", folder / f"ntu60-{layout}.arrow"

    def keep(name: str, value: Any) -> None:
        found[name] = value
        print(layout, name, json.dumps(value), flush=True)
        save()

    try:
        start = time.perf_counter()
        in_fresh_process(write_pickle, source, clips, layout)
        keep("generate", time.perf_counter() - start)
        keep("import", import_pickle.measure(import_pickle.IMPORT, source, store))
        keep("sizes", [path.stat().st_size / 1e9 for path in (source, store)])
        keep("load", import_pickle.measure(import_pickle.LOAD, source))
        source.unlink()
        keep("read", timed(read_clips, store))
        keep("check", timed(check, store))
        keep("batches", timed(read_epoch, store, recipe))
        keep("test", timed(test, store, recipe, TESTED))
        keep("compared", timed(train, store, few, steps))
        keep("reference", timed(train_reference, store, few, steps))
        keep("train", timed(train, store, recipe, steps))
        keep("macs", timed(training_macs, store, recipe)["result"])
    finally:
        for path in folder.glob(f"ntu60?{layout}.*"):
            path.unlink(missing_ok=True)


def describe(results: dict[str, dict[str, Any]], *, clips: int, steps: int) -> str:
    """The page of results."""
    lines = [
        "# NTU60 at full size, with generated recordings",
        "",
        f"{clips:,} generated clips with NTU60's names in the files that OpenMMLab distributes "
        "(`python benchmarks/ntu60_full_size.py`): the data are made up, the sizes are not; "
        f"they are {DISTINCT:,} different recordings, each under many names. "
        "Recipes `ntu60-xsub-3d-joint` and `ntu60-xsub-2d-joint`, float32, one thread, a fresh "
        "process each.",
        "",
        f"{describe_machine(machine_facts())}. Load of all programs over the last 15 minutes: "
        f"{os.getloadavg()[2]:.1f}. Times are of the processor, all threads and processes together;"
        " where the load is above 1, caches and memory are shared with others.",
        "",
        "| | " + " | ".join(layout.upper() for layout in results) + " |",
        "|---" * (len(results) + 1) + "|",
    ]

    def row(name: str, text: Callable[[dict[str, Any]], str]) -> None:
        cells = []
        for found in results.values():
            try:
                cells.append(text(found))
            except KeyError:
                cells.append("not run")
        lines.append(f"| {name} | {' | '.join(cells)} |")

    row("pickle, store", lambda f: f"{f['sizes'][0]:.2f} GB, {f['sizes'][1]:.2f} GB")
    row(
        "`pickle.load` of it, as the usual tools start",
        lambda f: f"{f['load']['cpu']:.1f} s, {f['load']['largest'] / 1000:.2f} GB",
    )
    row("import", lambda f: f"{f['import']['cpu']:.0f} s")
    row(
        "memory of the import, all processes",
        lambda f: (
            f"{f['import']['anonymous'] / 1000:.2f} GB, "
            f"{f['import']['resident'] / 1000:.2f} GB with files' pages"
        ),
    )
    row("opening the store", lambda f: f"{1000 * f['read']['result']['open']:.0f} ms")
    row(
        "single clips in random order, each read the first time with its checksum",
        lambda f: f"{f['read']['result']['rate']:,.0f} clips/s, {f['read']['memory']:.2f} GB",
    )
    row("`data check`", lambda f: f"{f['check']['seconds']:.0f} s, {f['check']['memory']:.2f} GB")
    row("what it reports", lambda f: ", ".join(f["check"]["result"]) or "nothing")
    row(
        "an epoch's batches",
        lambda f: (
            f"{f['batches']['seconds']:.0f} s, {f['batches']['memory']:.2f} GB "
            "({steps:,} steps, {clips:,} clips)".format(**f["batches"]["result"])
        ),
    )
    row(
        f"`test` of {TESTED} samples, for the whole split",
        lambda f: (
            "{per_sample:.2f} s a sample of {clips} clips, {hours} for {samples:,}".format(
                hours=hours(f["test"]["result"]["per_sample"] * f["test"]["result"]["samples"]),
                **f["test"]["result"],
            )
            + f", {f['test']['memory']:.2f} GB"
        ),
    )
    row(
        f"the first {steps} training steps of 16 clips",
        lambda f: f"{f['train']['seconds']:.0f} s, {f['train']['memory']:.2f} GB",
    )
    row(
        "loss of the first and the last",
        lambda f: f"{f['train']['result'][0]:.3f}, {f['train']['result'][-1]:.3f}",
    )
    row(
        f"{steps} steps of {COMPARED} clips: ours, reference",
        lambda f: f"{f['compared']['seconds']:.0f} s, {f['reference']['seconds']:.0f} s",
    )
    row("largest relative difference of their losses", lambda f: f"{max(differences(f)):.1e}")
    lines += ["", "## The loss beside the reference's", ""]
    for layout, found in results.items():
        if "reference" not in found:
            continue
        pairs = zip(found["compared"]["result"], found["reference"]["result"], strict=True)
        lines += [
            f"{layout.upper()}, ours / reference: "
            + ", ".join(f"{ours:.5f} / {theirs:.5f}" for ours, theirs in pairs)
            + ".",
            "",
        ]
    lines += [
        "Same weights, batches and learning rate; both in float32, so that roundings grow with the "
        "steps. In float64, with a small\nnetwork, the losses of eight steps agree to 1e-10 "
        "(`tests/model/test_msg3d.py`).",
        "",
        "## One process and eight",
        "",
        "| | " + " | ".join(layout.upper() for layout in results) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    row("forward and backward of a clip", lambda f: f"{f['macs'] / 1e9:.2f} GMAC")
    row("of an epoch", lambda f: f"{epoch_macs(f) / 1e15:.2f} PMAC")
    row("peak memory of a process, 16 clips a step", lambda f: f"{f['train']['memory']:.2f} GB")
    row(
        "an epoch here, one process, from the first steps",
        lambda f: hours(f["train"]["seconds"] / steps * f["batches"]["result"]["steps"]),
    )
    row(
        "an epoch on a device of 10 TMAC/s, 1 and 8",
        lambda f: f"{epoch_macs(f) / 6e14:.0f} min, {epoch_macs(f) / 48e14:.1f} min",
    )
    lines += [
        "",
        "Multiply-accumulates count every person of every clip, as `msg3d-lab info` does; here "
        "82 % of the clips have one person, and of all empty bodies of a batch only one is "
        "computed. A process of eight has the same 16 clips, so the same memory, and an eighth of "
        "the steps; exchanging 3.2 million gradients (13 MB) per step comes on top. No GPU was at "
        "hand: the last row is arithmetic, for a device that would keep up 10 TMAC/s (20 TFLOP/s).",
        "",
    ]
    return "\n".join(lines)


def differences(found: dict[str, Any]) -> np.ndarray:
    """Relative differences of the losses, by step."""
    ours, theirs = (np.array(found[name]["result"]) for name in ("compared", "reference"))
    return np.abs(ours / theirs - 1)


def epoch_macs(found: dict[str, Any]) -> float:
    """Multiply-accumulates of an epoch's training, all persons."""
    return float(found["macs"]) * found["batches"]["result"]["clips"]


def hours(seconds: float) -> str:
    """A duration in hours."""
    return f"{seconds / 3600:.1f} h"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=import_pickle.CLIPS, help="fewer, for a trial")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--layout", nargs="+", choices=("3d", "2d"), default=["3d", "2d"])
    parser.add_argument("--folder", type=Path, help="a folder with 4 GB of free space")
    parser.add_argument("--quick", action="store_true", help="a small network; saves nothing")
    options = parser.parse_args(arguments)
    results: dict[str, dict[str, Any]] = {}
    whole = not options.quick and options.clips == import_pickle.CLIPS

    def save() -> None:
        if whole:
            page = describe(results, clips=options.clips, steps=options.steps)
            PAGE.write_text(page, encoding="utf-8")

    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for layout in options.layout:
            measure(
                layout,
                Path(folder),
                results.setdefault(layout, {}),
                clips=options.clips,
                steps=options.steps,
                quick=options.quick,
                save=save,
            )
    print(describe(results, clips=options.clips, steps=options.steps))


if __name__ == "__main__":
    main()
