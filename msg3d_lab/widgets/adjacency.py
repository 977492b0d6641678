"""What a joint receives at each scale: a heatmap, the body and the weight by hop, linked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import traitlets
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from msg3d_lab import skeletons
from msg3d_lab.graph import (
    AGGREGATIONS,
    NORMALIZATIONS,
    Aggregation,
    Normalization,
    hop_distance,
    hop_shares,
    scale_adjacencies,
)
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.viz.graphs.hops import hop_figure
from msg3d_lab.viz.graphs.matrices import adjacency_heatmap
from msg3d_lab.viz.motion.layout import body_layout
from msg3d_lab.viz.style import closed_figure, diverging
from msg3d_lab.widgets.browser import GRAPH_CSS, BrowserWidget, module, pack

if TYPE_CHECKING:
    from msg3d_lab.analysis.masks import LearnedGraph
    from msg3d_lab.model import MSG3D
    from msg3d_lab.training.runs import Run

Learned = Literal["off", "added", "alone"]
LEARNED: tuple[Learned, ...] = get_args(Learned)
_NO_PATH = 255  # stands for an infinite number of hops, in a byte


class AdjacencyExplorer(BrowserWidget):
    """Move through the adjacencies of all scales: matrix, body and weight by hop, linked.

    Hover or click a cell, a row's name or a joint: the matrix and the body show what it is, and a
    line of text has the names and values. `k`, `aggregation`, `normalization`, `learned` and the
    attributes below are read and set from Python.

    Args:
        skeleton: a layout's name or a layout; the other edge sets of the library's layouts come
            with it. Default: the layout of `masks`, or "ntu25".
        num_scales: K + 1; the slider goes from 0 to K.
        k: the scale shown.
        joint: the receiving joint, by name or number. Default: the one with the farthest reach.
        aggregation: "disentangled", "powers" or "both", side by side.
        normalization: see `graph.normalize`.
        layouts: further layouts to choose from.
        masks: a network, or a run, whose residual masks can be shown. Its layout, edge set,
            aggregation and normalisation are then shown.
        learned: whether the mask is "added" to the designed graph, shown "alone" or "off".
            Default: "added" where there are masks.

    Attributes:
        skeleton: the layout's name.
        edge_set: of the layout; empty where it has one only.
        joint: the receiving joint's name; a layout without it shows its centre.
        sender: the sending joint's name; empty if a whole row is looked at.
        graph: name of the graph convolution whose mask is shown, such as "block1.factorized".

    Raises:
        ValueError: a value out of range; masks that are not there.

    Example:
        >>> explorer = AdjacencyExplorer("ntu25", k=4, joint="left wrist")
        >>> explorer.describe().split(": ")[1]
        'the left wrist receives from 3 joints at 4 hops'
    """

    _esm = module("adjacency.js")
    _css = BrowserWidget._css + GRAPH_CSS

    data = traitlets.Dict().tag(sync=True)
    skeleton = traitlets.Unicode().tag(sync=True)
    edge_set = traitlets.Unicode().tag(sync=True)
    k = traitlets.Int().tag(sync=True)
    joint = traitlets.Unicode().tag(sync=True)
    sender = traitlets.Unicode().tag(sync=True)
    aggregation = traitlets.Unicode().tag(sync=True)
    normalization = traitlets.Unicode().tag(sync=True)
    learned = traitlets.Unicode().tag(sync=True)
    graph = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        skeleton: str | Skeleton | None = None,
        *,
        num_scales: int = 13,
        k: int = 3,
        joint: str | int | None = None,
        aggregation: Aggregation | Literal["both"] = "both",
        normalization: Normalization = "symmetric",
        layouts: Sequence[str | Skeleton] = (),
        masks: MSG3D | Run | None = None,
        learned: Learned | None = None,
    ) -> None:
        if num_scales < 1:
            raise ValueError(f"num_scales counts the scales 0 to K, 1 or more, found {num_scales}")
        model, self._graphs = open_masks(masks, windows=False)
        if skeleton is None:
            skeleton = "ntu25" if model is None else model.skeleton
        self._bodies: list[Skeleton] = []
        for layout in [skeleton, *layouts, *([] if model is None else [model.skeleton])]:
            self._bodies += [body for body in _variants(layout) if body not in self._bodies]
        self._num_scales = num_scales
        self._arguments = {} if model is None else model.arguments
        data: dict[str, Any] = {
            "num_scales": num_scales,
            "bodies": [self._packed(body) for body in self._bodies],
            "signed": signed_colors(),
        }
        if model is not None:
            data["network"] = {
                "skeleton": model.skeleton.name,
                "edge_set": model.skeleton.edge_set or "",
                "aggregation": model.arguments["aggregation"],
                "normalization": model.arguments["normalization"],
                "graphs": {name: pack(short_floats(g.A_res)) for name, g in self._graphs.items()},
            }
        first = self._bodies[0] if isinstance(skeleton, str) else skeleton
        super().__init__(
            data=data,
            skeleton=first.name,
            edge_set=first.edge_set or "",
            k=k,
            joint=joint_name(first, farthest(first) if joint is None else joint),
            aggregation=aggregation,
            normalization=normalization,
            learned=learned or ("added" if self._graphs else "off"),
            graph=next(iter(self._graphs), ""),
        )

    def figure(self) -> Figure:
        """Return both aggregations at this scale, or the chosen learned graph as a heatmap."""
        body, normalization = self._shown()
        joint = self._joint_of(body)
        if self.learned == "off":
            return hop_figure(body, self.k, focus=joint, normalization=normalization)
        A = self._matrix(self._arguments["aggregation"])
        title = f"{self.graph}, k = {self.k}: mask {self.learned}"
        ax = adjacency_heatmap(A, joints=body.joints, title=title)
        return closed_figure(ax)

    def describe(self) -> str:
        """Return what the receiving joint gets at this scale, by each aggregation shown."""
        body, _ = self._shown()
        joint = self._joint_of(body)
        distance = hop_distance(body.adjacency)
        name, count = body.joints[joint], int((distance[joint] == self.k).sum())
        start = f"Scale {self.k} of {body.label}: "
        if not count:
            return f"{start}no joint is {self.k} hops away from the {name}."
        shares = []
        for aggregation in self._aggregations():
            by_hop = hop_shares(np.abs(self._matrix(aggregation)), distance)[:, joint]
            shares.append(f"{100 * by_hop[self.k]:.0f} % of its weight by {aggregation}")
        hops = f"{self.k} hop{'s' * (self.k != 1)}"
        joints = f"{count} joint{'s' * (count != 1)}"
        return f"{start}the {name} receives from {joints} at {hops}: {', '.join(shares)}."

    @traitlets.validate(
        "skeleton",
        "edge_set",
        "joint",
        "sender",
        "aggregation",
        "normalization",
        "learned",
        "graph",
    )
    def _check_choice(self, proposal: Any) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        joints = {joint for body in self._bodies for joint in body.joints}
        choices: dict[str, list[str]] = {
            "skeleton": [body.name for body in self._bodies],
            "edge_set": ["", *(body.edge_set for body in self._bodies if body.edge_set)],
            "joint": sorted(joints),
            "sender": ["", *sorted(joints)],
            "aggregation": ["both", *AGGREGATIONS],
            "normalization": list(NORMALIZATIONS),
            **graph_choices(self._graphs),
        }
        return check_choice(name, value, choices[name])

    @traitlets.validate("k")
    def _check_scale(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < self._num_scales:
            raise ValueError(
                f"k goes from 0 to num_scales - 1 = {self._num_scales - 1}, "
                f"found {proposal['value']}"
            )
        return int(proposal["value"])

    def _shown(self) -> tuple[Skeleton, Normalization]:
        """The layout and normalisation shown: those of the network while its mask is shown."""
        if self.learned != "off":
            return self._arguments["skeleton"], self._arguments["normalization"]
        named = [body for body in self._bodies if body.name == self.skeleton]
        fitting = [body for body in named if (body.edge_set or "") == self.edge_set]
        normalization: Any = self.normalization
        return (fitting or named)[0], normalization

    def _joint_of(self, body: Skeleton) -> int:
        return body.joints.index(self.joint) if self.joint in body.joints else body.center

    def _aggregations(self) -> list[Aggregation]:
        return [one for one in AGGREGATIONS if self.aggregation in (one, "both")]

    def _matrix(self, aggregation: Aggregation) -> np.ndarray:
        """The (V, V) adjacency shown at the scale k, the mask included where it is shown."""
        body, normalization = self._shown()
        A = self._scales_of(body, aggregation, normalization)[self.k]
        if self.learned == "off" or aggregation != self._arguments["aggregation"]:
            return A
        masks = self._graphs[self.graph].A_res
        mask = masks[self.k] if self.k < len(masks) else np.zeros_like(A)
        return mask if self.learned == "alone" else A + mask

    def _scales_of(
        self, body: Skeleton, aggregation: Aggregation, normalization: Normalization
    ) -> np.ndarray:
        return scale_adjacencies(
            body.adjacency, self._num_scales, aggregation=aggregation, normalization=normalization
        )

    def _packed(self, body: Skeleton) -> dict[str, Any]:
        weights = {
            f"{aggregation} {normalization}": pack(
                short_floats(self._scales_of(body, aggregation, normalization))
            )
            for aggregation in AGGREGATIONS
            for normalization in NORMALIZATIONS
        }
        hops = packed_hops(hop_distance(body.adjacency))
        return {**packed_skeleton(body), "hops": hops, "weights": weights}


def packed_skeleton(body: Skeleton) -> dict[str, Any]:
    """Return what a module needs to draw a layout: names, places, edges."""
    return {
        "name": body.name,
        "edge_set": body.edge_set or "",
        "label": body.label,
        "joints": list(body.joints),
        "center": body.center,
        "xy": body_layout(body).round(4).tolist(),
        "edges": [list(edge) for edge in body.edges],
    }


def packed_hops(distance: np.ndarray) -> dict[str, Any]:
    """Return hop distances as packed bytes; 255 stands for no path."""
    return pack(np.where(np.isinf(distance), _NO_PATH, distance).astype(np.uint8))


def graph_choices(graphs: Mapping[str, LearnedGraph]) -> dict[str, list[str]]:
    """Return what `learned` and `graph` can be."""
    return {
        "learned": list(LEARNED) if graphs else ["off"],
        "graph": list(graphs) or [""],
    }


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return a trait's new value; raise ValueError unless it is one of the choices."""
    if value not in choices:
        hint = " (give masks=)" if name == "learned" and value in LEARNED else ""
        listed = ", ".join(map(repr, dict.fromkeys(choices)))
        raise ValueError(f"{name} is one of {listed}, found {value!r}{hint}")
    return str(value)


