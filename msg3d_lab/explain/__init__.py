"""The importance of joints, body parts and moments in the clips of a trained run.

`explain` gives it by one method for as many clips as wanted, goes on where it was stopped, and
writes a table by sample id. Which method to believe is a question of its own, which `rank_methods`
answers. `explain_cost` and `ranking_cost` say beforehand how long the two take.
"""

from msg3d_lab.analysis.saved import Importance, in_order, read_importance, write_importance
from msg3d_lab.explain.clips import Clips, choose_clips, load_clips, pace, planted
from msg3d_lab.explain.cost import ranking_cost
from msg3d_lab.explain.explain import explain
from msg3d_lab.explain.methods import (
    CONTROLS,
    METHODS,
    device_of,
    explain_cost,
    importance_of,
    network_of,
    predictions_of,
)
from msg3d_lab.explain.ranking import Ranking, rank_methods

__all__ = [
    "CONTROLS",
    "METHODS",
    "Clips",
    "Importance",
    "Ranking",
    "choose_clips",
    "device_of",
    "explain",
    "explain_cost",
    "importance_of",
    "in_order",
    "load_clips",
    "network_of",
    "pace",
    "planted",
    "predictions_of",
    "rank_methods",
    "ranking_cost",
    "read_importance",
    "write_importance",
]
