"""How sure an accuracy is, and whether two differ: intervals and paired tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Difference", "McNemar", "difference", "holm", "interval", "mcnemar"]

_AT_ONCE = 2**22  # numbers drawn at a time


@dataclass(frozen=True)
class McNemar:
    """What an exact McNemar test found.

    Args:
        only_a: samples that a has right and b has wrong.
        only_b: the reverse.
        p_value: two-sided: how often a fair coin splits the `only_a + only_b` samples at least as
            unevenly; 1 if there are none.
    """

    only_a: int
    only_b: int
    p_value: float


@dataclass(frozen=True)
class Difference:
    """How much a is better than b, and how sure that is. Shares of 1.

    Args:
        mean: accuracy of a minus accuracy of b, each the mean of its seeds.
        sd: standard deviation over the seeds of one seed's difference; nan with one seed.
        low, high: bootstrap interval of `mean`, over samples and seeds.
        p_clips: would other test samples have shown it? (these networks)
        p_seeds: would other seeds have shown it? (these samples); nan with one seed.
        p_value: the larger of the two that are known.
    """

    mean: float
    sd: float
    low: float
    high: float
    p_clips: float
    p_seeds: float
    p_value: float


def interval(
    correct: ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return the bootstrap interval of an accuracy, over test samples.

    It says what other samples of the same kind would have given the same network. It knows
    nothing of the spread between seeds: see `difference`.

    The samples that a resample of n has right are Binomial(n, accuracy), so these counts are drawn
    and not the samples. Where all samples are right, or all wrong, every resample looks the same
    and the bootstrap would claim certainty: the exact binomial interval stands in.

    Args:
        correct: per sample, whether it was right.
        confidence: share of such intervals that hold the truth.
        resamples: how many to draw.
        seed: of the draws.

    Shapes:
        correct: (samples,) bool

    Raises:
        ValueError: not a row of right and wrong, empty; a confidence outside 0 to 1.

    Source: Efron 1979, percentile method; Clopper and Pearson 1934 where all samples agree.
    """
    from scipy.stats import binomtest

    right = _rows(correct, "correct")
    if len(right) != 1:
        raise ValueError(f"expected correct as (samples,), found {right.shape}: pass one seed")
    _check_draws(confidence, resamples)
    n, count = right.size, int(right.sum())
    if count in (0, n):
        exact = binomtest(count, n).proportion_ci(confidence_level=confidence, method="exact")
        return float(exact.low), float(exact.high)
    shares = np.random.default_rng(seed).binomial(n, count / n, size=resamples) / n
    return _percentiles(shares, confidence)


def mcnemar(a: ArrayLike, b: ArrayLike) -> McNemar:
    """Test whether a and b are right equally often, on the same samples, exactly.

    Only samples on which they disagree count; if neither is better, each of these falls to a or to
    b like a fair coin.

    Args:
        a: per sample, whether the one was right.
        b: the same samples in the same order (see `aligned`), for the other.

    Shapes:
        a, b: (samples,) bool

    Raises:
        ValueError: not two rows of right and wrong of one length.

    Source: McNemar 1947, in its exact binomial form.
    """
    from scipy.stats import binomtest

    first, second = _pair(a, b)
    if len(first) != 1 or len(second) != 1:
        raise ValueError(
            f"expected a and b as (samples,), found {first.shape} and {second.shape}: "
            "several seeds are compared by `difference`"
        )
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    p_value = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return McNemar(only_a=only_a, only_b=only_b, p_value=float(p_value))


def difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Compare two runs, or two sets of seeds, on the same samples.

    Two things could have come out otherwise: the samples tested, and the seeds trained. A
    difference counts only if it holds over both, so `p_value` is the larger of the two p-values (a
    valid p-value for "over at least one of them there is nothing", the intersection-union test).

    * Over samples: with one seed each the exact McNemar test; with more a permutation test that
      swaps a and b on random samples, of the differences averaged over seeds (exact if both have
      as many seeds, else nearly so).
    * Over seeds: the paired t-test of seed i of a with seed i of b; Welch's where the numbers of
      seeds differ. Accuracies move in steps of one sample, so a spread below that of rounding
      to such steps is taken to be that: seeds that agree to the sample do not prove anything alone.
    * The interval draws samples and, where there are several, seeds anew. Where all samples show
      the same difference (none, say) it would have no width: it is then widened by the share of
      samples that could be otherwise without one of these being so (exact binomial bound).

    What few seeds can show: with one seed nothing at all about training; p_value then speaks of
    these two networks only. With two seeds the t-test has one degree of freedom: the difference
    must be about 13 times its standard error to reach 0.05, with three 4.3 times, with five 2.8
    times. Few seeds drawn anew spread too little (by a factor of sqrt((S - 1) / S): 0.71 with two,
    0.82 with three), so the interval is narrow then and `p_seeds` the one to go by.

    Args:
        a: per seed and sample, whether it was right.
        b: the same samples in the same order (see `aligned`), for the other.
        confidence: of the interval.
        resamples: how many to draw, for the interval and for the permutation test.
        seed: of the draws.

    Shapes:
        a, b: (seeds, samples) or (samples,) bool

    Raises:
        ValueError: not right and wrong of the same samples; a confidence outside 0 to 1.

    Source: Efron and Tibshirani 1993, chapters 8 and 13 (bootstrap) and 15 (permutation, with
        Phipson and Smyth 2010's count of the observed one); Berger 1982 (intersection-union).
    """
    first, second = _pair(a, b)
    _check_draws(confidence, resamples)
    rng = np.random.default_rng(seed)
    accuracy_a, accuracy_b = first.mean(axis=1), second.mean(axis=1)
    if len(first) == len(second) == 1:
        p_clips = mcnemar(first[0], second[0]).p_value
    else:
        p_clips = _swapped(first, second, resamples, rng)
    sd, p_seeds = _over_seeds(first.sum(axis=1), second.sum(axis=1), first.shape[1])
    drawn = np.concatenate(list(_drawn(first, second, resamples, rng)))
    low, high = _percentiles(drawn, confidence)
    of_samples = first.mean(axis=0) - second.mean(axis=0)
    if np.ptp(of_samples) == 0:
        unseen = 1 - ((1 - confidence) / 2) ** (1 / len(of_samples))
        seen = (1 - unseen) * float(of_samples[0])
        low, high = min(low, seen - unseen), max(high, seen + unseen)
    return Difference(
        mean=float(accuracy_a.mean() - accuracy_b.mean()),
        sd=sd,
        low=low,
        high=high,
        p_clips=p_clips,
        p_seeds=p_seeds,
        p_value=p_clips if np.isnan(p_seeds) else max(p_clips, p_seeds),
    )


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return p-values corrected for how many tests were made (family-wise error), nan kept.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none falls below one before
    it, or rises above 1.

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


def _rows(correct: ArrayLike, name: str) -> np.ndarray:
    """Return right and wrong as (seeds, samples) bool."""
    rows = np.asarray(correct)
    if rows.dtype != np.bool_:
        raise ValueError(
            f"expected {name} as right and wrong (bool), found {rows.dtype}: "
            "pass `predictions == labels`"
        )
    if rows.ndim not in (1, 2) or not rows.size:
        raise ValueError(
            f"expected {name} as (samples,) or (seeds, samples), at least one of each, "
            f"found shape {rows.shape}"
        )
    return np.atleast_2d(rows)


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both as (seeds, samples), of the same samples."""
    first, second = _rows(a, "a"), _rows(b, "b")
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"expected the same samples on both sides, found {first.shape[1]} and "
            f"{second.shape[1]}: join them by id with `aligned`"
        )
    return first, second


def _check_draws(confidence: float, resamples: int) -> None:
    """Refuse what gives no interval."""
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, found {confidence}")
    if resamples < 1:
        raise ValueError(f"expected at least one resample, found {resamples}")


def _percentiles(drawn: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the middle share of the draws."""
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _over_seeds(a: np.ndarray, b: np.ndarray, num_samples: int) -> tuple[float, float]:
    """Return the spread over seeds of one difference, and the t-test's p-value.

    From how many samples each seed has right: whole numbers, of which equal ones have no spread.
    """
    from scipy.stats import t

    if len(a) == 1 or len(b) == 1:
        return np.nan, np.nan
    rounding = 1 / 12  # variance of what rounding to whole samples takes away
    if len(a) == len(b):
        variance = np.var(a - b, ddof=1)
        error, freedom = max(variance, rounding) / len(a), float(len(a) - 1)
    else:
        of_a, of_b = np.var(a, ddof=1), np.var(b, ddof=1)
        variance = of_a + of_b
        parts = max(of_a, rounding) / len(a), max(of_b, rounding) / len(b)
        error = sum(parts)
        freedom = error**2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    away = abs(a.mean() - b.mean()) / np.sqrt(error)
    return float(np.sqrt(variance)) / num_samples, float(2 * t.sf(away, freedom))


def _swapped(a: np.ndarray, b: np.ndarray, resamples: int, rng: np.random.Generator) -> float:
    """Return how often swapping a and b on random samples gives as large a difference.

    In whole numbers, so that ties are ties. Samples with the same difference share one draw: m
    random signs add up to 2 Binomial(m, 1/2) - m.
    """
    gained = a.sum(axis=0) * len(b) - b.sum(axis=0) * len(a)
    sizes, counts = np.unique(np.abs(gained), return_counts=True)
    signs = 2 * rng.binomial(counts, 0.5, size=(resamples, len(counts))) - counts
    as_large = np.abs(signs @ sizes) >= abs(gained.sum())
    return float((1 + as_large.sum()) / (1 + resamples))


def _drawn(
    a: np.ndarray, b: np.ndarray, resamples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield differences with samples and seeds drawn anew.

    Samples on which every network did the same share one draw: how often each such pattern occurs
    among n drawn samples is multinomial. Seeds that are matched are drawn together.
    """
    patterns, counts = np.unique(np.concatenate([a, b]), axis=1, return_counts=True)
    n, (of_a, of_b) = a.shape[1], (patterns[: len(a)], patterns[len(a) :])
    at_once = max(1, _AT_ONCE // len(counts))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        shares = rng.multinomial(n, counts / n, size=size) / n
        seeds_a = rng.multinomial(len(a), np.full(len(a), 1 / len(a)), size=size) / len(a)
        seeds_b = (
            seeds_a
            if len(a) == len(b)
            else rng.multinomial(len(b), np.full(len(b), 1 / len(b)), size=size) / len(b)
        )
        better = seeds_a @ of_a.astype(np.float64) - seeds_b @ of_b.astype(np.float64)
        yield (shares * better).sum(axis=1)
