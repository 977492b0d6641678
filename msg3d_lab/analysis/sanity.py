"""Is it about this network, is it stable, and does it find what is known to be there?

Importance that stays the same when the network's weights are shuffled says something about the
clips, not about the network (Adebayo et al., NeurIPS 2018, arXiv 1810.03292). Importance that
differs between two trainings of the same network is no property of the action. And on made-up
recordings, where the joints and frames that carry an action are planted, it can be checked whether
they are found (the pointing game: Zhang et al., ECCV 2016, arXiv 1608.00507).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, permutations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from msg3d_lab.analysis.features import Features

__all__ = [
    "chance_similarity",
    "motion_energy",
    "planted_auc",
    "pointing_game",
    "randomisation_check",
    "rank_similarity",
    "shuffled_copies",
    "stability",
]


def motion_energy(x: Tensor, features: Features) -> np.ndarray:
    """Return how much each feature moves: a control that no network has part in.

    The squared distance to the next frame, summed. An attribution that finds no more than this has
    found out what moves, for which nobody needs a network.

    Shapes:
        x: (N, M, T, V, C) -> (N, features)
    """
    step = torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)
    step[:, :, :-1] = (x[:, :, 1:] - x[:, :, :-1]).square().sum(-1)
    return features.total(step).cpu().numpy()


def rank_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation of two attributions, clip by clip.

    Shapes:
        (N, F), (N, F) -> (N,) from -1 to 1; NaN where one of the two is the same everywhere.

    Raises:
        ValueError: two different shapes.
    """
    from scipy.stats import rankdata

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
    """Return the mean size of the rank correlation of two unrelated attributions.

    Of few features all orders are counted; of more, the correlation is nearly normal, with variance
    1 / (features - 1): within 3 %. A single feature has no rank among others: NaN.

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
    """Return how alike the attributions of several trained networks are, clip by clip.

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

    Each tensor of weights keeps its numbers in another order; the residual masks of graphs are
    weights like others. Running statistics of batch normalisations stay. The network itself is not
    touched.

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
    """Shuffle weights from the classifier down and watch whether importance changes.

    Shuffling turns the sign of the importance of whole clips, at random: the logit of a shuffled
    classifier may rise where the trained one's fell. Importance that is as it was but for that has
    rank correlations of about 1 and -1, whose mean over clips is about 0. So it is their size that
    tells whether the picture is another one.

    Args:
        model: the trained network.
        explain: gives the importance (N, F) that a network gives to the same clips and classes.
        stages: see `shuffled_copies`.
        seed: of the shuffling.

    Returns:
        A row per stage, "trained" first, of Spearman's correlation with the trained network's
        importance: `size`, the mean over clips of its absolute value, and `chance`, the size of
        unrelated importance (`chance_similarity`); `similarity` and `sd`, its mean and standard
        deviation with its sign. The size of an attribution that is about the network falls to about
        chance.

    Raises:
        ValueError: a stage without a parameter.

    Source: Adebayo et al., NeurIPS 2018 (arXiv 1810.03292), who also rank the sizes of importance.
    """
    trained = explain(model)
    rows = {"trained": rank_similarity(trained, trained)}
    for stage, shuffled in shuffled_copies(model, stages, seed=seed):
        rows[f"{stage} shuffled" if len(rows) == 1 else f"and {stage}"] = rank_similarity(
            trained, explain(shuffled)
        )
    chance = chance_similarity(trained.shape[1])
    table = {
        name: {
            "size": _mean(np.abs(r)),
            "chance": chance,
            "similarity": _mean(r),
            "sd": float(np.std(r[np.isfinite(r)])),
        }
        for name, r in rows.items()
    }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("weights")


def pointing_game(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return whether the most important feature of each clip is one of those planted.

    Shapes:
        values (N, F), truth (N, F) bool -> (N,): 1 or 0; of features that share the first place,
        the share that is planted; NaN where nothing or everything is planted. By chance it is the
        share of planted features, `truth.mean(axis=1)`.

    Raises:
        ValueError: two different shapes.
    """
    values, truth = _pair(values, truth)
    first = values == values.max(axis=1, keepdims=True)
    hit = (first & truth).sum(axis=1) / first.sum(axis=1)
    return np.where(truth.any(axis=1) & ~truth.all(axis=1), hit, np.nan)


def planted_auc(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return how often a planted feature is given more than one that is not: the area under ROC.

    Shapes:
        values (N, F), truth (N, F) bool -> (N,): 1 if all planted features come first, 0.5 by
        chance; NaN where nothing or everything is planted.

    Raises:
        ValueError: two different shapes.
    """
    from scipy.stats import rankdata

    values, truth = _pair(values, truth)
    inside, outside = truth.sum(axis=1), (~truth).sum(axis=1)
    ranks = (rankdata(values, axis=1) * truth).sum(axis=1)
    wins = ranks - inside * (inside + 1) / 2
    pairs = inside * outside
    return np.divide(wins, pairs, out=np.full(len(values), np.nan), where=pairs > 0)


def _pair(values: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, truth = np.asarray(values, dtype=float), np.asarray(truth, dtype=bool)
    if values.shape != truth.shape or values.ndim != 2:
        raise ValueError(
            f"expected importance and truth (clips, features) of one shape, found {values.shape} "
            f"and {truth.shape}"
        )
    return values, truth


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
