"""A sanity check: a network must be able to overfit a few clips."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msg3d_lab.data.store import Store
from msg3d_lab.training import recipes
from msg3d_lab.training.diagnostics.trial import new_state
from msg3d_lab.training.distributed.processes import Precision
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.setup import build_test_batches, open_store_for
from msg3d_lab.training.step import train_step
from msg3d_lab.training.validation import split_validation

if TYPE_CHECKING:
    import pandas as pd


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
    """Train on the same few clips until the network has learned them by heart.

    The clips are fixed, balanced over the classes, and not augmented. The recipe's network has no
    dropout, its optimizer no weight decay, its loss no label smoothing; its learning rate is scaled
    to these clips, after a warm-up over a tenth of the steps. It ends when the loss is below 0.05
    and every clip is right. Nothing is written.

    Args:
        recipe: a recipe, the name of one, or the path of its YAML.
        data: the store or its path. Default: where `msg3d-lab data import` puts it.
        num_clips: clips.
        steps: the most steps.
        device: "auto", "cpu", "cuda" or "mps".
        precision: of the arithmetic.

    Returns:
        A row per step: `step`, `loss`, `top1` (a fraction), before the step. `attrs["learned"]`
        tells whether the clips were learned, `attrs["verdict"]` the result in words, with what is
        probably wrong if they were not (it is logged too), `attrs["ids"]` the clips.

    Raises:
        FileNotFoundError: no store.
        ValueError: a store that does not fit the recipe, or has fewer clips to train on; fewer than
            two clips or ten steps.

    Source: Karpathy, "A Recipe for Training Neural Networks" (2019): "overfit one batch".
    """
    import pandas as pd

    if num_clips < 2 or steps < 10:
        raise ValueError(f"expected at least 2 clips and 10 steps, found {num_clips} and {steps}")
    recipe = recipes.get(recipe)
    store = open_store_for(recipe, data)
    plain = {"weight_decay": 0.0, "label_smoothing": 0.0, "accumulate": 1, "dropout": 0.0}
    everything = {"freeze": [], "class_weights": "none"}
    recipe = recipes.with_settings(recipe, {**plain, **everything})
    settings = recipe.training
    chosen = _balanced(store, split_validation(store, recipe)[0], num_clips, seed=settings.seed)
    state = new_state(recipe, store, device=device, precision=precision)
    [test_batch] = build_test_batches(recipe, store, chosen, batch_size=num_clips)
    batch = test_batch._replace(x=test_batch.x[:, 0])  # one clip per sample
    peak = settings.learning_rate * num_clips / settings.base_batch_size
    rows: list[tuple[int, float, float]] = []
    state.train()
    for step in range(1, steps + 1):
        lr = peak * min(1, step / (steps / 10))
        result = train_step(state, batch, total_clips=num_clips, lr=lr)
        loss, right = (result.sums / num_clips).tolist()
        rows.append((step, loss, right))
        if not math.isfinite(loss) or (loss < _GOAL and right == 1):
            break
    curve = pd.DataFrame(rows, columns=["step", "loss", "top1"])
    ids = [store.ids[i] for i in batch.indices]
    last, top1 = rows[-1][1:]
    learned = last < _GOAL and top1 == 1
    if learned:
        verdict = f"learned: {num_clips} clips by heart after {len(rows)} steps (loss {last:.3f})"
    else:
        why = _suspicions(
            [row[1] for row in rows], batch.x, batch.labels, ids,
            peak=peak, num_classes=store.num_classes,
        )  # fmt: skip
        verdict = (
            f"not learned: after {len(rows)} of {steps} steps the loss is {last:.3g} (it was "
            f"{rows[0][1]:.3g}), and {100 * top1:.0f} % of the clips are right; {'; '.join(why)}"
        )
    log.log(logging.INFO if learned else logging.WARNING, "%s", verdict)
    curve.attrs.update(learned=learned, verdict=verdict, ids=ids)
    return curve


def _balanced(store: Store, indices: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Clips of as many classes as possible, evenly, in ascending order."""
    import pandas as pd

    if len(indices) < count:
        raise ValueError(f"expected at least {count} clips to train on, found {len(indices)}")
    shuffled = np.random.default_rng(seed).permutation(indices)
    labels = pd.Series(store.labels[shuffled])
    turn = labels.groupby(labels).cumcount().to_numpy()  # among its class
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:count]])


def _suspicions(
    losses: list[float],
    x: np.ndarray,
    labels: np.ndarray,
    ids: list[str],
    *,
    peak: float,
    num_classes: int,
) -> list[str]:
    """What is probably wrong, the most certain first."""
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
