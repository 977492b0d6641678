"""Evaluating runs: scores by sample id, metrics, statistics, fusion."""

from msg3d_lab.evaluation.copies import describe_copies
from msg3d_lab.evaluation.evaluator import EvaluationResult, evaluate
from msg3d_lab.evaluation.external.alignment import read_external_scores
from msg3d_lab.evaluation.fusion import (
    fuse,
    fusion_table,
    gain,
    stream_weights,
    weight_curve,
)
from msg3d_lab.evaluation.metrics import (
    accuracies,
    calibration_error,
    class_delta,
    confused_pairs,
    confusion_counts,
    confusion_order,
    hardest,
    per_class,
    reliability,
)
from msg3d_lab.evaluation.scores import (
    Scores,
    align,
    read_run_scores,
    read_scores,
    write_scores,
)
from msg3d_lab.evaluation.statistics import (
    Comparison,
    Difference,
    McNemar,
    accuracy_interval,
    compare,
    difference,
    holm,
    mcnemar,
)

__all__ = [
    "Comparison",
    "Difference",
    "EvaluationResult",
    "McNemar",
    "Scores",
    "accuracies",
    "accuracy_interval",
    "align",
    "calibration_error",
    "class_delta",
    "compare",
    "confused_pairs",
    "confusion_counts",
    "confusion_order",
    "describe_copies",
    "difference",
    "evaluate",
    "fuse",
    "fusion_table",
    "gain",
    "hardest",
    "holm",
    "mcnemar",
    "per_class",
    "read_external_scores",
    "read_run_scores",
    "read_scores",
    "reliability",
    "stream_weights",
    "weight_curve",
    "write_scores",
]
