"""How fast are store and loader, and what memory do they take, beside a per-sample pipeline?

    python benchmarks/loader.py                               # NTU60's size; some minutes
    python benchmarks/loader.py --clips 500 --store try.arrow # a trial; saves nothing

Everything is measured in fresh processes with one thread and the shell's allocator settings. The
data are generated (ntu60_size_store.py). The page is results/loader.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import ntu60_size_store
import numpy as np
from harness.machine import describe_machine, machine_facts
from harness.processes import in_fresh_process, memory_status

from msg3d_lab.allocator import tune_allocator

HERE = Path(__file__).parent
CLIPS = ntu60_size_store.CLIPS
BATCH, CLIP_LEN, PERSONS = 64, 100, 2
STREAMS = ("joint", "bone", "joint_motion", "bone_motion")
STRONG = {
    "rotation": (15.0, 15.0, 15.0),
    "scale": (0.9, 1.1),
    "shear": 0.2,
    "flip": 0.5,
    "joint_masking": 0.1,
    "frame_masking": 0.1,
    "crop": (0.5, 1.0),
}


# Each of the next three functions runs in a process of its own.


def measure_opening(path: Path) -> dict[str, float]:
    """Seconds to open the store, Arrow imported before; Arrow's import by itself."""
    from msg3d_lab.data import open_store

    start = time.perf_counter()
    import pyarrow  # noqa: F401

    imported = time.perf_counter()
    store = open_store(path)
    store.indices("xsub_train")
    return {"import": imported - start, "open": time.perf_counter() - imported}


def measure_speed(path: Path, repeats: int, count: int = 256) -> dict[str, Any]:
    """Samples per second of CPU time: epochs of batches and single samples, in turns."""
    from msg3d_lab.data import open_store
    from msg3d_lab.data.batches.augment import Augment

    tune_allocator()
    store = open_store(path)
    recordings = [ntu60_size_store.recording(i) for i in range(min(count, len(store)))]
    result = {}
    for stream in STREAMS:
        batches = _batches(open_store(path), stream)  # whose first epoch checks the checksums
        first, rng = _epoch_rate(batches, 0), np.random.RandomState(0)
        turns = [
            (_epoch_rate(batches, 1 + n), _per_sample_rate(recordings, stream, rng))
            for n in range(repeats)
        ]
        difference = _difference(store, recordings, stream)
        result[stream] = {"first": first, "turns": turns, "difference": difference}
    batches = _batches(open_store(path), "bone_motion", augment=Augment(**STRONG))
    rates = [_epoch_rate(batches, n) for n in range(1 + repeats)]
    name = "bone_motion, everything augmented"
    result[name] = {"first": rates[0], "turns": [(rate,) for rate in rates[1:]]}
    return result


def _batches(store: Any, stream: str, *, batch_size: int = BATCH, **options: Any) -> Any:
    from msg3d_lab.data import TrainBatches
    from msg3d_lab.data.batches.assemble import Assembler

    assemble = Assembler(store, stream=stream, clip_len=CLIP_LEN, num_persons=PERSONS)
    return TrainBatches(assemble, store.indices("xsub_train"), batch_size=batch_size, **options)


def _epoch_rate(batches: Any, epoch: int) -> float:
    start, count = time.process_time(), 0
    for batch in batches.epoch(epoch):
        assert batch.x.flags.c_contiguous
        assert batch.x.dtype == np.float32
        count += len(batch.x)
    return count / (time.process_time() - start)


def _per_sample_rate(
    recordings: Sequence[np.ndarray], stream: str, rng: np.random.RandomState
) -> float:
    """Samples per second of the per-sample pipeline; the recordings are in memory."""
    start = time.process_time()
    for first in range(0, len(recordings), BATCH):
        some = recordings[first : first + BATCH]
        np.stack([per_sample(r, uniform(r.shape[1], rng), stream) for r in some])
    return len(recordings) / (time.process_time() - start)


def _difference(store: Any, recordings: Sequence[np.ndarray], stream: str) -> float:
    """The largest difference between the clips of both pipelines, for the same frames."""
    from msg3d_lab.data import TestBatches, uniform_sample
    from msg3d_lab.data.batches.assemble import Assembler

    indices = np.arange(len(recordings))
    assemble = Assembler(store, stream=stream, clip_len=CLIP_LEN, num_persons=PERSONS)
    ours = TestBatches(assemble, indices)
    lengths = store.frames[indices]
    frames = [uniform_sample(int(n), clip_len=CLIP_LEN, num_clips=1)[0] for n in lengths]
    theirs = [per_sample(*each, stream) for each in zip(recordings, frames, strict=True)]
    x = np.concatenate([batch.x[:, 0] for batch in ours])
    difference = float(np.abs(x - np.stack(theirs)).max())
    if not difference < 1e-5:
        raise SystemExit(f"the two pipelines differ by {difference} on {stream}")
    return difference


