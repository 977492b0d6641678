"""The named points inside MS-G3D: where they are, what they hold, and how they are reached.

Blocks are `block1`, `block2`, `block3`; in each, in this order, as far as the network has them:

- `input`: the normalised input, of the first block only; later ones see the output before them.
- `block1.factorized.scale4`: (A + A_res) x of a scale, before the projection.
- `block1.factorized.gcn`, `.tcn1`: the layers of the pathway, rectified.
- `block1.factorized`: the pathway, a term of the sum that the block rectifies.
- `block1.g3d.window5.scale4`: (A + A_res) x W, a scale's term of the sum over scales, before it is
  normalised; the channels of all window steps, one step after another.
- `block1.g3d.window5`: the pathway of one window; `window5d2` has its steps 2 frames apart.
- `block1.g3d`: the sum of the windows, a term of the sum that the block rectifies.
- `block1.tcn.dilation2`, `.max`, `.pointwise`: the normalised branches of a temporal convolution,
  and `.residual`, the shortcut they are added to; so too for `block1.factorized.tcn1` and `.tcn2`.
- `block1`: the block's output.
- `pooled`: the mean over persons, frames and joints, which the classifier sees.

Values are (N, M, T, V, C) with the point's own T and C; "pooled" is (N, C).

All points are reached by forward hooks on the network's own modules: what is read and changed is
the network's own run. Most points are a module's input or output. The branches of an MSTCN are
slices of what its module `branches` gets. Scales have no tensor in the network, which computes all
of them in one product. A scale's term is computed again, and what changed in it is added to the sum
over scales, which the module `scale_sum` gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from msg3d_lab.model import G3D, MSG3D, MSGCN, MSTCN, STGCBlock
from msg3d_lab.model.kernels.graph_conv import graph_conv

# The one point without persons, frames and joints.
POOLED = "pooled"
Visit = Callable[[Tensor], Tensor]
Watch = Callable[[Visit], list[RemovableHandle]]


@dataclass(frozen=True, eq=False)
class Point:
    """A place in the network whose value can be read or changed; one frame per `stride` frames.

    `watch` takes a function of the value that returns the value to go on with, and calls it
    whenever the network comes by, until the handles it returns are removed.
    """

    name: str
    what: str
    watch: Watch
    stride: int
    channels: int


def points(model: MSG3D, *, clip_len: int = 100) -> pd.DataFrame:
    """Return the named points of a network, in the order in which it comes by them.

    Args:
        model: any MSG3D; which points there are follows from its arguments.
        clip_len: T of the clips; the frames of a point follow from it.

    Returns:
        A row per point, indexed by name: `what` its value is, and its shape (N, M, frames, joints,
        channels). "pooled" is (N, channels): the mean over persons, frames and joints. A scale's
        value before the projection is what the network aggregates (MSGCN); G3D's is the scale's
        term of the sum over scales, before its normalisation.

    Example:
        >>> small = MSG3D(num_classes=4, base_channels=6, num_gcn_scales=2, num_g3d_scales=2)
        >>> points(small).loc["block2.g3d.window5", ["frames", "joints", "channels"]].tolist()
        [50, 25, 12]
    """
    rows = [
        {
            "name": point.name,
            "what": point.what,
            "frames": None if point.name == POOLED else -(-clip_len // point.stride),
            "joints": None if point.name == POOLED else model.skeleton.num_joints,
            "channels": point.channels,
        }
        for point in list_points(model)
    ]
    return pd.DataFrame(rows).set_index("name").astype({"frames": "Int64", "joints": "Int64"})


def list_points(model: MSG3D) -> list[Point]:
    """Return the points of a network; see `points` for the table to read.

    Raises:
        ValueError: not an MSG3D: wrapped, compiled, exported or fused networks have other insides.
    """
    blocks = _blocks(model)
    what = "the normalised input"
    found = [Point("input", what, _input_of(blocks[0]), 1, model.in_channels)]
    stride = 1
    for number, block in enumerate(blocks, start=1):
        found += _block_points(block, f"block{number}", stride)
        stride = found[-1].stride
    what = "the mean of all places, which the classifier sees"
    found.append(Point(POOLED, what, _input_of(model.fc), stride, model.fc.in_features))
    return found


def graph_layers(model: MSG3D) -> dict[str, MSGCN | G3D]:
    """Return the graph convolutions by name: "block1.factorized", "block1.g3d.window3" and so on.

    Raises:
        ValueError: not an MSG3D.
    """
    layers: dict[str, MSGCN | G3D] = {}
    for number, block in enumerate(_blocks(model), start=1):
        if block.factorized is not None:
            layers[f"block{number}.factorized"] = cast(MSGCN, block.factorized[0])
        layers |= {f"block{number}.g3d.{name}": layer for name, layer in _windows(block)}
    return layers


def _blocks(model: MSG3D) -> list[STGCBlock]:
    fused = getattr(model, "fused", False)
    if not isinstance(model, MSG3D) or fused:
        raise ValueError(
            f"expected an MSG3D, found a {'fused ' * fused}{type(model).__name__}: look into the "
            "network itself, as load_model gives it, not into a wrapped, compiled, exported or "
            "fused one"
        )
    return [cast(STGCBlock, block) for block in model.blocks]


def _windows(block: STGCBlock) -> list[tuple[str, G3D]]:
    """The block's G3D layers by name: "window3", "window5d2" and so on."""
    layers = [cast(G3D, layer) for layer in block.g3d.windows] if block.g3d is not None else []
    names = [
        f"window{layer.window.size}"
        + (f"d{layer.window.dilation}" if layer.window.dilation > 1 else "")
        for layer in layers
    ]
    return list(zip(unique(names), layers, strict=True))


