"""Sanity checks: does importance depend on the network, is it stable, does it find known evidence?

Importance that stays the same when the network's weights are shuffled describes the clips, not the
network (Adebayo et al., NeurIPS 2018, arXiv 1810.03292). Importance that differs between two
trainings of the same network is no property of the action. In synthetic recordings the joints and
frames that carry an action are known, so that it can be checked whether they are found (the
pointing game: Zhang et al., ECCV 2016, arXiv 1608.00507).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, permutations

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from msg3d_lab.explain.features import Features


def motion_energy(x: Tensor, features: Features) -> Tensor:
    """Return how much each feature moves: the squared distance to the next frame, summed.

    This uses no network: an attribution that finds nothing more only finds what moves.

    Shapes:
        x: (N, M, T, V, C) -> (N, features)
    """
    step = torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)
    step[:, :, :-1] = (x[:, :, 1:] - x[:, :, :-1]).square().sum(-1)
    return features.total(step)


def rank_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation of two attributions, clip by clip.

    Shapes:
        (N, F), (N, F) -> (N,) from -1 to 1; NaN where all values of one of the two are equal.

    Raises:
        ValueError: two different shapes.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(
            f"expected two attributions (clips, features) of one shape, found {a.shape} and "
            f"{b.shape}"
        )
    ranks = [rankdata(values, axis=1) - (a.shape[1] + 1) / 2 for values in (a, b)]
    size = np.sqrt(np.prod([(r**2).sum(axis=1) for r in ranks], axis=0))
    unknown = np.full(len(a), np.nan)
    return np.divide((ranks[0] * ranks[1]).sum(axis=1), size, out=unknown, where=size > 0)


def chance_similarity(num_features: int) -> float:
    """Return the mean absolute rank correlation of two unrelated attributions.

    Up to 8 features, all orders are counted. Beyond, the correlation is nearly normal with variance
    1 / (features - 1); the error is below 3 %. A single feature has no rank correlation: NaN.

    Source: Kendall, Rank Correlation Methods, 1948, for the variance.

    Example:
        >>> round(chance_similarity(25), 3)
        0.163
    """
    if num_features < 2:
        return float("nan")
    if num_features > 8:
        return float(np.sqrt(2 / (np.pi * (num_features - 1))))
    orders = np.array(list(permutations(range(num_features))))
    one = np.broadcast_to(np.arange(num_features), orders.shape)
    return float(np.abs(rank_similarity(one, orders)).mean())


def stability(attributions: Sequence[np.ndarray]) -> np.ndarray:
    """Return how similar the attributions of several trained networks are, clip by clip.

    Args:
        attributions: (N, F) each, of the same clips, e.g. one per seed.

    Returns:
        (N,) the mean of Spearman's correlation over all pairs.

    Raises:
        ValueError: fewer than two, or different shapes.
    """
    if len(attributions) < 2:
        raise ValueError(f"expected at least two attributions, found {len(attributions)}")
    pairs = combinations(attributions, 2)
    return np.mean([rank_similarity(a, b) for a, b in pairs], axis=0)


def shuffled_copies(
    model: nn.Module, stages: Sequence[str], *, seed: int = 0
) -> Iterator[tuple[str, nn.Module]]:
    """Yield copies of a network with more and more of its weights shuffled.

    Each weight tensor keeps its values in another order; residual masks count as weights. Running
    statistics of batch normalisation stay. The network itself is not changed.

    Args:
        model: the network.
        stages: prefixes of parameter names, in the order in which they are shuffled; usually from
            the classifier down, e.g. ("fc", "blocks.2", "blocks.1", "blocks.0").
        seed: of the shuffling.

    Raises:
        ValueError: a stage without a parameter.
    """
    shuffled = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for stage in stages:
        own = [p for n, p in shuffled.named_parameters() if n == stage or n.startswith(f"{stage}.")]
        if not own:
            known = ", ".join(sorted({n.rsplit(".", 1)[0] for n, _ in model.named_parameters()}))
            raise ValueError(f"no parameter of the network is below {stage!r}: it has {known:.400}")
        with torch.no_grad():
            for parameter in own:
                where = torch.randperm(parameter.numel(), generator=generator)
                mixed = parameter.flatten()[where.to(parameter.device)]
                parameter.copy_(mixed.view_as(parameter))
        yield stage, copy.deepcopy(shuffled)


def randomisation_check(
    model: nn.Module,
    explain: Callable[[nn.Module], np.ndarray],
    *,
    stages: Sequence[str] = ("fc", "blocks.2", "blocks.1", "blocks.0"),
    seed: int = 0,
) -> pd.DataFrame:
    """Shuffle weights from the classifier down and measure how much importance changes.

    A shuffled classifier may reverse the sign of a clip's importance: the rank correlations are
    then near 1 and -1, and their mean over clips near 0, although nothing else has changed. So it
    is the absolute value that shows whether importance depends on the weights.

    Args:
        model: the trained network.
        explain: network -> importance (N, F), always of the same clips and classes.
        stages: see `shuffled_copies`.
        seed: of the shuffling.

    Returns:
        A row per stage, "trained" first, of Spearman's correlation with the trained network's
        importance: `size`, the mean absolute value over clips; `chance`, the size for unrelated
        importance (`chance_similarity`); `similarity` and `sd`, mean and standard deviation of the
        signed correlation. The size of an attribution that depends on the network falls to chance.

    Raises:
        ValueError: a stage without a parameter.

    Source: Adebayo et al., NeurIPS 2018 (arXiv 1810.03292), who also rank absolute importance.
    """
    trained = explain(model)
    rows = {"trained": rank_similarity(trained, trained)}
    for stage, shuffled in shuffled_copies(model, stages, seed=seed):
        name = f"{stage} shuffled" if len(rows) == 1 else f"and {stage}"
        rows[name] = rank_similarity(trained, explain(shuffled))
    chance = chance_similarity(trained.shape[1])
    table = {
        name: {
            "size": known_mean(np.abs(r)),
            "chance": chance,
            "similarity": known_mean(r),
            "sd": float(np.std(r[np.isfinite(r)])),
        }
        for name, r in rows.items()
    }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("weights")


def pointing_game(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return whether the most important feature of each clip is a planted one.

    Shapes:
        values (N, F), truth (N, F) bool -> (N,): 1 or 0; with several most important features, the
        fraction of them that is planted; NaN where no feature or every feature is planted. Chance
        is the fraction of planted features, `truth.mean(axis=1)`.

    Raises:
        ValueError: two different shapes.
    """
    values, truth = _check_pair(values, truth)
    first = values == values.max(axis=1, keepdims=True)
    hit = (first & truth).sum(axis=1) / first.sum(axis=1)
    return np.where(truth.any(axis=1) & ~truth.all(axis=1), hit, np.nan)


def planted_auc(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return how often a planted feature gets more importance than another: the area under ROC.

    Shapes:
        values (N, F), truth (N, F) bool -> (N,): 1 if all planted features come first, 0.5 by
        chance; NaN where no feature or every feature is planted.

    Raises:
        ValueError: two different shapes.
    """
    values, truth = _check_pair(values, truth)
    inside, outside = truth.sum(axis=1), (~truth).sum(axis=1)
    ranks = (rankdata(values, axis=1) * truth).sum(axis=1)
    wins = ranks - inside * (inside + 1) / 2
    pairs = inside * outside
    return np.divide(wins, pairs, out=np.full(len(values), np.nan), where=pairs > 0)


def known_mean(values: np.ndarray) -> float:
    """Return the mean of the finite values; NaN if there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _check_pair(values: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, truth = np.asarray(values, dtype=float), np.asarray(truth, dtype=bool)
    if values.shape != truth.shape or values.ndim != 2:
        raise ValueError(
            f"expected importance and truth (clips, features) of one shape, found {values.shape} "
            f"and {truth.shape}"
        )
    return values, truth
