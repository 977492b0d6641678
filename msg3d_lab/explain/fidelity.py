"""Fidelity: importance checked against what the network does when features are replaced.

Deletion replaces features, most important first, and records the class's probability. Insertion
starts from the baseline and puts features back (Petsiuk et al., BMVC 2018, arXiv 1806.07421). Any
order ends at the baseline, so that a curve is compared with a random and with the reversed order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy.integrate import trapezoid
from torch import Tensor

from msg3d_lab.analysis.decomposition import check_mode
from msg3d_lab.explain.features import replace_features
from msg3d_lab.explain.question import Network, Question, class_scores

ORDERS = ("important first", "random", "important last")


def importance_orders(values: np.ndarray, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the three orders in which features are replaced.

    Equal values keep the order of the features. The random order does not depend on the values: all
    methods that are compared with one seed are compared with the same random orders.

    Shapes:
        values: (N, F) -> three arrays (N, F), each row a permutation of the features.
    """
    first = np.argsort(-values, axis=1, kind="stable")
    rows = np.tile(np.arange(values.shape[1]), (len(values), 1))
    shuffled = np.random.default_rng(seed).permuted(rows, axis=1)
    return dict(zip(ORDERS, (first, shuffled, first[:, ::-1].copy()), strict=True))


def deletion_curve(
    network: Network, question: Question, order: np.ndarray, *, points: int = 25
) -> tuple[np.ndarray, np.ndarray]:
    """Return how the class's probability changes as features are replaced in a given order.

    Args:
        order: a permutation of the features per clip; see `importance_orders`.
        points: steps of the curve; with more features than that, several are replaced at a time.

    Returns:
        Fractions of the features that are replaced, (S,) from 0 to 1, and probabilities, (N, S).
    """
    F = len(question.features)
    counts = np.unique(np.linspace(0, F, min(points, F) + 1).round().astype(int))
    rank = np.argsort(order, axis=1)  # the step at which each feature is replaced
    kept = torch.from_numpy(rank[:, None] >= counts[:, None])  # (N, S, F)
    logits = _logits(network, question, kept)
    which = question.classes.cpu()[:, None, None].expand(-1, len(counts), 1)
    probability = logits.softmax(-1).gather(2, which)[..., 0]
    return counts / F, probability.numpy()


def curve_table(shares: np.ndarray, curves: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return deletion and insertion curves as one long table.

    Putting features back, most important first, passes through the same clips as replacing them,
    most important last: three deletion curves give six curves. The random order of insertion is the
    reverse of that of deletion.

    Args:
        shares: (S,) fractions of the features that are replaced.
        curves: deletion curves (N, S) by the orders of `ORDERS`.

    Returns:
        Columns clip (number), kind ("deletion" or "insertion"), order, share (of the features
        replaced, or put back) and probability.
    """
    opposite = dict(zip(ORDERS, ORDERS[::-1], strict=True))
    parts = []
    for order in ORDERS:
        for kind, share, curve in (
            ("deletion", shares, curves[order]),
            ("insertion", 1 - shares[::-1], curves[opposite[order]][:, ::-1]),
        ):
            clip = np.repeat(np.arange(len(curve)), len(shares))
            table = {"clip": clip, "kind": kind, "order": order}
            table["share"], table["probability"] = np.tile(share, len(curve)), curve.ravel()
            parts.append(pd.DataFrame(table))
    return pd.concat(parts, ignore_index=True)


def areas(table: pd.DataFrame) -> pd.DataFrame:
    """Return the area under each curve, by the trapezoidal rule: a mean probability.

    A good attribution has a small area of "important first" for deletion and a large one for
    insertion; an attribution without information has the area of "random".

    Returns:
        A row per clip of the table of curves; columns (kind, order).
    """
    found = {}
    for kind in ("deletion", "insertion"):
        for order in ORDERS:
            rows = table[(table["kind"] == kind) & (table["order"] == order)]
            curve = rows.pivot_table(index="clip", columns="share", values="probability")
            found[kind, order] = trapezoid(curve.to_numpy(), curve.columns.to_numpy(), axis=1)
    return pd.DataFrame(found, index=np.unique(table["clip"]))


def random_subsets(num_clips: int, num_features: int, *, repeats: int, seed: int = 0) -> np.ndarray:
    """Draw sets of a quarter of the features, at least one, for `score_drops` and `faithfulness`.

    Returns:
        (N, R, F) bool, whether a feature is in the set; R sets per clip.
    """
    size = max(1, round(num_features / 4))
    rows = np.broadcast_to(np.arange(num_features) < size, (num_clips, repeats, num_features))
    return np.random.default_rng(seed).permuted(rows, axis=2)


def score_drops(network: Network, question: Question, hidden: np.ndarray) -> np.ndarray:
    """Return how much the class's score falls when sets of features are replaced.

    Shapes:
        hidden: (N, R, F) bool, the sets; see `random_subsets` -> (N, R)
    """
    N, R, F = hidden.shape
    kept = torch.from_numpy(np.concatenate([np.zeros((N, 1, F), bool), hidden], axis=1) == 0)
    logits = _logits(network, question, kept)
    repeated = question.classes.cpu().repeat_interleave(R + 1)
    scores = class_scores(logits.flatten(0, 1), repeated, score=question.score).view(N, R + 1)
    return (scores[:, :1] - scores[:, 1:]).numpy()


def faithfulness(values: np.ndarray, hidden: np.ndarray, drops: np.ndarray) -> np.ndarray:
    """Correlate, clip by clip, the importance of sets of features with the fall of the score.

    Shapes:
        values (N, F), hidden sets (N, R, F), drops of the score (N, R) -> (N,) Pearson's
        correlation; NaN where importance or drops do not vary.

    Source: Bhatt et al., IJCAI 2020 (arXiv 2005.00631), faithfulness correlation.
    """
    sums = np.einsum("nrf,nf->nr", hidden, values.astype(float))
    a = sums - sums.mean(axis=1, keepdims=True)
    b = drops - drops.mean(axis=1, keepdims=True)
    size = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    # Equal sums differ by rounding errors; those are not a variation.
    constant = size <= 1e-12 * (1 + np.abs(sums).max() * np.abs(drops).max())
    unknown = np.full(len(sums), np.nan)
    return np.divide((a * b).sum(axis=1), size, out=unknown, where=~constant)


def _logits(network: Network, question: Question, kept: Tensor) -> Tensor:
    """The logits of every clip with each set of features: kept (N, S, F) -> (N, S, classes)."""
    check_mode(network)
    x, baseline, size = question.x, question.baseline, question.batch_size
    N, S, _ = kept.shape
    flat, found = kept.flatten(0, 1), []
    with torch.no_grad():
        for start in range(0, N * S, size):
            state = flat[start : start + size].to(x.device)
            clip = torch.arange(start, start + len(state), device=x.device) // S
            changed = replace_features(x[clip], baseline[clip], state, question.features)
            # First to the CPU, then to float64, which Apple's GPUs do not have.
            found.append(network(changed).cpu().double())
    return torch.cat(found).view(N, S, -1)