def measure_memory(path: Path, from_store: bool, steps: int = 4, batch: int = 16) -> dict[str, Any]:
    """Memory of a training process that reads a store, or one random batch.

    It reads every batch of an epoch, prefetched as in training. Only the first and last batches are
    trained on: the memory of a step is the same each time.
    """
    import torch

    from msg3d_lab import MSG3D
    from msg3d_lab.data import open_store
    from msg3d_lab.data.batches.loader import prefetch

    tune_allocator()
    torch.set_num_threads(1)
    model = MSG3D(num_classes=60, skeleton="ntu25", num_persons=PERSONS, base_channels=24)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)

    def step(x: torch.Tensor, labels: torch.Tensor) -> None:
        loss = torch.nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    if not from_store:
        rng = np.random.default_rng(0)
        shape = (batch, PERSONS, CLIP_LEN, 25, 3)
        x = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        labels = torch.from_numpy(rng.integers(0, 60, batch))
        for _ in range(steps):
            step(x, labels)
        return {**memory_status(), "clips": 0}
    batches = _batches(open_store(path), "bone_motion", batch_size=batch)
    most, clips = memory_status(), 0
    for number, made in enumerate(prefetch(batches.epoch(0))):
        clips += len(made.x)
        if number < steps // 2 or number >= len(batches) - steps // 2:
            step(torch.from_numpy(made.x), torch.from_numpy(made.labels))
        if number % 8 == 0 or number >= len(batches) - steps:
            most = {key: max(most[key], value) for key, value in memory_status().items()}
    return {**most, "clips": clips}


# The per-sample pipeline of mmaction2 and pyskl: one recording after the other, prepared in float64
# every time it is used.


def per_sample(recording: np.ndarray, frames: np.ndarray, stream: str) -> np.ndarray:
    """(M, T, 25, 3) -> (2, 100, 25, 3) float32."""
    clip = pre_normalize(recording.astype(np.float64))
    if stream.startswith("bone"):
        bone = np.zeros_like(clip)
        for joint, parent in _BONES:
            bone[:, :, joint] = clip[:, :, joint] - clip[:, :, parent]
        clip = bone
    if stream.endswith("motion"):
        moved = np.zeros_like(clip)
        moved[:, :-1] = np.diff(clip, axis=1)
        clip = moved
    count_people(clip)
    clip = clip[:, frames].astype(np.float32)
    if len(clip) < PERSONS:
        absent = np.zeros((PERSONS - len(clip), *clip.shape[1:]), dtype=clip.dtype)
        clip = np.concatenate([clip, absent])
    return np.ascontiguousarray(clip[:PERSONS])


def pre_normalize(clip: np.ndarray) -> np.ndarray:
    """The steps of PreNormalize3D (see `msg3d_lab.data.preprocess.prepare_3d`)."""
    present = [[t for t, pose in enumerate(p) if not np.isclose(pose, 0).all()] for p in clip]
    if len(clip) == 2 and len(present[0]) < len(present[1]):
        clip, present = clip[[1, 0]], present[::-1]
    clip = clip[:, np.array(present[0])]
    clip = (clip - clip[0, 0, 1]) * ((clip != 0).sum(axis=-1) > 0)[..., None]
    for start, end, axis in ((0, 1, (0, 0, 1)), (4, 8, (1, 0, 0))):
        turn = _turn(clip[0, 0, end] - clip[0, 0, start], np.array(axis, dtype=np.float64))
        clip = np.einsum("mtvc,dc->mtvd", clip, turn)
    return clip


def count_people(clip: np.ndarray) -> list[int]:
    """Count persons in each frame, as UniformSampleFrames does."""
    counts = []
    for t in range(clip.shape[1]):
        m = len(clip)
        while m and np.all(np.abs(clip[m - 1, t]) < 1e-5):
            m -= 1
        counts.append(m)
    return counts


