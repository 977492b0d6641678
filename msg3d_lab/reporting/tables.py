"""Tables of results: published and measured side by side, "not run" where nothing was run."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

from msg3d_lab.evaluation.statistics import accuracy_interval
from msg3d_lab.reporting.names import FUSIONS, STREAM_NAMES, data_name
from msg3d_lab.reporting.rendering import NOT_RUN, format_percent
from msg3d_lab.training import recipes

if TYPE_CHECKING:
    import pandas as pd


# The tables of https://github.com/open-mmlab/mmaction2/tree/main/projects/msg3d
_PROJECT_SOURCE = "mmaction2 projects/msg3d README"
_PROJECT_SECTIONS = (("ntu60", "xsub", "2D (HRNet, coco17)"), ("ntu60", "xsub", "3D (ntu25)"))


def streams_table(published: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Return published and measured top-1 of MS-G3D by data, stream and fusion, in percent.

    A measured result stands beside a published one of the same data and streams if it has the
    recipe that the published row names, unchanged (if it names none: any recipe). Other measured
    results have rows of their own.

    Args:
        published: see `read_published`.
        results: see `measured_results`.

    Returns:
        Columns data, streams, source, published, published clips, recipe, measured (mean over
        seeds), sd, seeds, clips, difference (measured minus published); nan where not measured.
    """
    import pandas as pd

    rows = [_streams_row(row, group) for row, group in _pairs(published, results)]
    return pd.DataFrame(_sorted_rows(rows))


