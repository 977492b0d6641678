"""Bodies of a batch that are all alike because nobody was there.

Most recordings of one person reach the network with a second body of zeros. Behind the input's
normalisation, which knows persons apart, all empty bodies of one person slot have the same
activations in every layer. So one is carried for all of them, batch normalisation counts it as
often as it occurs (`batch_norm`), and its features are handed to all the clips it stands for, whose
gradients add up in it. Logits, gradients of the weights and running statistics are what they would
be otherwise, to the rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Shared", "can_be_looked_at", "share_empty"]


class Shared(NamedTuple):
    """Which bodies of a batch are carried, and for whom.

    Attributes:
        kept: (B,) the bodies that are carried, as n * M + m, those with copies last.
        copies: how many bodies each of the last ones stands for.
        place: (N * M,) where in `kept` each body is found.
    """

    kept: Tensor
    copies: tuple[int, ...]
    place: Tensor


def can_be_looked_at(x: Tensor) -> bool:
    """Whether a batch's values are there to be asked about.

    They are not while a program is compiled, exported, traced or recorded as a CUDA graph, which
    other batches are to run through, nor in tensors that stand for others.
    """
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        or type(x) is not Tensor
        or (x.is_cuda and torch.cuda.is_current_stream_capturing())
    )


def share_empty(x: Tensor) -> Shared | None:
    """Find the bodies that are zero throughout; None if no person slot has two.

    Shapes:
        x: (N, M, T, V, C), before any normalisation.

    Example:
        >>> clips = torch.ones(3, 2, 4, 1, 1)
        >>> clips[1:, 1] = 0
        >>> share_empty(clips)
        Shared(kept=tensor([0, 1, 2, 4, 3]), copies=(2,), place=tensor([0, 1, 2, 4, 3, 4]))
    """
    N, M = x.shape[:2]
    empty = ~x.detach().flatten(2).any(-1).cpu()
    slots = [m for m in range(M) if empty[:, m].sum() > 1]
    if not slots:
        return None
    bodies = torch.arange(N * M).view(N, M)
    alike = torch.zeros_like(empty)
    alike[:, slots] = empty[:, slots]
    once = bodies[~alike]
    groups = [bodies[empty[:, m], m] for m in slots]
    place = torch.empty(N * M, dtype=torch.long)
    place[once] = torch.arange(len(once))
    for i, group in enumerate(groups):
        place[group] = len(once) + i
    kept = torch.cat([once, *(group[:1] for group in groups)])
    return Shared(kept.to(x.device), tuple(map(len, groups)), place.to(x.device))
