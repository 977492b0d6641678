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

Most points are a module's input or output. Scales and branches have no tensor of their own in the
network, which computes all of them in a few large products; for these the module is opened: while
somebody looks, it runs in a plain form that computes the same function part by part, from the same
parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msg3d_lab.model import G3D, MSG3D, MSGCN, MSTCN, STGCBlock

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["POOLED", "Point", "graph_layers", "list_points", "opened", "points"]

# The one point without persons, frames and joints.
POOLED = "pooled"
Visit = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Point:
    """A place in the network whose value can be read or changed.

    Args:
        name: e.g. "block2.g3d.window5".
        what: what its value is.
        module: the module it belongs to.
        slot: "input", "output", or the name of a part that `opened` computes.
        stride: frames of the clip between two of its frames.
        channels: channels of its value.
    """

    name: str
    what: str
    module: nn.Module
    slot: str
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
    import pandas as pd

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
    fused = getattr(model, "fused", False)
    if not isinstance(model, MSG3D) or fused:
        raise ValueError(
            f"expected an MSG3D, found a {'fused ' * fused}{type(model).__name__}: look into the "
            "network itself, as load_model gives it, not into a wrapped, compiled, exported or "
            "fused one"
        )
    first: STGCBlock = model.blocks[0]  # type: ignore[assignment]
    found = [Point("input", "the normalised input", first, "input", 1, model.in_channels)]
    stride = 1
    for number, block in enumerate(model.blocks, start=1):
        assert isinstance(block, STGCBlock)
        found += _block_points(block, f"block{number}", stride)
        stride = found[-1].stride
    what = "the mean of all places, which the classifier sees"
    found.append(Point(POOLED, what, model.fc, "input", stride, model.fc.in_features))
    return found


def graph_layers(model: MSG3D) -> dict[str, MSGCN | G3D]:
    """Return the graph convolutions by name: "block1.factorized", "block1.g3d.window3" and so on.

    Raises:
        ValueError: not an MSG3D.
    """
    return {
        point.name.removesuffix(".scale0"): point.module
        for point in list_points(model)
        if point.slot == "scale0" and isinstance(point.module, MSGCN | G3D)
    }


