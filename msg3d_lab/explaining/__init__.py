"""The importance of joints, body parts and moments in the clips of a trained run.

`explain` gives it by one method for as many clips as wanted, goes on where it was stopped, and
writes a table by sample id. `explain_cost` says beforehand how long that takes. Which method to
believe is a question of its own, which `rank_methods` answers.
"""

from msg3d_lab.analysis.saved import Importance, in_order, read_importance, write_importance
from msg3d_lab.explaining.clips import Clips, choose_clips, load_clips, planted
from msg3d_lab.explaining.explain import explain
from msg3d_lab.explaining.methods import (
    CONTROLS,
    METHODS,
    explain_cost,
    importance_of,
    network_of,
    predictions_of,
)
from msg3d_lab.explaining.ranking import Ranking, rank_methods

__all__ = [
    "CONTROLS",
    "METHODS",
    "Clips",
    "Importance",
    "Ranking",
    "choose_clips",
    "explain",
    "explain_cost",
    "importance_of",
    "in_order",
    "load_clips",
    "network_of",
    "planted",
    "predictions_of",
    "rank_methods",
    "read_importance",
    "write_importance",
]
