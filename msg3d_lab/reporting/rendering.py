"""Tables as text: Markdown, LaTeX, CSV, HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from msg3d_lab.reporting.tables import percent

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Format", "render"]

Format = Literal["md", "latex", "csv", "html"]
# What a source gave with one decimal is not shown with two.
_AS_PUBLISHED = {"published", "top1 acc"}
# LaTeX's fonts and its default encoding have these under other names.
_LATEX = {"±": r"$\pm$"}


def render(tables: Mapping[str, pd.DataFrame], *, format: Format = "md") -> str:
    """Return tables with their titles as text.

    What is not a number is left empty, but for the column `measured`, where it reads "not run".

    Args:
        tables: by title.
        format: "md", "latex" (needs booktabs), "csv" (one table; its title is left out) or "html"
            (a piece of a page).

    Raises:
        ValueError: an unknown format; several tables for CSV.
    """
    texts = {title: _as_text(table) for title, table in tables.items()}
    if format == "md":
        return "\n".join(f"### {title}\n\n{_markdown(text)}" for title, text in texts.items())
    if format == "html":
        parts = [f"<h3>{_escaped(title)}</h3>\n{_html(text)}" for title, text in texts.items()]
        return "\n".join(parts)
    if format == "latex":
        return "\n".join(_latex(title, text) for title, text in texts.items())
    if format != "csv":
        raise ValueError(f"unknown format {format!r}: expected md, latex, csv or html")
    if len(tables) != 1:
        raise ValueError(f"a CSV holds one table, found {len(tables)}: choose one of them")
    return next(iter(texts.values())).to_csv(index=False, lineterminator="\n")


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Every cell as it is shown, the index as the first column if it has a name."""
    import pandas as pd

    table = table.reset_index() if table.index.name else table
    columns = {name: [_cell(value, str(name)) for value in table[name]] for name in table}
    return pd.DataFrame(columns, dtype=str)


def _cell(value: object, column: str) -> str:
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return "not run" if column == "measured" else ""
    if column in _AS_PUBLISHED:
        return percent(value)
    return f"{value:+.2f}" if column == "difference" else f"{value:.2f}"


def _markdown(text: pd.DataFrame) -> str:
    rows = [list(text.columns), ["---"] * len(text.columns), *text.to_numpy().tolist()]
    cells = [[_markdown_cell(str(c)) for c in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _markdown_cell(text: str) -> str:
    if text.startswith("https://"):
        return f"[link]({text.replace('|', '%7C')})"
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _html(text: pd.DataFrame) -> str:
    return text.to_html(index=False, border=0, na_rep="", render_links=True) + "\n"


def _escaped(text: str) -> str:
    from html import escape

    return escape(text, quote=False)


def _latex(title: str, text: pd.DataFrame) -> str:
    caption = re.sub(r"([_%&#$])", r"\\\1", title)  # pandas escapes cells and names only
    table = text.to_latex(escape=True, index=False, caption=caption, position="tbp")
    for character, command in _LATEX.items():
        table = table.replace(character, command)
    return table
