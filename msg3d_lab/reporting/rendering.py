"""Tables as text: Markdown, LaTeX, CSV, HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd


Format = Literal["md", "latex", "csv", "html"]
NOT_RUN = "not run"
# Columns with published numbers, which may have one decimal only.
_PUBLISHED = {"published", "top1 acc"}
# Characters that LaTeX's default fonts lack.
_LATEX = {"±": r"$\pm$"}


def render(tables: Mapping[str, pd.DataFrame], *, format: Format = "md") -> str:
    """Return tables with their titles as text.

    A nan is shown as an empty cell; in the column `measured` as "not run".

    Args:
        tables: by title.
        format: "md", "latex" (needs booktabs), "csv" (one table, without its title) or "html" (a
            part of a page).

    Raises:
        ValueError: an unknown format; several tables for CSV.
    """
    texts = {title: _as_text(table) for title, table in tables.items()}
    if format == "md":
        return "\n".join(f"### {title}\n\n{_markdown(text)}" for title, text in texts.items())
    if format == "html":
        return "\n".join(
            f"<h3>{escape(title, quote=False)}</h3>\n"
            + text.to_html(index=False, border=0, na_rep="", render_links=True)
            + "\n"
            for title, text in texts.items()
        )
    if format == "latex":
        return "\n".join(_latex(title, text) for title, text in texts.items())
    if format != "csv":
        raise ValueError(f"unknown format {format!r}: expected md, latex, csv or html")
    if len(tables) != 1:
        raise ValueError(f"a CSV holds one table, found {len(tables)}: choose one of them")
    return next(iter(texts.values())).to_csv(index=False, lineterminator="\n")


def format_percent(value: float) -> str:
    """Return a percentage with one decimal, or with two if it has them."""
    return f"{value:.1f}" if round(value, 1) == round(value, 2) else f"{value:.2f}"


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return every cell as text, a named index as the first column."""
    import pandas as pd

    table = table.reset_index() if table.index.name else table
    columns = {name: [_cell(value, str(name)) for value in table[name]] for name in table}
    return pd.DataFrame(columns, dtype=str)


def _cell(value: object, column: str) -> str:
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return NOT_RUN if column == "measured" else ""
    if column in _PUBLISHED:
        return format_percent(value)
    return f"{value:+.2f}" if column == "difference" else f"{value:.2f}"


def _markdown(text: pd.DataFrame) -> str:
    rows = [list(text.columns), ["---"] * len(text.columns), *text.to_numpy().tolist()]
    cells = [[_markdown_cell(str(c)) for c in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _markdown_cell(text: str) -> str:
    if text.startswith("https://"):
        return f"[link]({text.replace('|', '%7C')})"
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _latex(title: str, text: pd.DataFrame) -> str:
    caption = re.sub(r"([_%&#$])", r"\\\1", title)  # pandas escapes the cells only
    table = text.to_latex(escape=True, index=False, caption=caption, position="tbp")
    for character, command in _LATEX.items():
        table = table.replace(character, command)
    return table
