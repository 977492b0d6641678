"""Figures: arrays, tables and a `Skeleton` go in, Axes, figures or HTML come out.

Functions that take `ax` return an Axes and can be put into a figure of yours; those that return a
Figure or HTML show once as the last line of a notebook cell. Widgets are in `viz.widgets`.
"""

from msg3d_lab.viz.attribution.fidelity import deletion_plot, difference_plot
from msg3d_lab.viz.attribution.importance import (
    class_clustermap,
    importance_body,
    importance_filmstrip,
    joint_time_heatmap,
)
from msg3d_lab.viz.export import save_figure
from msg3d_lab.viz.graphs.adjacency import (
    adjacency_heatmap,
    body_graph,
    body_heat,
    scales_figure,
    window_heat,
)
from msg3d_lab.viz.graphs.edges import learned_edges
from msg3d_lab.viz.graphs.hops import disentangled_figure, hop_figure, hop_share, hop_share_table
from msg3d_lab.viz.graphs.masks import hop_bars, learned_graph_figure, mask_figure, share_heatmap
from msg3d_lab.viz.motion.bodies import before_after, body_timeline
from msg3d_lab.viz.motion.data import class_plot, length_plot, sampling_figure, sampling_plot
from msg3d_lab.viz.motion.skeleton import body_layout, filmstrip, player_html, pose
from msg3d_lab.viz.motion.streams import streams_figure
from msg3d_lab.viz.results.ablations import accuracy_by_scales, cost_accuracy, forest_plot
from msg3d_lab.viz.results.confusion import class_table, confusion_matrix
from msg3d_lab.viz.results.cost import cost_bars, cost_growth, cost_growth_figure, timing_bars
from msg3d_lab.viz.results.evaluation import class_accuracy, class_delta, reliability_diagram
from msg3d_lab.viz.results.fusion import fusion_curve, fusion_plot
from msg3d_lab.viz.results.live import LiveCurves
from msg3d_lab.viz.results.training import (
    learning_curve,
    learning_rate_curve,
    overfit_curve,
    training_figure,
)

__all__ = [
    "LiveCurves",
    "accuracy_by_scales",
    "adjacency_heatmap",
    "before_after",
    "body_graph",
    "body_heat",
    "body_layout",
    "body_timeline",
    "class_accuracy",
    "class_clustermap",
    "class_delta",
    "class_plot",
    "class_table",
    "confusion_matrix",
    "cost_accuracy",
    "cost_bars",
    "cost_growth",
    "cost_growth_figure",
    "deletion_plot",
    "difference_plot",
    "disentangled_figure",
    "filmstrip",
    "forest_plot",
    "fusion_curve",
    "fusion_plot",
    "hop_bars",
    "hop_figure",
    "hop_share",
    "hop_share_table",
    "importance_body",
    "importance_filmstrip",
    "joint_time_heatmap",
    "learned_edges",
    "learned_graph_figure",
    "learning_curve",
    "learning_rate_curve",
    "length_plot",
    "mask_figure",
    "overfit_curve",
    "player_html",
    "pose",
    "reliability_diagram",
    "sampling_figure",
    "sampling_plot",
    "save_figure",
    "scales_figure",
    "share_heatmap",
    "streams_figure",
    "timing_bars",
    "training_figure",
    "window_heat",
]
