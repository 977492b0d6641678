"""What a report says of two runs: curves over each other, settings, accuracy, classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from msg3d_lab import viz
from msg3d_lab.evaluation.metrics import class_delta
from msg3d_lab.evaluation.scores import Scores, align
from msg3d_lab.evaluation.statistics import compare
from msg3d_lab.reporting.page import Curves, Section
from msg3d_lab.training.recipes import differing_settings
from msg3d_lab.training.runs import Run
from msg3d_lab.viz.style import closed_figure

_TITLES = {
    "top1": ("Accuracy", " %", 100.0),
    "loss": ("Loss", "", 1.0),
    "lr": ("Learning rate", "", 1.0),
}


def learning_curves(runs: Sequence[Run]) -> list[Curves]:
    """Return the curves of accuracy, loss and learning rate of one run, or of two over each other.

    Args:
        runs: those that were made of a checkpoint have no curves.
    """
    trained = [run for run in runs if run.is_trained_here]
    if not trained:
        return []
    tables = {_name(run, runs): run.metrics.set_index("epoch") for run in trained}
    epochs = sorted({float(epoch) for table in tables.values() for epoch in table.index})
    found = []
    for ending, (title, unit, factor) in _TITLES.items():
        series = {}
        for name, table in tables.items():
            for column in table.columns:
                if column == ending or column.endswith(f"_{ending}"):
                    values = factor * table[column].reindex(epochs)
                    part = column.removesuffix(ending).rstrip("_")
                    label = " ".join(word for word in (name, part) if word) or title.lower()
                    series[label] = [None if np.isnan(v) else float(f"{v:.6g}") for v in values]
        if series:
            found.append(Curves(title, unit, epochs, series))
    return found


def compare_section(run: Run, scores: Scores, other: Run, other_scores: Scores) -> Section:
    """Return the part of a report that compares a run with another one.

    Args:
        run: the run of the report.
        scores: its scores.
        other: the run that it is compared with.
        other_scores: its scores.

    Raises:
        ValueError: the scores are not of the same samples, see `align`.
    """
    first, second = align([scores, other_scores])
    found = compare(first.correct, second.correct)
    names = [_name(each, [run, other]) for each in (run, other)]
    surely = (
        "The interval does not contain 0."
        if found.low > 0 or found.high < 0
        else "The interval contains 0: these clips do not tell the two apart."
    )
    text = (
        f"{names[0]} recognises {100 * found.a:.2f} %, {names[1]} {100 * found.b:.2f} % of the "
        f"same {len(first.ids)} clips: a difference of {100 * found.difference:+.2f} percentage "
        f"points, 95 % interval over clips {100 * found.low:+.2f} to {100 * found.high:+.2f}. "
        f"Clips that only {names[0]} recognises: {found.only_a}, only {names[1]}: {found.only_b}; "
        f"exact McNemar test p = {found.p_value:.2g}. {surely} It is about these two networks; "
        "other seeds may differ by as much."
    )
    differing = differing_settings(run.recipe, other.recipe)
    rows = [(name, str(mine), str(its)) for name, mine, its in differing]
    settings = pd.DataFrame(rows, columns=["setting", *names]).set_index("setting")
    figure = closed_figure(viz.class_differences(class_delta(first, second)))
    caption = (
        f"Difference in recall per class, {names[0]} (a) minus {names[1]} (b), with 95 % "
        "intervals; a star marks p below 0.05 after correction for the number of classes."
    )
    tables = [("Settings that differ", settings)] if len(settings) else []
    texts = [text, *([] if tables else ["The two recipes are equal."])]
    return Section(f"Against {names[1]}", texts, tables, [(caption, figure)])


def _name(run: Run, runs: Sequence[Run]) -> str:
    """The folder's name, with its parent's where two are called alike; "" for a single run."""
    if len(runs) < 2:
        return ""
    same = [other for other in runs if other.path.name == run.path.name]
    return run.path.name if len(same) == 1 else f"{run.path.parent.name}/{run.path.name}"