def _block_points(block: STGCBlock, name: str, stride: int) -> Iterator[Point]:
    after = stride
    if block.factorized is not None:
        gcn, tcn1, tcn2 = cast(tuple[MSGCN, MSTCN, MSTCN], tuple(block.factorized))
        after = stride * tcn1.stride
        inner = f"{name}.factorized"
        K, width = len(gcn.adjacency.A), gcn.mlp.conv.in_channels
        for k in range(K):
            what = f"(A + A_res) x of scale {k}, before the projection"
            yield Point(f"{inner}.scale{k}", what, _scale_of_gcn(gcn, k), stride, width // K)
        what, width = "the multi-scale graph convolution, rectified", gcn.mlp.conv.out_channels
        yield Point(f"{inner}.gcn", what, _output_of(gcn), stride, width)
        yield from _branch_points(tcn1, f"{inner}.tcn1", after)
        what = "the pathway's first temporal convolution, rectified"
        yield Point(f"{inner}.tcn1", what, _output_of(tcn1), after, sum(_widths(tcn1)))
        yield from _branch_points(tcn2, f"{inner}.tcn2", after)
        what = "the factorized pathway, a term of the sum that is rectified"
        yield Point(inner, what, _output_of(tcn2), after, sum(_widths(tcn2)))
    if block.g3d is not None:
        for own, layer in _windows(block):
            size = layer.window.size
            after = stride * layer.window.stride
            inner, mid = f"{name}.g3d.{own}", layer.mlp.conv.out_channels
            for k in range(len(layer.adjacency.A)):
                what = f"(A + A_res) x W of scale {k}, {size} window steps of {mid} channels"
                yield Point(f"{inner}.scale{k}", what, _scale_of_g3d(layer, k), after, size * mid)
            what = f"the G3D pathway with windows of {size} steps, {layer.window.dilation} apart"
            width = layer.collapse.conv.out_channels
            yield Point(inner, what, _output_of(layer), after, width)
        what = "the sum of the G3D pathways, a term of the sum that is rectified"
        yield Point(f"{name}.g3d", what, _output_of(block.g3d), after, width)
    yield from _branch_points(block.tcn, f"{name}.tcn", after)
    yield Point(name, "the block's output", _output_of(block), after, sum(_widths(block.tcn)))


def _branch_points(tcn: MSTCN, name: str, stride: int) -> Iterator[Point]:
    dilations = [cast(nn.Conv2d, conv).dilation[0] for conv in tcn.temporal]
    slots = [*unique([f"dilation{d}" for d in dilations]), "max", "pointwise"]
    whats = [f"the branch of dilation {d}, normalised" for d in dilations]
    whats += ["the branch of maxima over 3 frames, normalised", "the 1 x 1 branch, normalised"]
    for i, (slot, what, width) in enumerate(zip(slots, whats, _widths(tcn), strict=True)):
        yield Point(f"{name}.{slot}", what, _branch_of(tcn, i), stride, width)
    what = "the shortcut around the branches, to which they are added"
    yield Point(f"{name}.residual", what, _output_of(tcn.residual), stride, sum(_widths(tcn)))


def _widths(tcn: MSTCN) -> list[int]:
    """Channels of the branches, in their order."""
    return [tcn.width] * (len(tcn.temporal) + 1) + [tcn.pointwise.conv.out_channels]


def unique(names: list[str]) -> list[str]:
    """Append -2, -3 and so on to a name's second, third and later occurrences."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return result


def _input_of(module: nn.Module) -> Watch:
    def watch(visit: Visit) -> list[RemovableHandle]:
        def hook(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return visit(arguments[0]), *arguments[1:]

        return [module.register_forward_pre_hook(hook)]

    return watch


def _output_of(module: nn.Module) -> Watch:
    def watch(visit: Visit) -> list[RemovableHandle]:
        return [module.register_forward_hook(lambda _, __, output: visit(output))]

    return watch


def _branch_of(tcn: MSTCN, branch: int) -> Watch:
    def watch(visit: Visit) -> list[RemovableHandle]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], normalized: Tensor) -> Tensor:
            parts = list(torch.split(normalized, _widths(tcn), dim=-1))
            parts[branch] = visit(parts[branch].contiguous())
            return torch.cat(parts, dim=-1)

        return [tcn.branches.register_forward_hook(hook)]

    return watch


def _scale_of_gcn(gcn: MSGCN, k: int) -> Watch:
    def value(x: Tensor) -> Tensor:
        return torch.einsum("vu,btuc->btvc", gcn.adjacency()[k].to(x.dtype), x)

    def projected(change: Tensor) -> Tensor:
        return change @ _weight_of(gcn, k).T.to(change.dtype)

    return _term_of(gcn, value, projected)


def _scale_of_g3d(g3d: G3D, k: int) -> Watch:
    def value(x: Tensor) -> Tensor:
        A, weight = g3d.adjacency()[k : k + 1], _weight_of(g3d, k)[..., None, None]
        y = graph_conv(A, x, weight, None, window=g3d.window, project_first=g3d.project_first)
        return y.reshape(*y.shape[:2], x.shape[2], -1)  # the channels of all steps of a joint

    return _term_of(g3d, value, lambda change: change)


def _weight_of(layer: MSGCN | G3D, k: int) -> Tensor:
    """The weights of one scale: (O, C)."""
    K = len(layer.adjacency.A)
    return layer.mlp.conv.weight.view(layer.mlp.conv.out_channels, K, -1)[:, k]


def _term_of(
    layer: MSGCN | G3D,
    value: Callable[[Tensor], Tensor],
    projected: Callable[[Tensor], Tensor],
) -> Watch:
    """Watch a term of the sum over scales: `projected(value(x))`, with x the layer's input."""

    def watch(visit: Visit) -> list[RemovableHandle]:
        inputs: list[Tensor] = []

        def remember(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            inputs.append(arguments[0])

        def hook(_: nn.Module, __: tuple[Tensor, ...], total: Tensor) -> Tensor:
            term = value(inputs.pop())
            # Derivatives with respect to the value must not see the term that is taken away.
            change = projected(visit(term.clone()) - term)
            return total + change.reshape(total.shape).to(total.dtype)

        return [
            layer.register_forward_pre_hook(remember),
            layer.scale_sum.register_forward_hook(hook),
        ]

    return watch
