"""Tables of results: published and measured side by side, "not run" where nothing was run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msg3d_lab.reporting.measured import FUSIONS, spread
from msg3d_lab.training import recipes

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "data_label",
    "percent",
    "project_tables",
    "read_published",
    "streams_overview",
    "streams_table",
]

NOT_RUN = "not run"
_STREAMS = ("joint", "bone", "joint_motion", "bone_motion", *FUSIONS)
_STREAM_NAMES = dict(
    zip(
        _STREAMS,
        ("joint", "bone", "joint motion", "bone motion", "two-stream", "four-stream"),
        strict=True,
    )
)
_NAMES = {"ntu60": "NTU60", "ntu120": "NTU120", "nw-ucla": "NW-UCLA", "kinetics400": "Kinetics400"}
_SPLITS = {"xsub": "X-Sub", "xview": "X-View", "xset": "X-Set", "kinetics": ""}
_COLUMNS = (
    "model",
    "source",
    "dataset",
    "split",
    "input",
    "streams",
    "top1_percent",
    "top5_percent",
    "recipe",
    "edge_set",
    "test_clips",
    "devices",
    "checkpoint",
    "log",
    "reference",
    "note",
)
# The seed system's own table: https://github.com/open-mmlab/mmaction2/tree/main/projects/msg3d
_PROJECT_SOURCE = "mmaction2 projects/msg3d README"
_PROJECT_SECTIONS = (("ntu60", "xsub", "2D (HRNet, coco17)"), ("ntu60", "xsub", "3D (ntu25)"))


def read_published(path: str | Path) -> pd.DataFrame:
    """Read the published accuracies. What could not be verified is blank.

    Args:
        path: `data/published.csv`.

    Returns:
        Text but for top1_percent and top5_percent (percent; nan where blank).

    Raises:
        FileNotFoundError: no such file.
        ValueError: other columns than expected; a top-1 that is none.
    """
    import pandas as pd

    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no table of published numbers at {path}: it is in the checkout's data folder"
        )
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(table.columns) != _COLUMNS:
        raise ValueError(
            f"{path}: expected the columns {', '.join(_COLUMNS)}, found {', '.join(table.columns)}"
        )
    for name in ("top1_percent", "top5_percent"):
        table[name] = pd.to_numeric(table[name].replace("", None))
    wrong = table.index[~table["top1_percent"].between(0, 100)]
    if len(wrong):
        raise ValueError(f"{path}, row {wrong[0] + 1}: expected a top-1 from 0 to 100 percent")
    return table


def data_label(dataset: str, split: str, input_: str, *, synthetic: bool = False) -> str:
    """Return what a result is of, such as "NTU60 X-Sub 3D"; made-up data are called synthetic.

    Example:
        >>> data_label("ntu60", "xsub", "2D (HRNet, coco17)")
        'NTU60 X-Sub 2D'
    """
    words = [_NAMES.get(dataset, dataset), _SPLITS.get(split, split), input_.partition(" ")[0]]
    if synthetic and "synthetic" not in dataset:
        words.append("(synthetic)")
    return " ".join(word for word in words if word)


def streams_table(published: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Return published and measured top-1 of MS-G3D by data, stream and fusion, in percent.

    A published number is met by the recipe that its row names, unchanged; where it names none, by
    any on that data and stream. What has been measured beyond has rows of its own.

    Args:
        published: see `read_published`.
        results: see `measured`.

    Returns:
        Columns data, streams, source, published, published clips, recipe, measured (mean over
        seeds), sd, seeds, clips, difference (measured minus published). Nothing measured is nan.
    """
    import pandas as pd

    groups = list(_groups(results))
    rows, met = [], set()
    for row in _records(published[published["model"] == "MS-G3D"]):
        found = [i for i, group in enumerate(groups) if _meets(group, row)]
        met.update(found)
        rows += [_line(row, groups[i]) for i in found] or [_line(row, None)]
    rows += [_line(None, group) for i, group in enumerate(groups) if i not in met]
    order = {label: i for i, label in enumerate(dict.fromkeys(row["data"] for row in rows))}
    rows.sort(key=lambda row: (order[row["data"]], _stream_place(row["streams"])))
    for row in rows:
        row["streams"] = _STREAM_NAMES.get(row["streams"], row["streams"])
    return pd.DataFrame(rows)


