"""The learning rate range test: a short run that shows how large a learning rate may be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from msg3d_lab.data.batches.loader import prefetch
from msg3d_lab.data.store import Store
from msg3d_lab.training import recipes
from msg3d_lab.training.diagnostics.trial import endless, new_state, own_generators
from msg3d_lab.training.distributed.processes import Precision
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.setup import build_batches, open_store_for
from msg3d_lab.training.step import clips_per_step, train_step

if TYPE_CHECKING:
    import pandas as pd


_SMOOTHING = 0.9  # weight of the past in the smoothed loss
_DIVERGED = 4  # times the lowest smoothed loss ends the test


def find_learning_rate(
    recipe: Recipe | str,
    *,
    data: Store | str | Path | None = None,
    lowest: float = 1e-4,
    highest: float = 10.0,
    steps: int = 100,
    device: str = "auto",
    precision: Precision = "32-true",
) -> pd.DataFrame:
    """Train a few steps with a growing learning rate and return the loss at each.

    Network, clips, batch and optimizer are the recipe's; nothing is written. The test ends early
    when the smoothed loss is above four times its lowest value and above the first one, or when the
    loss is not finite.

    Args:
        recipe: a recipe, the name of one, or the path of its YAML.
        data: the store or its path. Default: where `msg3d-lab data import` puts it.
        lowest: the learning rate of the first step.
        highest: of the last step; it grows by the same factor from step to step.
        steps: steps.
        device: "auto", "cpu", "cuda" or "mps".
        precision: of the arithmetic.

    Returns:
        A row per step: `lr`, as the recipe's setting `learning_rate` (the rate in use is scaled to
        the clips of a step, as in `fit`); `loss`, of the step's clips before the step; `smoothed`,
        its unbiased exponential average over about ten steps. `attrs["ended_early"]` tells whether
        it ended early.

    Raises:
        FileNotFoundError: no store.
        ValueError: rates that do not grow from above 0, fewer than ten steps; a store that does
            not fit the recipe; a loss that is not finite from the start.

    Source: Smith, WACV 2017 (arXiv 1506.01186), section 3.3; rates that grow by a factor and the
    smoothing as in fastai's learner.
    """
    import pandas as pd

    if not 0 < lowest < highest or steps < 10:
        raise ValueError(
            "expected rates that grow from above 0 and at least 10 steps, found "
            f"{lowest:g} to {highest:g} in {steps}"
        )
    recipe = recipes.get(recipe)
    settings = recipe.training
    store = open_store_for(recipe, data)
    state = new_state(recipe, store, device=device, precision=precision)
    state.train()
    batches, _ = build_batches(recipe, store)
    clips = settings.batch_size * settings.accumulate
    rows: list[dict[str, float]] = []
    mean, least, ended_early = 0.0, math.inf, False
    waiting = prefetch(endless(batches))
    with own_generators(state.fabric.device):
        torch.manual_seed(settings.seed)
        for number, rate in enumerate(np.geomspace(lowest, highest, steps), start=1):
            batch = next(waiting)
            lr = rate * clips / settings.base_batch_size
            result = train_step(state, batch, total_clips=clips_per_step(batches), lr=lr)
            loss = result.sums[0].item() / len(batch.labels)
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
            smoothed = mean / (1 - _SMOOTHING**number)
            # A network that has learned the clips may get four times worse and still learn.
            most = max(_DIVERGED * least, rows[0]["smoothed"]) if rows else math.inf
            ended_early = not (math.isfinite(loss) and smoothed <= most)
            if ended_early:
                break
            least = min(least, smoothed)
            rows.append({"lr": float(rate), "loss": loss, "smoothed": smoothed})
    if not rows:
        raise ValueError(
            f"the loss is {loss} before the first step: check the clips of {store.path}"
        )
    curve = pd.DataFrame(rows)
    curve.attrs["ended_early"] = ended_early
    return curve


class Suggestion(NamedTuple):
    """What a range test suggests; see `suggest`.

    Args:
        steepest: the rate at which the smoothed loss falls fastest.
        diverged: the rate from which on the loss rises again; NaN if the test did not reach it.
        tenth: a tenth of `diverged`.
    """

    steepest: float
    diverged: float
    tenth: float


def suggest(curve: pd.DataFrame) -> Suggestion:
    """Read two learning rates off a range test.

    Steepest descent: the rate at which the smoothed loss falls most per factor of the rate, over a
    window of a tenth of the steps, before its lowest value. Divergence: the first rate after the
    lowest value at which the loss has risen by half of what it had fallen, or the last rate if the
    test ended early. With warm-up and decay, a tenth of the divergence is the usual choice for the
    peak; the steepest descent is often near it. The smaller of the two is a good start, not an
    optimum.

    Args:
        curve: of `find_learning_rate`.

    Raises:
        ValueError: fewer than ten steps, or a loss that never fell: no rate in the range learns.
    """
    if len(curve) < 10:
        raise ValueError(
            f"expected a test of at least 10 steps, found {len(curve)}: start at a lower rate"
        )
    lr, loss = curve["lr"].to_numpy(), curve["smoothed"].to_numpy()
    bottom = int(loss.argmin())
    window = max(2, len(curve) // 10)
    if bottom < window:
        raise ValueError(
            f"the loss never fell between the rates {lr[0]:g} and {lr[-1]:g}: start at a lower rate"
        )
    falls = (loss[window : bottom + 1] - loss[: bottom + 1 - window]) / np.log(
        lr[window : bottom + 1] / lr[: bottom + 1 - window]
    )
    first = int(falls.argmin())
    steepest = float(np.sqrt(lr[first] * lr[first + window]))
    lost = np.flatnonzero(loss[bottom:] > (loss[0] + loss[bottom]) / 2)
    diverged = math.nan
    if len(lost) or curve.attrs.get("ended_early"):
        diverged = float(lr[bottom + lost[0]] if len(lost) else lr[-1])
    return Suggestion(steepest, diverged, diverged / 10)
