"""The window graph of G3D in space and time."""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from msg3d_lab import skeletons
from msg3d_lab.graph import (
    WINDOW_EDGES,
    WindowEdges,
    hop_distance,
    k_adjacency,
    window_frames,
    window_graph,
)
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.graphs.matrices import frame_name
from msg3d_lab.viz.graphs.on_body import window_weights
from msg3d_lab.widgets.adjacency import (
    NO_PATH,
    closed_figure,
    farthest,
    joint_name,
    packed_skeleton,
)
from msg3d_lab.widgets.browser import GRAPH_CSS, BrowserWidget, module, pack


class WindowExplorer(BrowserWidget):
    """Turn G3D's window in space: a body per frame, and what one joint is linked to at each scale.

    The lines are the edges of the k-adjacency of `graph.window_graph`: from the chosen joint of the
    chosen frame to every joint, in any frame, that is exactly k hops away in the window's graph.
    All traits below are read and set from Python.

    Args:
        skeleton: a layout's name or a layout.
        window_size: tau, the frames of the window.
        dilation: frames between two of them.
        edges: "dense" (G3D's) or "grid"; see `graph.window_graph`.
        k: hops between the two ends of an edge.
        joint: the chosen joint, by name or number. Default: the one with the farthest reach.
        step: its frame, counted from 0 in the window. Default: the middle one.
        max_window_size: largest tau to choose.
        max_dilation: largest dilation to choose.

    Attributes:
        window_size: as above.
        dilation: as above.
        edges: as above.
        k: as above.
        joint: the chosen joint's name.
        step: its frame; a window without it shows its last frame.
        yaw: degrees by which the window is turned around the vertical axis.
        pitch: degrees by which it is looked at from above, -90 to 90.

    Raises:
        ValueError: a value out of range.

    Example:
        >>> explorer = WindowExplorer("coco17", window_size=3, joint="nose")
        >>> explorer.describe()
        'Dense window of 3 frames of coco17: 14 joints are 1 hop away from the nose at t.'
    """

    _esm = module("window.js")
    _css = BrowserWidget._css + GRAPH_CSS

    data = traitlets.Dict().tag(sync=True)
    window_size = traitlets.Int().tag(sync=True)
    dilation = traitlets.Int().tag(sync=True)
    edges = traitlets.Unicode().tag(sync=True)
    k = traitlets.Int().tag(sync=True)
    joint = traitlets.Unicode().tag(sync=True)
    step = traitlets.Int().tag(sync=True)
    yaw = traitlets.Float(48.0).tag(sync=True)
    pitch = traitlets.Float(14.0).tag(sync=True)

    def __init__(
        self,
        skeleton: str | Skeleton = "ntu25",
        *,
        window_size: int = 3,
        dilation: int = 1,
        edges: WindowEdges = "dense",
        k: int = 1,
        joint: str | int | None = None,
        step: int | None = None,
        max_window_size: int = 7,
        max_dilation: int = 4,
    ) -> None:
        if max_window_size < 1 or max_dilation < 1:
            raise ValueError(
                "max_window_size and max_dilation are 1 or more, "
                f"found {max_window_size} and {max_dilation}"
            )
        self._body = skeletons.get(skeleton) if isinstance(skeleton, str) else skeleton
        hops = {
            f"{kind} {size}": hop_distance(window_graph(self._body.adjacency, size, edges=kind))
            for kind in WINDOW_EDGES
            for size in range(1, max_window_size + 1)
        }
        farthest_hop = int(max(d[np.isfinite(d)].max() for d in hops.values()))
        self._ranges = {
            "window_size": (1, max_window_size),
            "dilation": (1, max_dilation),
            "k": (0, farthest_hop),
            "step": (0, max_window_size - 1),
        }
        data = {
            "body": packed_skeleton(self._body),
            "hops": {
                name: pack(np.where(np.isinf(d), NO_PATH, d).astype(np.uint8))
                for name, d in hops.items()
            },
            "frames": {
                f"{size} {gap}": window_frames(size, gap).tolist()
                for size in range(1, max_window_size + 1)
                for gap in range(1, max_dilation + 1)
            },
            "ranges": {name: list(ends) for name, ends in self._ranges.items()},
        }
        super().__init__(
            data=data,
            window_size=window_size,
            dilation=dilation,
            edges=edges,
            k=k,
            joint=joint_name(self._body, farthest(self._body) if joint is None else joint),
            step=(window_size - 1) // 2 if step is None else step,
        )

    def figure(self) -> Figure:
        """Return the window as a body per frame, with the edges of the chosen joint."""
        V, (step, joint) = self._body.num_joints, self._node()
        row = self._row().reshape(self.window_size, V)
        title = f"{self.edges} window, k = {self.k}".capitalize()
        ax = window_weights(
            row, self._body, focus=(step, joint), dilation=self.dilation, title=title
        )
        return closed_figure(ax)

    def describe(self) -> str:
        """Return how many joints of the window are k hops away from the chosen one."""
        step, joint = self._node()
        count = int(self._row().sum())
        frame = frame_name(int(window_frames(self.window_size, self.dilation)[step]))
        frames = f"{self.window_size} frame{'s' * (self.window_size != 1)}"
        apart = f", {self.dilation} apart," if self.dilation > 1 else ""
        counted = {0: "no joint is", 1: "1 joint is"}.get(count, f"{count} joints are")
        return (
            f"{self.edges.capitalize()} window of {frames}{apart} of {self._body.label}: {counted} "
            f"{self.k} hop{'s' * (self.k != 1)} away from the {self._body.joints[joint]} "
            f"at {frame}."
        )

    def _node(self) -> tuple[int, int]:
        return min(self.step, self.window_size - 1), self._body.joints.index(self.joint)

    def _row(self) -> np.ndarray:
        """The chosen joint's row of the k-adjacency, without itself: (window_size * V,)."""
        edges: Any = self.edges
        graph = window_graph(self._body.adjacency, self.window_size, edges=edges)
        step, joint = self._node()
        node = step * self._body.num_joints + joint
        return k_adjacency(graph, self.k, self_loops=False)[node]

    @traitlets.validate("window_size", "dilation", "k", "step")
    def _check_number(self, proposal: Any) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        low, high = self._ranges[name]
        if not low <= value <= high:
            hint = f" (see max_{name})" if name in ("window_size", "dilation") else ""
            raise ValueError(f"{name} goes from {low} to {high}, found {value}{hint}")
        return int(value)

    @traitlets.validate("edges")
    def _check_edges(self, proposal: Any) -> str:
        if proposal["value"] not in WINDOW_EDGES:
            raise ValueError(f"edges are 'dense' or 'grid', found {proposal['value']!r}")
        return str(proposal["value"])

    @traitlets.validate("joint")
    def _check_joint(self, proposal: Any) -> str:
        return joint_name(self._body, proposal["value"])
