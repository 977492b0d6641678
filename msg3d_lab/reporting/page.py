"""Render a report as one self-contained HTML document."""

from __future__ import annotations

import base64
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from msg3d_lab.viz.html import template
from msg3d_lab.viz.style import png


def render_report(
    *,
    title: str,
    subtitle: str,
    synthetic: bool,
    facts: Mapping[str, str],
    results: pd.DataFrame,
    figures: Sequence[tuple[str, Figure]] = (),
    players: Sequence[str] = (),
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
        next_steps: sentences; `backticks` mark commands.
    """
    rows = results if results.index.name is None else results.reset_index()
    pictures = []
    for caption, figure in figures:
        width, height = figure.get_size_inches()
        data = base64.b64encode(png(figure)).decode()
        pictures.append({"caption": caption, "data": data, "wide": width > 1.5 * height})
    return template("msg3d_lab.reporting", "report.html").render(
        title=title,
        subtitle=subtitle,
        synthetic=synthetic,
        facts=facts,
        columns=[str(column) for column in rows.columns],
        rows=[[_cell(value) for value in row] for row in rows.itertuples(index=False, name=None)],
        figures=pictures,
        players=[Markup(player) for player in players],
        next_steps=[_code(step) for step in next_steps],
    )


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
