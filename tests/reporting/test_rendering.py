import io
from html.parser import HTMLParser

import pandas as pd
import pytest

from msg3d_lab.reporting.rendering import format_percent, render

TABLE = pd.DataFrame(
    {
        "data": ["a_b & c", "x|y <z>"],
        "measured": [91.234, float("nan")],
        "difference": [1.5, float("nan")],
        "seeds": [3, 0],
        "50 %": ["1 ± 2", "\\"],
    }
)
CELLS = [["a_b & c", "91.23", "+1.50", "3", "1 ± 2"], ["x|y <z>", "not run", "", "0", "\\"]]


def test_render_markdown():
    lines = render({"A title": TABLE}, format="md").splitlines()
    assert lines[:2] == ["### A title", ""]
    assert lines[2:4] == [
        "| data | measured | difference | seeds | 50 % |",
        "| --- | --- | --- | --- | --- |",
    ]
    assert lines[4] == "| a_b & c | 91.23 | +1.50 | 3 | 1 ± 2 |"
    assert lines[5] == "| x\\|y <z> | not run |  | 0 | \\\\ |"


def test_render_gives_published_numbers_no_more_digits_than_they_have():
    table = pd.DataFrame({"published": [92.3, 90.93, 83.0], "measured": [92.3, 90.93, 83.0]})
    lines = render({"t": table}).splitlines()[4:]
    assert lines == ["| 92.3 | 92.30 |", "| 90.93 | 90.93 |", "| 83.0 | 83.00 |"]


def test_render_makes_addresses_links():
    table = pd.DataFrame({"log": ["https://example.org/a_b|c"]})
    assert "| [link](https://example.org/a_b|c) |" not in render({"t": table})
    plain = pd.DataFrame({"log": ["https://example.org/a_b"]})
    assert "| [link](https://example.org/a_b) |" in render({"t": plain})
    assert '<a href="https://example.org/a_b"' in render({"t": plain}, format="html")


def test_render_csv_reads_back():
    back = pd.read_csv(io.StringIO(render({"t": TABLE}, format="csv")), dtype=str)
    assert back.fillna("").to_numpy().tolist() == CELLS
    with pytest.raises(ValueError, match="a CSV holds one table, found 2"):
        render({"a": TABLE, "b": TABLE}, format="csv")


def test_render_html_holds_every_cell_and_no_markup_of_the_data():
    class Cells(HTMLParser):
        found = []

        def handle_data(self, data):
            self.found.append(data.strip())

    parser = Cells()
    parser.feed(render({"<A> & title": TABLE}, format="html"))
    found = [text for text in parser.found if text]
    expected = ["<A> & title", *TABLE.columns, *(c for row in CELLS for c in row if c)]
    assert found == expected


def test_render_latex_escapes_what_means_something_there():
    text = render({"NTU60_XSub_2D": TABLE}, format="latex")
    assert r"\caption{NTU60\_XSub\_2D}" in text
    assert r"a\_b \& c & 91.23 & +1.50 & 3 & 1 $\pm$ 2 \\" in text
    assert r"50 \% \\" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


def test_render_shows_a_named_index_and_refuses_other_formats():
    table = pd.DataFrame({"x": [1]}, index=pd.Index(["row"], name="name"))
    assert "| name | x |" in render({"t": table})
    with pytest.raises(ValueError, match="unknown format 'docx'"):
        render({"t": table}, format="docx")


def test_format_percent_shows_the_decimals_there_are():
    assert [format_percent(x) for x in (85.0, 90.93, 92.3)] == ["85.0", "90.93", "92.3"]
