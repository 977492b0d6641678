"""Figures: arrays, tables and a `Skeleton` go in; Axes, figures or HTML come out.

Functions with `ax` draw into one Axes and return it; they can be part of a figure of your own.
Functions named `..._figure`, `filmstrip` and `class_clustermap` return a Figure.
Everywhere, `title` is written above what is drawn, `ax` is the Axes to draw into (default: those of
a new figure), and `skeleton` is the joint layout. A table without rows, or without a column that is
needed, raises ValueError.
"""

from msg3d_lab.viz.attribution.importance import (
    class_clustermap,
    deletion_plot,
    difference_plot,
    importance_body,
    joint_time_heatmap,
)
from msg3d_lab.viz.export import save_figure
from msg3d_lab.viz.graphs.hops import (
    disentangled_figure,
    hop_bars,
    hop_figure,
    hop_share_table,
    share_heatmap,
)
from msg3d_lab.viz.graphs.matrices import adjacency_heatmap, scales_figure
from msg3d_lab.viz.graphs.on_body import body_graph, body_weights, learned_edges, window_weights
from msg3d_lab.viz.motion.dataset import class_counts, length_histogram
from msg3d_lab.viz.motion.layout import body_layout
from msg3d_lab.viz.motion.player import player_html
from msg3d_lab.viz.motion.recordings import body_timeline, preparation_figure
from msg3d_lab.viz.motion.sampling import sampling_figure, sampling_plot
from msg3d_lab.viz.motion.skeleton import filmstrip, pose
from msg3d_lab.viz.motion.streams import streams_figure
from msg3d_lab.viz.results.ablations import accuracy_by_scales, cost_accuracy, forest_plot
from msg3d_lab.viz.results.cost import cost_bars, timing_bars
from msg3d_lab.viz.results.evaluation import (
    class_accuracy,
    class_differences,
    confusion_matrix,
    reliability_diagram,
)
from msg3d_lab.viz.results.fusion import fusion_curve, fusion_plot
from msg3d_lab.viz.results.published import published_plot, seeds_plot
from msg3d_lab.viz.results.timeline import timeline_figure
from msg3d_lab.viz.results.training import (
    learning_curve,
    learning_rate_curve,
    overfit_curve,
    training_figure,
)

__all__ = [
    "accuracy_by_scales",
    "adjacency_heatmap",
    "body_graph",
    "body_layout",
    "body_timeline",
    "body_weights",
    "class_accuracy",
    "class_clustermap",
    "class_counts",
    "class_differences",
    "confusion_matrix",
    "cost_accuracy",
    "cost_bars",
    "deletion_plot",
    "difference_plot",
    "disentangled_figure",
    "filmstrip",
    "forest_plot",
    "fusion_curve",
    "fusion_plot",
    "hop_bars",
    "hop_figure",
    "hop_share_table",
    "importance_body",
    "joint_time_heatmap",
    "learned_edges",
    "learning_curve",
    "learning_rate_curve",
    "length_histogram",
    "overfit_curve",
    "player_html",
    "pose",
    "preparation_figure",
    "published_plot",
    "reliability_diagram",
    "sampling_figure",
    "sampling_plot",
    "save_figure",
    "scales_figure",
    "seeds_plot",
    "share_heatmap",
    "streams_figure",
    "timeline_figure",
    "timing_bars",
    "training_figure",
    "window_weights",
]
