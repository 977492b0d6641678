"""Frame sampling: which frames of a recording the network sees.

- `uniform` (openmmlab; Duan et al., CVPR 2022, "PoseC3D"): one frame from each of `clip_len` equal
  segments. Recordings shorter than `clip_len` are repeated.
- `uniform_pyskl`: the same; the frames that pyskl draws for its test clips, which are others from
  `clip_len` frames on.
- `replay` (the MS-G3D paper): the recording from its start, repeated up to `clip_len`.
- `resize` (CTR-GCN on NW-UCLA): `clip_len` frames spread over the recording.

All functions but `uniform_sample` take lengths (N,) and return frame numbers (N, clip_len), int64.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Sampling = Literal["uniform", "uniform_pyskl", "replay", "resize"]
SAMPLINGS: tuple[str, ...] = get_args(Sampling)
UNIFORM = ("uniform", "uniform_pyskl")


def choose_train_frames(
    lengths: np.ndarray, *, sampling: str, clip_len: int, rng: np.random.Generator
) -> np.ndarray:
    """Choose frames of several recordings for training."""
    if sampling in UNIFORM:
        return uniform_sample_train(lengths, clip_len=clip_len, rng=rng)
    if sampling == "resize":
        return resize_train(lengths, clip_len=clip_len, rng=rng)
    return replay(lengths, clip_len)


def choose_test_frames(
    num_frames: int, *, sampling: str, clip_len: int, num_clips: int = 1, seed: int = 255
) -> np.ndarray:
    """Choose the frames of the test clips of one recording; they depend on its length alone.

    Only samplings of `UNIFORM` give several different clips.

    Returns:
        (num_clips, clip_len) int64.
    """
    if sampling in UNIFORM:
        return uniform_sample(
            num_frames,
            clip_len=clip_len,
            num_clips=num_clips,
            seed=seed,
            like_pyskl=sampling == "uniform_pyskl",
        )
    choose = replay if sampling == "replay" else resize
    return choose(np.array([num_frames]), clip_len)


def uniform_sample(
    num_frames: int,
    *,
    clip_len: int = 100,
    num_clips: int = 10,
    seed: int = 255,
    like_pyskl: bool = False,
) -> np.ndarray:
    """Choose the frames of the test clips of one recording, the same ones for the same seed.

    Args:
        num_frames: n, the recording's length.
        clip_len: L, frames per clip.
        num_clips: clips, whose scores are averaged afterwards.
        seed: of NumPy's legacy generator, seeded anew for every recording.
        like_pyskl: draw one number before each clip, as pyskl does for the part of the recording
            that the clip is from, which is always the whole. Default: as mmaction2.

    Returns:
        (num_clips, clip_len) int64 frame numbers. n < L: L consecutive frames of the repeated
        recording, from a start that differs between clips. L <= n < 2L: n - L of L + 1 places are
        drawn; frame j is j plus the number of drawn places up to j. Otherwise one random frame of
        each segment.

    Raises:
        ValueError: a length, clip length or number of clips below 1.

    Source: `UniformSampleFrames` of mmaction2 and of pyskl (pyskl/datasets/pipelines/sampling.py)
        in test mode, index for index.
    """
    if min(num_frames, clip_len, num_clips) < 1:
        raise ValueError(
            f"expected at least one frame and test clip, found {num_clips} clips of {clip_len} "
            f"frames of a recording of {num_frames}"
        )
    if num_frames < clip_len:
        clips = np.arange(num_clips)
        starts = clips if num_frames < num_clips else clips * num_frames // num_clips
        return (starts[:, None] + np.arange(clip_len)) % num_frames
    rng = np.random.RandomState(seed)
    if num_frames < 2 * clip_len:
        steps = np.zeros((num_clips, clip_len + 1), dtype=np.int64)
        for row in steps:
            if like_pyskl:
                rng.rand()
            row[rng.choice(clip_len + 1, num_frames - clip_len, replace=False)] = 1
        return np.arange(clip_len) + np.cumsum(steps, axis=1)[:, :-1]
    edges = np.arange(clip_len + 1) * num_frames // clip_len
    draws = []
    for _ in range(num_clips):
        if like_pyskl:
            rng.rand()
        draws.append(rng.randint(np.diff(edges)))
    return edges[:-1] + np.array(draws, dtype=np.int64)


def uniform_sample_train(
    lengths: np.ndarray, *, clip_len: int, rng: np.random.Generator
) -> np.ndarray:
    """Choose frames for training: as `uniform_sample`, with a random start for short recordings.

    `rng` draws clip_len + 1 numbers per recording, whatever its length, so that the choice for one
    recording does not depend on the others.
    """
    n, j = lengths[:, None], np.arange(clip_len)
    draws = rng.random((len(lengths), clip_len + 1))
    frames = np.empty((len(lengths), clip_len), dtype=np.int64)

    short = lengths < clip_len
    frames[short] = (np.floor(draws[short, :1] * n[short]).astype(np.int64) + j) % n[short]

    # The n - L places of the smallest draws are a choice without replacement.
    middle = ~short & (lengths < 2 * clip_len)
    order = np.argsort(draws[middle], axis=1)
    steps = np.zeros_like(order)
    np.put_along_axis(steps, order, np.arange(clip_len + 1) < n[middle] - clip_len, axis=1)
    frames[middle] = j + np.cumsum(steps, axis=1)[:, :-1]

    long = lengths >= 2 * clip_len
    edges = np.arange(clip_len + 1) * n[long] // clip_len
    frames[long] = edges[:, :-1] + np.floor(draws[long, :-1] * np.diff(edges)).astype(np.int64)
    return frames


def replay(lengths: np.ndarray, clip_len: int) -> np.ndarray:
    """Repeat the recording up to clip_len frames; a longer one is cut.

    Source: the padding to 300 frames of the MS-G3D paper (and ST-GCN and 2s-AGCN before it).
    """
    return np.arange(clip_len) % lengths[:, None]


def resize(lengths: np.ndarray, clip_len: int) -> np.ndarray:
    """Spread clip_len frames evenly from the first frame to the last, rounded down.

    Source: CTR-GCN's NW-UCLA feeder, test.
    """
    return np.linspace(0, lengths - 1, clip_len, axis=1).astype(np.int64)


def resize_train(lengths: np.ndarray, *, clip_len: int, rng: np.random.Generator) -> np.ndarray:
    """Draw clip_len frames from 100 copies of the recording and sort them.

    Source: CTR-GCN's NW-UCLA feeder, training.
    """
    draws = [rng.choice(max(100 * n, clip_len), clip_len, replace=False) % n for n in lengths]
    return np.sort(np.array(draws, dtype=np.int64), axis=1)
