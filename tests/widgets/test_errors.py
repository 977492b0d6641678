import shutil

import numpy as np
import pytest

from msg3d_lab.data import open_store
from msg3d_lab.evaluation import (
    Scores,
    confusion_counts,
    confusion_order,
    evaluate,
    read_run_scores,
)
from msg3d_lab.training import open_run
from msg3d_lab.widgets import ErrorBrowser
from msg3d_lab.widgets.browser import pack


@pytest.fixture(scope="module")
def scores(toy_store):
    """Every fourth clip of the test split is taken for the next class."""
    rows = toy_store.indices("xsub_val")
    labels = toy_store.labels[rows]
    said = (labels + (np.arange(len(rows)) % 4 == 0)) % 3
    values = np.full((len(rows), 3), 0.1, np.float32)
    values[np.arange(len(rows)), said] = 0.8
    values[1, said[1]] = 2  # the most certain one: 2 / 2.2
    values[4, said[4]] = 8
    values /= values.sum(axis=1, keepdims=True)
    ids = tuple(toy_store.ids[i] for i in rows)
    return Scores(ids, labels, values, tuple(toy_store.label_names))


def test_confusion_order_puts_confused_classes_side_by_side():
    counts = 50 * np.eye(6, dtype=int)
    for a, b in ((0, 4), (1, 5), (2, 3)):
        counts[a, b] = 20
    order = confusion_order(counts).tolist()
    assert sorted(order) == list(range(6))
    assert all(abs(order.index(a) - order.index(b)) == 1 for a, b in ((0, 4), (1, 5), (2, 3)))
    assert confusion_order(np.eye(2)).tolist() == [0, 1]
    assert len(confusion_order(np.zeros((4, 4)))) == 4


def test_error_browser_of_scores(scores, toy_store):
    browser = ErrorBrowser(scores, toy_store, packed=2)
    data = browser.data
    assert data["predicted"] == pack(scores.predictions.astype(np.uint16))
    assert data["subjects"] == sorted(
        {int(s) for s in toy_store.samples["subject"].iloc[toy_store.indices("xsub_val")]}
    )
    assert sorted(data["order"]) == [0, 1, 2]
    assert len(data["packed"]) == 2
    assert not scores.correct[[int(row) for row in data["packed"]]].any()
    mistake, clear = data["packed"][min(data["packed"], key=int)]
    assert "taken for" in mistake["title"]
    assert "clear case" in clear["title"]
    assert "levels" not in mistake  # scores have no network
    counts = confusion_counts(scores)
    assert str((counts - np.diag(np.diag(counts))).max()) in browser.describe()
    assert browser.figure().axes[0].get_xticklabels()[0].get_text()


def test_error_browser_sends_a_clip_when_it_is_chosen(scores, toy_store):
    browser = ErrorBrowser(scores, toy_store, packed=0)
    assert browser.pair == {}
    row = int(np.flatnonzero(~scores.correct)[0])
    browser.clip = row
    assert browser.pair["clip"] == row
    assert len(browser.pair["records"]) == 2
    label = int(scores.labels[1])
    best = browser.clear_case(label)
    confidence = scores.values.max(axis=1)
    good = scores.correct & (scores.labels == label)
    assert confidence[best] == confidence[good].max()
    assert browser.clear_case(label, besides=best) != best


def test_error_browser_of_a_run_shows_importance(toy_run, toy_store, tmp_path):
    run = open_run(shutil.copytree(toy_run.path, tmp_path / "run"))
    evaluate(run, data=toy_store, device="cpu", progress=False)
    browser = ErrorBrowser(run, toy_store, packed=0)
    browser.clip = 0
    record = browser.pair["records"][0]
    assert record["shape"][1:] == [run.recipe.data.clip_len, 5]
    assert 0 < record["limit"] <= 1
    assert {pair["limit"] for pair in browser.pair["records"]} == {record["limit"]}


def test_error_browser_of_another_store_has_the_scores_on_it(toy_run, copies_store, tmp_path):
    run = open_run(shutil.copytree(toy_run.path, tmp_path / "run"))
    evaluate(run, device="cpu", progress=False)
    path = shutil.copyfile(copies_store.path, tmp_path / "other.arrow")
    scores = evaluate(run, data=path, device="cpu", progress=False).scores
    browser = ErrorBrowser(run, open_store(path), packed=0)
    np.testing.assert_array_equal(browser.scores.values, scores.values)
    assert (browser.scores.values != read_run_scores(run).values).any()


def test_error_browser_refuses(scores, toy_store, small_store):
    with pytest.raises(ValueError, match="expected a store, found none"):
        ErrorBrowser(scores)
    with pytest.raises(ValueError, match=rf"found {len(scores.ids)} of .* missing"):
        ErrorBrowser(scores, small_store)
    browser = ErrorBrowser(scores, toy_store, packed=0)
    for name, value in (("clip", 999), ("cell", [0]), ("cell", [0, 3])):
        with pytest.raises(ValueError, match=f"{name} is .*found"):
            setattr(browser, name, value)
