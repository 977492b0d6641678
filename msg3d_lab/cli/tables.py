"""`msg3d-lab fuse` and `results`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

if TYPE_CHECKING:
    import pandas as pd

    from msg3d_lab.evaluation import Scores


RUNS, RECORDED = Path("runs"), Path("data/results.csv")


def fuse(
    scores: Positional[tuple[Path, ...]],
    weights: str | None = None,
    on: Literal["softmax", "logits"] = "softmax",
    store: Path | None = None,
    split: str | None = None,
    order: str | None = None,
    labels: str | None = None,
    names: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Fuse the scores of several runs by sample id: accuracies, the gain, its interval and p-value.

    Args:
        scores: run folders, score files (.parquet) or score files of other code (.pkl, .npy).
        weights: one per part, such as 2,2,1,1, or "streams" for pyskl's weights by stream.
            Default: equal.
        on: what is averaged: softmax scores, as in pyskl, or logits, as the author does.
        store: the store of the samples, for pickles of other code.
        split: their split, likewise.
        order: the order of scores by position, see `msg3d-lab scores`.
        labels: instead of a store, a file of true classes, see `msg3d-lab scores`.
        names: how names in score files of other code become sample ids, likewise.
        out: a file for the fused scores (.parquet).
        overwrite: replace an existing file.
    """
    from msg3d_lab import evaluation

    if out is not None and out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists already: choose another file, or say --overwrite")
    parts = [
        _read(path, store=store, split=split, order=order, labels=labels, names=names)
        for path in scores
    ]
    numbers = evaluation.stream_weights(parts) if weights == "streams" else _parse_weights(weights)
    fused = evaluation.fuse(parts, weights=numbers, on=on)
    table = evaluation.fusion_table(parts, fused, names=[str(path) for path in scores])
    best = max(parts, key=lambda part: float(part.correct.mean()))
    gain = evaluation.gain(fused, best)
    data = " ".join(filter(None, (fused.dataset, fused.facts.get("split"))))
    print(
        f"{data}: {fused.facts['stream']}, fused on {on}; low and high bound 95 % intervals over "
        f"samples\n\n{table.to_string()}\n\n"
        f"Gain over the best single one: {100 * gain.difference:+.2f} points "
        f"[{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]; {gain.only_a} samples right only "
        f"when fused, {gain.only_b} only alone: p = {gain.p_value:.2g} (exact McNemar test)"
    )
    if out is not None:
        evaluation.write_scores(fused, out, overwrite=overwrite)
        print(f"Scores: {out}")


def results(
    runs: Path = RUNS,
    recorded: Path = RECORDED,
    published: Path | None = None,
    table: Literal["all", "project", "streams", "overview"] = "all",
    format: Literal["md", "latex", "csv", "html"] = "md",
    out: Path | None = None,
    metafile: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Build the tables of results from run folders and recorded results, beside published numbers.

    Args:
        runs: the folder that is searched for tested runs (not for those of ablations).
        recorded: the table of recorded results, see `msg3d-lab record`; runs kept beside it, in
            runs/, count as well.
        published: another table of published numbers than that of the library.
        table: "project" (mmaction2's MS-G3D project), "overview" (streams and fusions as columns),
            "streams" (the same, a row each, with sd, seeds and difference), or all of them.
        format: Markdown, LaTeX, CSV (one table) or HTML.
        out: the file. Default: the tables are printed.
        metafile: also write a model-index file (metafile.yml) of the runs found.
        overwrite: replace existing files.
    """
    from msg3d_lab import reporting
    from msg3d_lab.files import write_text

    if runs != RUNS and not runs.is_dir():
        raise FileNotFoundError(f"no folder {runs}: name the one that holds your runs")
    if recorded != RECORDED and not recorded.is_file():
        raise FileNotFoundError(f"no table of recorded results at {recorded}")
    if format == "csv" and table == "all":
        raise ValueError("a CSV holds one table: choose it with --table")
    for path in (out, metafile):
        if path is not None and path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists already: choose another, or say --overwrite")
    tested = reporting.find_runs(runs, recorded.with_name("runs"))
    found = [run for run in tested if run.path.is_relative_to(runs)]
    if not found and not recorded.is_file():
        sys.stderr.write(
            f"Nothing is measured here: no tested runs below {runs.resolve()}, and no table "
            f"{recorded}; name yours with --runs and --recorded\n"
        )
    if metafile is not None and not found:
        raise ValueError(f"no tested runs below {runs}, so there is nothing for {metafile}")
    known = reporting.measured_results(tested, recorded=recorded if recorded.is_file() else None)
    theirs = reporting.read_published(published)
    streams = reporting.streams_table(theirs, known)
    tables: dict[str, pd.DataFrame] = {}
    if table in ("all", "project"):
        tables |= reporting.project_tables(theirs, known)
    if table == "project" and format == "csv":
        import pandas as pd

        tables = {"": pd.concat([t.assign(table=title) for title, t in tables.items()])}
    if table in ("all", "overview"):
        tables["Streams and fusions, top-1 %"] = reporting.streams_overview(streams)
    if table in ("all", "streams"):
        tables["Published and measured, top-1 %"] = streams
    text = reporting.render(tables, format=format)
    if out is None:
        print(text)
    else:
        write_text(out, text, overwrite=overwrite)
        print(
            f"{out}: {len(found)} tested runs, {len(known)} results with fusions and recorded ones"
        )
    if metafile is not None:
        print(f"Model index: {reporting.write_metafile(found, metafile, overwrite=overwrite)}")


def _read(
    path: Path,
    *,
    store: Path | None,
    split: str | None,
    order: str | None,
    labels: str | None,
    names: str | None,
) -> Scores:
    """Read the scores of a run folder, a score file, or a score pickle of other code."""
    from msg3d_lab import evaluation
    from msg3d_lab.data import open_store
    from msg3d_lab.training import open_run

    if path.is_dir():
        return evaluation.read_run_scores(open_run(path))
    if path.suffix == ".parquet":
        return evaluation.read_scores(path)
    opened = open_store(store) if store is not None else None
    found = evaluation.read_external_scores(
        path, store=opened, split=split, order=order, labels=labels, names=names
    )
    for note in found.facts["notes"]:
        print(f"Note: {path}: {note}")
    return found


def _parse_weights(text: str | None) -> Sequence[float] | None:
    if text is None:
        return None
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f'expected weights like 2,2,1,1 or "streams", found {text!r}') from None
