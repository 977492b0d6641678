"""Sanity checks: does importance depend on the network, is it stable, does it find known evidence?

Importance that stays the same when the network's weights are shuffled describes the clips, not the
network (Adebayo et al., NeurIPS 2018, arXiv 1810.03292). Importance that differs between two
trainings of the same network is no property of the action. In synthetic recordings the joints and
frames that carry an action are known, so that it can be checked whether they are found (the
pointing game: Zhang et al., ECCV 2016, arXiv 1608.00507).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata

from msg3d_lab.model import MSG3D


def rank_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation of two attributions, clip by clip.

    Shapes:
        (N, F), (N, F) -> (N,) from -1 to 1; NaN where all values of one of the two are equal.
    """
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


def shuffled_copies(model: MSG3D, *, seed: int = 0) -> Iterator[tuple[str, MSG3D]]:
    """Yield copies of a network with more and more of its weights shuffled, each with its stage.

    First the classifier's ("fc"), then those of the last block ("blocks.2"), down to the first.
    Each weight tensor keeps its values in another order; residual masks count as weights. The
    input's normalisation and running statistics stay. The network itself is not changed.
    """
    shuffled = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for stage in ("fc", *(f"blocks.{i}" for i in reversed(range(len(model.blocks))))):
        with torch.no_grad():
            for parameter in shuffled.get_submodule(stage).parameters():
                where = torch.randperm(parameter.numel(), generator=generator)
                mixed = parameter.flatten()[where.to(parameter.device)]
                parameter.copy_(mixed.view_as(parameter))
        yield stage, copy.deepcopy(shuffled)


def randomisation_check(model: MSG3D, explain: Callable[[MSG3D], np.ndarray]) -> pd.DataFrame:
    """Shuffle weights from the classifier down and measure how much importance changes.

    A shuffled classifier may reverse the sign of a clip's importance: the rank correlations are
    then near 1 and -1, and their mean over clips near 0, although nothing else has changed. So it
    is the absolute value that shows whether importance depends on the weights.

    Args:
        model: the trained network.
        explain: network -> importance (N, F), always of the same clips and classes.

    Returns:
        A row per stage, "trained" first, of Spearman's correlation with the trained network's
        importance: `size`, the mean absolute value over clips; `chance`, the size for unrelated
        importance (`chance_similarity`); `similarity` and `sd`, mean and standard deviation of the
        signed correlation. The size of an attribution that depends on the network falls to chance.

    Source: Adebayo et al., NeurIPS 2018 (arXiv 1810.03292), who also rank absolute importance.
    """
    trained = explain(model)
    rows = {"trained": rank_similarity(trained, trained)}
    for stage, shuffled in shuffled_copies(model):
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
    """
    first = values == values.max(axis=1, keepdims=True)
    hit = (first & truth).sum(axis=1) / first.sum(axis=1)
    return np.where(truth.any(axis=1) & ~truth.all(axis=1), hit, np.nan)


def planted_auc(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return how often a planted feature gets more importance than another: the area under ROC.

    Shapes:
        values (N, F), truth (N, F) bool -> (N,): 1 if all planted features come first, 0.5 by
        chance; NaN where no feature or every feature is planted.
    """
    inside, outside = truth.sum(axis=1), (~truth).sum(axis=1)
    ranks = (rankdata(values, axis=1) * truth).sum(axis=1)
    wins = ranks - inside * (inside + 1) / 2
    pairs = inside * outside
    return np.divide(wins, pairs, out=np.full(len(values), np.nan), where=pairs > 0)


def known_mean(values: np.ndarray) -> float:
    """Return the mean of the finite values; NaN if there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
