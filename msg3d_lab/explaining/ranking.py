"""Which method to believe: all of them on the same clips, by what can be checked.

Three checks need nothing but the network: whether taking away what a method calls important hurts
more than chance (deletion), whether putting it back helps more than chance (insertion), and whether
the importance of sets of features goes with what their loss costs (faithfulness). A fourth asks
that importance is about the network: it must change when the weights are shuffled. With runs of
other seeds, it must come out alike. And where the truth is known, on the embedded synthetic set, it
must point to what was planted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from msg3d_lab.analysis import fidelity, sanity
from msg3d_lab.analysis.features import Features
from msg3d_lab.data.store import Store
from msg3d_lab.explaining.clips import Clips, choose_clips, load_clips, planted
from msg3d_lab.explaining.methods import (
    CONTROLS,
    METHODS,
    device_of,
    importance_of,
    network_of,
    predictions_of,
)
from msg3d_lab.model import MSG3D
from msg3d_lab.training.runs import Run, open_run

__all__ = ["JUDGES", "Ranking", "rank_methods"]

# The columns that decide, and whether more is better.
JUDGES = {
    "deletion": True,
    "insertion": True,
    "faithfulness": True,
    "shuffled": False,
    "stability": True,
    "planted": True,
}


@dataclass(frozen=True)
class Ranking:
    """What `rank_methods` found.

    Args:
        table: methods x checks, the best method first, controls last.
        curves: deletion and insertion curves of every method: `curve_table` with a `method`.
        values: importance by method, (N, F) each.
        clips: the clips they are of.
        classes: (N,) the classes asked about, on the clips' device.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    values: dict[str, np.ndarray]
    clips: Clips
    classes: Tensor

    @property
    def best(self) -> str:
        """The method with the best mean rank; never a control."""
        return next(str(m) for m in self.table.index if m not in CONTROLS)


