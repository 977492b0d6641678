"""The weights of a fusion: how much they matter, and how to find them without test data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msg3d_lab.data.store import Store
from msg3d_lab.evaluation.fusion import parts_of, values_on
from msg3d_lab.evaluation.loop import test
from msg3d_lab.evaluation.scores import Kind, Scores
from msg3d_lab.evaluation.statistics import interval
from msg3d_lab.training.runs import Run, open_run
from msg3d_lab.training.setup import open_store_for
from msg3d_lab.training.validation import split_validation

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FittedWeights", "fit_weights", "validation_scores", "weight_curve"]

# A share of the true class below this counts as this: log(0) would outweigh everything else.
_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class FittedWeights:
    """Weights of a fusion, found on a validation part.

    Args:
        weights: one per part, adding up to 1.
        loss: mean of -log(share given to the true class), with these weights; on logits times the
            factor that fits best.
        equal_loss: the same with equal weights.
        samples: how many there were to fit them on.
    """

    weights: tuple[float, ...]
    loss: float
    equal_loss: float
    samples: int


def weight_curve(
    first: Scores, second: Scores, *, on: Kind = "softmax", steps: int = 41
) -> pd.DataFrame:
    """Return the accuracy of two parts fused, for every share of the second one.

    It shows how much a choice of weights matters. To choose from it by test accuracy would be to
    choose by test data: see `fit_weights`.

    Args:
        first: at share 0 it is alone.
        second: at share 1 it is alone.
        on: as in `fuse`.
        steps: how many shares, evenly spaced from 0 to 1.

    Returns:
        Columns weight (of the second), top1, low, high (shares of 1; the 95 % interval).

    Raises:
        ValueError: as `fuse`; fewer than two steps.
    """
    import pandas as pd

    if steps < 2:
        raise ValueError(f"expected two steps or more, found {steps}")
    parts = parts_of([first, second])
    a, b = (values_on(part, on) for part in parts)
    rows = []
    for share in np.linspace(0, 1, steps):
        values = ((1 - share) * a + share * b).astype(np.float32)
        right = values.argmax(axis=1) == parts[0].labels
        low, high = interval(right)
        rows.append((float(share), float(right.mean()), low, high))
    return pd.DataFrame(rows, columns=["weight", "top1", "low", "high"])


def validation_scores(
    run: Run | str | Path, *, data: Store | str | Path | None = None, **test_arguments: Any
) -> Scores:
    """Return a run's scores of its validation part: what weights may be fitted on.

    That is the training clips of the recipe's `validation_subjects`, which the run has not trained
    on. Nothing is written.

    Args:
        run: a run, or its folder.
        data: the store; the one the run was trained on if left out.
        test_arguments: of `test`, e.g. num_clips, device.

    Raises:
        ValueError: the recipe has no validation part.
    """
    run = run if isinstance(run, Run) else open_run(run)
    recipe = run.recipe
    subjects = recipe.data.validation_subjects
    if not subjects:
        raise ValueError(
            f"{run.path} has no validation part: train with validation_subjects, e.g. "
            '--set "validation_subjects=[35, 38]"'
        )
    store = open_store_for(recipe, data if data is not None else run.environment["data"]["path"])
    wanted = {store.ids[i] for i in split_validation(store, recipe)[1]}
    whole = test(run, data=store, split=recipe.data.train_split, **test_arguments).scores
    rows = np.array([name in wanted for name in whole.ids])
    return Scores(
        ids=tuple(name for name in whole.ids if name in wanted),
        labels=whole.labels[rows],
        values=whole.values[rows],
        label_names=whole.label_names,
        facts={**whole.facts, "validation_subjects": list(subjects)},
    )


def fit_weights(scores: Sequence[Scores], *, on: Kind = "softmax") -> FittedWeights:
    """Find the weights that give the true classes of a validation part the most.

    They minimise the log loss, which is convex in the weights, so there is one answer and no grid;
    accuracy moves in steps and would be fitted to noise. On logits a common factor is fitted too,
    since there it changes the loss (but no prediction), and divided out again.

    Args:
        scores: of the validation part, see `validation_scores`.
        on: as in `fuse`.

    Raises:
        ValueError: scores of test data, or of clips that were trained on, or that do not say; as
            `fuse`.
    """
    from scipy.optimize import Bounds, LinearConstraint, minimize

    for part in scores:
        _check_may_decide(part)
    parts = parts_of(scores)
    values = np.stack([values_on(part, on) for part in parts])
    N, count = len(parts[0].labels), len(parts)
    true = values[:, np.arange(N), parts[0].labels]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        """The mean log loss and its gradient."""
        if on == "softmax":
            given = np.maximum(weights @ true, _SMALLEST)
            return float(-np.log(given).mean()), -(true / given).mean(axis=1)
        fused = np.tensordot(weights, values, axes=1)
        fused -= fused.max(axis=1, keepdims=True)
        share = np.exp(fused)
        share /= share.sum(axis=1, keepdims=True)
        given = np.maximum(share[np.arange(N), parts[0].labels], _SMALLEST)
        expected = np.einsum("nc,knc->kn", share, values)
        return float(-np.log(given).mean()), (expected - true).mean(axis=1)

    equal = np.full(count, 1 / count)
    # On logits networks that are always right want to be infinitely sure.
    bounds = Bounds(np.zeros(count), np.full(count, 1.0 if on == "softmax" else 100.0))
    if on == "softmax":
        sums = LinearConstraint(np.ones((1, count)), 1, 1)
        found = minimize(loss, equal, jac=True, method="SLSQP", bounds=bounds, constraints=[sums])
    else:
        found = minimize(loss, equal, jac=True, method="L-BFGS-B", bounds=bounds)
    fitted = np.clip(found.x, 0, None)
    # Parts that all point away from the truth get no weight: then none is better than another.
    shares = fitted / fitted.sum() if fitted.any() else equal
    return FittedWeights(
        weights=tuple(shares.tolist()),
        loss=loss(fitted)[0],
        equal_loss=_with_factor(loss, equal) if on == "logits" else loss(equal)[0],
        samples=N,
    )


def _with_factor(
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]], weights: np.ndarray
) -> float:
    """The smallest loss of these weights times a common factor."""
    from scipy.optimize import minimize_scalar

    largest = 100 * len(weights)
    found = minimize_scalar(lambda f: loss(f * weights)[0], bounds=(0, largest), method="bounded")
    return float(found.fun)


def _check_may_decide(scores: Scores) -> None:
    """Refuse to choose by what must not choose."""
    split = scores.facts.get("split")
    advice = "weights may be fitted on a validation part only: see `validation_scores`"
    if not isinstance(split, str):
        raise ValueError(f"expected scores that say which split they are of, found none; {advice}")
    if scores.facts.get("validation_subjects"):
        return
    kind = "trained on" if split.endswith("train") else "test data"
    raise ValueError(f"expected a validation part, found {split}, which is {kind}; {advice}")
