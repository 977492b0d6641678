"""Does the network agree? Importance checked against what it does when features are taken away.

An attribution claims which features matter. Here the claim is tested by replacing features, most
important first, and watching the class's probability (deletion), or by starting from the baseline
and putting features back (insertion; Petsiuk et al., BMVC 2018, arXiv 1806.07421). A curve alone
says little, since any order of deletion ends at the baseline; so each is set against a random order
and against the reversed one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from msg3d_lab.analysis.decomposition import check_mode
from msg3d_lab.analysis.features import Features, hide
from msg3d_lab.analysis.importance import Forward, explained_score

__all__ = [
    "ORDERS",
    "areas",
    "curve_table",
    "deletion_curve",
    "faithfulness",
    "importance_orders",
    "random_subsets",
    "score_drops",
]

ORDERS = ("important first", "random", "important last")


def importance_orders(values: np.ndarray, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the three orders in which features are taken away.

    Args:
        values: importance; equal values keep the order of the features.
        seed: of the random order, which does not depend on the values: all methods that are
            compared with one seed are set against the same random orders.

    Shapes:
        values: (N, F) -> three arrays (N, F), each row a permutation of the features.
    """
    values = _checked(values)
    first = np.argsort(-values, axis=1, kind="stable")
    rows = np.tile(np.arange(values.shape[1]), (len(values), 1))
    shuffled = np.random.default_rng(seed).permuted(rows, axis=1)
    return dict(zip(ORDERS, (first, shuffled, first[:, ::-1].copy()), strict=True))


