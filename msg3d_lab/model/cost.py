"""What a network costs: parameters, products, FLOPs and activations, counted as it runs.

A count by formula has to be told about every trick of an implementation. This one watches the
operations PyTorch executes for one clip of noise, so it stays true when the layers are rewritten.
"""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from msg3d_lab.model.g3d import G3D
from msg3d_lab.model.ms_gcn import MSGCN
from msg3d_lab.model.ms_tcn import MSTCN
from msg3d_lab.model.msg3d import MSG3D

__all__ = ["NetworkCost", "PartCost", "StepCost", "clip_cost", "network_cost", "step_cost"]

REST = "between the parts"
# Operations on all elements of their input; every other pointwise one counts per output element.
_PER_INPUT = {"mean", "sum", "var_mean", "var", "std", "amax", "max", "native_batch_norm"}
# Marked as pointwise by PyTorch, but copies.
_COPIES = {"clone", "copy_", "_to_copy", "fill_", "zero_", "lift_fresh_copy"}


@dataclass(frozen=True)
class PartCost:
    """A part's share of a network's cost.

    Attributes:
        name: the module's name in the network; "between the parts" for what no part does.
        parameters: its parameters, their number.
        macs: multiply-accumulates of its products.
        flops: floating-point operations; see `NetworkCost`.
        output_shape: of its output for one clip, persons first; empty for the last row.
    """

    name: str
    parameters: int
    macs: int
    flops: int
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class NetworkCost:
    """What a network costs for one clip with all its persons.

    Conventions: a multiply-accumulate (MAC) is one multiplication with its addition, in the
    products of convolutions, graphs and linear layers, as they are executed: multiplications with
    zeros of an adjacency or of padding count. FLOPs are 2 per MAC, plus 1 per output element of an
    elementwise operation (addition, ReLU), 2 per element of a batch normalisation (a scale and a
    shift), the window's size per output of a maximum, and 1 per input element of a mean or sum.
    Copies and views count nothing. Papers that write "FLOPs" often mean MACs: state which.

    Attributes:
        parameters: trainable or not, their number.
        macs: of one forward pass in evaluation.
        flops: of the same.
        training_macs: of a forward and a backward pass in training, recomputation included.
        activation_bytes: what autograd keeps per clip from forward to backward, in float32; 0 for
            a network without trainable parameters. Parameters and what is kept once per batch do
            not count.
        training_bytes: by which the most memory that a training step holds at a time grows with
            every clip, in float32: activations, gradients, temporary tensors.
        batch_bytes: the rest of it, once per batch: mostly the gradients of the weights. What the
            step needs for n clips is `batch_bytes + n * training_bytes`, beside the weights and the
            optimizer's state.
        parts: one row per layer and one for the rest; they add up to the totals.
    """

    parameters: int
    macs: int
    flops: int
    training_macs: int
    activation_bytes: int
    training_bytes: int
    batch_bytes: int
    parts: tuple[PartCost, ...]


def network_cost(model: MSG3D, *, clip_len: int) -> NetworkCost:
    """Count what one clip costs, by running copies of the network on noise on the CPU.

    The model itself is not touched. Every clip has all its persons; what a batch saves when bodies
    are missing is not in these numbers.

    Args:
        model: the network; on any device, in any mode.
        clip_len: T, frames of a clip.

    Raises:
        ValueError: no frames.

    Source: the unit of the field's tables is discussed in kenziyuliu/MS-G3D, issue 16.

    Example:
        >>> cost = network_cost(MSG3D(num_classes=60, base_channels=12), clip_len=16)
        >>> cost.macs == sum(part.macs for part in cost.parts)
        True
    """
    if clip_len < 1:
        raise ValueError(f"expected a clip of at least 1 frame, found clip_len={clip_len}")
    network = _plain_copy(model).eval()
    parts = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, MSGCN | MSTCN | G3D) or module in (network.data_bn, network.fc)
    }
    counter = _Counter()
    with torch.no_grad(), _watched(parts, counter), counter:
        network(_noise(network, 1, clip_len))
    numbers = {name: sum(p.numel() for p in module.parameters()) for name, module in parts.items()}
    parameters = sum(p.numel() for p in network.parameters())
    rows = [
        PartCost(
            name=name,
            parameters=number,
            macs=counter.macs.get(name, 0),
            flops=2 * counter.macs.get(name, 0) + counter.elementwise.get(name, 0),
            output_shape=counter.shapes.get(name, ()),
        )
        for name, number in [*numbers.items(), (REST, parameters - sum(numbers.values()))]
    ]
    clip, once = StepCost(0, 0, 0), 0
    if any(p.requires_grad for p in network.parameters()):
        clip, once = clip_cost(model, clip_len=clip_len)
    return NetworkCost(
        parameters=parameters,
        macs=sum(row.macs for row in rows),
        flops=sum(row.flops for row in rows),
        training_macs=clip.macs,
        activation_bytes=clip.kept_bytes,
        training_bytes=clip.peak_bytes,
        batch_bytes=once,
        parts=tuple(rows),
    )


@dataclass(frozen=True)
class StepCost:
    """What a forward and a backward pass of one batch cost.

    Attributes:
        macs: multiply-accumulates, recomputation included.
        kept_bytes: what autograd keeps from forward to backward; memory that two operations keep
            counts once, weights and running statistics do not.
        peak_bytes: the most memory its tensors hold at a time; weights and running statistics do
            not count, the weights' gradients do.
    """

    macs: int
    kept_bytes: int
    peak_bytes: int


