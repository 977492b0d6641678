import numpy as np
import pytest
import torch

from msg3d_lab.explain import (
    CONTROLS,
    METHODS,
    IntegratedGradients,
    Method,
    Occlusion,
    Options,
    Passes,
    Shapley,
    rank_methods,
)
from msg3d_lab.explain.ranking import HIGHER_IS_BETTER, _first_frequency, _rank

QUICK = {"progress": False}
FOUR = Options(num_clips=4, device="cpu")
CONTROL_NAMES = ["motion", "random"]


@pytest.fixture(scope="module")
def ranking(run):
    methods = [*METHODS[:2], IntegratedGradients(steps=2), Occlusion(), Shapley(samples=1)]
    return rank_methods(run, methods, FOUR, others=[run], **QUICK)


def test_ranking_has_every_method_and_the_controls_last(ranking):
    table = ranking.table
    assert set(table.index) == {method.name for method in (*METHODS, *CONTROLS)}
    assert list(table.index[-2:]) == CONTROL_NAMES
    assert ranking.best.name == table.index[0]
    assert ranking.best in ranking.methods
    assert table["mean rank"].iloc[:-2].is_monotonic_increasing
    assert table["first"].sum() == pytest.approx(1)
    assert table["first"].iloc[-2:].isna().all()
    assert list(table.columns[-3:]) == ["seconds", "mean rank", "first"]
    assert "planted" not in table  # nobody knows the truth about the toy
    assert set(ranking.values) == set(table.index)


def test_ranking_says_that_controls_do_not_depend_on_the_network(ranking):
    np.testing.assert_allclose(ranking.table.loc[CONTROL_NAMES, "shuffled"], 1)
    assert (ranking.table["shuffled"].iloc[:-2] < 0.99).all()


def test_stability_does_not_come_from_drawing_the_same(ranking):
    """The other run is the same one: what is not drawn is as stable as can be."""
    drawn = ranking.table.index.isin(["shapley", "random"])
    np.testing.assert_allclose(ranking.table["stability"][~drawn], 1)
    assert (ranking.table["stability"][drawn] < 0.99).all()
    assert abs(ranking.table.loc["random", "stability"]) < 0.7


class OneSign(Method):
    """The same importance for every network, half of it negated after the first time."""

    def __init__(self):
        super().__init__(name="one sign")
        object.__setattr__(self, "asked", [])

    def attribute(self, network, question):
        self.asked.append(network)
        values = torch.arange(4.0)[:, None] + torch.arange(5.0) ** 2
        return values if network is self.asked[0] else values * torch.tensor([[1.0], [-1]] * 2)

    def cost(self, num_features):
        return Passes(0, 0)


def test_shuffled_is_the_size_of_the_correlation_whatever_its_sign(run):
    table = rank_methods(run, [OneSign()], FOUR, **QUICK).table
    assert table.loc["one sign", "shuffled"] == pytest.approx(1)


def test_ranking_tells_methods_apart_by_their_names(run):
    with pytest.raises(ValueError, match="one name per method, found shapley, shapley, motion"):
        rank_methods(run, [Shapley(samples=1), Shapley(samples=2)], **QUICK)
    with pytest.raises(ValueError, match="expected a method such as"):
        rank_methods(run, ["occlusion"], **QUICK)


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
    table = _rank(each, dict.fromkeys(rows, 2.0))
    assert list(table.index) == ["b", "a", "motion", "random"]
    np.testing.assert_allclose(table["mean rank"], [4 / 3, 5 / 3, np.nan, np.nan])
    for method, row in rows.items():
        assert table.loc[method, list(row)].to_dict() == pytest.approx(row)
    assert table["seconds"].to_list() == [2.0] * 4


def test_ranking_without_a_check_that_says_anything_keeps_the_order():
    nothing = {"deletion": np.full(3, np.nan)}
    table = _rank(dict.fromkeys(("b", "a", "motion", "random"), nothing), {})
    assert list(table.index) == ["b", "a", "motion", "random"]
    assert "first" not in table


def test_first_frequency_agrees_with_drawing_clips_one_by_one():
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
            mean = np.nanmean(values[:, drawn], axis=1) * (1 if HIGHER_IS_BETTER[check] else -1)
            places += (mean[:, None] < mean).sum(axis=1)  # who is before me; there are no ties
        wins += (places == places.min()) / (places == places.min()).sum()
    found = _first_frequency(scores, resamples=4000)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, wins / 4000, atol=0.04)
    assert found.max() < 0.8


def test_first_frequency_in_closed_form():
    """Of two clips, one for each method: drawn twice, or one of each and the place is shared."""
    found = _first_frequency({"deletion": np.array([[1.0, 0], [0, 1]])}, resamples=20_000)
    np.testing.assert_allclose(found, [0.5, 0.5], atol=0.02)
    better = _first_frequency({"shuffled": np.array([[0.1, 0.2], [0.3, 0.4], [np.nan] * 2])})
    np.testing.assert_array_equal(better, [1, 0, 0])
    same = _first_frequency({"planted": np.ones((4, 5)), "deletion": np.zeros((4, 5))})
    np.testing.assert_allclose(same, 0.25)
