"""A tested run as one web page: results, curves, calibration, classes, mistakes, comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from msg3d_lab import explain, graph, viz
from msg3d_lab.data.store import Store
from msg3d_lab.evaluation.copies import describe_copies
from msg3d_lab.evaluation.metrics import calibration_error, per_class, reliability
from msg3d_lab.evaluation.scores import Scores, read_run_scores
from msg3d_lab.evaluation.statistics import accuracy_interval
from msg3d_lab.explain import patterns
from msg3d_lab.files import write_text
from msg3d_lab.reporting.comparison import compare_section, learning_curves
from msg3d_lab.reporting.measured import find_runs, results_table
from msg3d_lab.reporting.page import Section, render_report
from msg3d_lab.reporting.recorded import describe_devices
from msg3d_lab.training.matching.tested_store import MatchedStore, open_matching_store
from msg3d_lab.training.runs import Run
from msg3d_lab.viz.style import closed_figure

_NUM_CLIPS = 6
_PACKED = 24  # mistakes whose clips are in the page
_EXPLAINED = 24  # clips in the mean importance
_HOPS = (0, 1, 2, 4, 8)  # the scales that are drawn


def write_report(
    run: Run,
    *,
    out: str | Path | None = None,
    store: Store | None = None,
    scores: Scores | None = None,
    against: Run | None = None,
) -> Path:
    """Write a tested run's report as one HTML file; an existing one is replaced.

    Args:
        run: a tested run.
        out: the file. Default: `report.html` in the run's folder; of another store than the run's
            own, `report-STORE.html`; with a second run, `report-against-OTHER.html`.
        store: the tested data. Default: opened from where the run's were.
        scores: of that store. Default: the run's test scores on it.
        against: a second tested run of the same samples, to compare with.

    Raises:
        FileNotFoundError: a run has not been tested, or its data are gone.
        ValueError: the store does not fit the run, or scores are of other samples.
    """
    tested = open_matching_store(run, store, split=run.recipe.data.test_split)
    store = tested.store
    scores = read_run_scores(run, suffix=tested.suffix) if scores is None else scores
    if not set(scores.ids) <= set(store.ids):
        raise ValueError(
            f"the scores of {run.path} are of other samples than {store.path} has: test the run "
            "again, or name the store it was tested on"
        )
    table = results_table([run], scores=[scores])
    row, environment, recipe = table.iloc[0], run.environment, run.recipe
    skeleton = run.model().skeleton
    other = None
    if against is not None:
        there = against.environment["data"].get("fingerprint") == store.fingerprint
        other = against, read_run_scores(against, suffix="" if there else tested.suffix)
    copies = describe_copies(scores, tested, trained=recipe.data.train_split)
    page = render_report(
        title=f"MS-G3D on {row['data']}",
        subtitle=_subtitle(run, row, scores),
        synthetic=store.synthetic,
        facts={
            "recipe": f"{recipe.name} ({recipe.hash}), seed {recipe.training.seed}",
            "seeds": _seeds(run) if tested.is_own else str(recipe.training.seed),
            "started": str(environment.get("started") or "not recorded"),
            "commit of the library": str(environment.get("commit") or "not recorded"),
            "data": f"{store.dataset}, {len(store)} clips, fingerprint {store.fingerprint}"
            + "".join(f". {note}" for note in tested.notes),
            "training split": recipe.data.train_split + _count_training(run, tested),
            "test split": f"{scores.facts['split']}, {len(scores.ids)} clips, chooses nothing"
            + (f". {copies}" if copies else ""),
            "network": f"MS-G3D, {environment['parameters']:,} parameters, "
            f"width {recipe.model.base_channels}, {skeleton.label}",
            "machine": f"{environment['processor']}, {environment['threads']} threads, "
            f"torch {environment['packages']['torch']}",
        },
        recipe=(run.path / "recipe.yaml").read_text(encoding="utf-8"),
        results=_results(table, scores),
        curves=learning_curves([run, *([against] if against else [])]),
        curves_text=_learning_caption(run) if run.is_trained_here else "",
        sections=[
            *([compare_section(run, scores, *other)] if other is not None else []),
            _mistakes(run, store, scores),
            _classes(scores),
            _calibration(scores),
            _importance(run, store),
        ],
        figures=[
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
    suffix = tested.suffix + (f"-against-{against.path.name}" if against else "")
    path = Path(out) if out is not None else run.path / f"report{suffix}.html"
    write_text(path, page)
    return path


def _count_training(run: Run, tested: MatchedStore) -> str:
    """How many training clips there are, where that is known."""
    count = tested.store.splits.get(run.recipe.data.train_split, 0)
    return f", {count} clips" if tested.is_own and count else ""


def _subtitle(run: Run, row: pd.Series, scores: Scores) -> str:
    low, high = _percent(scores.correct)
    result = (
        f"{row['top-1 %']:.1f} % of {len(scores.ids)} test clips recognised "
        f"(95 % interval over clips {low:.1f} to {high:.1f} %)"
    )
    if run.is_trained_here:
        return f"{result} after {run.training_minutes:.1f} minutes of training."
    return f"{result} by {describe_devices(run.environment)}."


def _results(table: pd.DataFrame, scores: Scores) -> pd.DataFrame:
    """The row of results, with the interval of top-1 and the calibration error."""
    row = table.drop(columns="parameters").reset_index(drop=True)
    low, high = _percent(scores.correct)
    row.insert(list(row.columns).index("top-1 %") + 1, "95 % interval", f"{low:.2f} to {high:.2f}")
    row["calibration error %"] = round(100 * calibration_error(scores), 2)
    return row


def _seeds(run: Run) -> str:
    """The seeds of this recipe that were tested in folders beside this one, and their top-1."""
    found = []
    for other in find_runs(run.path.parent):
        if other.recipe.hash == run.recipe.hash:
            top1 = 100 * read_run_scores(other).correct.mean()
            this = " (this run)" if other.path.resolve() == run.path.resolve() else ""
            found.append((other.recipe.training.seed, f"{top1:.2f} %{this}"))
    texts = [f"seed {seed}: {text}" for seed, text in sorted(found)]
    if len(texts) < 2:
        return f"{run.recipe.training.seed}; no other seed of this recipe beside this run"
    return "; ".join(texts)


def _classes(scores: Scores) -> Section:
    table = per_class(scores)
    shown = pd.DataFrame(
        {
            "clips": table["samples"],
            "recall %": (100 * table["recall"]).round(1),
            "95 % interval": [
                "" if correct.size == 0 else "{:.0f} to {:.0f}".format(*_percent(correct))
                for correct in (scores.correct[scores.labels == i] for i in range(len(table)))
            ],
            "precision %": (100 * table["precision"]).round(1),
            "F1 %": (100 * table["f1"]).round(1),
            "taken for": table["taken_for"],
            "times": table["times"],
        }
    )
    return Section(
        heading="Classes",
        tables=[("Each class; a click on a column's name sorts", shown.sort_values("recall %"))],
    )


def _percent(correct: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of an accuracy, in percent."""
    low, high = accuracy_interval(correct)
    return 100 * low, 100 * high