def _block_points(block: STGCBlock, name: str, stride: int) -> Iterator[Point]:
    after = stride
    if block.factorized is not None:
        gcn, tcn1, tcn2 = block.factorized
        assert isinstance(gcn, MSGCN)
        assert isinstance(tcn1, MSTCN)
        assert isinstance(tcn2, MSTCN)
        after = stride * tcn1.stride
        inner = f"{name}.factorized"
        K, width = len(gcn.adjacency.A), gcn.mlp.conv.in_channels
        for k in range(K):
            what = f"(A + A_res) x of scale {k}, before the projection"
            yield Point(f"{inner}.scale{k}", what, gcn, f"scale{k}", stride, width // K)
        what, width = "the multi-scale graph convolution, rectified", gcn.mlp.conv.out_channels
        yield Point(f"{inner}.gcn", what, gcn, "output", stride, width)
        yield from _branch_points(tcn1, f"{inner}.tcn1", after)
        what, width = "the pathway's first temporal convolution, rectified", _width(tcn1)
        yield Point(f"{inner}.tcn1", what, tcn1, "output", after, width)
        yield from _branch_points(tcn2, f"{inner}.tcn2", after)
        what = "the factorized pathway, a term of the sum that is rectified"
        yield Point(inner, what, tcn2, "output", after, _width(tcn2))
    if block.g3d is not None:
        windows: Any = block.g3d.windows
        sizes = [(w.window_size, w.window_dilation) for w in windows]
        names = unique([f"window{s}" + (f"d{d}" if d > 1 else "") for s, d in sizes])
        for window, (size, dilation), own in zip(windows, sizes, names, strict=True):
            after = stride * window.window_stride
            inner, mid = f"{name}.g3d.{own}", window.mlp.conv.out_channels
            for k in range(window.num_scales):
                what = f"(A + A_res) x W of scale {k}, {size} window steps of {mid} channels"
                yield Point(f"{inner}.scale{k}", what, window, f"scale{k}", after, size * mid)
            what = f"the G3D pathway with windows of {size} steps, {dilation} apart"
            width = window.collapse.conv.out_channels
            yield Point(inner, what, window, "output", after, width)
        what = "the sum of the G3D pathways, a term of the sum that is rectified"
        yield Point(f"{name}.g3d", what, block.g3d, "output", after, width)
    yield from _branch_points(block.tcn, f"{name}.tcn", after)
    yield Point(name, "the block's output", block, "output", after, _width(block.tcn))


def _branch_points(tcn: MSTCN, name: str, stride: int) -> Iterator[Point]:
    dilations = [int(conv.dilation[0]) for conv in tcn.temporal]  # type: ignore[index]
    slots = _branch_slots(tcn)
    whats = [f"the branch of dilation {d}, normalised" for d in dilations]
    whats += ["the branch of maxima over 3 frames, normalised", "the 1 x 1 branch, normalised"]
    widths = [tcn.width] * (len(dilations) + 1) + [tcn.pointwise.conv.out_channels]
    for slot, what, width in zip(slots, whats, widths, strict=True):
        yield Point(f"{name}.{slot}", what, tcn, slot, stride, width)
    what = "the shortcut around the branches, to which they are added"
    yield Point(f"{name}.residual", what, tcn, "residual", stride, _width(tcn))


def _branch_slots(tcn: MSTCN) -> list[str]:
    dilations = [int(conv.dilation[0]) for conv in tcn.temporal]  # type: ignore[index]
    return [*unique([f"dilation{d}" for d in dilations]), "max", "pointwise"]


def _width(tcn: MSTCN) -> int:
    return tcn.width * (len(tcn.temporal) + 1) + tcn.pointwise.conv.out_channels


def unique(names: list[str]) -> list[str]:
    """Append -2, -3 and so on to a name's second, third and later occurrences."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return result


def opened(module: nn.Module, visit: Visit) -> Callable[..., Tensor]:
    """Return a forward of the module that hands each of its parts to `visit(slot, value)`.

    It computes the module's own function; `visit` returns what to go on with.

    Raises:
        TypeError: the module has no parts to show.
    """
    # The network may tell its layers how to run, as in `copies`; here they run in one way.
    if isinstance(module, MSGCN):
        return lambda x, **_: _opened_gcn(module, x, visit)
    if isinstance(module, G3D):
        return lambda x, **_: _opened_g3d(module, x, visit)
    if isinstance(module, MSTCN):
        return lambda x, **_: _opened_tcn(module, x, visit)
    raise TypeError(f"{type(module).__name__} has no parts to show")


def _opened_gcn(gcn: MSGCN, x: Tensor, visit: Visit) -> Tensor:
    A = gcn.adjacency().to(x.dtype)
    scales = [visit(f"scale{k}", torch.einsum("vu,btuc->btvc", A_k, x)) for k, A_k in enumerate(A)]
    return torch.relu(gcn.mlp(torch.cat(scales, dim=-1)))


def _opened_g3d(g3d: G3D, x: Tensor, visit: Visit) -> Tensor:
    K, W, V, C = g3d.num_scales, g3d.window_size, x.shape[2], x.shape[3]
    before, odd = divmod(g3d.window_dilation * (W - 1), 2)
    x = F.pad(x, (0, 0, 0, 0, before, before + odd))
    last = x.shape[1] - g3d.window_dilation * (W - 1)  # where no window begins any more
    starts = [g3d.window_dilation * step for step in range(W)]
    steps = [x[:, start : start + last : g3d.window_stride] for start in starts]
    windows = torch.stack(steps, dim=2)  # (b, t, step w, joint u, channel)
    A = g3d.adjacency().to(x.dtype).view(K, W, V, W, V)
    weight = g3d.mlp.conv.weight.view(-1, K, C).unbind(dim=1)
    total: Tensor | float = 0.0
    for k in range(K):
        aggregated = torch.einsum("svwu,btwuc->btvsc", A[k], windows)
        total = total + visit(f"scale{k}", (aggregated @ weight[k].T).flatten(3))
    assert isinstance(total, Tensor)
    total = total.reshape(*total.shape[:3], W, -1)  # (b, t, joint v, step s, channel)
    if g3d.mlp.conv.bias is not None:
        total = total + g3d.mlp.conv.bias.to(total.dtype)
    y = torch.relu(_normalised(g3d.mlp.bn, total.flatten(2, 3)))
    out: Tensor = g3d.collapse(y.reshape(*y.shape[:2], V, -1))
    return out


def _opened_tcn(tcn: MSTCN, x: Tensor, visit: Visit) -> Tensor:
    *convolved, pooled = torch.split(torch.relu(tcn.reduce(x)), tcn.width, dim=-1)
    branches = [conv(h) for conv, h in zip(tcn.temporal, convolved, strict=True)]
    frames = pooled.permute(0, 3, 1, 2)
    maxima = F.max_pool2d(frames, (3, 1), stride=(tcn.stride, 1), padding=(1, 0))
    branches.append(maxima.permute(0, 2, 3, 1))
    normalised = _normalised(tcn.bn, torch.cat(branches, dim=-1))
    parts = [*torch.split(normalised, tcn.width, dim=-1), tcn.pointwise(x)]
    slots = _branch_slots(tcn)
    out = torch.cat([visit(s, part) for s, part in zip(slots, parts, strict=True)], dim=-1)
    out = out + visit("residual", tcn.residual(x))
    return torch.relu(out) if tcn.activation else out


def _normalised(norm: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = norm(x.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)
