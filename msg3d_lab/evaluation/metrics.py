"""Accuracies and counts from scores, through torchmetrics."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from msg3d_lab.evaluation.scores import Scores

__all__ = ["accuracies", "confusion_counts"]


def accuracies(scores: Scores) -> dict[str, float]:
    """Return top-1, top-5 and mean-class accuracy, as shares of 1.

    Mean-class accuracy is the mean of the per-class accuracies over the classes that occur. With
    five classes or fewer top-5 says nothing and is left out.
    """
    from torchmetrics.functional.classification import multiclass_accuracy

    num_classes = len(scores.label_names)
    values, labels = torch.tensor(scores.values), torch.tensor(scores.labels)

    def accuracy(top_k: int, average: Literal["micro", "none"]) -> torch.Tensor:
        return multiclass_accuracy(
            values, labels, num_classes=num_classes, top_k=top_k, average=average
        )

    per_class = accuracy(1, "none")[torch.from_numpy(np.unique(scores.labels))]
    found = {"top1": float(accuracy(1, "micro")), "mean_class": float(per_class.mean())}
    if num_classes > 5:
        found["top5"] = float(accuracy(5, "micro"))
    return found


def confusion_counts(scores: Scores) -> np.ndarray:
    """Return how often class i (row) was taken for class j (column): (classes, classes) int64."""
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    counts = multiclass_confusion_matrix(
        torch.tensor(scores.predictions),
        torch.tensor(scores.labels),
        num_classes=len(scores.label_names),
    )
    return counts.numpy()
