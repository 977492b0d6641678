import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from msg3d_lab.evaluation import accuracy_interval, difference, holm, mcnemar


def outcomes(rng, share, shape):
    return rng.random(shape) < share


@pytest.mark.parametrize(("n", "hits"), [(50, 10), (1000, 940), (7, 1), (5, 5), (5000, 0)])
def test_accuracy_interval_is_wilsons(n, hits):
    """In closed form: the accuracies that are 1.96 of their own standard errors away."""
    z, p = stats.norm.ppf(0.975), hits / n
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    low, high = accuracy_interval(np.arange(n) < hits)
    assert (low, high) == pytest.approx((center - half, center + half), abs=1e-12)
    assert 0 <= low < high <= 1


def test_accuracy_interval_narrows_with_samples():
    correct = np.arange(100) % 5 > 0
    low, high = accuracy_interval(correct)
    assert low < 0.8 < high
    ends = accuracy_interval(np.tile(correct, 16))
    assert np.ptp(ends) == pytest.approx((high - low) / 4, rel=0.1)


def test_mcnemar_by_hand():
    """Nine samples on which they disagree, eight to one: 2 (1 + 9) / 2^9."""
    a = np.array([True] * 8 + [False] + [True] * 30 + [False] * 5)
    b = np.array([False] * 8 + [True] + [True] * 30 + [False] * 5)
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b) == (8, 1)
    assert found.p_value == pytest.approx(20 / 512)
    assert mcnemar(b, a).p_value == found.p_value
    assert mcnemar(a, a).p_value == 1


def enumerated(a, b):
    """The permutation test of the seed means, all 2^n ways to swap samples."""
    gained = np.round((a.mean(0) - b.mean(0)) * 1e6).astype(int)
    sums = [
        abs((np.array(s) * gained).sum()) for s in itertools.product((1, -1), repeat=len(gained))
    ]
    return np.mean(np.array(sums) >= abs(gained.sum()))


@pytest.mark.parametrize(("seeds_a", "seeds_b"), [(2, 2), (3, 2), (1, 4)])
def test_difference_over_clips_is_the_permutation_test(seeds_a, seeds_b):
    rng = np.random.default_rng(seeds_a)
    for share in (0.5, 0.8):
        a, b = outcomes(rng, 0.8, (seeds_a, 12)), outcomes(rng, share, (seeds_b, 12))
        exact = enumerated(a, b)
        found = difference(a, b).p_clips
        assert found == pytest.approx(exact, abs=4 * math.sqrt(exact / 10_000) + 1e-3)


def test_difference_of_two_networks_is_mcnemar():
    rng = np.random.default_rng(3)
    a, b = outcomes(rng, 0.9, 400), outcomes(rng, 0.8, 400)
    found = difference(a, b)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert found.p_clips == found.p_value == mcnemar(a, b).p_value
    assert np.isnan(found.sd)
    assert np.isnan(found.p_seeds)
    one, other = difference(a[None], b[None]), found
    assert (one.mean, one.low, one.high) == (other.mean, other.low, other.high)


def test_difference_over_seeds_is_the_t_test():
    rng = np.random.default_rng(4)
    a, b = outcomes(rng, 0.83, (5, 200)), outcomes(rng, 0.8, (5, 200))
    shares = a.mean(1), b.mean(1)
    found = difference(a, b)
    assert found.p_seeds == pytest.approx(stats.ttest_rel(*shares).pvalue)
    assert found.sd == pytest.approx(np.std(shares[0] - shares[1], ddof=1))
    assert found.p_value == max(found.p_clips, found.p_seeds)
    found = difference(a, b[:3])
    welch = stats.ttest_ind(shares[0], shares[1][:3], equal_var=False)
    assert found.p_seeds == pytest.approx(welch.pvalue)


def loop(a, b, resamples, rng):
    """The bootstrap as one would write it down; seeds of both drawn together."""
    found = []
    for _ in range(resamples):
        samples, seeds = rng.integers(0, a.shape[1], a.shape[1]), rng.integers(0, len(a), len(a))
        found.append(a[seeds][:, samples].mean() - b[seeds][:, samples].mean())
    return np.quantile(found, [0.025, 0.975])


def test_difference_has_the_interval_of_a_slow_loop():
    rng = np.random.default_rng(5)
    a, b = outcomes(rng, 0.85, (3, 80)), outcomes(rng, 0.7, (3, 80))
    found = difference(a, b)
    assert (found.low, found.high) == pytest.approx(loop(a, b, 4000, rng), abs=0.012)


def test_difference_takes_seeds_in_pairs():
    """What both have of a seed in common does not make their difference less sure."""
    rng = np.random.default_rng(6)
    seeds = np.array([0.4, 0.6, 0.8])[:, None]
    a, b = rng.random((3, 2000)) < seeds + 0.1, rng.random((3, 2000)) < seeds
    paired, apart = difference(a, b), difference(a, np.concatenate([b, b]))
    assert paired.high - paired.low < 0.1 < 0.3 < apart.high - apart.low
    assert paired.p_seeds < 0.05 < apart.p_seeds


