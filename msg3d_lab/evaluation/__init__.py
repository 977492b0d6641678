"""Testing, scores by sample id, metrics, statistics."""

from msg3d_lab.evaluation.align import aligned
from msg3d_lab.evaluation.external.alignment import read_external_scores
from msg3d_lab.evaluation.loop import TestResult, test
from msg3d_lab.evaluation.metrics import (
    accuracies,
    calibration_error,
    class_delta,
    confused_pairs,
    confusion_counts,
    hardest,
    per_class,
    reliability,
)
from msg3d_lab.evaluation.scores import Scores, read_scores, write_scores
from msg3d_lab.evaluation.statistics import (
    Difference,
    McNemar,
    difference,
    holm,
    interval,
    mcnemar,
)

__all__ = [
    "Difference",
    "McNemar",
    "Scores",
    "TestResult",
    "accuracies",
    "aligned",
    "calibration_error",
    "class_delta",
    "confused_pairs",
    "confusion_counts",
    "difference",
    "hardest",
    "holm",
    "interval",
    "mcnemar",
    "per_class",
    "read_external_scores",
    "read_scores",
    "reliability",
    "test",
    "write_scores",
]
