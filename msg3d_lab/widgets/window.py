"""The window graph of G3D in space and time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
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
from msg3d_lab.viz.graphs.on_body import learned_edges, window_weights
from msg3d_lab.viz.style import closed_figure
from msg3d_lab.widgets.adjacency import (
    Learned,
    check_choice,
    farthest,
    graph_choices,
    joint_name,
    open_masks,
    packed_hops,
    packed_skeleton,
    short_floats,
    signed_colors,
)
from msg3d_lab.widgets.browser import GRAPH_CSS, BrowserWidget, module, pack

if TYPE_CHECKING:
    from msg3d_lab.model import MSG3D
    from msg3d_lab.training.runs import Run

_LINES = 12  # of the largest weights, where every node of the window has one


class WindowExplorer(BrowserWidget):
    """Turn G3D's window in space: a body per frame, and what one joint is linked to at each scale.

    The lines are the edges of the k-adjacency of `graph.window_graph`: from the chosen joint of the
    chosen frame to every joint, in any frame, that is exactly k hops away in the window's graph.
    With the residual masks of a network, its weights are shown: a dot per joint and frame, and
    lines from the twelve largest. Python sends the mask of the chosen window. `window_size`,
    `dilation`, `edges`, `k`, `learned` and the attributes below are read and set from Python.

    Args:
        skeleton: a layout's name or a layout. Default: the layout of `masks`, or "ntu25".
        window_size: tau, the frames of the window.
        dilation: frames between two of them.
        edges: "dense" (G3D's) or "grid"; see `graph.window_graph`.
        k: hops between the two ends of an edge.
        joint: the chosen joint, by name or number. Default: the one with the farthest reach.
        step: its frame, counted from 0 in the window. Default: the middle one.
        max_window_size: largest tau to choose.
        max_dilation: largest dilation to choose.
        masks: a network, or a run, whose residual masks of windows can be shown. Window, dilation
            and edges are then the network's.
        learned: whether the mask is "added" to the designed graph, shown "alone" or "off".
            Default: "added" where there are masks.

    Attributes:
        joint: the chosen joint's name.
        step: its frame; a window without it shows its last frame.
        yaw: degrees by which the window is turned around the vertical axis.
        pitch: degrees by which it is looked at from above, -90 to 90.
        graph: name of the graph convolution whose mask is shown, such as "block1.g3d.window3".

    Raises:
        ValueError: a value out of range; masks that are not there, or of another layout.

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
    learned = traitlets.Unicode().tag(sync=True)
    graph = traitlets.Unicode().tag(sync=True)
    mask = traitlets.Dict(help="the weights of the chosen graph, for the module").tag(sync=True)

    def __init__(
        self,
        skeleton: str | Skeleton | None = None,
        *,
        window_size: int = 3,
        dilation: int = 1,
        edges: WindowEdges = "dense",
        k: int = 1,
        joint: str | int | None = None,
        step: int | None = None,
        max_window_size: int = 7,
        max_dilation: int = 4,
        masks: MSG3D | Run | None = None,
        learned: Learned | None = None,
    ) -> None:
        if max_window_size < 1 or max_dilation < 1:
            raise ValueError(
                "max_window_size and max_dilation are 1 or more, "
                f"found {max_window_size} and {max_dilation}"
            )
        model, self._graphs = open_masks(masks, windows=True)
        if skeleton is None:
            skeleton = "ntu25" if model is None else model.skeleton
        self._body = skeletons.get(skeleton) if isinstance(skeleton, str) else skeleton
        if model is not None:
            if model.skeleton.joints != self._body.joints:
                raise ValueError(
                    f"the masks are those of {model.skeleton.label}, found skeleton "
                    f"{self._body.label}: leave skeleton out"
                )
            self._body = model.skeleton  # its edge set too
            self._network_edges = model.arguments["window_edges"]
        for own in self._graphs.values():
            max_window_size = max(max_window_size, own.window_size)
            max_dilation = max(max_dilation, own.window_dilation)
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
        data: dict[str, Any] = {
            "body": packed_skeleton(self._body),
            "hops": {name: packed_hops(d) for name, d in hops.items()},
            "frames": {
                f"{size} {gap}": window_frames(size, gap).tolist()
                for size in range(1, max_window_size + 1)
                for gap in range(1, max_dilation + 1)
            },
            "ranges": {name: list(ends) for name, ends in self._ranges.items()},
        }
        if model is not None:
            data["network"] = {
                "edges": self._network_edges,
                "windows": {n: [g.window_size, g.window_dilation] for n, g in self._graphs.items()},
                "signed": signed_colors(),
                "lines": _LINES,
            }
        first = next(iter(self._graphs), "")
        learned = learned or ("added" if self._graphs else "off")
        shown = window_size if learned == "off" or not first else self._graphs[first].window_size
        super().__init__(
            data=data,
            learned=learned,
            graph=first,
            window_size=window_size,
            dilation=dilation,
            edges=edges,
            k=k,
            joint=joint_name(self._body, farthest(self._body) if joint is None else joint),
            step=(shown - 1) // 2 if step is None else step,
        )

    def figure(self) -> Figure:
        """Return the window as a body per frame, with the edges of the chosen joint."""
        if self.learned != "off":
            edges = self._largest()
            size, dilation, _ = self._shown()
            frames = window_frames(size, dilation).tolist()
            title = f"{self.graph}, k = {self.k}: mask {self.learned}"
            quantity = "weight" if self.learned == "added" else "change of the weight"
            ax = learned_edges(edges, self._body, frames=frames, quantity=quantity, title=title)
            return closed_figure(ax)
        V, (step, joint) = self._body.num_joints, self._node()
        row = self._row().reshape(self.window_size, V)
        title = f"{self.edges} window, k = {self.k}".capitalize()
        ax = window_weights(
            row, self._body, focus=(step, joint), dilation=self.dilation, title=title
        )
        return closed_figure(ax)

    def describe(self) -> str:
        """Return how many joints are k hops away from the chosen one, or the largest weights."""
        step, joint = self._node()
        size, dilation, _ = self._shown()
        frame = frame_name(int(window_frames(size, dilation)[step]))
        if self.learned != "off":
            edges = self._largest().head(3)
            largest = ", ".join(
                f"{sender} at {frame_name(sent)} ({weight:.2g})"
                for sender, sent, weight in zip(
                    edges["sender"], edges["sender_frame"].tolist(), edges["mean"], strict=True
                )
            )
            return (
                f"Mask {self.learned} of {self.graph}, scale {self.k}: the largest weights to the "
                f"{self._body.joints[joint]} at {frame} are from {largest or 'no joint'}."
            )
        count = int(self._row().sum())
        frames = f"{self.window_size} frame{'s' * (self.window_size != 1)}"
        apart = f", {self.dilation} apart," if self.dilation > 1 else ""
        counted = {0: "no joint is", 1: "1 joint is"}.get(count, f"{count} joints are")
        return (
            f"{self.edges.capitalize()} window of {frames}{apart} of {self._body.label}: {counted} "
            f"{self.k} hop{'s' * (self.k != 1)} away from the {self._body.joints[joint]} "
            f"at {frame}."
        )

    def _shown(self) -> tuple[int, int, WindowEdges]:
        """Window size, dilation and edges shown: those of the network while its mask is shown."""
        if self.learned != "off":
            own = self._graphs[self.graph]
            return own.window_size, own.window_dilation, self._network_edges
        edges: Any = self.edges
        return self.window_size, self.dilation, edges

    def _node(self) -> tuple[int, int]:
        return min(self.step, self._shown()[0] - 1), self._body.joints.index(self.joint)

    def _largest(self) -> pd.DataFrame:
        """The largest weights of the chosen joint's row, as `viz.learned_edges` takes them."""
        own, V = self._graphs[self.graph], self._body.num_joints
        step, joint = self._node()
        all_scales = own.A_res if self.learned == "alone" else own.total
        row = np.zeros(len(own.frames))
        if self.k < len(all_scales):
            row = all_scales[self.k, step * V + joint].copy()
        order = np.argsort(-np.abs(row), kind="stable")
        order = order[(row[order] != 0) & (order != step * V + joint)][:_LINES]
        return pd.DataFrame(
            {
                "receiver": self.joint,
                "sender": [self._body.joints[node % V] for node in order],
                "receiver_frame": int(own.frames[step * V]),
                "sender_frame": own.frames[order],
                "mean": row[order],
            }
        )

    @traitlets.observe("graph", "learned")
    def _send_mask(self, change: Any) -> None:
        if self.learned == "off" or self.mask.get("graph") == self.graph:
            return
        own = self._graphs[self.graph]
        self.mask = {
            "graph": self.graph,
            "A": pack(short_floats(own.A)),
            "A_res": pack(short_floats(own.A_res)),
        }

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

    @traitlets.validate("edges", "learned", "graph")
    def _check_choice(self, proposal: Any) -> str:
        name = proposal["trait"].name
        choices: dict[str, Sequence[str]] = {"edges": WINDOW_EDGES, **graph_choices(self._graphs)}
        return check_choice(name, proposal["value"], choices[name])

    @traitlets.validate("joint")
    def _check_joint(self, proposal: Any) -> str:
        return joint_name(self._body, proposal["value"])
