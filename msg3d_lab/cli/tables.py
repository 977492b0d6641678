"""The shell's commands that put results together: fusion, tables of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

if TYPE_CHECKING:
    import pandas as pd

    from msg3d_lab.evaluation import Scores

__all__ = ["TABLE_COMMANDS"]

RESULTS, PUBLISHED = Path("data/results.csv"), Path("data/published.csv")


def fuse(
    scores: Positional[tuple[Path, ...]],
    weights: str | None = None,
    on: Literal["softmax", "logits"] = "softmax",
    store: Path | None = None,
    split: str | None = None,
    order: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Fuse the scores of several runs by sample id: accuracies, the gain and how sure it is.

    Args:
        scores: run folders, score files of ours (.parquet) or pickles of the field's code.
        weights: one per part, such as 2,2,1,1, or "streams" for pyskl's weights by stream; equal if
            left out.
        on: what is averaged: softmax scores, as in pyskl, or logits, as the author does.
        store: the store of the samples, for pickles of the field's code.
        split: the split they are of, likewise.
        order: which order scores by position are in, see `msg3d-lab scores`.
        out: a file for the fused scores (.parquet).
        overwrite: replace an existing file.
    """
    from msg3d_lab.evaluation import write_scores
    from msg3d_lab.evaluation.fusion import fuse as run_fuse
    from msg3d_lab.evaluation.fusion import fusion_table, gain, stream_weights

    if out is not None and out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists already: choose another file, or say --overwrite")
    parts = [_scores_of(path, store=store, split=split, order=order) for path in scores]
    numbers = stream_weights(parts) if weights == "streams" else _numbers(weights)
    fused = run_fuse(parts, weights=numbers, on=on)
    table = fusion_table(parts, fused, names=[str(path) for path in scores], weights=numbers)
    best = max(parts, key=lambda part: float(part.correct.mean()))
    found = gain(fused, best)
    print(f"{_what(fused)}, fused on {on}; low and high bound 95 % intervals over samples\n")
    print(table.to_string())
    print(
        f"\nGain over the best single one: {100 * found.difference:+.2f} points "
        f"[{100 * found.low:+.2f}, {100 * found.high:+.2f}]; {found.only_fused} samples right only "
        f"when fused, {found.only_single} only alone: p = {found.p_value:.2g} (exact McNemar test)"
    )
    if out is not None:
        write_scores(fused, out, overwrite=overwrite)
        print(f"Scores: {out}")


def results(
    runs: Path = Path("runs"),
    recorded: Path = RESULTS,
    published: Path = PUBLISHED,
    table: Literal["all", "project", "streams", "overview"] = "all",
    format: Literal["md", "latex", "csv", "html"] = "md",
    out: Path | None = None,
    metafile: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Rebuild the tables of results from run folders and kept results, beside published numbers.

    Args:
        runs: the folder that is searched for tested runs (not for those of ablations).
        recorded: the table of kept results, see `msg3d-lab record`.
        published: the table of published numbers.
        table: "project" (mmaction2's MS-G3D project), "overview" (streams and fusions as columns),
            "streams" (the same, a row each, with sd, seeds and difference), or all of them.
        format: Markdown, LaTeX, CSV (one table) or HTML.
        out: the file; printed if left out.
        metafile: write a model-index file (metafile.yml) for the runs found, too.
        overwrite: replace existing files.
    """
    from msg3d_lab.files import write_aside
    from msg3d_lab.reporting.measured import find_runs, measured
    from msg3d_lab.reporting.model_index import write_metafile
    from msg3d_lab.reporting.rendering import render
    from msg3d_lab.reporting.tables import (
        project_tables,
        read_published,
        streams_overview,
        streams_table,
    )

    if runs != Path("runs") and not runs.is_dir():
        raise FileNotFoundError(f"no folder {runs}: name the one that holds your runs")
    if recorded != RESULTS and not recorded.is_file():
        raise FileNotFoundError(f"no table of kept results at {recorded}")
    if format == "csv" and table == "all":
        raise ValueError("a CSV holds one table: choose it with --table")
    for path in (out, metafile):
        if path is not None and path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists already: choose another, or say --overwrite")
    found = find_runs(runs)
    if metafile is not None and not found:
        raise ValueError(f"no tested runs below {runs}, so there is nothing for {metafile}")
    known = measured(found, recorded=recorded if recorded.is_file() else None)
    theirs = read_published(published)
    streams = streams_table(theirs, known)
    tables = dict(project_tables(theirs, known)) if table in ("all", "project") else {}
    if table == "project" and format == "csv":
        tables = {"": _stacked(tables)}
    if table in ("all", "overview"):
        tables["Streams and fusions, top-1 %"] = streams_overview(streams)
    if table in ("all", "streams"):
        tables["Published and measured, top-1 %"] = streams
    text = render(tables, format=format)
    if out is None:
        print(text)
    else:
        with write_aside(out, overwrite=overwrite) as aside:
            aside.write_text(text, encoding="utf-8")
        print(f"{out}: {len(found)} tested runs, {len(known)} results with fusions and kept ones")
    if metafile is not None:
        print(f"Model index: {write_metafile(found, metafile, overwrite=overwrite)}")


def _scores_of(path: Path, *, store: Path | None, split: str | None, order: str | None) -> Scores:
    """Scores of a run folder, of a file of ours, or of the field's code."""
    from msg3d_lab.data import open_store
    from msg3d_lab.evaluation import read_scores
    from msg3d_lab.training import open_run

    if path.is_dir():
        run = open_run(path)
        if not run.scores_path.is_file():
            raise FileNotFoundError(f"{path} has no test scores: run `msg3d-lab test {path}`")
        return read_scores(run.scores_path)
    if path.suffix == ".parquet" or not path.exists():
        return read_scores(path)
    from msg3d_lab.evaluation import read_external_scores

    opened = open_store(store) if store is not None else None
    return read_external_scores(path, store=opened, split=split, order=order)


def _numbers(text: str | None) -> Sequence[float] | None:
    if text is None:
        return None
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f'expected weights like 2,2,1,1 or "streams", found {text!r}') from None


def _what(scores: Scores) -> str:
    name = str(scores.facts.get("dataset", "data set unknown"))
    if scores.facts.get("synthetic") and "synthetic" not in name:
        name += " (synthetic)"
    return f"{name} {scores.facts.get('split', '')}".rstrip() + f": {scores.facts['stream']}"


def _stacked(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The project's tables as one, each row with its title."""
    import pandas as pd

    return pd.concat([table.assign(table=title) for title, table in tables.items()])


TABLE_COMMANDS: dict[str, Callable[..., None]] = {"fuse": fuse, "results": results}