def streams_overview(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table in the field's shape: a row per data set and source, a column per stream.

    Args:
        table: see `streams_table`.

    Returns:
        Text: top-1 in percent; measured ones with sd and number of seeds, or "not run".
    """
    import pandas as pd

    columns = list(_STREAM_NAMES.values())
    rows = []
    for data, of_data in groupby(_records(table), key=lambda row: row["data"]):
        lines = list(of_data)
        for source in dict.fromkeys(line["source"] for line in lines if line["source"]):
            cells = {
                line["streams"]: percent(line["published"])
                for line in lines
                if line["source"] == source
            }
            rows.append({"data": data, "source": source} | {c: cells.get(c, "") for c in columns})
        ran = [line for line in lines if line["seeds"]]
        for family in dict.fromkeys(_family_name(line) for line in ran) or [""]:
            own = [line for line in ran if _family_name(line) == family]
            cells = {line["streams"]: _measured_text(line) for line in own}
            name = f"measured here, {family}" if family else "measured here"
            rows.append(
                {"data": data, "source": name} | {c: cells.get(c, NOT_RUN) for c in columns}
            )
    return pd.DataFrame(rows, columns=["data", "source", *columns])


def project_tables(published: pd.DataFrame, results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables of mmaction2's MS-G3D project, by title, with what was measured here.

    NTU60_XSub_2D and NTU60_XSub_3D are always there, others where something has been measured.

    Args:
        published: see `read_published`.
        results: see `measured`; fusions are not part of this table.
    """
    import pandas as pd

    single = [row for row in _records(results) if row["streams"] not in FUSIONS]
    keys = list(_PROJECT_SECTIONS)
    keys += [key for row in single if (key := _section(row)) not in keys]
    tables = {}
    for key in dict.fromkeys(keys):
        theirs = _records(published[published["source"] == _PROJECT_SOURCE])
        rows = [_project_line_published(row) for row in theirs if _section(row) == key]
        ours = [_project_line_measured(row) for row in single if _section(row) == key]
        if not ours:
            ours = [
                line | {"top1 acc": NOT_RUN, "devices": "", "checkpoint": "", "log": ""}
                for line in [dict(row, source="measured here") for row in rows]
            ]
        made_up = any(row["synthetic"] for row in single if _section(row) == key)
        tables[_title(key, synthetic=made_up)] = pd.DataFrame(rows + ours)
    return tables


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _groups(results: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Results of one recipe, tested alike, over its seeds."""
    keys = ["dataset", "synthetic", "split", "input", "streams", "recipe", "recipe_hash", "clips"]
    for _, rows in results.groupby([*keys, "average"], sort=False):
        first = _records(rows)[0]
        tops = rows["top1"].tolist()
        yield first | {"top1": sum(tops) / len(tops), "sd": spread(tops), "seeds": len(tops)}


def _meets(group: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether a result was measured the way a published number was."""
    same = all(group[key] == row[key] for key in ("dataset", "split", "input", "streams"))
    if not same or group["synthetic"]:
        return False
    return not row["recipe"] or (group["recipe"] == row["recipe"] and group["of_library"])


def _line(row: dict[str, Any] | None, group: dict[str, Any] | None) -> dict[str, Any]:
    nan = float("nan")
    what = row or group or {}
    published = row["top1_percent"] if row else nan
    recipe = _short(group["recipe"] if group else row["recipe"] if row else "")
    if group and not group["of_library"]:
        recipe += f" (changed: {group['recipe_hash']})"
    return {
        "data": data_label(
            what["dataset"],
            what["split"],
            what["input"],
            synthetic=bool(group and group["synthetic"]),
        ),
        "streams": what["streams"],
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


def percent(value: float) -> str:
    """A percentage with one decimal, or with two if it has them."""
    return f"{value:.1f}" if round(value, 1) == round(value, 2) else f"{value:.2f}"


def _measured_text(line: dict[str, Any]) -> str:
    if line["seeds"] == 1:
        return f"{line['measured']:.2f} (1 seed)"
    return f"{line['measured']:.2f} ± {line['sd']:.2f} ({line['seeds']} seeds)"


def _short(recipe: str) -> str:
    """The recipes of a fusion as one name, such as "ntu60-xsub-3d-*"; others as they are."""
    return _any_stream(recipe.partition("+")[0]) if "+" in recipe else recipe


def _any_stream(recipe: str) -> str:
    return re.sub(r"(?<=-)(joint|bone)(-motion)?(?=-|$)", "*", recipe, count=1)


def _family_name(line: dict[str, Any]) -> str:
    """A recipe's name without its stream, which the column says, and with the test's clips."""
    name, _, changed = line["recipe"].partition(" (changed")
    return f"{_any_stream(name)}{' changed' if changed else ''}, {_counted(line['clips'])}"


def _clips(row: dict[str, Any]) -> str:
    """How many clips of a sample are averaged, and of them the logits if it is these."""
    averaged = " (logits)" if row["average"] == "logits" and row["clips"] > 1 else ""
    return f"{row['clips']}{averaged}"


def _counted(clips: str) -> str:
    number, _, averaged = clips.partition(" ")
    return f"{number} clip{'s' if number != '1' else ''} {averaged}".rstrip()


def _stream_place(streams: str) -> int:
    return _STREAMS.index(streams) if streams in _STREAMS else len(_STREAMS)


def _section(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["dataset"], row["split"], row["input"]


def _title(key: tuple[str, str, str], *, synthetic: bool) -> str:
    return data_label(*key, synthetic=synthetic).replace("X-", "X").replace(" ", "_")


def _project_line(
    *,
    sampling: str,
    stream: str,
    clips: str,
    recipe: str,
    top1: float | str,
    source: str,
    **links: str,
) -> dict[str, Any]:
    return {
        "frame sampling": sampling,
        "modality": _STREAM_NAMES.get(stream, stream),
        "devices": links["devices"],
        "backbone": "MSG3D",
        "top1 acc": top1,
        "testing protocol": _counted(clips),
        "recipe": recipe,
        "checkpoint": links["checkpoint"],
        "log": links["log"],
        "source": source,
    }


def _project_line_published(row: dict[str, Any]) -> dict[str, Any]:
    data = recipes.get(row["recipe"]).data
    return _project_line(
        sampling=f"{data.sampling} {data.clip_len}",
        stream=row["streams"],
        clips=row["test_clips"],
        recipe=row["recipe"],
        top1=row["top1_percent"],
        source=row["source"],
        **{name: row[name] for name in ("devices", "checkpoint", "log")},
    )


def _project_line_measured(row: dict[str, Any]) -> dict[str, Any]:
    changed = "" if row["of_library"] else f" (changed: {row['recipe_hash']})"
    return _project_line(
        sampling=row["sampling"],
        stream=row["streams"],
        clips=_clips(row),
        recipe=row["recipe"] + changed,
        top1=round(row["top1"], 2),
        source=f"measured here, seed {row['seed']}",
        **{name: row[name] for name in ("devices", "checkpoint", "log")},
    )