def accuracy_table(published: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Return top-1 of every seed by data, stream and fusion, with intervals, in percent.

    Published and measured results meet as in `streams_table`.

    Args:
        published: see `read_published`.
        results: see `measured_results`.

    Returns:
        Columns data, streams, recipe, a column per seed, measured (mean over the seeds), sd, low
        and high (95 %), interval (what it is over), best epoch, published, difference (measured
        minus published), source; nan where not measured. With several seeds the interval is
        Student's, over seeds: where the mean of many trainings lies, for these test clips. With one
        seed it is Wilson's, over test clips: what this network would reach on other clips. "best
        epoch" is the mean of what choosing the epoch by the test split would have given, for
        comparison with results that were chosen so.
    """
    import pandas as pd

    pairs = _pairs(published, results)
    seeds = sorted({seed for _, group in pairs if group for seed in group["by_seed"]})
    rows = []
    for row, group in pairs:
        line = _streams_row(row, group)
        by_seed = group["by_seed"] if group else {}
        columns = {f"seed {seed}": by_seed.get(seed, float("nan")) for seed in seeds}
        low, high, over = _interval(list(by_seed.values()), group["samples"] if group else 0)
        rows.append(
            {name: line[name] for name in ("data", "streams", "recipe")}
            | columns
            | {"measured": line["measured"], "sd": line["sd"]}
            | {"low": low, "high": high, "interval": over}
            | {"best epoch": group["best_epoch"] if group else float("nan")}
            | {name: line[name] for name in ("published", "difference", "source")}
        )
    return pd.DataFrame(_sorted_rows(rows))


def streams_overview(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table in the field's shape: a row per data set and source, a column per stream.

    Args:
        table: see `streams_table`.

    Returns:
        Text: top-1 in percent; measured ones with sd and number of seeds, or "not run".
    """
    import pandas as pd

    columns = list(STREAM_NAMES.values())
    rows = []
    for data, group in groupby(_records(table), key=lambda row: row["data"]):
        lines = list(group)
        for source in dict.fromkeys(line["source"] for line in lines if line["source"]):
            cells = {
                line["streams"]: format_percent(line["published"])
                for line in lines
                if line["source"] == source
            }
            rows.append({"data": data, "source": source} | {c: cells.get(c, "") for c in columns})
        ran = [line for line in lines if line["seeds"]]
        for name in dict.fromkeys(_recipe_label(line) for line in ran) or [""]:
            cells = {
                line["streams"]: _measured_text(line) for line in ran if _recipe_label(line) == name
            }
            source = f"measured here, {name}" if name else "measured here"
            rows.append(
                {"data": data, "source": source} | {c: cells.get(c, NOT_RUN) for c in columns}
            )
    return pd.DataFrame(rows, columns=["data", "source", *columns])


def project_tables(published: pd.DataFrame, results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables of mmaction2's MS-G3D project, by title, with the measured results.

    NTU60_XSub_2D and NTU60_XSub_3D always exist, others where something has been measured.

    Args:
        published: see `read_published`.
        results: see `measured_results`; fusions are not part of these tables.
    """
    import pandas as pd

    theirs = _records(published[published["source"] == _PROJECT_SOURCE])
    ours = [row for row in _records(results) if row["streams"] not in FUSIONS]
    tables = {}
    for section in dict.fromkeys([*_PROJECT_SECTIONS, *map(_section, ours)]):
        rows = [_published_project_row(row) for row in theirs if _section(row) == section]
        found = [row for row in ours if _section(row) == section]
        if found:
            rows += map(_measured_project_row, found)
        else:
            blank = {"top1 acc": NOT_RUN, "devices": "", "checkpoint": "", "log": ""}
            rows += [row | blank | {"source": "measured here"} for row in rows]
        title = data_name(*section, synthetic=any(row["synthetic"] for row in found))
        tables[title.replace("X-", "X").replace(" ", "_")] = pd.DataFrame(rows)
    return tables


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _pairs(
    published: pd.DataFrame, results: pd.DataFrame
) -> list[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """Return published rows and measured groups side by side; None where one has no other."""
    groups = _group_seeds(results)
    pairs: list[tuple[dict[str, Any] | None, dict[str, Any] | None]] = []
    matched = set()
    for row in _records(published[published["model"] == "MS-G3D"]):
        matching = [i for i, group in enumerate(groups) if _matches(group, row)]
        matched.update(matching)
        pairs += [(row, groups[i]) for i in matching] or [(row, None)]
    return [*pairs, *((None, group) for i, group in enumerate(groups) if i not in matched)]


def _sorted_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort by data and stream, and name the streams."""
    data_order = {name: i for i, name in enumerate(dict.fromkeys(row["data"] for row in rows))}
    stream_order = {streams: i for i, streams in enumerate(STREAM_NAMES)}
    rows = sorted(
        rows, key=lambda row: (data_order[row["data"]], stream_order.get(row["streams"], 99))
    )
    return [row | {"streams": STREAM_NAMES.get(row["streams"], row["streams"])} for row in rows]


def _interval(top1: list[float], samples: int) -> tuple[float, float, str]:
    """Return the 95 % interval of an accuracy in percent, and what it is over."""
    import numpy as np
    from scipy.stats import t

    if not top1:
        return float("nan"), float("nan"), ""
    if len(top1) == 1:
        correct = np.arange(samples) < round(top1[0] * samples / 100)
        low, high = accuracy_interval(correct)
        return 100 * low, 100 * high, "test clips"
    mean, error = np.mean(top1), np.std(top1, ddof=1) / np.sqrt(len(top1))
    half = error * t.ppf(0.975, len(top1) - 1)
    return max(0.0, mean - half), min(100.0, mean + half), "seeds"


def _group_seeds(results: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a record per recipe and way of testing, with mean and sd over its seeds."""
    keys = ["dataset", "synthetic", "split", "input", "streams", "recipe", "recipe_hash", "clips"]
    keys += ["origin", "fingerprint"]
    return [
        _records(rows)[0]
        | {"top1": rows["top1"].mean(), "sd": rows["top1"].std(ddof=1), "seeds": len(rows)}
        | {
            "by_seed": dict(zip(rows["seed"], rows["top1"], strict=True)),
            "best_epoch": rows["best_epoch"].mean(),
        }
        for _, rows in results.groupby([*keys, "average"], sort=False)
    ]


def _matches(group: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether a result was measured the way a published number was."""
    same = all(group[key] == row[key] for key in ("dataset", "split", "input", "streams"))
    if not same or group["synthetic"]:
        return False
    return not row["recipe"] or (group["recipe"] == row["recipe"] and group["of_library"])


def _streams_row(row: dict[str, Any] | None, group: dict[str, Any] | None) -> dict[str, Any]:
    """Return a row of `streams_table` from a published row, a measured group, or both."""
    nan = float("nan")
    either = row or group or {}
    published = row["top1_percent"] if row else nan
    recipe = group["recipe"] if group else either["recipe"]
    if "+" in recipe:  # a fusion: its recipes as one name, such as "ntu60-xsub-3d-*"
        recipe = _without_stream(recipe.partition("+")[0])
    if group and not group["of_library"]:
        recipe += f" (changed: {group['recipe_hash']})"
    return {
        "data": data_name(
            either["dataset"],
            either["split"],
            either["input"],
            synthetic=bool(group and group["synthetic"]),
        ),
        "streams": either["streams"],
        "source": row["source"] if row else "",
        "published": published,
        "published clips": row["test_clips"] if row else "",
        "recipe": recipe,
        "measured": group["top1"] if group else nan,
        "sd": group["sd"] if group else nan,
        "seeds": group["seeds"] if group else 0,
        "clips": _clips(group) if group else "",
        "difference": group["top1"] - published if group else nan,
    }


def _measured_text(line: dict[str, Any]) -> str:
    if line["seeds"] == 1:
        return f"{line['measured']:.2f} (1 seed)"
    return f"{line['measured']:.2f} ± {line['sd']:.2f} ({line['seeds']} seeds)"


def _without_stream(recipe: str) -> str:
    return re.sub(r"(?<=-)(joint|bone)(-motion)?(?=-|$)", "*", recipe, count=1)


def _recipe_label(line: dict[str, Any]) -> str:
    """Return a recipe's name without its stream, which is the column, and the test's clips."""
    name, _, changed = line["recipe"].partition(" (changed")
    return f"{_without_stream(name)}{' changed' if changed else ''}, {_with_unit(line['clips'])}"


def _clips(row: dict[str, Any]) -> str:
    """Return the clips per sample, with "(logits)" if the logits of several are averaged."""
    averaged = " (logits)" if row["average"] == "logits" and row["clips"] > 1 else ""
    return f"{row['clips']}{averaged}"


def _with_unit(clips: str) -> str:
    number, _, averaged = clips.partition(" ")
    return f"{number} clip{'s' if number != '1' else ''} {averaged}".rstrip()


def _section(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["dataset"], row["split"], row["input"]


def _published_project_row(row: dict[str, Any]) -> dict[str, Any]:
    data = recipes.get(row["recipe"]).data
    sampling = f"{data.sampling} {data.clip_len}"
    own = {"sampling": sampling, "top1": row["top1_percent"], "clips": row["test_clips"]}
    return _project_row(row | own)


def _measured_project_row(row: dict[str, Any]) -> dict[str, Any]:
    changed = "" if row["of_library"] else f" (changed: {row['recipe_hash']})"
    own = {"top1": round(row["top1"], 2), "clips": _clips(row), "recipe": row["recipe"] + changed}
    return _project_row(row | own | {"source": f"measured here, seed {row['seed']}"})


def _project_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "frame sampling": row["sampling"],
        "modality": STREAM_NAMES.get(row["streams"], row["streams"]),
        "devices": row["devices"],
        "backbone": "MSG3D",
        "top1 acc": row["top1"],
        "testing protocol": _with_unit(row["clips"]),
        "recipe": row["recipe"],
        "checkpoint": row["checkpoint"],
        "log": row["log"],
        "source": row["source"],
    }
