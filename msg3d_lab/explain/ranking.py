"""Compare attribution methods on the same clips, by checks of their results.

Three checks need only the network: whether replacing the most important features hurts more than
chance (deletion), whether putting them back helps more than chance (insertion), and whether the
importance of sets of features agrees with the fall of the score without them (faithfulness). A
fourth checks that importance depends on the network: it must change when the weights are shuffled.
With runs of other seeds, importance must agree between them. On the embedded synthetic data set,
where the evidence is known, it must point to the planted features.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from tqdm.auto import tqdm

from msg3d_lab.explain import fidelity, sanity
from msg3d_lab.explain.clips import (
    DEFAULT_OPTIONS,
    Options,
    choose_run_clips,
    load_clips,
    open_network,
    planted_features,
    predict_classes,
)
from msg3d_lab.explain.methods import CONTROLS, METHODS, Method, attribute, check_method
from msg3d_lab.explain.question import Question
from msg3d_lab.model import MSG3D
from msg3d_lab.training.runs import Run

# The checks that the mean rank is made of.
HIGHER_IS_BETTER = {
    "deletion": True,
    "insertion": True,
    "faithfulness": True,
    "shuffled": False,
    "stability": True,
    "planted": True,
}
_NUM_CLIPS = 48
REPEATS = 20  # sets of features per clip for `faithfulness`
POINTS = 8  # steps of each deletion curve
_CONTROL_NAMES = tuple(control.name for control in CONTROLS)


@dataclass(frozen=True)
class Ranking:
    """The result of `rank_methods`.

    Args:
        table: methods x checks, the best method first, controls last.
        curves: deletion and insertion curves of every method: `curve_table` with a `method`.
        values: importance by the method's name, (N, F) each.
        question: the clips, classes, features and baseline of the comparison.
        methods: the methods that were compared.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    values: dict[str, np.ndarray]
    question: Question
    methods: tuple[Method, ...]

    @property
    def best(self) -> Method:
        """The method with the best mean rank; never a control."""
        named = {method.name: method for method in self.methods}
        return next(named[name] for name in self.table.index if name in named)


def rank_methods(
    run: Run | str | Path,
    methods: Sequence[Method] = METHODS,
    options: Options = DEFAULT_OPTIONS,
    *,
    others: Sequence[Run | str | Path] = (),
    progress: bool = True,
) -> Ranking:
    """Compare methods, and two controls that use no network, on the same clips.

    Rank on clips of the training split and explain those of the test split by the best method: then
    the clips that are shown have not chosen the method.

    Args:
        methods: which methods, each with its own name.
        options: the clips, features, baseline and more, in the methods and in the checks.
        others: runs of the same recipe with other seeds. Default: none, and no `stability`.

    Returns:
        Table columns, all but the last three means over clips: `deletion`, the area under the
        random curve minus the method's (0 is chance); `insertion`, the method's minus the random
        one; `faithfulness`, the correlation; `shuffled`, the absolute rank correlation with the
        importance in the network with all weights shuffled (1 does not depend on the network;
        chance is 0.16 for 25 joints, see `sanity.chance_similarity`); `stability`, the rank
        correlation between seeds, of training and of what a method draws; `planted`, the fraction
        of pairs of a planted and another feature that are in the right order (0.5 is chance), and
        `pointing`, how often the first feature is a planted one, both for synthetic clips only;
        `seconds`, of the attributions; `mean rank` over `HIGHER_IS_BETTER`, among the methods, 1 is
        best; and `first`, how often a method has the best mean rank when clips are drawn again with
        replacement: near 1, the choice does not depend on these clips. `pointing` is in no rank,
        because it repeats `planted`.

    Raises:
        ValueError: no method, or two of one name.
    """
    methods = tuple(methods)
    for method in methods:
        check_method(method)
    names = [method.name for method in (*methods, *CONTROLS)]
    if len(set(names)) < len(names):
        raise ValueError(f"expected one name per method, found {', '.join(names)}")
    options = ranking_options(options)
    run, model, store, device, _, indices = choose_run_clips(run, options, training=True)
    clips = load_clips(run, indices, data=store, device=device)
    classes = predict_classes(model, clips.x, batch_size=options.batch_size)
    question, seed = clips.question(classes, options), options.seed
    *_, (_, shuffled) = sanity.shuffled_copies(model, seed=seed)
    # Other seeds draw other numbers, so that equal random numbers do not pass for agreement.
    seeds = []
    for number, other in enumerate(others, start=1):
        network, _ = open_network(other, store, device=device)
        own = load_clips(other, indices, data=store, device=device)
        seeds.append((network, own.question(classes, replace(options, seed=seed + number))))
    checks = _Checks(model, question)
    truth = None
    if store.dataset == "synthetic":
        truth = planted_features(clips.ids, clips.frames, question.features)
    rows, curves, values, seconds = {}, [], {}, {}
    for method in tqdm(
        (*methods, *CONTROLS), desc="methods", disable=not progress, dynamic_ncols=True
    ):
        start = time.perf_counter()
        values[method.name] = found = attribute(model, question, method)
        seconds[method.name] = time.perf_counter() - start
        row, curve = checks(found)
        # The same numbers are drawn for the shuffled network: noise must not pass for a difference.
        again = attribute(shuffled, question, method)
        row["shuffled"] = np.abs(sanity.rank_similarity(found, again))
        if seeds:
            each = [found, *(attribute(network, asked, method) for network, asked in seeds)]
            pairs = [sanity.rank_similarity(a, b) for a, b in combinations(each, 2)]
            row["stability"] = np.mean(pairs, axis=0)
        if truth is not None:
            row["planted"] = sanity.planted_auc(found, truth)
            row["pointing"] = sanity.pointing_game(found, truth)
        rows[method.name] = row
        curves.append(curve.assign(method=method.name))
    return Ranking(
        _rank(rows, seconds, seed=seed),
        pd.concat(curves, ignore_index=True),
        values,
        question,
        methods,
    )