def test_difference_that_every_seed_has_to_the_sample_is_not_certain():
    """Spread as of rounding to samples: t = 20 / 100 * sqrt(2) / (1 / sqrt(12) / 100)."""
    a, b = np.arange(100) < 80, np.arange(100) < 60
    found = difference([a, a], [b, b])
    assert found.sd == 0
    assert found.p_seeds == pytest.approx(2 * stats.t.sf(20 * math.sqrt(24), 1))
    assert 0.005 < found.p_seeds < 0.01
    same = difference([a, a], [a, a])
    assert (same.mean, same.p_clips, same.p_seeds, same.p_value) == (0, 1, 1, 1)
    found = difference([a, a, a], [b, b])  # t = 20 / sqrt(1 / 36 + 1 / 24), as many degrees
    assert found.sd == 0
    assert found.p_seeds == pytest.approx(
        2 * stats.t.sf(20 / math.sqrt(5 / 72), (5 / 72) ** 2 / (1 / 36**2 / 2 + 1 / 24**2))
    )


@pytest.mark.parametrize(("right", "wrong"), [(True, True), (True, False), (False, True)])
def test_difference_is_not_certain_where_all_samples_agree(right, wrong):
    a, b = np.full(20, right), np.full(20, wrong)
    found, unseen = difference(a, b), 1 - 0.025 ** (1 / 20)
    middle = (1 - unseen) * found.mean
    assert (found.low, found.high) == pytest.approx((middle - unseen, middle + unseen))
    assert -1 <= found.low <= found.mean <= found.high <= 1


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_difference_turns_around_with_its_arguments(seeds_a, seeds_b, samples, seed):
    rng = np.random.default_rng(seed)
    a, b = outcomes(rng, 0.7, (seeds_a, samples)), outcomes(rng, 0.5, (seeds_b, samples))
    one, other = difference(a, b), difference(b, a)
    assert one.mean == pytest.approx(-other.mean)
    assert one.low <= one.high
    assert one.p_clips == pytest.approx(other.p_clips)
    assert one.p_seeds == pytest.approx(other.p_seeds, nan_ok=True)
    assert 0 < one.p_value <= 1


def test_difference_counts_only_if_it_holds_over_seeds_too(monkeypatch):
    """Seeds differ, the methods do not: many samples alone find a difference again and again."""
    monkeypatch.setattr("msg3d_lab.evaluation.statistics._RESAMPLES", 200)
    rng, clips, both = np.random.default_rng(7), 0, 0
    for _ in range(200):
        skill = rng.normal(0.7, 0.05, (2, 3, 1))
        a, b = rng.random((2, 3, 1000)) < skill
        found = difference(a, b)
        clips += found.p_clips < 0.05
        both += found.p_value < 0.05
    assert clips > 60
    assert both < 20


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.5]), [0.04, 0.09, 0.09, 0.5])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1, 1])
    np.testing.assert_allclose(holm([np.nan, 0.02, np.nan, 0.04]), [np.nan, 0.04, np.nan, 0.04])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_holm_rejects_what_stepping_down_rejects(p, random):
    """The smallest first, each against alpha by how many are left, until one is too large."""
    corrected = holm(p)
    for alpha in (0.05, 0.3):
        rejected = set()
        for left, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
            if p[i] * (len(p) - left) > alpha:
                break
            rejected.add(i)
        assert {i for i, q in enumerate(corrected) if q <= alpha} == rejected
    order = random.sample(range(len(p)), len(p))
    np.testing.assert_array_equal(holm(np.array(p)[order]), corrected[order])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy_interval([]), "expected correct as bool, found float64"),
        (lambda: accuracy_interval(np.zeros(0, bool)), r"at least one of each, found shape \(0,\)"),
        (lambda: accuracy_interval([1, 0, 1]), "found int64: pass `predictions == labels`"),
        (lambda: accuracy_interval(np.ones((2, 3), bool)), r"found \(2, 3\): pass one seed"),
        (lambda: mcnemar([True], [True, False]), "found 1 and 2: join them by id with `align`"),
        (lambda: mcnemar([[True], [True]], [True]), "several seeds are compared by `difference`"),
        (lambda: difference([True], [[True, True]]), "found 1 and 2: join them by id"),
        (lambda: difference(np.ones((1, 1, 1), bool), [True]), r"found shape \(1, 1, 1\)"),
        (lambda: holm([0.1, 1.1]), "p-values from 0 to 1"),
        (lambda: holm([[0.1]]), "a row of p-values"),
    ],
)
def test_statistics_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()
