"""A figure: how far each joint of a clip moves."""

import numpy as np

from msg3d_lab.viz.style import CATEGORIES, new_axes, styled


@styled
def joint_path_lengths(clip, skeleton, *, person=0, unit="m", title=None, ax=None):
    """Draw the length of each joint's path as bars, in the order of the layout.

    Args:
        clip: (M, T, V, C).
        skeleton: the joint layout.
        person: which one.
        unit: of the coordinates.
        title: of the Axes.
        ax: where to draw. Default: a new figure.
    """
    lengths = np.linalg.norm(np.diff(clip[person], axis=0), axis=-1).sum(axis=0)
    ax = new_axes(ax, (5, 0.2 * len(lengths) + 1))
    ax.barh(skeleton.joints, lengths, color=CATEGORIES[0])
    ax.invert_yaxis()
    ax.set(xlabel=f"length of the path ({unit})", title=title or "")
    return ax
