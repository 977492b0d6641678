"""Run a model over batches without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import nn


def predict(
    model: nn.Module | Callable[[torch.Tensor], torch.Tensor],
    batches: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (logits, labels, indices) for every batch of (x, labels, indices).

    The caller puts the model into eval mode.

    Shapes:
        x: (N, clips, M, T, V, C) -> logits (N, clips, classes), float32.
    """
    for x, labels, indices in batches:
        with torch.inference_mode():
            clips = torch.from_numpy(x).to(device)
            logits = model(clips.flatten(0, 1)).view(*clips.shape[:2], -1)
        yield logits.float().cpu().numpy(), labels, indices
