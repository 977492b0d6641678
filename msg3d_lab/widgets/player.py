"""Player: one clip, or two side by side and in step, with a series per joint as colour and size."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import traitlets
from matplotlib.figure import Figure

from msg3d_lab.data import Store
from msg3d_lab.explain import playback_fps
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.elements import SHARE
from msg3d_lab.viz.motion.player import player_record
from msg3d_lab.viz.motion.skeleton import filmstrip
from msg3d_lab.viz.style import png
from msg3d_lab.widgets.browser import BrowserWidget, module

_MAX_FRAMES = 64  # of a clip of a store
PLAYER_CSS = (resources.files("msg3d_lab.viz.motion") / "templates" / "player.css").read_text(
    encoding="utf-8"
)


class PlayerWidget(BrowserWidget):
    """What every widget with a player has: its values, which Python reads and sets."""

    _css = BrowserWidget._css + PLAYER_CSS
    frame = traitlets.Int(0, help="the frame shown, from 0").tag(sync=True)
    speed = traitlets.Float(1.0, help="1 is the speed of the recording").tag(sync=True)
    trail = traitlets.Int(0, help="frames that the joints' paths go back; 0: none").tag(sync=True)
    joint = traitlets.Int(-1, help="the joint that is marked; -1: none").tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    data = traitlets.Dict().tag(sync=True)


class Player(PlayerWidget):
    """A moving skeleton; with `second`, two side by side and in step.

    Play, pause, scrub, change speed, turn by dragging, click a joint to mark it and follow its
    path. `frame`, `speed`, `trail`, `joint` and `playing` are read and set from Python. It does not
    play until it is told to.

    Args:
        clip: (M, T, V, C).
        skeleton: the joint layout.
        second: another clip, to compare; of another length the shorter one waits in its last frame.
        values: (M, T, V), or (T, V) the same for all persons: a series per joint, such as its
            importance or its speed; joints are coloured and sized by it.
        second_values: of the second clip, on the same scale.
        label: what the values are, with their unit.
        title: above the clip.
        second_title: above the second clip.
        fps: frames per second of the recording.
        frame: the first frame shown.
        trail: frames that the paths of hands, feet and head (or of the marked joint) go back.

    Raises:
        ValueError: not a clip, values that are not the clip's, or no such frame.

    Example:
        >>> import numpy as np, msg3d_lab as lab
        >>> walk = np.random.default_rng(0).normal(size=(1, 40, 25, 3))
        >>> player = lab.widgets.Player(walk, lab.skeletons.get("ntu25"), title="noise")
        >>> player.frame = 12
    """

    _esm = module("clip_player.js")

    def __init__(
        self,
        clip: np.ndarray,
        skeleton: Skeleton,
        *,
        second: np.ndarray | None = None,
        values: np.ndarray | None = None,
        second_values: np.ndarray | None = None,
        label: str = SHARE,
        title: str = "",
        second_title: str = "",
        fps: float = 30,
        frame: int = 0,
        trail: int = 0,
    ) -> None:
        if second is None and second_values is not None:
            raise ValueError("second_values are those of a second clip: give it as second")
        every = [np.abs(v).max() for v in (values, second_values) if v is not None and np.size(v)]
        limit = float(max(every)) if every else None
        self._skeleton = skeleton
        self._parts = [(np.asarray(clip), values, title)]
        if second is not None:
            self._parts.append((np.asarray(second), second_values, second_title))
        records = [
            player_record(c, skeleton, title=t, fps=fps, values=v, label=label, limit=limit)
            for c, v, t in self._parts
        ]
        super().__init__(data={"clips": records}, frame=frame, trail=trail)

    @traitlets.validate("frame")
    def _check_frame(self, proposal: Any) -> int:
        last = max(c.shape[1] for c, _, _ in self._parts) - 1
        if not 0 <= proposal["value"] <= last:
            raise ValueError(f"frame goes from 0 to {last}, found {proposal['value']}")
        return int(proposal["value"])

    @traitlets.validate("joint")
    def _check_joint(self, proposal: Any) -> int:
        last = self._skeleton.num_joints - 1
        if not -1 <= proposal["value"] <= last:
            raise ValueError(
                f"joint is a number from 0 to {last}, or -1 for none, found {proposal['value']}"
            )
        return int(proposal["value"])

    def figure(self) -> Figure:
        """Return frames of the clips: one filmstrip under the other."""
        return stacked(
            [
                filmstrip(clip, self._skeleton, values=values, title=title or None)
                for clip, values, title in self._parts
            ]
        )

    def describe(self) -> str:
        """Return which clips are shown."""
        names = [title or "a clip" for _, _, title in self._parts]
        frames = ", ".join(f"{c.shape[1]} frames" for c, _, _ in self._parts)
        return f"Moving skeletons: {' beside '.join(names)} ({frames})"


def store_record(
    store: Store, index: int, frames: np.ndarray, *, values: np.ndarray | None, **options: Any
) -> dict[str, Any]:
    """Return the record of a player of some frames of a clip of a store, at its recorded speed.

    Longer clips are thinned out to 64 frames. Absent persons are left out.

    Args:
        frames: (T,), which may repeat.
        values: (T, V), see `player_record`.
        **options: its title, label and limit.
    """
    recorded = store.keypoints(index)
    step = math.ceil(len(frames) / _MAX_FRAMES)
    shown = recorded[:, frames[::step]]
    present = (shown != 0).any(axis=(1, 2, 3))
    return player_record(
        shown[present] if present.any() else shown[:1],
        store.skeleton,
        values=None if values is None else values[::step],
        fps=playback_fps(frames, recorded.shape[1]) / step,
        **options,
    )


def stacked(figures: Sequence[Figure]) -> Figure:
    """Return one figure, or several under each other in one."""
    if len(figures) == 1:
        return figures[0]
    pictures = [plt.imread(io.BytesIO(png(figure, dpi=100))) for figure in figures]
    sizes = np.array([figure.get_size_inches() for figure in figures])
    result = plt.figure(figsize=(sizes[:, 0].max(), sizes[:, 1].sum()))
    plt.close(result)
    top, (width, height) = 1.0, result.get_size_inches()
    for picture, (wide, high) in zip(pictures, sizes, strict=True):
        top -= high / height
        ax = result.add_axes((0, top, wide / width, high / height))
        ax.imshow(picture, aspect="auto", interpolation="antialiased")
        ax.set_axis_off()
    return result
