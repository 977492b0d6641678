"""Controls for notebooks; each has a static figure that shows the same without a kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.motion.player import player_html

if TYPE_CHECKING:
    import ipywidgets


class CellPlayer(NamedTuple):
    """A box with drop-downs of cells and of a cell's clips, and a player of the chosen clip."""

    controls: ipywidgets.Box
    player: ipywidgets.HTML
    cell: ipywidgets.Dropdown
    clip: ipywidgets.Dropdown


def confusion_player(
    labels: np.ndarray,
    predictions: np.ndarray,
    *,
    ids: Sequence[str],
    label_names: Sequence[str],
    keypoints: Callable[[str], np.ndarray],
    skeleton: Skeleton,
) -> CellPlayer:
    """Return drop-downs of a confusion matrix's cells and of their clips, and a player.

    Errors come first, the most frequent on top, then correct predictions. `confusion_matrix` and
    `filmstrip` show the same without a kernel.

    Args:
        labels: true classes.
        predictions: predicted ones.
        ids: of the clips.
        label_names: class names.
        keypoints: id -> clip (M, T, V, C).
        skeleton: its joints.

    Shapes:
        labels, predictions: (N,)

    Raises:
        ValueError: different numbers of labels, predictions and ids, or none.
    """
    import ipywidgets

    if not len(labels) or not len(labels) == len(predictions) == len(ids):
        raise ValueError(
            f"expected as many labels, predictions and ids, one at least, found {len(labels)}, "
            f"{len(predictions)} and {len(ids)}"
        )
    members: dict[tuple[int, int], list[str]] = {}
    for true, predicted, name in zip(labels.tolist(), predictions.tolist(), ids, strict=True):
        members.setdefault((true, predicted), []).append(name)
    order = sorted(members, key=lambda c: (c[0] == c[1], -len(members[c]), c))
    cells = [(_cell_text(cell, label_names, len(members[cell])), cell) for cell in order]
    wide = {"width": "36em", "max_width": "100%"}
    cell = ipywidgets.Dropdown(options=cells, description="cell", layout=wide)
    clip = ipywidgets.Dropdown(options=members[order[0]], description="clip", layout=wide)
    controls = _described(ipywidgets.VBox, "Choices of a cell and a clip, in a kernel.")(
        [cell, clip]
    )
    player = _described(ipywidgets.HTML, "The chosen clip, while a kernel runs.")()

    def show(_: Any = None) -> None:
        true, predicted = (label_names[i] for i in cell.value)
        title = f"{clip.value}: {true}" + ("" if true == predicted else f", taken for {predicted}")
        page = player_html(keypoints(clip.value), skeleton, title=title)
        # A script inserted into a page by another script does not run; inside a frame it does.
        player.value = (
            f'<iframe title="{escape(title)}" srcdoc="{escape(page)}" sandbox="allow-scripts" '
            'style="width: 100%; height: 620px; border: 0"></iframe>'
        )

    def choose(_: Any) -> None:
        clip.options = members[cell.value]  # this selects and shows the first clip

    cell.observe(choose, names="value")
    clip.observe(show, names="value")
    show()
    return CellPlayer(controls, player, cell, clip)


def _cell_text(cell: tuple[int, int], label_names: Sequence[str], count: int) -> str:
    true, predicted = (label_names[i] for i in cell)
    return f"{true}: {'recognised' if true == predicted else f'taken for {predicted}'} ({count})"


def _described(kind: type, text: str) -> Any:
    """The widget class, with `text` shown in its place on pages without a kernel."""
    return type(kind.__name__, (kind,), {"__repr__": lambda _: text})