def _calibration(scores: Scores) -> Section:
    error = 100 * calibration_error(scores)
    figure = closed_figure(viz.reliability_diagram(reliability(scores)))
    caption = (
        f"Accuracy against confidence; the calibration error is {error:.1f} %. Above the diagonal "
        "the network is right more often than it says, below it less often."
    )
    return Section(heading="Calibration", figures=[(caption, figure)])


def _mistakes(run: Run, store: Store, scores: Scores) -> Section:
    from msg3d_lab.widgets.errors import ErrorBrowser

    browser = ErrorBrowser(scores, store, network_of=run, packed=_PACKED)
    text = (
        f"{int((~scores.correct).sum())} of {len(scores.ids)} clips are mistaken. Choose a cell or "
        "a confusion: a mistake plays beside a clear case of its class. Joints are coloured by "
        "their importance (gradient x input) for the predicted class. The clips of "
        f"{len(browser.data['packed'])} mistakes are in this page."
    )
    return Section(heading="Mistakes", texts=[text], html=browser.html())


def _importance(run: Run, store: Store) -> Section:
    options = explain.Options(num_clips=_EXPLAINED, by="joint")
    split = run.recipe.data.test_split
    indices = explain.choose_clips(store, split, num_clips=options.num_clips)
    clips, network = explain.load_clips(run, indices, data=store), run.model()
    method = explain.GradientInput()
    question = clips.question(explain.predict_classes(network, clips.x), options)
    share = patterns.shares(explain.attribute(network, question, method)).mean(axis=0)
    figure = closed_figure(viz.importance_body(share, store.skeleton))
    most = [store.skeleton.joints[v] for v in np.argsort(-np.abs(share))[:3]]
    caption = (
        f"Mean share of each joint in the logit of the predicted class over {len(indices)} test "
        f"clips, by {method.name.replace('_', ' ')} against the mean pose. The largest: "
        f"{', '.join(most)}. Other methods may say otherwise: `msg3d-lab importance`."
    )
    return Section(heading="Importance", figures=[(caption.replace("`", ""), figure)])


def _learning_caption(run: Run) -> str:
    metrics, held_out = run.metrics, run.recipe.held_out
    part = "validation" if held_out == "val" else "test"
    text = "Learning curve."
    for row in metrics.dropna(subset=f"{held_out}_top1")[-1:].to_dict("records"):  # one, or none
        text += (
            f" After epoch {row['epoch']:.0f}, {100 * row['train_top1']:.1f} % of the training "
            f"clips and {100 * row[f'{held_out}_top1']:.1f} % of the {part} clips are recognised."
        )
    return text + " The test clips choose nothing." * (part == "test")


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