def ranking_options(options: Options) -> Options:
    """Return the options with the number of clips that methods are ranked on."""
    return options if options.num_clips is not None else replace(options, num_clips=_NUM_CLIPS)


class _Checks:
    """Deletion, insertion and faithfulness; what is equal for all methods is computed once."""

    def __init__(self, model: MSG3D, question: Question) -> None:
        self.model, self.question = model, question
        N, F, seed = len(question), len(question.features), question.seed
        self.hidden = fidelity.random_subsets(N, F, repeats=REPEATS, seed=seed)
        self.drops = fidelity.score_drops(model, question, self.hidden)
        random = fidelity.importance_orders(np.zeros((N, F)), seed=seed)["random"]
        self.random = fidelity.deletion_curve(model, question, random, points=POINTS)[1]

    def __call__(self, values: np.ndarray) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
        orders = fidelity.importance_orders(values, seed=self.question.seed)
        curves = {"random": self.random}
        for order in ("important first", "important last"):
            shares, curves[order] = fidelity.deletion_curve(
                self.model, self.question, orders[order], points=POINTS
            )
        table = fidelity.curve_table(shares, curves)
        area = fidelity.areas(table)
        deletion = area["deletion", "random"] - area["deletion", "important first"]
        insertion = area["insertion", "important first"] - area["insertion", "random"]
        checks = {
            "deletion": deletion.to_numpy(),
            "insertion": insertion.to_numpy(),
            "faithfulness": fidelity.faithfulness(values, self.hidden, self.drops),
        }
        return checks, table


def _rank(
    rows: Mapping[str, Mapping[str, np.ndarray]], seconds: Mapping[str, float], *, seed: int = 0
) -> pd.DataFrame:
    """The table of `rank_methods` from its checks by method, clip by clip."""
    means = {
        method: {check: sanity.known_mean(clips) for check, clips in row.items()}
        for method, row in rows.items()
    }
    table = pd.DataFrame.from_dict(means, orient="index").assign(seconds=pd.Series(seconds))
    methods = [method for method in rows if method not in _CONTROL_NAMES]
    ranked = table.loc[methods]
    # A check without a value for any method is left out.
    scores = {
        check: np.stack([rows[method][check] for method in methods])
        for check in HIGHER_IS_BETTER
        if check in ranked and ranked[check].notna().any()
    }
    ranks = [
        ranked[check].rank(ascending=not HIGHER_IS_BETTER[check], na_option="bottom")
        for check in scores
    ]
    # Without any check, the order stays as it was.
    mean = pd.concat(ranks, axis=1).mean(axis=1) if ranks else pd.Series(1.0, methods)
    table = table.assign(**{"mean rank": mean})
    if scores:
        table["first"] = pd.Series(_first_frequency(scores, seed=seed), methods)
    order = [*mean.sort_values(kind="stable").index, *_CONTROL_NAMES]
    return table.loc[order].rename_axis("method")


def _first_frequency(
    scores: Mapping[str, np.ndarray], *, resamples: int = 2000, seed: int = 0
) -> np.ndarray:
    """How often each method has the best mean rank over clips drawn with replacement.

    The same clips are drawn for all methods and checks. Methods that tie for the first place share
    it.

    Shapes:
        scores: check -> (methods, N), NaN where unknown -> (methods,), with a sum of 1.
    """
    clips = next(iter(scores.values())).shape[1]
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(clips, np.full(clips, 1 / clips), size=resamples)
    ranks = []
    for check, values in scores.items():
        known = np.isfinite(values)
        total, number = counts @ np.where(known, values, 0).T, counts @ known.T
        unknown = np.full(total.shape, np.nan)
        mean = np.divide(total, number, out=unknown, where=number > 0)
        # Unknown values rank last, as in the table.
        loss = np.where(np.isnan(mean), np.inf, -mean if HIGHER_IS_BETTER[check] else mean)
        ranks.append(rankdata(loss, axis=1))
    rank = np.mean(ranks, axis=0)
    first = rank == rank.min(axis=1, keepdims=True)
    return (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
