import importlib

import numpy as np
import pytest

from msg3d_lab import explain as explaining
from msg3d_lab.explain import importance_of, rank_methods
from msg3d_lab.explain.ranking import JUDGES, _how_often_first, _ranked

QUICK = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def ranking(run):
    return rank_methods(run, others=[run], num_clips=6, samples=1, steps=2, repeats=6, **QUICK)


def test_ranking_has_every_method_and_the_controls_last(ranking):
    table = ranking.table
    assert set(table.index) == {*explaining.METHODS, *explaining.CONTROLS}
    assert list(table.index[-2:]) == list(explaining.CONTROLS)
    assert ranking.best == table.index[0]
    assert table["mean rank"].iloc[:-2].is_monotonic_increasing
    assert table["first"].sum() == pytest.approx(1)
    assert table["first"].iloc[-2:].isna().all()
    assert list(table.columns[-3:]) == ["seconds", "mean rank", "first"]
    assert "planted" not in table  # nobody knows the truth about the toy
    assert set(ranking.values) == set(table.index)


def test_ranking_says_that_controls_do_not_depend_on_the_network(ranking):
    np.testing.assert_allclose(ranking.table.loc[["motion", "random"], "shuffled"], 1)
    assert (ranking.table["shuffled"].iloc[:-2] < 0.99).all()


def test_stability_does_not_come_from_drawing_the_same(ranking):
    """The other run is the same one: what is not drawn is as stable as can be."""
    drawn = ranking.table.index.isin(["shapley", "random"])
    np.testing.assert_allclose(ranking.table["stability"][~drawn], 1)
    assert (ranking.table["stability"][drawn] < 0.99).all()
    assert abs(ranking.table.loc["random", "stability"]) < 0.7


def test_shuffled_is_the_size_of_the_correlation_whatever_its_sign(run, monkeypatch):
    """A method that gives the shuffled network's clips the same importance, half of it negated."""
    module = importlib.import_module("msg3d_lab.explain.ranking")
    signs, asked = np.array([1.0, -1, 1, -1])[:, None], []

    def of_clips(model, clips, **given):
        asked.append(model)
        sign = 1 if model is asked[0] else signs
        return sign * importance_of(model, clips, **{**given, "method": "motion"})

    monkeypatch.setattr(module, "importance_of", of_clips)
    table = rank_methods(run, num_clips=4, repeats=3, methods=["occlusion"], **QUICK).table
    assert table.loc["occlusion", "shuffled"] == pytest.approx(1)


def test_ranking_agrees_with_its_curves(ranking):
    curves = ranking.curves
    for method in ("occlusion", "motion"):
        rows = curves[(curves["method"] == method) & (curves["kind"] == "deletion")]
        area = {
            order: np.trapezoid(group.groupby("share")["probability"].mean(), dx=0.2)
            for order, group in rows.groupby("order")
        }
        expected = area["random"] - area["important first"]
        assert ranking.table.loc[method, "deletion"] == pytest.approx(expected, abs=1e-9)


def test_best_is_by_mean_rank_and_never_a_control():
    rows = {
        "a": {"deletion": 0.1, "faithfulness": 0.9, "shuffled": 0.1},
        "b": {"deletion": 0.3, "faithfulness": 0.8, "shuffled": 0.0},
        "motion": {"deletion": 0.9, "faithfulness": 1.0, "shuffled": 0.0},
        "random": {"deletion": 0.0, "faithfulness": 0.0, "shuffled": 1.0},
    }
    each = {
        method: {
            check: np.array([value - 0.1, np.nan, value + 0.1]) for check, value in row.items()
        }
        for method, row in rows.items()
    }
    table = _ranked(each, dict.fromkeys(rows, 2.0))
    assert list(table.index) == ["b", "a", "motion", "random"]
    np.testing.assert_allclose(table["mean rank"], [4 / 3, 5 / 3, np.nan, np.nan])
    for method, row in rows.items():
        assert table.loc[method, list(row)].to_dict() == pytest.approx(row)
    assert table["seconds"].to_list() == [2.0] * 4


def test_ranking_without_a_check_that_says_anything_keeps_the_order():
    nothing = {"deletion": np.full(3, np.nan)}
    table = _ranked(dict.fromkeys(("b", "a", "motion", "random"), nothing), {})
    assert list(table.index) == ["b", "a", "motion", "random"]
    assert "first" not in table


def test_how_often_first_agrees_with_drawing_clips_one_by_one():
    rng = np.random.default_rng(0)
    scores = {check: rng.normal(size=(3, 9)) for check in ("deletion", "shuffled", "planted")}
    for values in scores.values():  # nearly alike, so that it hangs on the clips who is first
        values += [[0.0], [0.1], [0.2]] - values.mean(axis=1, keepdims=True)
    scores["planted"][:, 4] = np.nan
    wins = np.zeros(3)
    for _ in range(4000):
        drawn = rng.integers(9, size=9)
        places = np.zeros(3)
        for check, values in scores.items():
            mean = np.nanmean(values[:, drawn], axis=1) * (1 if JUDGES[check] else -1)
            places += (mean[:, None] < mean).sum(axis=1)  # who is before me; there are no ties
        wins += (places == places.min()) / (places == places.min()).sum()
    found = _how_often_first(scores, resamples=4000)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, wins / 4000, atol=0.04)
    assert found.max() < 0.8


def test_how_often_first_in_closed_form():
    """Of two clips, one for each method: drawn twice, or one of each and the place is shared."""
    found = _how_often_first({"deletion": np.array([[1.0, 0], [0, 1]])}, resamples=20_000)
    np.testing.assert_allclose(found, [0.5, 0.5], atol=0.02)
    better = _how_often_first({"shuffled": np.array([[0.1, 0.2], [0.3, 0.4], [np.nan] * 2])})
    np.testing.assert_array_equal(better, [1, 0, 0])
    same = _how_often_first({"planted": np.ones((4, 5)), "deletion": np.zeros((4, 5))})
    np.testing.assert_allclose(same, 0.25)
