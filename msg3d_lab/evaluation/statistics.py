"""Intervals of accuracies, and paired tests of their differences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import ArrayLike

_CONFIDENCE = 0.95
_RESAMPLES = 10_000
_MAX_DRAWN = 2**22  # random numbers in memory at a time


@dataclass(frozen=True)
class McNemar:
    """The result of an exact McNemar test.

    Args:
        only_a: samples that a has right and b has wrong.
        only_b: the reverse.
        p_value: two-sided, of a fair coin tossed `only_a + only_b` times; 1 without tosses.
    """

    only_a: int
    only_b: int
    p_value: float


@dataclass(frozen=True)
class Difference:
    """The accuracy of a minus the accuracy of b, in fractions of 1, and how certain it is.

    Args:
        mean: the difference of the mean accuracies over seeds.
        sd: standard deviation over seeds of one seed's difference; nan with one seed.
        low, high: bootstrap interval of `mean`, over samples and seeds.
        p_clips: p-value over test samples, for these networks.
        p_seeds: p-value over seeds, for these samples; nan with one seed.
        p_value: the larger of the two that are known.
    """

    mean: float
    sd: float
    low: float
    high: float
    p_clips: float
    p_seeds: float
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Two networks on the same samples, in fractions of 1.

    Args:
        a, b: accuracies.
        difference: `a - b`.
        low, high: 95 % bootstrap interval of the difference, over samples.
        only_a, only_b: samples that one alone has right.
        p_value: of the exact McNemar test.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    only_a: int
    only_b: int
    p_value: float


def accuracy_interval(correct: ArrayLike) -> tuple[float, float]:
    """Return the 95 % Wilson interval of an accuracy, over test samples.

    It says what other samples of the same kind would have given the same network. It says nothing
    about other seeds: see `difference`.

    Shapes:
        correct: (samples,) bool, whether the prediction was correct

    Raises:
        ValueError: not a row of bool, or an empty one.

    Source: Wilson 1927, through `scipy.stats.binomtest`.
    """
    from scipy.stats import binomtest

    rows = _as_rows(correct, "correct")
    if len(rows) != 1:
        raise ValueError(f"expected correct as (samples,), found {rows.shape}: pass one seed")
    found = binomtest(int(rows.sum()), rows.size).proportion_ci(_CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def mcnemar(a: ArrayLike, b: ArrayLike) -> McNemar:
    """Test whether a and b are correct equally often on the same samples (exact McNemar test).

    Only samples on which they disagree count. If neither is better, a and b are equally likely to
    be the correct one on each of these.

    Shapes:
        a, b: (samples,) bool, whether the prediction was correct, in the same order (see `align`)

    Raises:
        ValueError: not two rows of bool of one length.

    Source: McNemar 1947, in its exact binomial form.
    """
    from scipy.stats import binomtest

    first, second = _as_pair(a, b)
    if len(first) != 1 or len(second) != 1:
        raise ValueError(
            f"expected a and b as (samples,), found {first.shape} and {second.shape}: "
            "several seeds are compared by `difference`"
        )
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    p_value = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return McNemar(only_a=only_a, only_b=only_b, p_value=float(p_value))


def difference(a: ArrayLike, b: ArrayLike) -> Difference:
    """Compare two networks, or two sets of seeds, on the same samples.

    Two things are random: the test samples and the training seeds. A difference must hold over
    both, so `p_value` is the larger of the two p-values (the intersection-union test).

    * Over samples: with one seed each, the exact McNemar test. With more, a permutation test that
      swaps a and b on random samples, of the differences averaged over seeds (exact if both have
      the same number of seeds, else nearly).
    * Over seeds: the paired t-test of seed i of a with seed i of b; Welch's test where the numbers
      of seeds differ. Accuracies are multiples of 1 / samples, so the variance is taken to be at
      least that of rounding to such steps: seeds with equal accuracies prove nothing alone.
    * The interval resamples the samples and, where there are several, the seeds. If every sample
      shows the same difference, the bootstrap interval has no width. It is then widened by the
      largest fraction of samples that could differ unseen (exact binomial bound).

    One seed says nothing about training: `p_value` is then about these two networks only. With two
    seeds the t-test has one degree of freedom: the difference must be about 13 times its standard
    error for p = 0.05; with three seeds 4.3 times, with five 2.8 times. Resampling S seeds
    underestimates their spread by sqrt((S - 1) / S) (0.71 for two, 0.82 for three), so with few
    seeds the interval is too narrow: trust `p_seeds`.

    Shapes:
        a, b: (seeds, samples) or (samples,) bool, whether the prediction was correct, with the
            samples in the same order (see `align`)

    Raises:
        ValueError: not bool of the same samples.

    Source: Efron and Tibshirani 1993, chapters 8 and 13 (bootstrap) and 15 (permutation, counting
        the observed one as Phipson and Smyth 2010); Berger 1982 (intersection-union).
    """
    first, second = _as_pair(a, b)
    rng = np.random.default_rng(0)
    if len(first) == len(second) == 1:
        p_clips = mcnemar(first[0], second[0]).p_value
    else:
        p_clips = _permutation_test(first, second, rng)
    sd, p_seeds = _t_test(first.sum(axis=1), second.sum(axis=1), first.shape[1])
    drawn = np.concatenate(list(_bootstrap(first, second, rng)))
    low, high = np.quantile(drawn, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    per_sample = first.mean(axis=0) - second.mean(axis=0)
    if np.ptp(per_sample) == 0:
        unseen = 1 - ((1 - _CONFIDENCE) / 2) ** (1 / len(per_sample))
        seen = (1 - unseen) * float(per_sample[0])
        low, high = min(low, seen - unseen), max(high, seen + unseen)
    return Difference(
        mean=float(first.mean(axis=1).mean() - second.mean(axis=1).mean()),
        sd=sd,
        low=float(low),
        high=float(high),
        p_clips=p_clips,
        p_seeds=p_seeds,
        p_value=p_clips if np.isnan(p_seeds) else max(p_clips, p_seeds),
    )


def compare(a: np.ndarray, b: np.ndarray) -> Comparison:
    """Compare two networks by `difference` and `mcnemar`.

    Shapes:
        a, b: (samples,) bool, whether the prediction was correct
    """
    found, test = difference(a, b), mcnemar(a, b)
    both = float(a.mean()), float(b.mean())
    return Comparison(*both, found.mean, found.low, found.high, *astuple(test))


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return p-values corrected for the number of tests (family-wise error); nan is kept.

    The smallest of m is multiplied by m, the next by m - 1, and so on; each is at least the one
    before it and at most 1.

    Raises:
        ValueError: not a row of p-values.

    Source: Holm 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = ~np.isnan(p)
    if p.ndim != 1 or ((p[known] < 0) | (p[known] > 1)).any():
        raise ValueError(f"expected a row of p-values from 0 to 1, found {p_values!r}")
    corrected = np.full_like(p, np.nan)
    order = np.flatnonzero(known)[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


def _as_rows(correct: ArrayLike, name: str) -> np.ndarray:
    """Return (seeds, samples) bool."""
    rows = np.asarray(correct)
    if rows.dtype != np.bool_:
        raise ValueError(
            f"expected {name} as bool, found {rows.dtype}: pass `predictions == labels`"
        )
    if rows.ndim not in (1, 2) or not rows.size:
        raise ValueError(
            f"expected {name} as (samples,) or (seeds, samples), at least one of each, "
            f"found shape {rows.shape}"
        )
    return np.atleast_2d(rows)


def _as_pair(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both as (seeds, samples), with the same number of samples."""
    first, second = _as_rows(a, "a"), _as_rows(b, "b")
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"expected the same samples on both sides, found {first.shape[1]} and "
            f"{second.shape[1]}: join them by id with `align`"
        )
    return first, second


