"""A tested run as one web page: results, learning curve, confusions, graph, example clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from msg3d_lab import graph, viz
from msg3d_lab.data.store import Store
from msg3d_lab.evaluation.metrics import confusion_counts, per_class
from msg3d_lab.evaluation.scores import Scores, read_run_scores
from msg3d_lab.files import write_aside
from msg3d_lab.reporting.measured import results_table
from msg3d_lab.reporting.page import render_report
from msg3d_lab.reporting.recorded import describe_devices
from msg3d_lab.training.matching.tested_store import MatchedStore, open_matching_store
from msg3d_lab.training.runs import Run

if TYPE_CHECKING:
    import pandas as pd


_NUM_CLIPS = 6
_HOPS = (0, 1, 2, 4, 8)  # the scales that are drawn


def write_report(
    run: Run,
    *,
    out: str | Path | None = None,
    store: Store | None = None,
    scores: Scores | None = None,
) -> Path:
    """Write a tested run's report as one HTML file; an existing one is replaced.

    Args:
        run: a tested run.
        out: the file. Default: `report.html` in the run's folder; of another store than the run's
            own, `report-STORE.html`.
        store: the tested data. Default: opened from where the run's were.
        scores: of that store. Default: the run's test scores.

    Raises:
        FileNotFoundError: the run has not been tested, or its data are gone.
        ValueError: the store does not fit the run, or the scores are of other samples.
    """
    scores = read_run_scores(run) if scores is None else scores
    tested = open_matching_store(run, store, split=run.recipe.data.test_split)
    store = tested.store
    if not set(scores.ids) <= set(store.ids):
        raise ValueError(
            f"the scores of {run.path} are of other samples than {store.path} has: test the run "
            "again, or name the store it was tested on"
        )
    table = results_table([run], scores=[scores])
    row, environment, recipe = table.iloc[0], run.environment, run.recipe
    skeleton = run.model().skeleton
    counts = confusion_counts(scores)
    classes = per_class(scores)
    confusion = viz.confusion_matrix(counts, labels=scores.label_names).figure
    plt.close(cast(Figure, confusion))  # for the page, not for a screen
    page = render_report(
        title=f"MS-G3D on {row['data']}",
        subtitle=_subtitle(run, row, len(scores.ids)),
        synthetic=store.synthetic,
        facts={
            "recipe": f"{recipe.name} ({recipe.hash}), seed {recipe.training.seed}",
            "data": f"{store.dataset}, {len(store)} clips, fingerprint {store.fingerprint}"
            + "".join(f". {note}" for note in tested.notes),
            "training split": recipe.data.train_split + _count_training(run, tested),
            "test split": f"{scores.facts['split']}, {len(scores.ids)} clips, chooses nothing",
            "network": f"MS-G3D, {environment['parameters']:,} parameters, "
            f"width {recipe.model.base_channels}, {skeleton.label}",
            "machine": f"{environment['processor']}, {environment['threads']} threads, "
            f"torch {environment['packages']['torch']}",
        },
        results=table.drop(columns="parameters").reset_index(drop=True),
        figures=[
            *([_learning_curve(run)] if run.is_trained_here else []),
            (
                "Confusion matrix of the test split. The hardest class is "
                f"{classes['recall'].idxmin()} (recall {100 * classes['recall'].min():.0f} %).",
                cast(Figure, confusion),
            ),
            (
                "Disentangled adjacency: joints at exactly k hops and the joint itself, the "
                "neighbourhoods MS-G3D aggregates, next to adjacency powers.",
                viz.disentangled_figure(skeleton, focus=_focus_joint(store)),
            ),
            (
                "The scales of the graph convolution: k-adjacencies after normalisation.",
                _scales_figure(run),
            ),
        ],
        players=[
            viz.player_html(clip, store.skeleton, title=title)
            for title, clip in _example_clips(scores, store)
        ],
        next_steps=_next_steps(run, store),
    )
    path = Path(out) if out is not None else run.path / f"report{tested.suffix}.html"
    with write_aside(path, overwrite=True) as aside:
        aside.write_text(page, encoding="utf-8")
    return path


def _count_training(run: Run, tested: MatchedStore) -> str:
    """How many training clips there are, where that is known."""
    count = tested.store.splits.get(run.recipe.data.train_split, 0)
    return f", {count} clips" if tested.is_own and count else ""


def _subtitle(run: Run, row: pd.Series, count: int) -> str:
    result = f"{row['top-1 %']:.1f} % of {count} test clips recognised"
    if run.is_trained_here:
        return f"{result} after {run.training_minutes:.1f} minutes of training."
    return f"{result} by {describe_devices(run.environment)}."


def _learning_curve(run: Run) -> tuple[str, Figure]:
    return _learning_caption(run), viz.training_figure(run.metrics)


def _learning_caption(run: Run) -> str:
    metrics, held_out = run.metrics, run.recipe.held_out
    part = "validation" if held_out == "val" else "test"
    last = metrics.dropna(subset=f"{held_out}_top1").iloc[-1:]
    texts = [
        f"After epoch {row['epoch']:.0f}, {100 * row['train_top1']:.1f} % of the training clips "
        f"and {100 * row[f'{held_out}_top1']:.1f} % of the {part} clips are recognised."
        for _, row in last.iterrows()
    ]
    if part == "test":
        texts.append("The test clips choose nothing.")
    return " ".join(["Learning curve.", *texts])


def _focus_joint(store: Store) -> int:
    """Return the joint whose neighbourhoods are drawn: the left wrist, else the last joint."""
    names = store.skeleton.joints
    return names.index("left wrist") if "left wrist" in names else len(names) - 1


def _scales_figure(run: Run) -> Figure:
    model = run.recipe.model
    scales = graph.scale_adjacencies(
        run.model().skeleton.adjacency,
        model.num_gcn_scales,
        aggregation=model.aggregation,
        normalization=model.normalization,
    )
    return viz.scales_figure({f"k = {k}": scales[k] for k in _HOPS if k < len(scales)})


def _example_clips(scores: Scores, store: Store) -> list[tuple[str, np.ndarray]]:
    """Return titles and keypoints of test clips: the most confident mistakes, then other classes.

    Up to a third are mistakes; the rest are confident successes, one per class.
    """
    wrong = ~scores.correct
    order = np.lexsort((-scores.values.max(axis=1), ~wrong))
    chosen = [i for i in order if wrong[i]][: _NUM_CLIPS // 3]
    seen = {int(scores.labels[i]) for i in chosen}
    for i in order:
        if len(chosen) < _NUM_CLIPS and not wrong[i] and int(scores.labels[i]) not in seen:
            seen.add(int(scores.labels[i]))
            chosen.append(i)
    index_of = {sample: i for i, sample in enumerate(store.ids)}
    examples = []
    for i in chosen:
        true, predicted = (scores.label_names[j] for j in (scores.labels[i], scores.predictions[i]))
        title = f"{true}: taken for {predicted}" if wrong[i] else f"{true}: recognised"
        examples.append((title, store.keypoints(index_of[scores.ids[i]])))
    return examples


def _next_steps(run: Run, store: Store) -> Sequence[str]:
    steps = [f"`msg3d_lab.open_run('{run.path}')` opens this run in a notebook."]
    if store.synthetic:
        steps += [
            "`make lab` opens the notebooks, `00_start_here` first.",
            "Real data without a form: NW-UCLA. `msg3d-lab data import all_sqe.zip --dataset "
            "nw-ucla`, then `msg3d-lab train nw-ucla-joint-compact`.",
            "NTU RGB+D 60 and 120: see the page on data in the guide.",
        ]
    return steps
