import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from msg3d_lab import skeletons, viz
from msg3d_lab.reporting.page import render_report

VOID = {"meta", "link", "img", "input", "br"}


class Tags(HTMLParser):
    """Open and close tags in order; text that is shown."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


@pytest.fixture
def make_page():
    body = skeletons.get("ntu25")
    clips = np.random.default_rng(0).normal(size=(2, 12, 25, 3)).astype(np.float32)

    def make(**changes):
        parts = {
            "title": "MS-G3D <demo>",
            "subtitle": "It works",
            "synthetic": True,
            "facts": {"seed": "1", "recipe": "a & b"},
            "results": pd.DataFrame(
                {"top-1": [91.234, np.nan], "clips": [1200, 3]}, pd.Index(["a", "b"], name="run")
            ),
            "figures": [("A caption", viz.disentangled_figure(body, focus=6))],
            "players": [viz.player_html(clips[:p], body, title="walk") for p in (1, 2)],
            "next_steps": ["Run `make lab <now>`."],
        }
        return render_report(**(parts | changes))

    return make


def parse(page):
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    return " ".join(" ".join(tags.text).split())


def test_render_report_is_well_formed_and_says_everything(make_page):
    page = make_page()
    text = parse(page)
    for said in (
        "MS-G3D <demo>",
        "It works",
        "a & b",
        "91.23",
        "1 200",
        "A caption",
    ):
        assert said in text
    assert "<code>make lab &lt;now&gt;</code>" in page
    assert page.count("data:image/png;base64,") == 3
    assert page.count('class="msg3d-player"') == 2


def test_render_report_says_synthetic_only_where_it_is(make_page):
    assert "Synthetic data" in parse(make_page())
    assert "ynthetic" not in parse(make_page(synthetic=False))


def test_render_report_fetches_nothing(make_page):
    page = make_page()
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"', page)
    assert "default-src 'none'" in page
    assert "@import" not in page


def test_render_report_without_optional_parts(make_page):
    text = parse(make_page(figures=[], players=[], next_steps=[], facts={}))
    assert "Figures" not in text
    assert "Clips" not in text


def test_render_report_escapes_what_it_is_given(make_page):
    page = make_page(subtitle="<script>alert(1)</script>", results=pd.DataFrame({"<i>": ["<b>"]}))
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert "<i>" not in page
