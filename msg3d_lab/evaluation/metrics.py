"""Accuracies, calibration and tables of classes and samples from scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch

from msg3d_lab.evaluation.scores import Scores, align
from msg3d_lab.evaluation.statistics import accuracy_interval, compare, holm

if TYPE_CHECKING:
    import pandas as pd


_BINS = 15  # Guo et al. 2017


def accuracies(scores: Scores) -> dict[str, float]:
    """Return top1, mean_class and, with more than five classes, top5, as fractions of 1.

    Mean-class accuracy is the mean of the per-class accuracies over the classes that occur.
    """
    hits = np.bincount(scores.labels, weights=scores.correct)
    samples = np.bincount(scores.labels)
    found = {
        "top1": float(scores.correct.mean()),
        "mean_class": float((hits[samples > 0] / samples[samples > 0]).mean()),
    }
    if len(scores.label_names) > 5:
        first = torch.tensor(scores.values).topk(5).indices.numpy()
        found["top5"] = float((first == scores.labels[:, None]).any(axis=1).mean())
    return found


def calibration_error(scores: Scores) -> float:
    """Return the expected calibration error: the mean distance of confidence from accuracy.

    In each bin of `reliability` the mean confidence is compared with the accuracy; bins are
    weighted by their samples. 0 is best.

    Source: Naeini et al. 2015; 15 bins as in Guo et al. 2017.
    """
    curve = reliability(scores)
    distance = (curve["confidence"] - curve["accuracy"]).abs()
    return float(np.average(distance, weights=curve["samples"]))


def confusion_counts(scores: Scores | Sequence[Scores]) -> np.ndarray:
    """Return how often class i (row) was predicted as class j (column), as int64.

    The counts of several seeds are added up.

    Raises:
        ValueError: scores of other classes.
    """
    several = [scores] if isinstance(scores, Scores) else list(scores)
    if any(one.label_names != several[0].label_names for one in several):
        raise ValueError("expected scores of the same classes")
    counts = np.zeros((len(several[0].label_names),) * 2, dtype=np.int64)
    for one in several:
        np.add.at(counts, (one.labels, one.predictions), 1)
    return counts


def per_class(scores: Scores) -> pd.DataFrame:
    """Return a row per class, in the order of the class names, indexed by name.

    Columns: samples; recall, precision and f1, fractions of 1, NaN where there is nothing to count;
    low and high, the 95 % interval of the recall (Wilson); taken_for, the class its samples are
    most often mistaken for ("" if never), and times.
    """
    import pandas as pd

    counts = confusion_counts(scores)
    hits, true, called = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    wrong = counts - np.diag(hits)
    most = wrong.argmax(axis=1)
    intervals = [
        accuracy_interval(scores.correct[scores.labels == k]) if true[k] else (np.nan, np.nan)
        for k in range(len(counts))
    ]
    low, high = np.array(intervals).T
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        table = {
            "samples": true,
            "recall": hits / true,
            "low": low,
            "high": high,
            "precision": hits / called,
            "f1": 2 * hits / (true + called),
            "taken_for": [scores.label_names[j] if wrong[i, j] else "" for i, j in enumerate(most)],
            "times": wrong.max(axis=1),
        }
    return pd.DataFrame(table, index=pd.Index(scores.label_names, name="class"))


def confused_pairs(scores: Scores | Sequence[Scores], *, top: int = 10) -> pd.DataFrame:
    """Return the most frequent confusions: true, predicted, times, and fraction of the true class.

    See `confusion_counts`.
    """
    import pandas as pd

    counts = confusion_counts(scores)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:top]
    rows = [divmod(int(place), len(counts)) for place in order if wrong.flat[place]]
    names = (scores if isinstance(scores, Scores) else scores[0]).label_names
    return pd.DataFrame(
        [(names[i], names[j], int(wrong[i, j]), wrong[i, j] / counts[i].sum()) for i, j in rows],
        columns=["true", "predicted", "times", "fraction"],
    )


def hardest(scores: Scores, *, top: int = 10) -> pd.DataFrame:
    """Return the samples whose true class has the lowest probability, hardest first.

    Columns: id, true, predicted, probability (of the true class) and predicted_probability.
    """
    import pandas as pd

    probabilities, predictions = scores.probabilities, scores.predictions
    every = np.arange(len(scores.ids))
    of_true = probabilities[every, scores.labels]
    order = np.argsort(of_true, kind="stable")[:top]
    names = np.array(scores.label_names, dtype=object)
    return pd.DataFrame(
        {
            "id": [scores.ids[i] for i in order],
            "true": names[scores.labels[order]],
            "predicted": names[predictions[order]],
            "probability": of_true[order],
            "predicted_probability": probabilities[order, predictions[order]],
        }
    )


def reliability(scores: Scores) -> pd.DataFrame:
    """Return the table of a reliability diagram: a row per bin of confidence that has samples.

    Columns: low and high (the bin's edges), samples, confidence (mean of the highest probability)
    and accuracy. `calibration_error` is the mean of `|confidence - accuracy|`, weighted by samples.

    Source: DeGroot and Fienberg 1983; 15 bins as in Guo et al. 2017.
    """
    import pandas as pd

    confidence = scores.probabilities.max(axis=1)
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)  # certainty is in the last
    table = pd.DataFrame({"confidence": confidence, "accuracy": scores.correct}).astype(np.float64)
    found = table.groupby(bins).agg(
        samples=("accuracy", "size"),
        confidence=("confidence", "mean"),
        accuracy=("accuracy", "mean"),
    )
    found.insert(0, "low", found.index / _BINS)
    found.insert(1, "high", (found.index + 1) / _BINS)
    return found.reset_index(drop=True)


def class_delta(a: Scores, b: Scores) -> pd.DataFrame:
    """Return the difference in recall of each class, greatest gain of a first, indexed by class.

    Columns: samples; a and b, the recall of each; difference (a - b) with its bootstrap interval
    low, high; only_a and only_b, the samples that one alone has right; p_value of the exact McNemar
    test, and p_holm, corrected for the number of classes. Among many classes some differ by chance,
    so judge by p_holm. It is about these two networks, not about other seeds. Classes without
    samples are left out.

    Raises:
        ValueError: the scores are not of the same samples; they are joined by id (see `align`).
    """
    import pandas as pd

    a, b = align([a, b])
    rows, present = [], np.unique(a.labels)
    for label in present:
        right_a, right_b = (s.correct[a.labels == label] for s in (a, b))
        rows.append({"samples": len(right_a), **asdict(compare(right_a, right_b))})
    names = pd.Index([a.label_names[label] for label in present], name="class")
    table = pd.DataFrame(rows, index=names)
    table["p_holm"] = holm(table["p_value"])
    return table.sort_values("difference", ascending=False, kind="stable")


def confusion_order(counts: np.ndarray) -> np.ndarray:
    """Return an order of the classes in which those that are confused stand side by side.

    Average-linkage clusters of the fraction of two classes' samples that are taken for each other,
    leaves in optimal order.

    Shapes:
        `confusion_counts`: (K, K) -> (K,) int64, a permutation

    Source: Bar-Joseph et al. 2001 for the order of the leaves, through `scipy`.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    counts = np.asarray(counts, dtype=float)
    if len(counts) < 3:
        return np.arange(len(counts))
    mixed = counts + counts.T
    of_both = counts.sum(axis=1)[:, None] + counts.sum(axis=1)
    distance = 1 - np.divide(mixed, of_both, out=np.zeros_like(mixed), where=of_both > 0)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(np.maximum(distance, 0)), "average", optimal_ordering=True)
    return leaves_list(tree).astype(np.int64)
