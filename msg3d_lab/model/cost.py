"""What a network costs per clip: parameters, multiply-accumulates, activations."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from msg3d_lab.model.g3d import G3D
from msg3d_lab.model.ms_gcn import MSGCN
from msg3d_lab.model.ms_tcn import MSTCN
from msg3d_lab.model.msg3d import MSG3D


@dataclass(frozen=True)
class PartCost:
    """The cost of one layer.

    Attributes:
        name: the module's name in the network.
        kind: its class, such as G3D.
        parameters: its parameters, their number.
        macs: its multiply-accumulates; see `NetworkCost`.
        output_shape: of its output for one clip, persons first.
    """

    name: str
    kind: str
    parameters: int
    macs: int
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class NetworkCost:
    """What a network costs for one clip with all its persons.

    Conventions: a multiply-accumulate (MAC) is one multiplication with its addition, in the
    products of convolutions, graphs and linear layers, as they are executed: multiplications with
    zeros of an adjacency or of padding count, and those with zeros of an empty body. They are half
    the FLOPs that `torch.utils.flop_counter` counts. Normalisations, ReLUs, maxima and sums do not
    count. Papers that write "FLOPs" often mean MACs, and some count convolutions only: for MS-G3D
    at T = 300 and M = 2, the published programs execute 24.25 GMACs in convolutions and 8.52 GMACs
    in products with graphs, together 32.77 (`published_form_macs`); this one executes 27.80. State
    T, M and the unit.

    Attributes:
        parameters: trainable or not, their number.
        macs: of one forward pass in evaluation.
        training_macs: of a forward and a backward pass in training, recomputation included; 0 for a
            network without trainable parameters.
        activation_bytes: what autograd keeps per clip from forward to backward, in float32. Weights
            and what is kept once per batch do not count.
        parts: one row per layer; they add up to `parameters` and `macs`.
        published_macs: of convolutions and of products with graphs in the form of the published
            programs; see `published_form_macs`.
    """

    parameters: int
    macs: int
    training_macs: int
    activation_bytes: int
    parts: tuple[PartCost, ...]
    published_macs: tuple[int, int] = (0, 0)


def network_cost(model: MSG3D, *, clip_len: int) -> NetworkCost:
    """Count what one clip costs, by running copies of the network on noise on the CPU.

    The model itself does not change. Every clip has all its persons; what a batch saves when
    persons are missing is not in these numbers.

    Args:
        model: the network, on any device, in any mode.
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
    network = copy.deepcopy(model).to("cpu", torch.float32).eval()
    layers = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, MSGCN | MSTCN | G3D) or module in (network.data_bn, network.fc)
    }
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _output_shapes(layers) as shapes, counter:
        network(noise(network, 1, clip_len))
    by_module = counter.get_flop_counts()
    parts = tuple(
        PartCost(
            name=name,
            kind=type(layer).__name__,
            parameters=sum(p.numel() for p in layer.parameters()),
            macs=sum(by_module.get(f"{type(network).__name__}.{name}", {}).values()) // 2,
            output_shape=shapes[name],
        )
        for name, layer in layers.items()
    )
    training_macs, activation_bytes = _training_cost(network, clip_len=clip_len)
    return NetworkCost(
        parameters=sum(p.numel() for p in network.parameters()),
        macs=counter.get_total_flops() // 2,
        training_macs=training_macs,
        activation_bytes=activation_bytes,
        parts=parts,
        published_macs=published_form_macs(network, clip_len=clip_len),
    )


def published_form_macs(model: MSG3D, *, clip_len: int) -> tuple[int, int]:
    """Count what the published programs execute for the same network and one clip.

    They aggregate over every scale and window first and project afterwards, for every person. What
    other papers state for MS-G3D is counted on that form, and some count convolutions only. By
    formulas: a graph of n nodes and K scales costs K n n C per step and its projection K C n O.

    Returns:
        Multiply-accumulates of convolutions (with the classifier) and of products with graphs.

    Source: kenziyuliu/MS-G3D and mmaction2 `projects/msg3d`, whose two models torch's counter gives
        24.25 and 8.52 GMACs at T = 300, M = 2.
    """
    joints, frames, convolutions, graphs = model.skeleton.num_joints, clip_len, 0, 0
    for block in model.blocks:
        after = frames
        for layer in block.modules():  # in the order in which they run
            if isinstance(layer, MSGCN | G3D):
                nodes, steps = joints, frames
                if isinstance(layer, G3D):
                    nodes, steps = joints * layer.window.size, -(-frames // layer.window.stride)
                    after = steps
                    convolutions += steps * joints * layer.collapse.conv.weight.numel()
                scaled = layer.mlp.conv.in_channels  # scales * C
                graphs += steps * nodes * nodes * scaled
                convolutions += steps * nodes * layer.mlp.conv.weight.numel()
            elif isinstance(layer, MSTCN):
                before, after = after, -(-after // layer.stride)
                for conv in layer.modules():
                    if isinstance(conv, nn.Conv2d):
                        at = before if conv is layer.reduce.conv else after
                        convolutions += at * joints * conv.weight.numel()
        frames = after
    persons = model.num_persons
    return persons * convolutions + model.fc.weight.numel(), persons * graphs


def _training_cost(network: MSG3D, *, clip_len: int) -> tuple[int, int]:
    """MACs of forward and backward, and bytes kept in between, of one clip more in a batch."""
    if not any(p.requires_grad for p in network.parameters()):
        return 0, 0
    network.train()
    few = 1 if clip_len > 1 else 2  # normalisations refuse a batch of a single value
    with torch.random.fork_rng(devices=[]):  # of dropout
        macs, kept = _training_step(network, noise(network, few, clip_len))
        more_macs, more_kept = _training_step(network, noise(network, few + 1, clip_len))
    return more_macs - macs, more_kept - kept


def _training_step(network: MSG3D, x: Tensor) -> tuple[int, int]:
    """MACs of forward and backward, and bytes kept in between, of one batch."""
    with FlopCounterMode(display=False) as counter:
        with _kept_for_backward(network) as storages:
            loss = network(x).sum()
        kept = sum(storage.nbytes() for storage in storages.values())
        storages.clear()
        loss.backward()
    return counter.get_total_flops() // 2, kept


def noise(network: MSG3D, clips: int, clip_len: int) -> Tensor:
    """Return normally distributed clips that a network takes, the same at every call."""
    shape = (clips, network.num_persons, clip_len, network.skeleton.num_joints, network.in_channels)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@contextmanager
def _output_shapes(layers: dict[str, nn.Module]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Collect the shapes of the layers' outputs in the block."""
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []
    for name, layer in layers.items():

        def hook(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
            shapes[name] = tuple(output.shape)

        handles.append(layer.register_forward_hook(hook))
    yield shapes
    for handle in handles:
        handle.remove()


@contextmanager
def _kept_for_backward(network: nn.Module) -> Iterator[dict[int, torch.UntypedStorage]]:
    """Collect the memory that autograd keeps in the block, each storage once, without weights."""
    own = {t.untyped_storage()._cdata for t in [*network.parameters(), *network.buffers()]}
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            storages[storage._cdata] = storage  # held, so that no other gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield storages
