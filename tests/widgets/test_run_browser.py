"""RunBrowser: its rows and comparisons are those of the functions that define them."""

import json

import pandas as pd
import pytest
from made_runs import made_run

from msg3d_lab.evaluation import read_run_scores
from msg3d_lab.evaluation.metrics import class_delta
from msg3d_lab.evaluation.statistics import accuracy_interval, compare
from msg3d_lab.training import open_run
from msg3d_lab.widgets import RunBrowser
from msg3d_lab.widgets.panel import curve_points


@pytest.fixture
def folder(tmp_path):
    for seed, (name, right) in enumerate((("a", 0.6), ("b", 0.9), ("deep/c", 0.8))):
        settings = [f"seed={seed}", f"model.dropout={0.1 * (seed % 2)}"]
        made_run(tmp_path / name, "synthetic-joint", settings=settings, seed=seed, right=right)
    (tmp_path / "a.job").mkdir()
    (tmp_path / "no-run").mkdir()
    return tmp_path


def test_table_has_accuracies_with_wilson_intervals(folder):
    browser = RunBrowser(folder)
    table = browser.table()
    assert list(table.index) == ["a", "b", "deep/c"]
    correct = read_run_scores(open_run(folder / "b")).correct
    row = table.loc["b"]
    assert (row["low"], row["high"]) == accuracy_interval(correct)
    assert (row["top1"], row["seed"], row["state"]) == (correct.mean(), 1, "tested")
    assert browser.describe().startswith(f"3 runs in {folder}, 3 tested, the highest top-1 ")


def test_comparison_is_paired_and_names_what_differs(folder):
    browser = RunBrowser(folder, selected=["b", "a"])
    a, b = (read_run_scores(open_run(folder / name)) for name in "ab")
    expected = compare(b.correct, a.correct)
    (pair,) = browser.comparison["pairs"]
    assert (pair["a"], pair["b"]) == ("b", "a")
    assert (pair["difference"], pair["low"], pair["high"], pair["p"]) == (
        expected.difference, expected.low, expected.high, expected.p_value,
    )  # fmt: skip
    settings = browser.comparison["settings"]
    assert settings == [["model.dropout", "0.1", "0.0"], ["training.seed", "1", "0"]]
    largest = class_delta(b, a)["difference"].abs().sort_values(ascending=False, kind="stable")
    assert [row["class"] for row in browser.comparison["classes"]] == list(largest.index)
    json.dumps(browser.comparison, allow_nan=False)
    browser.selected = ["deep/c"]
    assert browser.comparison["pairs"] == []


def test_scores_of_other_clips_are_not_compared(folder):
    made_run(folder / "d", "synthetic-joint", count=20)
    made_run(folder / "e", "synthetic-joint").scores_path.unlink()
    browser = RunBrowser(folder, selected=["a", "d", "e"])
    said = browser.comparison["problems"]
    assert said[0] == "No test scores of e: test with `msg3d-lab test RUN`"
    assert said[1].startswith("a and d cannot be compared: expected the same sample ids")
    assert browser.comparison["pairs"] == []


def test_runs_whose_recipe_cannot_be_read_are_named(folder):
    recipe = folder / "b/recipe.yaml"
    recipe.write_text(recipe.read_text().replace("epochs", "epocsh"))
    browser = RunBrowser(folder, selected=["b"])
    assert browser.comparison == {}
    browser.selected = ["a", "b", "deep/c"]
    assert browser.comparison["names"] == ["a", "deep/c"]
    assert browser.comparison["problems"] == ["The recipe of b cannot be read"]


def test_refresh_reads_only_what_changed(folder, monkeypatch):
    from msg3d_lab.widgets import run_browser

    browser, read, make = RunBrowser(folder, selected=["a"]), [], run_browser._row
    monkeypatch.setattr(
        run_browser, "_row", lambda path, name: read.append(name) or make(path, name)
    )
    browser.refresh()
    assert read == []
    open_run(folder / "b").write_metrics([{"epoch": 1, "test_top1": 0.1}] * 2)
    browser.refresh()
    assert read == ["b"]
    made_run(folder / "f", "synthetic-joint")
    browser.refresh()
    assert read == ["b", "f"]
    assert len(browser.data["rows"]) == 4


def test_reports_are_sent_on_demand(folder, monkeypatch):
    browser, sent = RunBrowser(folder), []
    monkeypatch.setattr(browser, "send", sent.append)
    (folder / "a/report.html").write_text("<p>report</p>")
    for name in ("a", "b", "../a", "nothing"):
        browser._receive(browser, {"action": "report", "name": name}, [])
    assert sent == [{"report": "a", "html": "<p>report</p>"}]


def test_wrong_arguments_are_explained(folder):
    with pytest.raises(NotADirectoryError, match="expected a folder of runs"):
        RunBrowser(folder / "none")
    with pytest.raises(ValueError, match=r"there is no run x in .* expected some of a, b, deep/c"):
        RunBrowser(folder, selected=["x"])


def test_still_picture_and_page(folder):
    browser = RunBrowser(folder, selected=["a", "b"])
    left, right = browser.figure().axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["b", "deep/c", "a"]
    assert left.get_xlabel() == "test top-1 (%), 95 % interval"
    assert len(right.lines) == 2
    page = browser.html()
    assert 'alt="3 runs in' in page
    assert len(page) < 250_000


def test_curve_points_are_by_epoch_and_in_percent():
    metrics = pd.DataFrame({"epoch": [1, 2], "test_top1": [None, 0.5], "lr": [0.1, 1e-7]})
    assert curve_points(metrics, "test_top1") == [[2, 50]]
    assert curve_points(metrics, "lr") == [[1, 0.1], [2, 1e-7]]
