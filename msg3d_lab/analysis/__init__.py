"""Look inside a network: activations, interventions, exact decompositions, learned graphs, reach.

Functions here take networks and arrays. Attribution over the clips of a run is in
`msg3d_lab.explain`.
"""

from msg3d_lab.analysis.activations import (
    Cache,
    Intervention,
    mean,
    only,
    replace,
    run_with_cache,
    run_with_interventions,
    zero,
)
from msg3d_lab.analysis.decomposition import (
    class_activation,
    pathway_contributions,
    pathway_shares,
    point_importance,
    scale_shares,
    spread_over_frames,
)
from msg3d_lab.analysis.masks import (
    LearnedGraph,
    learned_graphs,
    mask_agreement,
    mask_change,
    mask_summary,
    strongest_edges,
)
from msg3d_lab.analysis.points import points
from msg3d_lab.analysis.reach import effective_reach, receptive_field_by_hop

__all__ = [
    "Cache",
    "Intervention",
    "LearnedGraph",
    "class_activation",
    "effective_reach",
    "learned_graphs",
    "mask_agreement",
    "mask_change",
    "mask_summary",
    "mean",
    "only",
    "pathway_contributions",
    "pathway_shares",
    "point_importance",
    "points",
    "receptive_field_by_hop",
    "replace",
    "run_with_cache",
    "run_with_interventions",
    "scale_shares",
    "spread_over_frames",
    "strongest_edges",
    "zero",
]
