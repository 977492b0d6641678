"""How the published implementations name and shape the tensors of MS-G3D.

One table (`rules`) maps each tensor of ours to the tensors of kenziyuliu/MS-G3D ("author") and of
mmaction2 and pyskl ("openmmlab"). It reads their checkpoints and, run backwards, writes them.

Source: kenziyuliu/MS-G3D `model/`, mmaction2 `projects/msg3d`, pyskl `models/gcns/msg3d.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from msg3d_lab import skeletons
from msg3d_lab.graph import (
    AGGREGATIONS,
    NORMALIZATIONS,
    WINDOW_EDGES,
    scale_adjacencies,
    window_graph,
)
from msg3d_lab.model.block import STGCBlock
from msg3d_lab.model.g3d import G3D
from msg3d_lab.model.ms_gcn import MSGCN
from msg3d_lab.model.ms_tcn import MSTCN
from msg3d_lab.model.msg3d import MSG3D
from msg3d_lab.skeletons import Skeleton

Dialect = Literal["author", "openmmlab"]
HEADS = {"author": "fc", "mmaction2": "cls_head.fc", "pyskl": "cls_head.fc_cls"}
# Names of tensors that tell other networks of the field.
_OTHERS = {
    "st_gcn_networks.": "ST-GCN",
    "l1.gcn1.": "2s-AGCN or CTR-GCN",
    "backbone.gcn.0.": "a network of pyskl or mmaction2, such as ST-GCN or AAGCN",
}
_BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Rule:
    """Our tensor `own` is made of their tensors `theirs`, and back."""

    own: str
    theirs: tuple[str, ...]
    read: Callable[[list[Tensor]], Tensor]
    write: Callable[[Tensor], list[Tensor]]


def _same(own: str, theirs: str) -> Rule:
    return Rule(own, (theirs,), lambda t: t[0], lambda t: [t])


def _joined(own: str, theirs: list[str]) -> Rule:
    """Ours is theirs one after another, in equal parts; counters of steps are all the same."""
    if own.endswith("num_batches_tracked"):
        return Rule(
            own,
            tuple(theirs),
            lambda t: torch.stack(t).amax(),
            lambda t: [t.clone() for _ in theirs],
        )
    return Rule(
        own, tuple(theirs), torch.cat, lambda t: [c.contiguous() for c in t.chunk(len(theirs))]
    )


def _conv_bn(own: str, conv: str, bn: str) -> Iterator[Rule]:
    for name in ("weight", "bias"):
        yield _same(f"{own}.conv.{name}", f"{conv}.{name}")
    for name in _BN:
        yield _same(f"{own}.bn.{name}", f"{bn}.{name}")


def _mask(own: str, theirs: str, dialect: Dialect) -> Rule:
    if dialect == "author":  # (K * V, V), receiver first

        def read(t: list[Tensor]) -> Tensor:
            return t[0].view(-1, t[0].shape[1], t[0].shape[1])

        return Rule(own, (f"{theirs}.A_res",), read, lambda t: [t.flatten(0, 1)])
    # (K, V, V), sender first
    return Rule(
        own,
        (f"{theirs}.PA",),
        lambda t: t[0].transpose(1, 2).contiguous(),
        lambda t: [t.transpose(1, 2).contiguous()],
    )


def _mstcn(own: str, theirs: str, layer: MSTCN) -> Iterator[Rule]:
    convolved = len(layer.temporal)
    bottlenecks = range(convolved + 1)
    for name in ("weight", "bias"):
        yield _joined(
            f"{own}.reduce.conv.{name}", [f"{theirs}.branches.{b}.0.{name}" for b in bottlenecks]
        )
        for b in range(convolved):
            yield _same(f"{own}.temporal.{b}.{name}", f"{theirs}.branches.{b}.3.conv.{name}")
    after = [f"{theirs}.branches.{b}.3.bn" for b in range(convolved)]
    after.append(f"{theirs}.branches.{convolved}.4")
    for name in _BN:
        yield _joined(
            f"{own}.reduce.bn.{name}", [f"{theirs}.branches.{b}.1.{name}" for b in bottlenecks]
        )
        yield _joined(f"{own}.bn.{name}", [f"{bn}.{name}" for bn in after])
    last = f"{theirs}.branches.{convolved + 1}"
    yield from _conv_bn(f"{own}.pointwise", f"{last}.0", f"{last}.1")
    if not isinstance(layer.residual, torch.nn.Identity):
        yield from _conv_bn(f"{own}.residual", f"{theirs}.residual.conv", f"{theirs}.residual.bn")


def _collapse(own: str, theirs: str, layer: G3D) -> Iterator[Rule]:
    """Their collapse is Conv3d (O, C, 1, W, 1); ours a 1 x 1 convolution over (W, C)."""

    def read(t: list[Tensor]) -> Tensor:
        return t[0][:, :, 0, :, 0].transpose(1, 2).flatten(1)[:, :, None, None]

    def write(t: Tensor) -> list[Tensor]:
        steps = t.view(t.shape[0], layer.window.size, -1).transpose(1, 2)
        return [steps[:, :, None, :, None].contiguous()]

    weight, *others = _conv_bn(own, f"{theirs}.out_conv", f"{theirs}.out_bn")
    yield Rule(weight.own, weight.theirs, read, write)
    yield from others


def rules(model: MSG3D, *, dialect: Dialect, head: str) -> Iterator[Rule]:
    """Map every tensor of the model's state dict to theirs.

    Args:
        model: a model of the same architecture; only its modules' shapes are used.
        dialect: whose names.
        head: the classifier's name, one of `HEADS`' values.
    """
    b = "backbone." if dialect == "openmmlab" else ""
    for name in _BN:
        yield _same(f"data_bn.{name}", f"{b}data_bn.{name}")
    for name in ("weight", "bias"):
        yield _same(f"fc.{name}", f"{head}.{name}")
    for own, theirs, graph_layer in adjacencies(model, prefix=b):
        if graph_layer.adjacency.A_res is not None:
            yield _mask(f"{own}.adjacency.A_res", theirs, dialect)
        yield from _conv_bn(f"{own}.mlp", f"{theirs}.mlp.layers.0", f"{theirs}.mlp.layers.1")
        if isinstance(graph_layer, G3D):
            window = theirs.removesuffix(".gcn3d.1")
            yield from _collapse(f"{own}.collapse", window, graph_layer)
    for i, block in enumerate(_blocks(model)):
        if block.factorized is not None:
            for j in (1, 2):
                own = f"blocks.{i}.factorized.{j}"
                layer = cast(MSTCN, block.factorized[j])
                yield from _mstcn(own, f"{b}sgcn{i + 1}.{j}", layer)
        yield from _mstcn(f"blocks.{i}.tcn", f"{b}tcn{i + 1}", block.tcn)


def adjacencies(model: MSG3D, *, prefix: str) -> Iterator[tuple[str, str, MSGCN | G3D]]:
    """Yield (our name, their name, layer) of every layer that has a graph."""
    for i, block in enumerate(_blocks(model)):
        if block.factorized is not None:
            layer = cast(MSGCN, block.factorized[0])
            yield f"blocks.{i}.factorized.0", f"{prefix}sgcn{i + 1}.0", layer
        if block.g3d is not None:
            for j, window in enumerate(block.g3d.windows):
                theirs = f"{prefix}gcn3d{i + 1}.gcn3d.{j}.gcn3d.1"
                yield f"blocks.{i}.g3d.windows.{j}", theirs, cast(G3D, window)


def _blocks(model: MSG3D) -> list[STGCBlock]:
    return [cast(STGCBlock, block) for block in model.blocks]


def recognise(state: Mapping[str, Tensor]) -> tuple[Dialect, str]:
    """Tell whose checkpoint a state dict is, by its classifier: (dialect, head).

    Raises:
        ValueError: it is none we know; the message shows some of its names.
    """
    heads = [name for name in HEADS.values() if f"{name}.weight" in state]
    listed = f"{len(state)} tensors that begin with {', '.join(list(state)[:5])}"
    blocks = ("sgcn1.", "gcn3d1.")
    if not any(name.removeprefix("backbone.").startswith(blocks) for name in state):
        other = next((net for mark, net in _OTHERS.items() if any(mark in n for n in state)), None)
        raise ValueError(
            f"these are weights of another network{f' ({other})' if other else ''}, not of MS-G3D: "
            f"no tensor is of a block of MS-G3D (sgcn1, gcn3d1), found {listed}"
        )
    if not heads:
        raise ValueError(
            "no classifier found: expected one of "
            f"{', '.join(f'{h}.weight' for h in HEADS.values())}; the file has an MS-G3D without "
            f"its last layer, {listed}"
        )
    return ("author" if heads[0] == HEADS["author"] else "openmmlab"), heads[0]


def infer_arguments(
    state: Mapping[str, Tensor], *, dialect: Dialect, head: str, skeleton: Skeleton | None = None
) -> dict[str, Any]:
    """Read a model's arguments off the shapes of a published checkpoint.

    mmaction2 and pyskl store their adjacencies, which tell the layout, the normalisation and the
    aggregation. The author's files do not: the layout then follows from the number of joints and
    the dialect is the author's. Dilations leave no trace in a file and are taken as published.

    A layout that is none of ours is given as `skeleton`.

    Raises:
        ValueError: a tensor needed for this is missing, or the adjacency is of no layout we know.
    """
    b, mask = ("backbone.", "PA") if dialect == "openmmlab" else ("", "A_res")

    def shape(name: str) -> tuple[int, ...]:
        return tuple(_tensor(state, name).shape)

    V = shape(f"{b}sgcn1.0.{mask}")[-1]
    num_gcn_scales = math.prod(shape(f"{b}sgcn1.0.{mask}")) // V**2
    base_channels, scaled_channels = shape(f"{b}sgcn1.0.mlp.layers.0.weight")[:2]
    in_channels = scaled_channels // num_gcn_scales
    windows: list[int] = []
    while (name := f"{b}gcn3d1.gcn3d.{len(windows)}.out_conv.weight") in state:
        windows.append(shape(name)[3])
    window_mask = shape(f"{b}gcn3d1.gcn3d.0.gcn3d.1.{mask}")
    branches = 0
    while f"{b}tcn1.branches.{branches}.0.weight" in state:
        branches += 1
    arguments: dict[str, Any] = {
        "num_classes": shape(f"{head}.weight")[0],
        "in_channels": in_channels,
        "num_persons": shape(f"{b}data_bn.weight")[0] // (V * in_channels),
        "base_channels": base_channels,
        "num_gcn_scales": num_gcn_scales,
        "num_g3d_scales": math.prod(window_mask) // window_mask[-1] ** 2,
        "window_sizes": tuple(windows),
        "window_dilations": (1,) * len(windows),
        "tcn_dilations": tuple(range(1, branches - 1)),
    }
    if dialect == "author":
        arguments["skeleton"] = skeleton or author_layout(V)
        if arguments["skeleton"] is None:
            known = ", ".join(skeletons.names())
            raise ValueError(
                f"the file's graph has {V} joints, none of our layouts ({known}) has; give the "
                "layout: load_model(path, skeleton=skeletons.load('layout.yaml'))"
            )
    else:
        arguments |= _read_graph(state, V, num_gcn_scales, arguments["num_g3d_scales"], skeleton)
    return arguments


def _tensor(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise ValueError(f"not a whole MS-G3D checkpoint: {name} is missing")
    return state[name]


def _layouts() -> Iterator[Skeleton]:
    for name in skeletons.names():
        yield from skeletons.variants(name)


def author_layout(num_joints: int) -> Skeleton | None:
    """Return the layout the author's code has for so many joints: our first edge set; or None."""
    return next((s for s in _layouts() if s.num_joints == num_joints), None)


