"""Testing, scores by sample id, metrics."""

from msg3d_lab.evaluation.metrics import accuracies, confusion_counts
from msg3d_lab.evaluation.scores import Scores, read_scores, write_scores
from msg3d_lab.evaluation.test import TestResult, test

__all__ = [
    "Scores",
    "TestResult",
    "accuracies",
    "confusion_counts",
    "read_scores",
    "test",
    "write_scores",
]
