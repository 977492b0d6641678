"""The confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from msg3d_lab.viz.elements import write_cells
from msg3d_lab.viz.style import FAINT, new_axes, sequential, styled

__all__ = ["confusion_matrix"]


@styled
def confusion_matrix(
    counts: np.ndarray,
    *,
    labels: Sequence[str],
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often each class was predicted as each class, in percent of the true class.

    Cells below half a percent stay white.

    Args:
        counts: (K, K): row = true class, column = predicted class.
        labels: class names.
        title: of the Axes.
        ax: where to draw. Default: a new figure.

    Raises:
        ValueError: `counts` is not square or negative, or there is not one label per class.
    """
    counts, K = np.asarray(counts, dtype=float), len(labels)
    if counts.shape != (K, K) or not K or (counts < 0).any():
        raise ValueError(
            f"expected counts of 0 or more, shape ({K}, {K}) for {K} labels, found shape "
            f"{counts.shape}, smallest {counts.min(initial=0):g}"
        )
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    side = float(np.clip(0.42 * K, 2.2, 11))
    ax = new_axes(ax, (side + 2.2, side + 1.7))
    image = ax.imshow(np.ma.masked_less(share, 0.005), cmap=sequential(), vmin=0, vmax=1)
    if K <= 30:
        size = float(np.clip(9.5 - 0.1 * K, 6, 9))
        numbers = [[f"{100 * v:.0f}" if v >= 0.005 else "" for v in row] for row in share]
        write_cells(ax, image, np.array(numbers, dtype=object), size=size)
    font = 9 if K <= 15 else 8 if K <= 30 else 6 if K <= 70 else 4.5
    many = K > 30
    ax.set_xticks(range(K), labels, rotation=90 if many else 45, ha="center" if many else "right")
    if not many:
        for tick in ax.get_xticklabels():
            tick.set_rotation_mode("anchor")
    ax.set_yticks(range(K), labels)
    ax.tick_params(labelsize=font, length=0)
    ax.set_xticks(np.arange(1, K) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, K) - 0.5, minor=True)
    ax.grid(which="minor", color=FAINT, lw=0.5)
    ax.tick_params(which="minor", length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="predicted", ylabel="true", title=title or "")
    return ax
