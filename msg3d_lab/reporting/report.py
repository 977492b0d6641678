"""A run's results: as a table, as a row worth keeping, as one web page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from msg3d_lab import graph, viz
from msg3d_lab.data.store import Store
from msg3d_lab.evaluation import (
    Scores,
    accuracies,
    accuracy_interval,
    confusion_counts,
    read_scores,
)
from msg3d_lab.evaluation.metrics import calibration_error
from msg3d_lab.files import write_aside
from msg3d_lab.reporting.measured import devices_of
from msg3d_lab.reporting.page import render_report
from msg3d_lab.training.runs import Run
from msg3d_lab.training.setup import open_store_of

__all__ = ["record_result", "results_table", "write_report"]


def results_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return a row per tested run: what it was, and its accuracies in percent.

    Raises:
        FileNotFoundError: a run has not been tested.
    """
    rows = []
    for run in runs:
        scores = _scores_of(run)
        found = accuracies(scores)
        environment = run.environment
        rows.append(
            {
                "run": run.path.name,
                "data": _data_name(scores),
                "split": scores.facts["split"],
                "stream": scores.facts["stream"],
                "clips": scores.facts["num_clips"],
                "samples": len(scores.ids),
                "top-1 %": round(100 * found["top1"], 2),
                "top-5 %": round(100 * found["top5"], 2) if "top5" in found else np.nan,
                "mean class %": round(100 * found["mean_class"], 2),
                "parameters": environment["parameters"],
                "training min": round(environment["seconds"] / 60, 1),
            }
        )
    return pd.DataFrame(rows).set_index("run")


def record_result(run: Run, path: str | Path) -> pd.DataFrame:
    """Append a tested run to the table of results worth keeping; return the whole table.

    A table of an earlier version gets the columns it lacks, empty for its rows, which stay as they
    are. What follows from several rows (mean and sd over seeds, fusions) is never recorded but
    derived: see `evaluation.measured` and `evaluation.tables`.

    Args:
        run: a tested run.
        path: a CSV such as `data/results.csv`; made if it is not there.

    Raises:
        FileNotFoundError: the run has not been tested.
        ValueError: this very result is in the table already.
    """
    scores, environment, recipe = _scores_of(run), run.environment, run.recipe
    low, high = accuracy_interval(scores.correct)
    shares = {k: round(100 * v, 2) for k, v in accuracies(scores).items()}
    row = {
        "dataset": scores.facts["dataset"],
        "synthetic": scores.facts["synthetic"],
        "split": scores.facts["split"],
        "streams": scores.facts["stream"],
        "top1_percent": shares["top1"],
        "top5_percent": shares.get("top5", ""),
        "mean_class_percent": shares["mean_class"],
        "test_clips": scores.facts["num_clips"],
        "samples": len(scores.ids),
        "recipe": recipe.name,
        "recipe_hash": recipe.hash,
        "seed": recipe.training.seed,
        "edge_set": run.model().skeleton.label,
        "normalization": recipe.model.normalization,
        "parameters": environment["parameters"],
        "device": devices_of(environment),
        "training_minutes": round(environment["seconds"] / 60, 1),
        "data_fingerprint": scores.facts["data_fingerprint"],
        "commit": environment["commit"] or "unknown",
        "date": environment["started"][:10],
        "average": scores.kind,
        "top1_low_percent": round(100 * low, 2),
        "top1_high_percent": round(100 * high, 2),
        "calibration_error_percent": round(100 * calibration_error(scores), 2),
        "precision": environment["precision"],
    }
    path = Path(path)
    table = pd.DataFrame([row])
    if path.exists():
        # As text: hashes of digits alone are no numbers, and rows stay as they were written.
        before = pd.read_csv(path, dtype=str, keep_default_na=False)
        same = ["recipe_hash", "seed", "commit", "data_fingerprint", "split", "test_clips"]
        known = before[same].eq([str(row[name]) for name in same]).all(axis=1).to_numpy()
        if "average" in before:  # earlier versions knew softmax only
            average = before["average"].replace("", "softmax").to_numpy()
        else:
            average = np.full(len(before), "softmax")
        known = known & (average == row["average"])
        if known.any():
            raise ValueError(f"{path} has this result already, in row {known.argmax() + 1}")
        table = pd.concat([before, table.astype(str)], ignore_index=True)
    with write_aside(path, overwrite=True) as aside:
        table.to_csv(aside, index=False)
    return table


def _scores_of(run: Run) -> Scores:
    if not run.scores_path.is_file():
        raise FileNotFoundError(f"{run.path} has no test scores: run `msg3d-lab test {run.path}`")
    return read_scores(run.scores_path)


