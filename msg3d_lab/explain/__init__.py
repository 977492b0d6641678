"""Attribution: which joints, body parts and moments a trained network's answers depend on.

`explain_run` explains the clips of a run by one method and saves a table. `rank_methods` compares
methods, to choose one. `explain_cost` and `ranking_cost` tell beforehand how long the two take. A
single batch is explained by `attribute(network, question, method)`.

What takes a run, or its folder, raises FileNotFoundError without the run, its weights or its store,
and ValueError for a store or a split that does not fit.
"""

from msg3d_lab.explain.clips import (
    Clips,
    Options,
    choose_clips,
    load_clips,
    open_network,
    planted_features,
    playback_fps,
    predict_classes,
)
from msg3d_lab.explain.cost import explain_cost, ranking_cost
from msg3d_lab.explain.features import Features, make_features
from msg3d_lab.explain.methods import (
    CONTROLS,
    METHODS,
    ClassActivation,
    GradientInput,
    IntegratedGradients,
    Method,
    Motion,
    Occlusion,
    Passes,
    RandomNumbers,
    Shapley,
    attribute,
)
from msg3d_lab.explain.over_clips import explain_run
from msg3d_lab.explain.question import Question
from msg3d_lab.explain.ranking import Ranking, rank_methods
from msg3d_lab.explain.tables import Importance, read_importance, write_importance
from msg3d_lab.training.distributed.processes import resolve_device

__all__ = [
    "CONTROLS",
    "METHODS",
    "ClassActivation",
    "Clips",
    "Features",
    "GradientInput",
    "Importance",
    "IntegratedGradients",
    "Method",
    "Motion",
    "Occlusion",
    "Options",
    "Passes",
    "Question",
    "RandomNumbers",
    "Ranking",
    "Shapley",
    "attribute",
    "choose_clips",
    "explain_cost",
    "explain_run",
    "load_clips",
    "make_features",
    "open_network",
    "planted_features",
    "playback_fps",
    "predict_classes",
    "rank_methods",
    "ranking_cost",
    "read_importance",
    "resolve_device",
    "write_importance",
]