def joint_name(body: Skeleton, joint: str | int) -> str:
    """Return a joint's name.

    Raises:
        ValueError: the layout has no such joint.
    """
    names = body.joints
    if isinstance(joint, str) and joint in names:
        return joint
    if not isinstance(joint, str) and 0 <= joint < len(names):
        return names[joint]
    raise ValueError(
        f"joint is a name or a number, 0 to {len(names) - 1}, of {body.label} "
        f"({', '.join(names)}), found {joint!r}"
    )


def farthest(body: Skeleton) -> int:
    """Return the first of the joints from which another joint is most hops away."""
    return int(hop_distance(body.adjacency).max(axis=1).argmax())


def signed_colors() -> list[str]:
    """Return the diverging colours, for `signedColor` in `js/graphs.js`."""
    return [to_hex(color) for color in diverging()(np.linspace(0, 1, 33))]


def _variants(layout: str | Skeleton) -> list[Skeleton]:
    """A layout, with its other edge sets if it is the library's."""
    if isinstance(layout, str):
        return skeletons.variants(layout)
    known = skeletons.variants(layout.name) if layout.name in skeletons.names() else []
    return known if layout in known else [layout]


def open_masks(
    masks: MSG3D | Run | None, *, windows: bool
) -> tuple[MSG3D | None, dict[str, LearnedGraph]]:
    """Return the network, of a run too, whose residual masks are shown, and its learned graphs.

    Args:
        masks: None: no network, and no graphs.
        windows: whether to return the graphs of windows, or those of single frames, whose nodes are
            the joints.

    Raises:
        ValueError: neither a network nor a run, a network without masks, or without such graphs.
    """
    if masks is None:
        return None, {}
    from msg3d_lab.analysis.masks import learned_graphs
    from msg3d_lab.model import MSG3D
    from msg3d_lab.training.runs import Run

    model = masks.model() if isinstance(masks, Run) else masks
    if not isinstance(model, MSG3D):
        raise ValueError(f"masks is an MSG3D or a run, found {type(masks).__name__}")
    if not model.arguments["residual_mask"]:
        raise ValueError(
            "the network has no residual masks (residual_mask=False): give one that has, or leave "
            "masks out"
        )
    graphs = {n: g for n, g in learned_graphs(model).items() if (g.window_size > 1) == windows}
    if not graphs:
        what, why = "single frames", "without the factorized pathway"
        if windows:
            what, why = "windows", "without the g3d pathway or with windows of one frame"
        raise ValueError(
            f"the network has no graph of {what}: it was built {why} "
            f"(pathways={model.arguments['pathways']})"
        )
    return model, graphs


def short_floats(weights: np.ndarray) -> np.ndarray:
    """Weights in float32 with four significant digits, which compress to a third of their size."""
    bits = weights.astype(np.float32).view(np.uint32)
    return ((bits + 0x200) & 0xFFFFFC00).astype(np.uint32).view(np.float32)