def write_report(run: Run, *, out: str | Path | None = None, store: Store | None = None) -> Path:
    """Write `report.html` for a tested run: results, learning curve, confusion, graph, clips.

    Args:
        run: a tested run.
        out: the file; `report.html` in the run's folder if left out. Written over.
        store: the run's data; opened from where it was if left out.

    Raises:
        FileNotFoundError: the run has not been tested, or its data are gone.
    """
    store = store or open_store_of(run.recipe, run.environment["data"]["path"])
    table = results_table([run])
    scores = read_scores(run.scores_path)
    counts = confusion_counts(scores)
    row, environment, recipe = table.iloc[0], run.environment, run.recipe
    missed = viz.class_table(counts, labels=scores.label_names)
    facts = {
        "recipe": f"{recipe.name} ({recipe.hash}), seed {recipe.training.seed}",
        "data": f"{store.dataset}, {len(store)} clips, fingerprint {store.fingerprint}",
        "training split": f"{recipe.data.train_split}, "
        f"{store.splits[recipe.data.train_split]} clips",
        "test split": f"{scores.facts['split']}, {len(scores.ids)} clips, never used for a choice",
        "network": f"MS-G3D, {environment['parameters']:,} parameters, "
        f"width {recipe.model.base_channels}, {run.model().skeleton.label}",
        "machine": f"{environment['processor']}, {environment['threads']} threads, "
        f"torch {environment['packages']['torch']}",
    }
    title = f"MS-G3D on {row['data']}"
    subtitle = (
        f"{row['top-1 %']:.1f} % of {len(scores.ids)} test clips recognised after "
        f"{row['training min']:.1f} minutes of training."
    )
    page = render_report(
        title=title,
        subtitle=subtitle,
        synthetic=store.synthetic,
        facts=facts,
        results=table.drop(columns="parameters").reset_index(drop=True),
        figures=[
            (_learning_caption(run), viz.training_figure(run.metrics)),
            (
                "Confusion matrix of the test split. The hardest class is "
                f"{missed['recall'].idxmin()} ({100 * missed['recall'].min():.0f} % found).",
                _confusion_figure(scores, counts),
            ),
            (
                "Disentangled adjacency: joints at exactly k hops and the joint itself, the "
                "neighbourhoods MS-G3D aggregates, next to what adjacency powers give.",
                viz.disentangled_figure(run.model().skeleton, focus=_focus(store)),
            ),
            (
                "The scales of the graph convolution, k-adjacencies after normalisation.",
                _scales_figure(run, hops=(0, 1, 2, 4, 8)),
            ),
        ],
        players=[
            viz.player_html(clip, store.skeleton, title=name)
            for name, clip in _examples(scores, store, count=6)
        ],
        next_steps=_next_steps(run, store),
    )
    path = Path(out) if out is not None else run.path / "report.html"
    with write_aside(path, overwrite=True) as aside:
        aside.write_text(page, encoding="utf-8")
    return path


def _next_steps(run: Run, store: Store) -> list[str]:
    steps = [f"`msg3d_lab.training.open_run('{run.path}')` opens this run in a notebook."]
    if store.synthetic:
        steps += [
            "`make lab` opens the notebooks, `00_start_here` first.",
            "Real data without a form: NW-UCLA. `msg3d-lab data import all_sqe.zip --dataset "
            "nw-ucla`, then `msg3d-lab train nw-ucla-joint-compact`.",
            "NTU RGB+D 60 and 120: see Data sets in README.md.",
        ]
    return steps


def _data_name(scores: Scores) -> str:
    """The data set's name; made-up data are called synthetic even if their name does not say so."""
    name = str(scores.facts["dataset"])
    made_up = scores.facts["synthetic"] and "synthetic" not in name
    return f"{name} (synthetic)" if made_up else name


def _learning_caption(run: Run) -> str:
    last = run.metrics.iloc[-1]
    return (
        f"Learning curve. After the last epoch {100 * last['train_top1']:.1f} % of the training "
        f"clips and {100 * last['val_top1']:.1f} % of the test clips are recognised; test clips "
        "are watched only."
    )


def _focus(store: Store) -> int:
    """The joint the figures look from: a wrist if the layout has one, else its last joint."""
    names = store.skeleton.joints
    return names.index("left wrist") if "left wrist" in names else len(names) - 1


def _confusion_figure(scores: Scores, counts: np.ndarray) -> Figure:
    ax = viz.confusion_matrix(counts, labels=scores.label_names)
    plt.close(cast(Figure, ax.figure))  # it goes into the page, not onto a screen
    return cast(Figure, ax.figure)


def _scales_figure(run: Run, *, hops: Sequence[int]) -> Figure:
    model = run.recipe.model
    scales = graph.scale_adjacencies(
        run.model().skeleton.adjacency,
        model.num_gcn_scales,
        aggregation=model.aggregation,
        normalization=model.normalization,
    )
    return viz.scales_figure({f"k = {k}": scales[k] for k in hops if k < len(scales)})


def _examples(scores: Scores, store: Store, *, count: int) -> list[tuple[str, np.ndarray]]:
    """Test clips of different classes with what the network said; its surest mistakes first."""
    where = {sample: i for i, sample in enumerate(store.ids)}
    wrong = scores.predictions != scores.labels
    order = np.lexsort((-scores.values.max(axis=1), ~wrong))
    mistakes = [i for i in order if wrong[i]][: count // 3]
    seen = {int(scores.labels[i]) for i in mistakes}
    chosen = list(mistakes)
    for i in (i for i in order if not wrong[i]):
        if len(chosen) == count:
            break
        if int(scores.labels[i]) not in seen:
            seen.add(int(scores.labels[i]))
            chosen.append(i)
    examples = []
    for i in chosen:
        true, said = (scores.label_names[j] for j in (scores.labels[i], scores.predictions[i]))
        verdict = f"{true}: recognised" if true == said else f"{true}: taken for {said}"
        examples.append((verdict, store.keypoints(where[scores.ids[i]])))
    return examples