def _read_graph(
    state: Mapping[str, Tensor],
    V: int,
    num_gcn_scales: int,
    num_g3d_scales: int,
    skeleton: Skeleton | None,
) -> dict[str, Any]:
    """Find the layout and the kind of graph that a file's adjacencies stand for."""

    def stored(name: str) -> np.ndarray:
        return _tensor(state, name).double().numpy()

    body = stored("backbone.A")
    known = [skeleton] if skeleton is not None else list(_layouts())
    layouts = [s for s in known if s.num_joints == V and np.array_equal(s.adjacency, body != 0)]
    if not layouts:
        raise ValueError(
            f"the file's adjacency ({V} joints, {int((body != 0).sum()) // 2} edges) is that of no "
            f"layout we know ({', '.join(s.label for s in known)}); give the layout: "
            "load_model(path, skeleton=skeletons.load('layout.yaml'))"
        )
    per_frame = stored("backbone.sgcn1.0.A").swapaxes(1, 2)
    per_window = stored("backbone.gcn3d1.gcn3d.0.gcn3d.1.A").swapaxes(1, 2)
    window_size = per_window.shape[-1] // V
    A = layouts[0].adjacency
    for normalization, aggregation, edges in product(NORMALIZATIONS, AGGREGATIONS, WINDOW_EDGES):
        kinds: dict[str, Any] = {"aggregation": aggregation, "normalization": normalization}
        window = window_graph(A, window_size, edges=edges)
        if _close(scale_adjacencies(A, num_gcn_scales, **kinds), per_frame) and _close(
            scale_adjacencies(window, num_g3d_scales, **kinds), per_window
        ):
            return {"skeleton": layouts[0], "window_edges": edges, **kinds}
    raise ValueError(
        f"the file's scaled adjacencies are not those of {layouts[0].label} under any "
        "normalisation, aggregation and window edges we know"
    )


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.allclose(a, b, rtol=0, atol=1e-6)
