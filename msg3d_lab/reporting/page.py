"""Render a report as one self-contained HTML document."""

from __future__ import annotations

import base64
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from msg3d_lab.viz.html import template
from msg3d_lab.viz.style import png


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Args:
        heading: above it.
        texts: paragraphs.
        tables: (caption, table); a named index is the first column; a column's name sorts.
        figures: (caption, figure).
        html: what comes last, as it is.
    """

    heading: str
    texts: Sequence[str] = ()
    tables: Sequence[tuple[str, pd.DataFrame]] = ()
    figures: Sequence[tuple[str, Figure]] = ()
    html: str = ""


@dataclass(frozen=True)
class Curves:
    """Curves over epochs, whose values are read by pointing.

    Args:
        title: above them.
        unit: of the values, behind each.
        epochs: the epochs.
        series: by name a value per epoch, None where there is none; four at most.
    """

    title: str
    unit: str
    epochs: Sequence[float]
    series: Mapping[str, Sequence[float | None]]


def render_report(
    *,
    title: str,
    subtitle: str,
    synthetic: bool,
    facts: Mapping[str, str],
    results: pd.DataFrame,
    figures: Sequence[tuple[str, Figure]] = (),
    players: Sequence[str] = (),
    curves: Sequence[Curves] = (),
    curves_text: str = "",
    sections: Sequence[Section] = (),
    recipe: str = "",
    next_steps: Sequence[str] = (),
) -> str:
    """Return a report as one HTML document that loads nothing from elsewhere.

    Args:
        title: the heading.
        subtitle: the result in one sentence.
        synthetic: whether the data are generated; the page then says so at the top.
        facts: recipe, data, device, seed, ...
        results: the table of results; a named index is its first column.
        figures: (caption, figure); the caption is also the text for screen readers.
        players: HTML of `viz.player_html`.
        curves: learning curves.
        curves_text: what they say, in a sentence.
        sections: further parts, after the curves.
        recipe: the whole recipe, as text.
        next_steps: sentences; `backticks` mark commands.
    """
    return template("msg3d_lab.reporting", "report.html").render(
        title=title,
        subtitle=subtitle,
        synthetic=synthetic,
        facts=facts,
        recipe=recipe,
        results=_table("Accuracy on the test split", results, sortable=False),
        curves=[{"title": one.title, "record": _curve_record(one)} for one in curves],
        curves_text=curves_text,
        sections=[
            {
                "heading": part.heading,
                "texts": [_code(text) for text in part.texts],
                "tables": [_table(caption, table) for caption, table in part.tables],
                "figures": [_picture(caption, figure) for caption, figure in part.figures],
                "html": Markup(part.html),
            }
            for part in sections
        ],
        figures=[_picture(caption, figure) for caption, figure in figures],
        players=[Markup(player) for player in players],
        next_steps=[_code(step) for step in next_steps],
    )


def _table(caption: str, table: pd.DataFrame, *, sortable: bool = True) -> dict[str, Any]:
    rows = table if table.index.name is None else table.reset_index()
    return {
        "caption": caption,
        "sortable": sortable,
        "columns": [str(column) for column in rows.columns],
        "rows": [
            [_cell(value) for value in row] for row in rows.itertuples(index=False, name=None)
        ],
    }


def _picture(caption: str, figure: Figure) -> dict[str, Any]:
    width, height = figure.get_size_inches()
    data = base64.b64encode(png(figure)).decode()
    return {"caption": caption, "data": data, "wide": width > 1.5 * height}


def _curve_record(curves: Curves) -> Markup:
    series = [{"name": name, "values": list(values)} for name, values in curves.series.items()]
    return htmlsafe_json_dumps({**asdict(curves), "series": series})


def _cell(value: Any) -> tuple[str, bool]:
    """Return a table cell's text, and whether it is a number."""
    if value is None or value is pd.NaT or (isinstance(value, float) and value != value):
        return "\N{EN DASH}", True
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return f"{value:,}".replace(",", "\N{NO-BREAK SPACE}"), True
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        number = float(value)
        return f"{number:.4g}" if abs(number) < 1 else f"{number:.2f}", True
    return str(value), False


def _code(text: str) -> Markup:
    """Escape a sentence and turn its `backticks` into code."""
    parts = [escape(part) for part in text.split("`")]
    pieces = (Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))
    return Markup("").join(pieces)
