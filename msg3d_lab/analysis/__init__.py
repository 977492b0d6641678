"""Look inside a network: activations, interventions, exact decompositions, learned graphs, reach.

Functions here take networks and arrays. Decompositions and `effective_reach` want a network in
evaluation mode and raise ValueError otherwise. Attribution over the clips of a run is in
`msg3d_lab.explain`.
"""

from msg3d_lab.analysis.activations import run_with_cache, run_with_interventions
from msg3d_lab.analysis.decomposition import (
    class_activation,
    pathway_contributions,
    scale_shares,
)
from msg3d_lab.analysis.interventions import Intervention, mean, only, replace, zero
from msg3d_lab.analysis.masks import (
    LearnedGraph,
    learned_graphs,
    mask_agreement,
    mask_change,
    strongest_edges,
)
from msg3d_lab.analysis.points import points
from msg3d_lab.analysis.reach import effective_reach, receptive_field_by_hop

__all__ = [
    "Intervention",
    "LearnedGraph",
    "class_activation",
    "effective_reach",
    "learned_graphs",
    "mask_agreement",
    "mask_change",
    "mean",
    "only",
    "pathway_contributions",
    "points",
    "receptive_field_by_hop",
    "replace",
    "run_with_cache",
    "run_with_interventions",
    "scale_shares",
    "strongest_edges",
    "zero",
]
