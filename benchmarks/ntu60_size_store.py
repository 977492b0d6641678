"""Generate a store of NTU60's size for benchmarks.

    python benchmarks/ntu60_size_store.py PATH

The counts are NTU60's (56,880 recordings, 40,320 of X-Sub training, 37,920 of X-View training). The
lengths are 32 to 300 frames with a median near 80; the eleven actions between two people (18 %)
have a second person. The coordinates are a random walk around a standing body in front of the
camera, prepared like NTU's. Clip i depends on i only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from msg3d_lab import skeletons
from msg3d_lab.data import datasets
from msg3d_lab.data.clips import Clip
from msg3d_lab.data.preprocess import prepare_3d
from msg3d_lab.data.store import write_store

CLIPS = 56_880
_ACTIONS, _CAMERAS, _REPETITIONS = 60, 3, 2
_TWO_PEOPLE = 50  # actions 50 to 60
_TRAIN_PAIRS, _TEST_PAIRS = 112, 46  # pairs of a set-up and a subject: NTU60's split sizes
_TRAINERS = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
_TESTERS = tuple(p for p in range(1, 41) if p not in _TRAINERS)

# A person who faces the camera, arms down: to the person's right and up, metres, as in ntu25.
_BODY = np.array(
    [
        (0, 0), (0, 0.3), (0, 0.62), (0, 0.75),
        (-0.18, 0.5), (-0.22, 0.22), (-0.24, 0), (-0.25, -0.08),
        (0.18, 0.5), (0.22, 0.22), (0.24, 0), (0.25, -0.08),
        (-0.08, -0.02), (-0.09, -0.4), (-0.1, -0.8), (-0.11, -0.85),
        (0.08, -0.02), (0.09, -0.4), (0.1, -0.8), (0.11, -0.85),
        (0, 0.55), (-0.25, -0.15), (-0.22, -0.1), (0.25, -0.15), (0.22, -0.1),
    ]
)  # fmt: skip


def name(i: int) -> str:
    """The NTU name of clip i; names are shuffled, so that any 1,000 clips are like all."""
    pairs = _TRAIN_PAIRS + _TEST_PAIRS
    rest, pair = divmod(i * 7919 % CLIPS, pairs)  # 7919 is prime: a permutation
    rest, action = divmod(rest, _ACTIONS)
    repetition, camera = divmod(rest, _CAMERAS)
    who, turn = (_TRAINERS, pair) if pair < _TRAIN_PAIRS else (_TESTERS, pair - _TRAIN_PAIRS)
    setup, subject = turn // len(who) + 1, who[turn % len(who)]
    return f"S{setup:03d}C{camera + 1:03d}P{subject:03d}R{repetition + 1:03d}A{action + 1:03d}"


def recording(i: int) -> np.ndarray:
    """Clip i in the camera frame: (M, T, 25, 3) float32, metres."""
    rng = np.random.default_rng(i)
    persons = 2 if _action(i) >= _TWO_PEOPLE else 1
    frames = int(np.clip(rng.lognormal(np.log(80), 0.4), 32, 300))
    steps = rng.standard_normal((persons, frames, 25, 3), dtype=np.float32)
    clip = 0.01 * np.cumsum(steps, axis=1, dtype=np.float32)
    clip[..., :2] += _BODY
    angle = rng.uniform(-0.7, 0.7)
    clip[..., 2] += np.sin(angle) * clip[..., 0]
    clip[..., 0] *= np.cos(angle)
    clip += np.arange(persons, dtype=np.float32)[:, None, None, None] * (1.0, 0.0, 0.2)
    clip += np.array((rng.uniform(-0.5, 0.5), 0.1, rng.uniform(2, 4)), dtype=np.float32)
    if persons == 2 and rng.random() < 0.2:
        clip[1, int(frames * rng.uniform(0.5, 0.9)) :] = 0  # the second person leaves
    return clip


def clips(count: int) -> Iterator[Clip]:
    """The first `count` clips, prepared."""
    skeleton = skeletons.get("ntu25")
    for i in range(count):
        label = name(i)
        keypoints = prepare_3d(recording(i), skeleton)
        yield Clip(label, keypoints, _action(i) - 1, datasets.ntu_splits(label))


def make(path: Path, count: int = CLIPS) -> Path:
    """Write the store unless it exists; a few minutes for all clips."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_store(
            path,
            clips(count),
            dataset="ntu60",
            skeleton=skeletons.get("ntu25"),
            label_names=datasets.DATASETS["ntu60"].label_names,
            channels=3,
            preparation={"name": "prepare_3d", "generator": "benchmarks/ntu60_size_store.py"},
            synthetic=True,
        )
    return path


def _action(i: int) -> int:
    return int(name(i)[-3:])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="where the store goes")
    parser.add_argument("--clips", type=int, default=CLIPS, help="fewer, for a trial")
    options = parser.parse_args(arguments)
    if not 1 <= options.clips <= CLIPS:
        parser.error(f"--clips: expected 1 to {CLIPS}, found {options.clips}")
    start = time.perf_counter()
    made = make(options.path, options.clips)
    print(
        f"{made}: {options.clips:,} generated clips, {made.stat().st_size / 1e9:.2f} GB, "
        f"{time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