def deletion_curve(
    forward: Forward,
    x: Tensor,
    order: np.ndarray,
    *,
    classes: Tensor,
    features: Features,
    baseline: Tensor,
    points: int = 25,
    batch_size: int = 64,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Replace features in the order given; return how the class's probability falls.

    Args:
        forward: (N, M, T, V, C) -> logits (N, classes).
        x: the clips.
        order: a permutation of the features per clip; see `importance_orders`.
        classes: (N,) the class watched, clip by clip.
        features: the features.
        baseline: what takes their place: clips like `x`.
        points: steps of the curve; with more features than that, several go at a time.
        batch_size: clips at a time.
        progress: whether to show a progress bar.

    Returns:
        Shares of the features that are gone, (S,) from 0 to 1, and probabilities, (N, S).

    Raises:
        ValueError: an order that is no permutation of the features, or no point.
    """
    N, F = len(x), len(features)
    order = np.asarray(order)
    if order.shape != (N, F) or (np.sort(order, axis=1) != np.arange(F)).any():
        raise ValueError(f"expected a permutation of {F} features for each of {N} clips")
    if points < 1:
        raise ValueError(f"expected at least one point beyond the start, found {points}")
    counts = np.unique(np.linspace(0, F, min(points, F) + 1).round().astype(int))
    rank = np.argsort(order, axis=1)  # when each feature goes
    kept = torch.from_numpy(rank[:, None] >= counts[:, None])  # (N, S, F)
    logits = _answers(forward, x, kept, features, baseline, batch_size, progress)
    which = classes.cpu()[:, None, None].expand(-1, len(counts), 1)
    probability = logits.softmax(-1).gather(2, which)[..., 0]
    return counts / F, probability.numpy()


def curve_table(shares: np.ndarray, curves: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return deletion and insertion curves as one long table.

    Putting features back, the most important first, passes through the same clips as taking them
    away, the most important last; so three deletion curves are six curves. The random order of
    insertion is the reverse of that of deletion.

    Args:
        shares: (S,) of the features that are gone.
        curves: deletion curves (N, S) by the orders of `ORDERS`.

    Returns:
        Columns clip (number), kind ("deletion" or "insertion"), order, share (of the features
        replaced, or put back) and probability.

    Raises:
        ValueError: other orders, or curves of another shape.
    """
    if set(curves) != set(ORDERS):
        raise ValueError(f"expected curves for {', '.join(ORDERS)}, found {', '.join(curves)}")
    shares = np.asarray(shares)
    opposite = dict(zip(ORDERS, ORDERS[::-1], strict=True))
    parts = []
    for order in ORDERS:
        for kind, share, curve in (
            ("deletion", shares, curves[order]),
            ("insertion", 1 - shares[::-1], curves[opposite[order]][:, ::-1]),
        ):
            if curve.ndim != 2 or curve.shape[1:] != shares.shape:
                raise ValueError(f"expected curves (N, {len(shares)}), found {curve.shape}")
            clip = np.repeat(np.arange(len(curve)), len(shares))
            table = {"clip": clip, "kind": kind, "order": order}
            table["share"], table["probability"] = np.tile(share, len(curve)), curve.ravel()
            parts.append(pd.DataFrame(table))
    return pd.concat(parts, ignore_index=True)


def areas(table: pd.DataFrame) -> pd.DataFrame:
    """Return the area under each curve, by the trapezoidal rule: a mean probability.

    Of a good attribution the area of "important first" is small for deletion and large for
    insertion; a useless one has the area of "random".

    Args:
        table: see `curve_table`.

    Returns:
        A row per clip; columns (kind, order).
    """
    from scipy.integrate import trapezoid

    found = {}
    for kind in ("deletion", "insertion"):
        for order in ORDERS:
            rows = table[(table["kind"] == kind) & (table["order"] == order)]
            curve = rows.pivot_table(index="clip", columns="share", values="probability")
            found[kind, order] = trapezoid(curve.to_numpy(), curve.columns.to_numpy(), axis=1)
    return pd.DataFrame(found, index=np.unique(table["clip"]))


def random_subsets(
    num_clips: int, num_features: int, *, share: float = 0.25, repeats: int = 30, seed: int = 0
) -> np.ndarray:
    """Draw sets of features, for `score_drops` and `faithfulness`.

    Args:
        num_clips: N.
        num_features: F.
        share: of the features in a set; rounded, at least one and not all.
        repeats: R, sets per clip.
        seed: of the draw.

    Returns:
        (N, R, F) bool, what is in the set.

    Raises:
        ValueError: fewer than two features, or a share that is none.
    """
    if num_features < 2 or not 0 < share < 1:
        raise ValueError(
            f"expected two features or more and a share between 0 and 1, found {num_features} and "
            f"{share:g}"
        )
    size = min(max(1, round(share * num_features)), num_features - 1)
    rows = np.broadcast_to(np.arange(num_features) < size, (num_clips, repeats, num_features))
    return np.random.default_rng(seed).permuted(rows, axis=2)


def score_drops(
    forward: Forward,
    x: Tensor,
    hidden: np.ndarray,
    *,
    classes: Tensor,
    features: Features,
    baseline: Tensor,
    score: str = "logit",
    batch_size: int = 64,
    progress: bool = False,
) -> np.ndarray:
    """Return how much the class's score falls when sets of features are replaced.

    Args:
        forward: (N, M, T, V, C) -> logits (N, classes).
        x: the clips.
        hidden: (N, R, F) bool, the sets; see `random_subsets`.
        classes: (N,) the class asked about.
        features: the features.
        baseline: what takes their place: clips like `x`.
        score: "logit" or "log_probability".
        batch_size: clips at a time.
        progress: whether to show a progress bar.

    Shapes:
        -> (N, R)
    """
    N, R, F = hidden.shape
    kept = torch.from_numpy(np.concatenate([np.zeros((N, 1, F), bool), hidden], axis=1) == 0)
    logits = _answers(forward, x, kept, features, baseline, batch_size, progress)
    repeated = classes.cpu().repeat_interleave(R + 1)
    scores = explained_score(logits.flatten(0, 1), repeated, score=score).view(N, R + 1)
    return (scores[:, :1] - scores[:, 1:]).numpy()


def faithfulness(values: np.ndarray, hidden: np.ndarray, drops: np.ndarray) -> np.ndarray:
    """Correlate, clip by clip, the importance of sets of features with what their loss costs.

    Args:
        values: importance.
        hidden: the sets; see `random_subsets`.
        drops: what `score_drops` found for them.

    Shapes:
        values (N, F), hidden (N, R, F), drops (N, R) -> (N,) Pearson's correlation; NaN where
        importance or drops do not vary.

    Raises:
        ValueError: shapes that do not belong together.

    Source: Bhatt et al., IJCAI 2020 (arXiv 2005.00631), faithfulness correlation.
    """
    values = _checked(values)
    N, F = values.shape
    if hidden.shape != (N, drops.shape[-1], F) or drops.ndim != 2 or len(drops) != N:
        raise ValueError(
            f"expected sets ({N}, R, {F}) and drops ({N}, R), found {hidden.shape} and "
            f"{drops.shape}"
        )
    claimed = np.einsum("nrf,nf->nr", hidden, values)
    a = claimed - claimed.mean(axis=1, keepdims=True)
    b = drops - drops.mean(axis=1, keepdims=True)
    size = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    # Round-off of sums that are all the same is no variation.
    constant = size <= 1e-12 * (1 + np.abs(claimed).max() * np.abs(drops).max())
    unknown = np.full(N, np.nan)
    return np.divide((a * b).sum(axis=1), size, out=unknown, where=~constant)


def _answers(
    forward: Forward,
    x: Tensor,
    kept: Tensor,
    features: Features,
    baseline: Tensor,
    batch_size: int,
    progress: bool,
) -> Tensor:
    """The logits of every clip in each of its states: kept (N, S, F) -> (N, S, classes)."""
    check_mode(forward)
    if baseline.shape != x.shape:
        raise ValueError(f"expected a baseline {tuple(x.shape)}, found {tuple(baseline.shape)}")
    N, S, _ = kept.shape
    flat, found = kept.flatten(0, 1), []
    bar = tqdm(total=N * S, desc="replacing", unit="clip", disable=not progress, dynamic_ncols=True)
    with bar, torch.no_grad():
        for start in range(0, N * S, batch_size):
            state = flat[start : start + batch_size].to(x.device)
            owner = torch.arange(start, start + len(state), device=x.device) // S
            logits = forward(hide(x[owner], baseline[owner], state, features))
            found.append(logits.cpu().double())  # in this order: Apple's GPUs have no float64
            bar.update(len(state))
    return torch.cat(found).view(N, S, -1)


def _checked(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"expected finite importance (clips, features), found {values.shape}")
    return values