def _t_test(a: np.ndarray, b: np.ndarray, num_samples: int) -> tuple[float, float]:
    """Return the standard deviation over seeds of one seed's difference, and the p-value.

    `a` and `b` count the correct samples of each seed, in whole numbers, so that equal ones have no
    spread.
    """
    from scipy.stats import t

    if len(a) == 1 or len(b) == 1:
        return np.nan, np.nan
    rounding = 1 / 12  # variance of rounding to whole samples
    if len(a) == len(b):
        variance = np.var(a - b, ddof=1)
        squared_error, freedom = max(variance, rounding) / len(a), float(len(a) - 1)
    else:
        variance_a, variance_b = np.var(a, ddof=1), np.var(b, ddof=1)
        variance = variance_a + variance_b
        from_a, from_b = max(variance_a, rounding) / len(a), max(variance_b, rounding) / len(b)
        squared_error = from_a + from_b
        freedom = squared_error**2 / (from_a**2 / (len(a) - 1) + from_b**2 / (len(b) - 1))
    statistic = abs(a.mean() - b.mean()) / np.sqrt(squared_error)
    return float(np.sqrt(variance)) / num_samples, float(2 * t.sf(statistic, freedom))


def _permutation_test(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> float:
    """Return how often swapping a and b on random samples gives as large a difference.

    In whole numbers, so that ties are exact. Samples with the same difference share one draw: m
    random signs add up to 2 Binomial(m, 1/2) - m.
    """
    differences = a.sum(axis=0) * len(b) - b.sum(axis=0) * len(a)
    sizes, counts = np.unique(np.abs(differences), return_counts=True)
    signs = 2 * rng.binomial(counts, 0.5, size=(_RESAMPLES, len(counts))) - counts
    as_large = np.abs(signs @ sizes) >= abs(differences.sum())
    return float((1 + as_large.sum()) / (1 + _RESAMPLES))


def _bootstrap(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield differences of resampled samples and seeds.

    Samples on which every network did the same share one draw: how often each such pattern occurs
    among n drawn samples is multinomial. With equal numbers of seeds, these are drawn in pairs.
    """
    patterns, counts = np.unique(np.concatenate([a, b]), axis=1, return_counts=True)
    n, patterns_a, patterns_b = a.shape[1], patterns[: len(a)], patterns[len(a) :]
    chunk = max(1, _MAX_DRAWN // len(counts))
    for start in range(0, _RESAMPLES, chunk):
        size = min(chunk, _RESAMPLES - start)
        samples = rng.multinomial(n, counts / n, size=size) / n
        seeds_a = rng.multinomial(len(a), np.full(len(a), 1 / len(a)), size=size) / len(a)
        seeds_b = (
            seeds_a
            if len(a) == len(b)
            else rng.multinomial(len(b), np.full(len(b), 1 / len(b)), size=size) / len(b)
        )
        better = seeds_a @ patterns_a.astype(np.float64) - seeds_b @ patterns_b.astype(np.float64)
        yield (samples * better).sum(axis=1)
