import itertools

import numpy as np
import pandas as pd
import pytest

from msg3d_lab.viz import accuracy_by_scales, cost_accuracy, forest_plot
from msg3d_lab.viz.style import DISENTANGLED, POWERS


@pytest.fixture
def runs():
    """Invented: two ways, three K, two seeds; one run has not been tested."""
    rows = [
        {"K": K, "aggregation": way, "seed": seed, "top1": 0.5 + 0.02 * K + 0.01 * seed}
        for way in ("powers", "disentangled")
        for K in (1, 4, 8)
        for seed in (1, 2)
    ]
    rows[0]["top1"] = np.nan
    return pd.DataFrame(rows)


@pytest.fixture
def table():
    """Invented: a reference, a difference that counts, one that does not, one that is unknown."""
    return pd.DataFrame(
        {
            "compare_with": ["", "a", "a", "a"],
            "difference": [np.nan, 0.031, -0.012, np.nan],
            "low": [np.nan, 0.02, -0.03, np.nan],
            "high": [np.nan, 0.042, 0.01, np.nan],
            "p": [np.nan, 0.0002, 0.3, np.nan],
            "p_holm": [np.nan, 0.0004, 0.4, np.nan],
            "top1": [0.8, 0.831, 0.788, np.nan],
            "sd": [0.01, 0.02, np.nan, np.nan],
            "macs": [2e6, 4e6, 6e6, 8e6],
        },
        index=pd.Index(["a", "b", "c", "d"], name="variant"),
    )


def test_accuracy_by_scales_draws_means_and_every_run(runs):
    ax = accuracy_by_scales(runs, title="t", xlabel="highest hop")
    means = [line for line in ax.lines if line.get_marker() != "."]
    points = [line for line in ax.lines if line.get_marker() == "."]
    assert [line.get_label() for line in means] == ["powers", "disentangled"]
    assert [line.get_color() for line in means] == [POWERS, DISENTANGLED]
    np.testing.assert_allclose(means[1].get_ydata(), [53.5, 59.5, 67.5])
    np.testing.assert_allclose(means[0].get_ydata()[0], 54)  # the seed that is tested
    assert [len(line.get_ydata()) for line in points] == [5, 6]
    ranges = [segment[:, 1].tolist() for segment in ax.collections[1].get_segments()]
    np.testing.assert_allclose(ranges, [[53, 54], [59, 60], [67, 68]])
    assert ax.get_xticks().tolist() == [1, 4, 8]
    assert ax.get_xlabel() == "highest hop"
    # Beside each other, by less than the way to the next K.
    assert 0 < means[1].get_xdata()[0] - means[0].get_xdata()[0] < 1


def test_accuracy_by_scales_says_what_is_missing(runs):
    for broken in (runs.drop(columns="K"), runs.iloc[:0]):
        with pytest.raises(ValueError, match="columns K, aggregation, top1 and at least one row"):
            accuracy_by_scales(broken)
    with pytest.raises(ValueError, match="one row with top1, found none of 12"):
        accuracy_by_scales(runs.assign(top1=np.nan))


def test_forest_plot_has_a_row_per_difference(table):
    ax = forest_plot(table, title="t")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b − a", "c − a"]
    heads = ["diff.", "p", "Holm"]
    texts = ["+3.1", "< 0.001", "< 0.001", "−1.2", "0.300", "0.400"]
    assert [t.get_text() for t in ax.texts] == heads + texts
    spans = [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()]
    np.testing.assert_allclose(spans, [[2, 4.2], [-3, 1]])
    filled, hollow = ax.lines[1:]
    np.testing.assert_allclose(filled.get_xdata(), [3.1])
    np.testing.assert_allclose(hollow.get_xdata(), [-1.2])
    assert hollow.get_markerfacecolor() == "white"


def test_forest_plot_puts_groups_under_their_names(table):
    ax = forest_plot(table.assign(group=["x", "windows", "scales", "x"]))
    rows = [t.get_text() for t in ax.get_yticklabels()]
    places = dict(zip(rows, ax.get_yticks(), strict=True))
    names = {t.get_text(): t.xy[1] for t in ax.texts if t.get_text() in ("windows", "scales")}
    above = [names["windows"], places["b − a"], names["scales"], places["c − a"]]
    assert above == sorted(above, reverse=True)
    assert len(set(above)) == 4


def test_forest_plot_has_no_heads_without_groups(table):
    without = [t.get_text() for t in forest_plot(table).texts]
    assert [t.get_text() for t in forest_plot(table.assign(group=np.nan)).texts] == without


def test_forest_plot_says_what_is_missing(table):
    with pytest.raises(ValueError, match=r"missing columns \['low'\]"):
        forest_plot(table.drop(columns="low"))
    with pytest.raises(ValueError, match="at least one row with difference, found none of 1"):
        forest_plot(table.loc[["a"]])


def test_cost_accuracy_joins_what_nothing_cheaper_reaches(table):
    ax = cost_accuracy(table, title="t")
    front = next(line for line in ax.lines if line.get_label().startswith("more accurate"))
    np.testing.assert_allclose(front.get_xydata(), [[2, 80], [4, 83.1]])
    assert [t.get_text() for t in ax.texts] == ["c", "a", "b"]  # from below


def test_cost_accuracy_keeps_names_apart_and_shares_those_of_equal_points(table):
    table.loc["twin"] = table.loc["b"]
    table.loc["near"] = table.loc["b"]
    table.loc["near", "top1"] += 1e-4
    ax = cost_accuracy(table)
    assert {t.get_text() for t in ax.texts} == {"a", "b, twin", "c", "near"}
    ax.figure.canvas.draw()
    boxes = [t.get_window_extent() for t in ax.texts]
    assert not [1 for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]


def test_cost_accuracy_says_what_is_wrong(table):
    with pytest.raises(ValueError, match=r"missing columns \['macs'\]"):
        cost_accuracy(table.drop(columns="macs"))
    with pytest.raises(ValueError, match="at least one row with top1 and macs"):
        cost_accuracy(table.loc[["d"]])