def step_cost(
    model: MSG3D, *, clip_len: int, batch: int, autocast: torch.dtype | None = None
) -> StepCost:
    """Count what a batch of noise costs in training, by training a copy of the network on the CPU.

    Args:
        model: the network; its `recompute` is respected.
        clip_len: T.
        batch: clips.
        autocast: the type of mixed precision, none if left out.
    """
    network, counter = _plain_copy(model).train(), _Counter()
    mixed = torch.autocast("cpu", dtype=autocast) if autocast is not None else nullcontext()
    own = {t.untyped_storage()._cdata for t in [*network.parameters(), *network.buffers()]}
    with torch.random.fork_rng(devices=[]), counter.remembering(own):
        with _kept(own) as storages, mixed:
            loss = network(_noise(network, batch, clip_len)).sum()
        kept = sum(storage.nbytes() for storage in storages.values())
        storages.clear()
        loss.backward()
    return StepCost(sum(counter.macs.values()), kept, counter.peak_bytes)


def clip_cost(
    model: MSG3D, *, clip_len: int, autocast: torch.dtype | None = None
) -> tuple[StepCost, int]:
    """Count what every further clip of a batch costs in training.

    Beside it is what of the peak is there once per batch. Arguments are those of `step_cost`.
    """
    # Normalisations refuse a batch of a single value. And of small batches the peak may lie among
    # the gradients; sooner or later activations win, with recomputation later.
    few, further = 1 if clip_len > 1 else 2, 3 if model.recompute else 1
    less, more = (
        step_cost(model, clip_len=clip_len, batch=n, autocast=autocast)
        for n in (few, few + further)
    )
    kept = (more.kept_bytes - less.kept_bytes) // further
    peak = max((more.peak_bytes - less.peak_bytes) // further, kept)
    return StepCost((more.macs - less.macs) // further, kept, peak), less.peak_bytes - few * peak


@contextmanager
def _kept(own: Container[int]) -> Iterator[dict[int, torch.UntypedStorage]]:
    """Collect the memory that autograd keeps in the block, but for `own`."""
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            storages[storage._cdata] = storage  # held, so that no other gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield storages


def _plain_copy(model: MSG3D) -> MSG3D:
    """A float32 copy on the CPU, whatever the model's device and precision."""
    return copy.deepcopy(model).to("cpu", torch.float32)


def _noise(model: MSG3D, clips: int, clip_len: int) -> Tensor:
    shape = (clips, model.num_persons, clip_len, model.skeleton.num_joints, model.in_channels)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts products and elementwise operations, by the part that is running."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running: list[str] = [REST]
        self.macs: dict[str, int] = {}
        self.elementwise: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.peak_bytes = 0
        self._bytes = 0
        self._known: Container[int] | None = None  # storages that do not count; None: none does
        self._live: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    @contextmanager
    def remembering(self, own: Container[int]) -> Iterator[None]:
        """Count in the block, and follow the memory of its tensors, but for `own`."""
        self._known = own
        with self:
            yield
        self._known = None

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if self._known is not None:
            for tensor in tree_leaves(out):
                self._follow(tensor)
        part, name = self.running[-1], func._schema.name.removeprefix("aten::")
        if name in _PRODUCTS:
            macs = _PRODUCTS[name](args, out)
            self.macs[part] = self.macs.get(part, 0) + macs
        else:
            count = _elementwise(func, name, args, out)
            self.elementwise[part] = self.elementwise.get(part, 0) + count
        return out

    def _follow(self, tensor: Any) -> None:
        if not isinstance(tensor, Tensor):
            return
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._live or key in cast(Container[int], self._known):
            return

        def freed(_: Any) -> None:
            self._bytes -= size
            del self._live[key]

        self._live[key] = weakref.ref(storage, freed)
        self._bytes += size
        self.peak_bytes = max(self.peak_bytes, self._bytes)


@contextmanager
def _watched(parts: dict[str, nn.Module], counter: _Counter) -> Iterator[None]:
    """Tell the counter which part runs, until the block ends."""
    handles = []
    for name, module in parts.items():

        def enter(_module: nn.Module, _args: Any, name: str = name) -> None:
            counter.running.append(name)

        def leave(_module: nn.Module, _args: Any, output: Tensor, name: str = name) -> None:
            counter.running.pop()
            counter.shapes[name] = tuple(output.shape)

        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _convolution(args: tuple[Any, ...], out: Tensor) -> int:
    return out.numel() * args[1][0].numel()


def _convolution_backward(args: tuple[Any, ...], out: Sequence[Tensor | None]) -> int:
    # As many as forward for each of the two gradients that are asked for.
    grad_output, _, weight = args[:3]
    return sum(gradient is not None for gradient in out[:2]) * _convolution(
        (None, weight), grad_output
    )


def _matrix(first: int) -> Callable[[tuple[Any, ...], Any], int]:
    """Products whose first matrix is argument `first`: every row times every column."""
    return lambda args, _out: math.prod(args[first].shape) * args[first + 1].shape[-1]


_PRODUCTS: dict[str, Callable[[tuple[Any, ...], Any], int]] = {
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    "mm": _matrix(0),
    "bmm": _matrix(0),
    "addmm": _matrix(1),
    "baddbmm": _matrix(1),
}


def _elementwise(func: Any, name: str, args: tuple[Any, ...], out: Any) -> int:
    """FLOPs of an operation that is no product; see `NetworkCost` for the rules."""
    if name in _PER_INPUT:
        return args[0].numel() * (2 if name == "native_batch_norm" else 1)
    if name in {"max_pool2d", "max_pool2d_with_indices"}:
        out = (out,) if isinstance(out, Tensor) else out
        return out[0].numel() * math.prod(args[1])
    if name in _COPIES or torch.Tag.pointwise not in func.tags:
        return 0
    return out.numel() if isinstance(out, Tensor) and out.is_floating_point() else 0
