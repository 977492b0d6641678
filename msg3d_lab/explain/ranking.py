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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from msg3d_lab.analysis import fidelity, sanity
from msg3d_lab.analysis.features import Features
from msg3d_lab.data.store import Store
from msg3d_lab.explain.clips import Clips, choose_clips, load_clips, planted
from msg3d_lab.explain.methods import (
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
        Table columns, all but the last three means over clips: `deletion`, the area under the
        random curve minus the method's (0 is chance); `insertion`, the method's minus the random
        one; `faithfulness`, the correlation; `shuffled`, the size of the rank correlation with the
        importance given by the network with all weights shuffled (of 25 joints 0.16 is chance, see
        `sanity.chance_similarity`; 1 says nothing about the network); `stability`, the rank
        correlation between seeds, of training and of what a method draws; `planted`, the share of
        pairs of a planted and another feature that are in the right order (0.5 is chance), and
        `pointing`, how often the first feature is a planted one, both for synthetic clips only;
        `seconds`, of the attributions; `mean rank` over `JUDGES`, among the methods, 1 is best; and
        `first`, how often a method has the best mean rank when clips are drawn again, with
        replacement: near 1 the choice does not hang on these clips. `pointing` does not count
        twice.

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
    rows, curves, values, seconds = {}, [], {}, {}
    for method in tqdm(
        [*methods, *CONTROLS], desc="methods", disable=not progress, dynamic_ncols=True
    ):

        def importance_by(
            network: MSG3D, at: Clips = clips, seed: int = seed, method: str = method
        ) -> np.ndarray:
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
        seconds[method] = time.perf_counter() - start
        row, table = checks(found)
        assert isinstance(shuffled, MSG3D)
        # The same is drawn for the shuffled network, so that noise does not pass for a difference,
        # and something else for those of other seeds, so that it does not pass for agreement.
        row["shuffled"] = np.abs(sanity.rank_similarity(found, importance_by(shuffled)))
        if networks:
            again = [
                importance_by(network, at, seed + number)
                for number, (network, at) in enumerate(zip(networks, seen, strict=True), start=1)
            ]
            row["stability"] = sanity.stability([found, *again])
        if truth is not None:
            row["planted"] = sanity.planted_auc(found, truth)
            row["pointing"] = sanity.pointing_game(found, truth)
        rows[method] = row
        curves.append(table.assign(method=method))
    return Ranking(
        _ranked(rows, seconds, seed=seed),
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

    def __call__(self, values: np.ndarray) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
        orders = fidelity.importance_orders(values, seed=self.seed)
        curves = {"random": self.random}
        for order in ("important first", "important last"):
            shares, curves[order] = fidelity.deletion_curve(
                self.model, self.x, orders[order], points=self.points, **self.given
            )
        table = fidelity.curve_table(shares, curves)
        area = fidelity.areas(table)
        row = {
            "deletion": area["deletion", "random"] - area["deletion", "important first"],
            "insertion": area["insertion", "important first"] - area["insertion", "random"],
        }
        found = {name: each.to_numpy() for name, each in row.items()}
        found["faithfulness"] = fidelity.faithfulness(values, self.hidden, self.drops)
        return found, table


def _ranked(
    rows: Mapping[str, Mapping[str, np.ndarray]], seconds: Mapping[str, float], *, seed: int = 0
) -> pd.DataFrame:
    """The table of `rank_methods`: the best method first, controls last.

    Args:
        rows: method -> check -> (N,), clip by clip.
        seconds: method -> of its attributions.
        seed: of the clips drawn again.
    """
    means = {
        method: {check: _mean(clips) for check, clips in row.items()}
        for method, row in rows.items()
    }
    table = pd.DataFrame.from_dict(means, orient="index").assign(seconds=pd.Series(seconds))
    methods = [method for method in rows if method not in CONTROLS]
    judged = table.loc[methods]
    # A check that says nothing about any method does not judge.
    scores = {
        check: np.stack([rows[method][check] for method in methods])
        for check in JUDGES
        if check in judged and judged[check].notna().any()
    }
    ranks = [judged[c].rank(ascending=not JUDGES[c], na_option="bottom") for c in scores]
    # Without a check that says anything the order stays as it was.
    mean = pd.concat(ranks, axis=1).mean(axis=1) if ranks else pd.Series(1.0, methods)
    table = table.assign(**{"mean rank": mean})
    if scores:
        table["first"] = pd.Series(_how_often_first(scores, seed=seed), methods)
    order = [*mean.sort_values(kind="stable").index, *CONTROLS]
    return table.loc[order].rename_axis("method")


def _how_often_first(
    scores: Mapping[str, np.ndarray], *, resamples: int = 2000, seed: int = 0
) -> np.ndarray:
    """How often each method has the best mean rank over clips drawn with replacement.

    The same clips are drawn for all methods and checks, and those that share the first place share
    the turn.

    Shapes:
        scores: check of `JUDGES` -> (methods, N), NaN where a clip says nothing -> (methods,),
        with a sum of 1.
    """
    from scipy.stats import rankdata

    clips = next(iter(scores.values())).shape[1]
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(clips, np.full(clips, 1 / clips), size=resamples)
    ranks = []
    for check, values in scores.items():
        known = np.isfinite(values)
        total, number = counts @ np.where(known, values, 0).T, counts @ known.T
        unknown = np.full(total.shape, np.nan)
        mean = np.divide(total, number, out=unknown, where=number > 0)
        # What is not known ranks last, as in the table.
        loss = np.where(np.isnan(mean), np.inf, -mean if JUDGES[check] else mean)
        ranks.append(rankdata(loss, axis=1))
    rank = np.mean(ranks, axis=0)
    first = rank == rank.min(axis=1, keepdims=True)
    return (first / first.sum(axis=1, keepdims=True)).mean(axis=0)


def _stages(model: MSG3D) -> list[str]:
    """All weights but the input's normalisation, from the classifier down."""
    return ["fc", *(f"blocks.{i}" for i in reversed(range(len(model.blocks))))]


def _opened(run: Run | str | Path) -> Run:
    return run if isinstance(run, Run) else open_run(run)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
