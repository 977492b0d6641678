"""The sanity run: a network that cannot learn a handful of clips by heart learns nothing else."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from msg3d_lab.data.batches.loader import TestBatches
from msg3d_lab.data.store import Store
from msg3d_lab.training import recipes
from msg3d_lab.training.diagnostics.trial import new_state
from msg3d_lab.training.distributed.processes import Precision
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.setup import clip_settings, open_store_of
from msg3d_lab.training.validation import split_validation

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["overfit"]

log = logging.getLogger(__name__)

_GOAL = 0.05  # cross entropy: a probability of 95 % for the right class


def overfit(
    recipe: Recipe | str,
    *,
    data: Store | str | Path | None = None,
    num_clips: int = 8,
    steps: int = 200,
    device: str = "auto",
    precision: Precision = "32-true",
) -> pd.DataFrame:
    """Train on the same few clips until the network knows them by heart.

    As many clips of each class as can be, fixed, without augmentation; the recipe's network without
    dropout, its optimizer without weight decay, its learning rate in proportion to these clips,
    after a tenth of the steps to warm up; its `clip_norm`; no label smoothing. Nothing is written.
    It ends when the loss is below 0.05 and every clip right.

    Args:
        recipe: a recipe, the name of one, or the path of its YAML.
        data: the store; the recipe's default place if left out.
        num_clips: clips.
        steps: most steps.
        device: "auto", "cpu", "cuda" or "mps".
        precision: of the arithmetic.

    Returns:
        A row per step: `step`, `loss`, `top1` (a share), before the step. What came out, and what
        is probably wrong if the clips were not learned, is in words in `attrs["verdict"]` (logged
        too), whether they were in `attrs["learned"]`, and the clips' ids in `attrs["ids"]`.

    Raises:
        FileNotFoundError: no store.
        ValueError: a store that does not fit the recipe, or has fewer clips to train on; fewer than
            two clips or ten steps.

    Source: Karpathy, "A Recipe for Training Neural Networks" (2019): "overfit one batch".
    """
    import pandas as pd

    if num_clips < 2 or steps < 10:
        raise ValueError(f"expected at least 2 clips and 10 steps, found {num_clips} and {steps}")
    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    store = open_store_of(recipe, data)
    settings = recipe.training
    model = recipe.model.model_copy(update={"dropout": 0.0})
    plain = settings.model_copy(update={"weight_decay": 0.0})
    recipe = recipe.model_copy(update={"model": model, "training": plain})
    chosen = _balanced(store, split_validation(store, recipe)[0], num_clips, seed=settings.seed)
    state = new_state(recipe, store, device=device, precision=precision)
    [batch] = TestBatches(store, chosen, batch_size=num_clips, **clip_settings(recipe))
    x = torch.from_numpy(batch.x[:, 0]).to(state.fabric.device)
    labels = torch.from_numpy(batch.labels).to(state.fabric.device)
    peak = settings.learning_rate * num_clips / settings.learning_rate_batch
    rows: list[tuple[int, float, float]] = []
    state.model.train()
    for step in range(1, steps + 1):
        for group in state.optimizer.param_groups:
            group["lr"] = peak * min(1, step / (steps / 10))
        state.optimizer.zero_grad(set_to_none=True)
        logits = state.model(x)
        loss = F.cross_entropy(logits, labels)
        right = (logits.argmax(1) == labels).float().mean()
        rows.append((step, loss.item(), right.item()))
        if not math.isfinite(rows[-1][1]) or (rows[-1][1] < _GOAL and rows[-1][2] == 1):
            break
        state.fabric.backward(loss)
        if settings.clip_norm:
            state.fabric.clip_gradients(
                state.model, state.optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False
            )
        state.optimizer.step()
    curve = pd.DataFrame(rows, columns=["step", "loss", "top1"])
    ids = [store.ids[i] for i in batch.indices]
    last, top1 = rows[-1][1:]
    learned = last < _GOAL and top1 == 1
    if learned:
        verdict = f"learned: {num_clips} clips by heart after {len(rows)} steps (loss {last:.3f})"
    else:
        why = _suspicions(
            [row[1] for row in rows], batch.x[:, 0], batch.labels, ids,
            peak=peak, num_classes=store.num_classes,
        )  # fmt: skip
        verdict = "; ".join([_outcome(rows, steps), *why])
    log.log(logging.INFO if learned else logging.WARNING, "%s", verdict)
    curve.attrs.update(learned=learned, verdict=verdict, ids=ids)
    return curve


def _balanced(store: Store, indices: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Clips of as many classes as can be, as many of each as can be; ascending."""
    if len(indices) < count:
        raise ValueError(f"expected at least {count} clips to train on, found {len(indices)}")
    shuffled = np.random.default_rng(seed).permutation(indices)
    labels = store.labels[shuffled]
    turn = np.zeros(len(labels), dtype=np.int64)  # a clip's place among those of its class
    for label in np.unique(labels):
        own = labels == label
        turn[own] = np.arange(own.sum())
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:count]])


def _outcome(rows: list[tuple[int, float, float]], steps: int) -> str:
    _, loss, right = rows[-1]
    return (
        f"not learned: after {len(rows)} of {steps} steps the loss is {loss:.3g} (it was "
        f"{rows[0][1]:.3g}), and {100 * right:.0f} % of the clips are right"
    )


def _suspicions(
    losses: list[float],
    x: np.ndarray,
    labels: np.ndarray,
    ids: list[str],
    *,
    peak: float,
    num_classes: int,
) -> list[str]:
    """What is probably wrong, the surest first."""
    found = []
    flat = x.reshape(len(x), -1)
    broken = [i for i, clip in zip(ids, flat, strict=True) if not np.isfinite(clip).all()]
    empty = [i for i, clip in zip(ids, flat, strict=True) if not clip.any()]
    twins = [
        f"{ids[i]} and {ids[j]}"
        for i in range(len(x))
        for j in range(i)
        if labels[i] != labels[j] and np.array_equal(flat[i], flat[j])
    ]
    if broken:
        found.append(f"the coordinates of {', '.join(broken)} are not finite: check the store")
    if empty:
        found.append(f"{', '.join(empty)} have no body at all: check the store")
    if twins:
        found.append(f"{'; '.join(twins)} are the same, but not their labels: check the labels")
    start, best = losses[0], min((v for v in losses if math.isfinite(v)), default=math.nan)
    if not math.isfinite(losses[-1]):
        found.append(f"the loss is not finite: the learning rate ({peak:.3g} here) is too large")
    elif best > 0.9 * start:
        found.append(
            f"the loss hardly moved: the learning rate ({peak:.3g} here) is much too small or too "
            "large (see find_learning_rate), or the labels have nothing to do with the clips"
        )
    elif losses[-1] > 2 * best:
        found.append(
            f"the loss was down to {best:.3g} and rose again: the learning rate ({peak:.3g} here) "
            "is too large"
        )
    elif not found:
        found.append("it was still falling: give it more steps, or a larger learning rate")
    if math.isfinite(start) and start > 3 * math.log(num_classes):
        found.append(
            f"the first loss of a network that knows nothing is about log({num_classes}) = "
            f"{math.log(num_classes):.2f}: check the scale of the coordinates"
        )
    return found