def _turn(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation about their common normal, by its quaternion."""
    normal = np.cross(source, target)
    if np.linalg.norm(source) < 1e-6 or np.abs(normal).sum() < 1e-6:
        return np.eye(3)
    angle = np.arccos(np.clip(source @ target / np.linalg.norm(source), -1, 1))
    a = np.cos(angle / 2)
    b, c, d = normal / np.linalg.norm(normal) * np.sin(angle / 2)
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def uniform(length: int, rng: np.random.RandomState) -> np.ndarray:
    """UniformSampleFrames for training, one recording."""
    if length < CLIP_LEN:
        return np.arange(start := rng.randint(length), start + CLIP_LEN) % length
    if length < 2 * CLIP_LEN:
        steps = np.zeros(CLIP_LEN + 1, dtype=int)
        steps[rng.choice(CLIP_LEN + 1, length - CLIP_LEN, replace=False)] = 1
        return np.arange(CLIP_LEN) + np.cumsum(steps)[:-1]
    edges = np.array([j * length // CLIP_LEN for j in range(CLIP_LEN + 1)])
    return edges[:-1] + rng.randint(np.diff(edges))


_BONES = (
    (0, 1), (1, 20), (2, 20), (3, 2), (4, 20), (5, 4), (6, 5), (7, 6), (8, 20), (9, 8), (10, 9),
    (11, 10), (12, 0), (13, 12), (14, 13), (15, 14), (16, 0), (17, 16), (18, 17), (19, 18),
    (21, 22), (22, 7), (23, 24), (24, 11),
)  # fmt: skip


def report(path: Path, repeats: int) -> str:
    """Measure everything; a page of Markdown."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass  # into the system's cache
    opened = [in_fresh_process(measure_opening, path) for _ in range(2 * repeats + 1)]
    speed = in_fresh_process(measure_speed, path, repeats)
    random, stored = (in_fresh_process(measure_memory, path, stored) for stored in (False, True))
    opening = [o["open"] for o in opened]
    lines = [
        "# Store and loader",
        "",
        f"{describe_machine(machine_facts())}, "
        + ", ".join(f"{name} {version(name)}" for name in ("numpy", "pyarrow"))
        + ". `python benchmarks/loader.py`: fresh processes, one thread, allocator tuned as in the "
        f"shell, the store in the system's cache; medians of {repeats} repeats.",
        "",
        f"The clips are generated: {_facts(path)}.",
        "",
        "## Opening",
        "",
        f"{1e3 * median(opening):.0f} ms ({1e3 * min(opening):.0f} to {1e3 * max(opening):.0f}) in "
        f"fresh processes, X-Sub's training clips looked up; Arrow's import, once per process, "
        f"takes another {1e3 * median([o['import'] for o in opened]):.0f} ms.",
        "",
        "## Batches, one thread",
        "",
        f"Batches of {BATCH} x {PERSONS} persons x {CLIP_LEN} frames x 25 joints, float32, "
        "uniform sampling; samples per second of CPU time. In a process's first epoch every clip's "
        "checksum is checked. The per-sample pipeline does what mmaction2 and pyskl do "
        "(PreNormalize3D, stream, sampling, padding, for one recording after the other), with its "
        "recordings in memory; the two take turns. The last column compares the clips of both for "
        "the same frames.",
        "",
        "| stream | samples/s | range | first epoch | per sample | ratio | largest difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, facts in speed.items():
        ours, *theirs = zip(*facts["turns"], strict=True)
        row = [name, f"{median(ours):,.0f}", f"{min(ours):,.0f} to {max(ours):,.0f}"]
        row.append(f"{facts['first']:,.0f}")
        if theirs:
            row += [
                f"{median(theirs[0]):,.0f}",
                f"{median([a / b for a, b in facts['turns']]):.0f}",
            ]
            row.append(f"{facts['difference']:.0e}".replace("0e+00", "0"))
        lines.append("| " + " | ".join([*row, "", "", ""][:7]) + " |")
    lines += [
        "",
        "Everything augmented: " + ", ".join(f"{k} {_plain(v)}" for k, v in STRONG.items()) + ".",
        "",
        "## Memory",
        "",
        "A training process (torch, MS-G3D of width 24, batches of 16) on one random batch, and "
        f"with bone motion from the store for an epoch of {stored['clips']:,} clips, prefetched by "
        "a thread: the highest values, in MB.",
        "",
        "| | random batch | from the store | difference |",
        "|---|---|---|---|",
    ]
    for key, what in (("RssAnon", "anonymous"), ("VmRSS", "all, with pages of files")):
        lines.append(
            f"| {what} ({key}) | {random[key]:.0f} | {stored[key]:.0f} "
            f"| {stored[key] - random[key]:.0f} |"
        )
    return "\n".join([*lines, ""])


def _facts(path: Path) -> str:
    from msg3d_lab.data import open_store

    store = open_store(path)
    return (
        f"{len(store):,} of them, {store.frames.min()} to {store.frames.max()} frames, median "
        f"{np.median(store.frames):.0f}, {100 * (store.persons == 1).mean():.0f} % with one "
        f"person; the store has {path.stat().st_size / 1e9:.2f} GB"
    )


def _plain(value: float | tuple[float, ...]) -> str:
    return f"({', '.join(map(str, value))})" if isinstance(value, tuple) else str(value)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--store",
        type=Path,
        default=HERE.parent / "data" / "ntu60-size.arrow",
        help="of ntu60_size_store.py; written if it does not exist",
    )
    parser.add_argument("--clips", type=int, default=CLIPS, help="fewer, for a trial")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    ntu60_size_store.make(options.store, options.clips)
    page = report(options.store, options.repeats)
    print(page)
    if options.clips == CLIPS:
        out = HERE / "results" / "loader.md"
        out.parent.mkdir(exist_ok=True)
        out.write_text(page, encoding="utf-8")
        print(f"saved to {out}")


if __name__ == "__main__":
    main()
