from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msg3d_lab.data.batches.sampling import (
    choose_test_frames,
    replay,
    resize,
    resize_train,
    uniform_sample,
    uniform_sample_train,
)

GOLDENS = Path(__file__).parents[2] / "goldens"
LENGTHS, CLIPS = st.integers(1, 400), st.integers(1, 120)


def check_uniform(frames, num_frames):
    """What holds for every uniform clip: (L,) frames of a recording of num_frames."""
    clip_len = len(frames)
    assert frames.min() >= 0
    assert frames.max() < num_frames
    if num_frames < clip_len:
        np.testing.assert_array_equal(np.diff(frames) % num_frames, 1 % num_frames)
    elif num_frames < 2 * clip_len:
        assert set(np.diff(frames)) <= {1, 2}
        assert frames[0] in (0, 1)
    else:
        for j, frame in enumerate(frames):
            assert j * num_frames // clip_len <= frame < (j + 1) * num_frames // clip_len


@given(LENGTHS, CLIPS, st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_uniform_sample_holds_its_rules(num_frames, clip_len, num_clips, seed):
    clips = uniform_sample(num_frames, clip_len=clip_len, num_clips=num_clips, seed=seed)
    assert clips.shape == (num_clips, clip_len)
    assert clips.dtype == np.int64
    for frames in clips:
        check_uniform(frames, num_frames)


@given(LENGTHS, CLIPS, st.integers(0, 99))
def test_uniform_sample_train_holds_its_rules(num_frames, clip_len, seed):
    rng = np.random.default_rng(seed)
    (frames,) = uniform_sample_train(np.array([num_frames]), clip_len=clip_len, rng=rng)
    assert frames.shape == (clip_len,)
    check_uniform(frames, num_frames)


def test_uniform_sample_is_the_same_every_time_and_depends_on_its_seed():
    np.testing.assert_array_equal(uniform_sample(150), uniform_sample(150))
    assert not np.array_equal(uniform_sample(150), uniform_sample(150, seed=1))
    np.testing.assert_array_equal(uniform_sample(150, num_clips=3), uniform_sample(150)[:3])


def test_uniform_sample_does_not_touch_numpys_global_generator():
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    uniform_sample(150)
    assert np.random.random() == expected  # noqa: NPY002


def test_uniform_sample_golden():
    golden = json.loads((GOLDENS / "uniform_sampling.json").read_text())
    assert len(golden) == 10
    for key, clips in golden.items():
        num_frames, num_clips = map(int, key.split("/"))
        np.testing.assert_array_equal(
            uniform_sample(num_frames, clip_len=8, num_clips=num_clips), clips, err_msg=key
        )


@pytest.mark.shared
def test_uniform_sample_agrees_with_openmmlab(shared_dir):
    golden = json.loads((shared_dir / "golden" / "uniform_sampling_test.json").read_text())
    assert len(golden) == 34
    for key, clips in golden.items():
        num_frames, num_clips = map(int, key.split("/"))
        np.testing.assert_array_equal(
            uniform_sample(num_frames, num_clips=num_clips), clips, err_msg=key
        )


@pytest.mark.parametrize(("num_frames", "same"), [(5, True), (8, True), (11, False), (21, False)])
def test_uniform_sample_like_pyskl_by_hand(num_frames, same):
    """pyskl draws the part of the recording before each clip: a fraction of 1 and an offset of 0.

    Clips of 8 frames: recordings shorter than that are as in mmaction2, others are not.
    """
    length, clips, rng = 8, [], np.random.RandomState(255)
    for i in range(3):
        whole = int((rng.rand() * 0 + 1) * num_frames)
        offset = rng.randint(num_frames - whole + 1)
        if whole < length:
            chosen = [(i * whole // 3 + t) % whole for t in range(length)]
        elif whole < 2 * length:
            places = set(rng.choice(length + 1, whole - length, replace=False).tolist())
            chosen = [t + sum(place <= t for place in places) for t in range(length)]
        else:
            starts = [t * whole // length for t in range(length + 1)]
            more = rng.randint(np.diff(starts))
            chosen = [start + n for start, n in zip(starts, more, strict=False)]
        clips.append([offset + frame for frame in chosen])
    found = choose_test_frames(num_frames, sampling="uniform_pyskl", clip_len=8, num_clips=3)
    np.testing.assert_array_equal(found, clips)
    ours = choose_test_frames(num_frames, sampling="uniform", clip_len=8, num_clips=3)
    assert np.array_equal(found, ours) == same


def test_uniform_sample_train_draws_like_the_test_mode():
    """For every length, each frame is as likely as with test mode's generator."""
    clip_len, count = 8, 4000
    rng = np.random.default_rng(0)
    for num_frames in (8, 11, 15, 16, 21):
        drawn = uniform_sample_train(np.full(count, num_frames), clip_len=clip_len, rng=rng)
        known = uniform_sample(num_frames, clip_len=clip_len, num_clips=count)
        shares = [np.bincount(x.ravel(), minlength=num_frames) / count for x in (drawn, known)]
        np.testing.assert_allclose(shares[0], shares[1], atol=0.05)


def test_uniform_sample_train_starts_short_recordings_anywhere():
    starts = uniform_sample_train(np.full(500, 5), clip_len=8, rng=np.random.default_rng(0))[:, 0]
    assert np.bincount(starts, minlength=5).min() > 60  # 100 expected of each


def test_uniform_sample_train_gives_each_recording_its_own_draw():
    """A recording's frames depend on its place in the batch, not on its neighbours' lengths."""
    lengths = np.array([3, 9, 40, 9, 200, 7])
    others = np.array([50, 9, 1, 9, 2, 7])
    a, b = (
        uniform_sample_train(n, clip_len=8, rng=np.random.default_rng(4)) for n in (lengths, others)
    )
    np.testing.assert_array_equal(a[[1, 3, 5]], b[[1, 3, 5]])
    assert not np.array_equal(a[1], a[3])
    assert not np.array_equal(a[[0, 2, 4]], b[[0, 2, 4]])


@given(LENGTHS, CLIPS)
def test_replay_goes_round(num_frames, clip_len):
    expected, t = [], 0
    for _ in range(clip_len):
        expected.append(t)
        t = t + 1 if t + 1 < num_frames else 0
    np.testing.assert_array_equal(replay(np.array([num_frames]), clip_len), [expected])


@given(LENGTHS, CLIPS)
def test_resize_spreads_frames_from_first_to_last(num_frames, clip_len):
    (frames,) = resize(np.array([num_frames]), clip_len)
    np.testing.assert_array_equal(frames, np.linspace(0, num_frames - 1, clip_len).astype(int))
    assert frames[0] == 0
    assert frames[-1] == num_frames - 1 or clip_len == 1
    assert (np.diff(frames) >= 0).all()


@given(LENGTHS, st.integers(1, 250), st.integers(0, 99))
def test_resize_train_draws_ordered_frames(num_frames, clip_len, seed):
    rng = np.random.default_rng(seed)
    (frames,) = resize_train(np.array([num_frames]), clip_len=clip_len, rng=rng)
    assert frames.shape == (clip_len,)
    assert (np.diff(frames) >= 0).all()
    assert 0 <= frames[0] <= frames[-1] < num_frames


def test_resize_train_draws_like_the_original_code():
    clip_len, num_frames, count = 6, 4, 3000
    source = random.Random(0)
    original = np.array(
        [sorted(source.sample(list(range(num_frames)) * 100, clip_len)) for _ in range(count)]
    )
    rng = np.random.default_rng(0)
    ours = resize_train(np.full(count, num_frames), clip_len=clip_len, rng=rng)
    np.testing.assert_allclose(ours.mean(axis=0), original.mean(axis=0), atol=0.08)
    np.testing.assert_allclose(ours.std(axis=0), original.std(axis=0), atol=0.08)


@pytest.mark.parametrize("sample", [replay, resize])
def test_samplers_take_many_lengths_at_once(sample):
    lengths = np.array([1, 5, 30, 300])
    many = sample(lengths, 12)
    assert many.shape == (4, 12)
    for n, row in zip(lengths, many, strict=True):
        np.testing.assert_array_equal(row, sample(np.array([n]), 12)[0])


@pytest.mark.parametrize("given", [{"num_frames": 0}, {"clip_len": 0}, {"num_clips": 0}])
def test_uniform_sample_refuses_numbers_below_one(given):
    with pytest.raises(ValueError, match="at least one frame and test clip"):
        uniform_sample(**{"num_frames": 10} | given)
