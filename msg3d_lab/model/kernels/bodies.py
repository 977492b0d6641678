"""How the bodies of a batch are computed: empty ones once, and on a CPU in slices.

Most recordings of one person reach the network with a second body of zeros. After the input's
normalisation, which has its own weights for each person, all empty bodies of one person have the
same activations in every layer. So one is computed for all of them. Batch normalisation counts it
as often as it occurs (`norm.BatchNorm`), and its features are given to all the clips that it stands
for, whose gradients add up in it. Logits, gradients of the weights and running statistics are the
same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from msg3d_lab.model.kernels.matmul import body_slices
from msg3d_lab.model.kernels.norm import counted, counts_multiplicity, uses_batch_statistics


class SharedBodies(NamedTuple):
    """Which bodies of a batch are computed, and which of them stands for each body.

    Attributes:
        kept: (B,) the bodies that are computed, as n * M + m, those that stand for several last.
        multiplicity: how many bodies each of the last ones stands for.
        place: (N * M,) where in `kept` each body is found.
    """

    kept: Tensor
    multiplicity: tuple[int, ...]
    place: Tensor


def run_on_bodies(
    blocks: nn.Module,
    features: Callable[[Tensor], Tensor],
    bodies: Tensor,
    *,
    clips: Tensor,
    share_empty: bool,
    values: int | None,
) -> Tensor:
    """Return `features(bodies)`, from less work where that does not change the result.

    Args:
        blocks: the layers that `features` runs.
        features: gives each body its features.
        bodies: the bodies of all clips, after the input's normalisation.
        clips: the same before it, in which empty bodies are zero.
        share_empty: whether empty bodies are computed once; see `why_not_shared`.
        values: how many numbers a layer's input and output have for a body, by which a CPU
            evaluates the bodies in slices, which needs less memory and time; None for all at once.
            In training, and where gradients are kept, it makes no difference.

    Shapes:
        bodies: (N * M, T, V, C), clips: (N, M, T, V, C) -> (N * M, F).
    """
    shared = find_empty_bodies(clips) if share_empty else None
    kept = bodies if shared is None else bodies[shared.kept]
    eager = has_concrete_values(kept) and not torch.is_grad_enabled()
    if values and eager and not _use_batch_statistics(blocks):
        found = torch.cat([features(kept[i]) for i in body_slices(kept, values=values)])
    elif shared is not None and _use_batch_statistics(blocks):
        with counted(blocks, shared.multiplicity):
            found = features(kept)
    else:
        found = features(kept)
    return found if shared is None else found[shared.place]


def _use_batch_statistics(blocks: nn.Module) -> bool:
    return any(map(uses_batch_statistics, blocks.modules()))


def why_not_shared(blocks: nn.Module, clips: Tensor) -> str:
    """Return why computing empty bodies once would change the result; "" if it would not."""
    modules = list(blocks.modules())
    if torch.is_grad_enabled() and clips.requires_grad:
        return "the input's gradient is asked for, which differs between empty bodies"
    if any(isinstance(m, nn.Dropout) and m.training and m.p > 0 for m in modules):
        return "dropout makes them differ"
    if not all(counts_multiplicity(m) for m in modules if uses_batch_statistics(m)):
        return "a batch normalisation was put in that does not count bodies more than once"
    return ""


def has_concrete_values(x: Tensor) -> bool:
    """Whether the values of a tensor can be read, and the program may depend on them.

    They cannot while a program is compiled, exported, traced or recorded as a CUDA graph, because
    it then runs with other batches, nor in fake tensors.
    """
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        or type(x) is not Tensor
        or (x.is_cuda and torch.cuda.is_current_stream_capturing())
    )


def find_empty_bodies(clips: Tensor) -> SharedBodies | None:
    """Find the bodies that are zero throughout; None if no person has two.

    Shapes:
        clips: (N, M, T, V, C), before any normalisation.

    Example:
        >>> clips = torch.ones(3, 2, 4, 1, 1)
        >>> clips[1:, 1] = 0
        >>> shared = find_empty_bodies(clips)
        >>> shared.kept, shared.multiplicity, shared.place
        (tensor([0, 1, 2, 4, 3]), (2,), tensor([0, 1, 2, 4, 3, 4]))
    """
    N, M = clips.shape[:2]
    empty = ~clips.detach().flatten(2).any(-1).cpu()
    persons = [m for m in range(M) if empty[:, m].sum() > 1]
    if not persons:
        return None
    bodies = torch.arange(N * M).view(N, M)
    alike = torch.zeros_like(empty)
    alike[:, persons] = empty[:, persons]
    once = bodies[~alike]
    groups = [bodies[empty[:, m], m] for m in persons]
    place = torch.empty(N * M, dtype=torch.long)
    place[once] = torch.arange(len(once))
    for i, group in enumerate(groups):
        place[group] = len(once) + i
    kept = torch.cat([once, *(group[:1] for group in groups)])
    multiplicity = tuple(map(len, groups))
    return SharedBodies(kept.to(clips.device), multiplicity, place.to(clips.device))