def rank_methods(
    run: Run | str | Path,
    *,
    others: Sequence[Run | str | Path] = (),
    methods: Sequence[str] = METHODS,
    by: str = "joint",
    baseline: str = "mean_pose",
    data: Store | str | Path | None = None,
    split: str | None = None,
    num_clips: int = 48,
    num_segments: int = 8,
    samples: int = 8,
    steps: int = 16,
    repeats: int = 20,
    points: int = 8,
    batch_size: int = 64,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> Ranking:
    """Compare methods, and two controls that know no network, on the same clips.

    Rank them on clips of the training split, and explain those of the test split by the best: then
    the clips that are shown have chosen nothing.

    Args:
        run: a run or its folder.
        others: runs of the same recipe with other seeds; without them there is no `stability`.
        methods: of `METHODS`.
        by: the features.
        baseline: what takes a feature's place, in the methods and in the checks.
        data: the store; the one the run was trained on if left out.
        split: the clips; the recipe's training split if left out.
        num_clips: how many, balanced over classes.
        num_segments: stretches of time.
        samples: orders drawn by Shapley sampling.
        steps: points of integrated gradients.
        repeats: sets of features per clip for `faithfulness`.
        points: steps of each deletion curve.
        batch_size: clips at a time.
        seed: of everything drawn.
        device: where to compute.
        progress: whether to say what is being done.

    Returns:
        Table columns: `deletion`, mean area under the random curve minus the method's (0 is
        chance); `insertion`, the method's minus the random one; `faithfulness`, mean correlation;
        `shuffled`, the rank correlation with the importance given by the network with all weights
        shuffled, its size (0 is best); `stability`, mean rank correlation between seeds; `planted`,
        the share of pairs of a planted and another feature that are in the right order (0.5 is
        chance), and `pointing`, how often the first feature is a planted one, both for synthetic
        clips only; `seconds`, of the attributions; and `mean rank` over `JUDGES`, among the
        methods, 1 is best. `pointing` does not count twice.

    Raises:
        FileNotFoundError: no run, no weights, or the store is gone.
        ValueError: an unknown name, a store that does not fit, or a run of other classes.
    """
    from tqdm.auto import tqdm

    run = run if isinstance(run, Run) else open_run(run)
    where = device_of(device)
    model, store = network_of(run, data, device=where)
    split = split or run.recipe.data.train_split
    indices = choose_clips(store, split, num_clips=num_clips, seed=seed)
    clips = load_clips(run, indices, data=store, device=where)
    features = clips.features(by, num_segments=num_segments)
    classes = predictions_of(model, clips.x, batch_size=batch_size)
    *_, (_, shuffled) = sanity.shuffled_copies(model, _stages(model), seed=seed)
    networks = [network_of(_opened(other), store, device=where)[0] for other in others]
    seen = [load_clips(_opened(o), indices, data=store, device=where) for o in others]

    checks = _Checks(
        model,
        clips,
        classes,
        features,
        clips.baseline(baseline),
        repeats=repeats,
        points=points,
        batch_size=batch_size,
        seed=seed,
    )
    truth = planted(clips.ids, clips.chosen, features) if store.dataset == "synthetic" else None
    rows, curves, values = {}, [], {}
    for method in tqdm(
        [*methods, *CONTROLS], desc="methods", disable=not progress, dynamic_ncols=True
    ):

        def importance_by(network: MSG3D, at: Clips = clips, method: str = method) -> np.ndarray:
            return importance_of(
                network,
                at,
                classes=classes,
                method=method,
                features=features,
                baseline=baseline,
                samples=samples,
                steps=steps,
                batch_size=batch_size,
                seed=seed,
            )

        start = time.perf_counter()
        values[method] = found = importance_by(model)
        seconds = time.perf_counter() - start
        row, table = checks(found)
        assert isinstance(shuffled, MSG3D)
        row["shuffled"] = abs(_mean(sanity.rank_similarity(found, importance_by(shuffled))))
        if networks:
            again = [importance_by(n, c) for n, c in zip(networks, seen, strict=True)]
            row["stability"] = _mean(sanity.stability([found, *again]))
        if truth is not None:
            row["planted"] = _mean(sanity.planted_auc(found, truth))
            row["pointing"] = _mean(sanity.pointing_game(found, truth))
        rows[method] = {**row, "seconds": seconds}
        curves.append(table.assign(method=method))
    return Ranking(
        _ranked(pd.DataFrame.from_dict(rows, orient="index")),
        pd.concat(curves, ignore_index=True),
        values,
        clips,
        classes,
    )


class _Checks:
    """What is the same for all methods is computed once: the random curve, the sets' drops."""

    def __init__(
        self,
        model: MSG3D,
        clips: Clips,
        classes: Tensor,
        features: Features,
        baseline: Tensor,
        *,
        repeats: int,
        points: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.model, self.x, self.seed = model, clips.x, seed
        self.given: dict[str, Any] = {
            "classes": classes,
            "features": features,
            "baseline": baseline,
            "batch_size": batch_size,
        }
        N, F = len(clips.x), len(features)
        self.hidden = fidelity.random_subsets(N, F, repeats=repeats, seed=seed)
        self.drops = fidelity.score_drops(model, self.x, self.hidden, **self.given)
        random = fidelity.importance_orders(np.zeros((N, F)), seed=seed)["random"]
        self.points = points
        self.random = fidelity.deletion_curve(model, self.x, random, points=points, **self.given)[1]

    def __call__(self, values: np.ndarray) -> tuple[dict[str, float], pd.DataFrame]:
        orders = fidelity.importance_orders(values, seed=self.seed)
        curves = {"random": self.random}
        for order in ("important first", "important last"):
            shares, curves[order] = fidelity.deletion_curve(
                self.model, self.x, orders[order], points=self.points, **self.given
            )
        table = fidelity.curve_table(shares, curves)
        area = fidelity.areas(table).mean()
        row = {
            "deletion": area["deletion", "random"] - area["deletion", "important first"],
            "insertion": area["insertion", "important first"] - area["insertion", "random"],
            "faithfulness": _mean(fidelity.faithfulness(values, self.hidden, self.drops)),
        }
        return {name: float(value) for name, value in row.items()}, table


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Add the mean rank over the checks there are; the best method first, controls last."""
    judged = table.drop(index=list(CONTROLS))
    ranks = [
        judged[check].rank(ascending=not more, na_option="bottom")
        for check, more in JUDGES.items()
        if check in judged and judged[check].notna().any()
    ]
    # Without a check that says anything the order stays as it was.
    mean = pd.concat(ranks, axis=1).mean(axis=1) if ranks else pd.Series(1.0, judged.index)
    table = table.assign(**{"mean rank": mean})
    order = [*mean.sort_values(kind="stable").index, *CONTROLS]
    return table.loc[order].rename_axis("method")


def _stages(model: MSG3D) -> list[str]:
    """All weights but the input's normalisation, from the classifier down."""
    return ["fc", *(f"blocks.{i}" for i in reversed(range(len(model.blocks))))]


def _opened(run: Run | str | Path) -> Run:
    return run if isinstance(run, Run) else open_run(run)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
