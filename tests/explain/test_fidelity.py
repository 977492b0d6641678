from dataclasses import replace

import numpy as np
import pytest
import torch

from msg3d_lab.explain import Question, make_features
from msg3d_lab.explain.fidelity import (
    ORDERS,
    areas,
    curve_table,
    deletion_curve,
    faithfulness,
    importance_orders,
    random_subsets,
    score_drops,
)

N, T, V, C = 4, 3, 5, 2
EFFECTS = np.array([4.0, -1.0, 0.5, 2.0, 0.0])


@pytest.fixture
def setting(toy_skeleton):
    """Ones over a baseline of zeros, and a network that adds up its joints' effects."""
    x = torch.ones(N, 1, T, V, C, dtype=torch.float64)

    def forward(x):
        score = x[:, 0, 0, :, 0] @ torch.from_numpy(EFFECTS)
        return torch.stack([score, torch.zeros_like(score)], dim=1)

    features = make_features("joint", toy_skeleton, num_frames=T)
    classes = torch.zeros(N, dtype=torch.long)
    asked = Question(x=x, classes=classes, features=features, baseline=torch.zeros_like(x))
    return forward, asked


def sigmoid(value):
    return 1 / (1 + np.exp(-np.asarray(value)))


def test_deletion_curve_in_closed_form(setting):
    forward, asked = setting
    order = np.tile([0, 3, 2, 4, 1], (N, 1))
    shares, curve = deletion_curve(forward, replace(asked, batch_size=7), order)
    np.testing.assert_allclose(shares, np.arange(6) / 5)
    np.testing.assert_allclose(curve, [sigmoid([5.5, 1.5, -0.5, -1, -1, 0])] * N, atol=1e-12)


def test_answers_leave_a_gpu_before_they_are_in_double_precision(setting):
    """Apple's GPUs have none."""

    class Elsewhere(torch.Tensor):
        def double(self):
            raise TypeError("MPS has no float64")

        def cpu(self):
            return self.as_subclass(torch.Tensor)

    forward, asked = setting
    order = np.tile([0, 3, 2, 4, 1], (N, 1))
    _, plain = deletion_curve(forward, asked, order)
    _, found = deletion_curve(lambda x: forward(x).as_subclass(Elsewhere), asked, order)
    np.testing.assert_array_equal(found, plain)


def test_deletion_curve_takes_several_features_at_a_time_when_there_are_many(setting):
    forward, asked = setting
    order = np.tile([0, 3, 2, 4, 1], (N, 1))
    shares, curve = deletion_curve(forward, asked, order, points=2)
    np.testing.assert_allclose(shares, [0, 0.4, 1])
    np.testing.assert_allclose(curve[0], sigmoid([5.5, -0.5, 0]), atol=1e-12)


def test_curves_of_the_true_order_bound_all_others(setting):
    forward, asked = setting
    orders = importance_orders(np.tile(EFFECTS, (N, 1)), seed=3)
    curves = {}
    for order in ORDERS:
        shares, curves[order] = deletion_curve(forward, asked, orders[order])
    area = areas(curve_table(shares, curves))
    assert (area["deletion", "important first"] <= area["deletion", "random"]).all()
    assert (area["deletion", "random"] <= area["deletion", "important last"]).all()
    assert (area["insertion", "important first"] >= area["insertion", "random"]).all()
    expected = np.trapezoid(sigmoid([5.5, 1.5, -0.5, -1, -1, 0]), dx=0.2)
    np.testing.assert_allclose(area["deletion", "important first"], expected)


def test_insertion_is_what_putting_features_back_gives(setting):
    """The second route: start from the baseline, put features back one by one."""
    forward, asked = setting
    orders = importance_orders(np.tile(EFFECTS, (N, 1)))
    curves = {}
    for order in ORDERS:
        shares, curves[order] = deletion_curve(forward, asked, orders[order])
    table = curve_table(shares, curves)
    for order in ORDERS:
        rows = table[(table.kind == "insertion") & (table.order == order) & (table["clip"] == 1)]
        kept = torch.zeros(1, 1, T, V, C, dtype=torch.float64)
        found = [forward(kept).softmax(1)[0, 0].item()]
        went = orders[order] if order != "random" else orders[order][:, ::-1]
        for joint in went[1]:
            kept[:, :, :, joint] = 1
            found.append(forward(kept).softmax(1)[0, 0].item())
        np.testing.assert_allclose(rows.sort_values("share").probability, found, atol=1e-12)


def test_importance_orders_are_permutations_and_keep_ties():
    values = np.array([[1.0, 3, 3, 0], [0, 0, 0, 0]])
    orders = importance_orders(values, seed=1)
    assert orders["important first"].tolist() == [[1, 2, 0, 3], [0, 1, 2, 3]]
    assert orders["important last"].tolist() == [[3, 0, 2, 1], [3, 2, 1, 0]]
    np.testing.assert_array_equal(np.sort(orders["random"], axis=1), [[0, 1, 2, 3]] * 2)
    np.testing.assert_array_equal(orders["random"], importance_orders(-values, seed=1)["random"])


def test_random_subsets_have_one_size_and_follow_their_seed():
    sets = random_subsets(6, 20, repeats=9, seed=2)
    assert sets.shape == (6, 9, 20)
    assert (sets.sum(-1) == 5).all()
    np.testing.assert_array_equal(sets, random_subsets(6, 20, repeats=9, seed=2))
    assert len({row.tobytes() for row in sets.reshape(-1, 20)}) > 40
    assert random_subsets(1, 2, repeats=1).sum() == 1


def test_drops_and_faithfulness_in_closed_form(setting):
    forward, asked = setting
    hidden = random_subsets(N, V, repeats=12)
    drops = score_drops(forward, replace(asked, batch_size=5), hidden)
    np.testing.assert_allclose(drops, hidden @ EFFECTS, atol=1e-12)
    values = np.stack([EFFECTS, -EFFECTS, 3 * EFFECTS + 7, np.ones(V)])
    found = faithfulness(values, hidden, drops)
    # All sets have one size, so a constant added to every feature changes nothing.
    np.testing.assert_allclose(found[:3], [1, -1, 1], atol=1e-9)
    assert np.isnan(found[3])


def test_faithfulness_agrees_with_numpy():
    rng = np.random.default_rng(0)
    hidden, values = random_subsets(3, 8, repeats=15), rng.normal(size=(3, 8))
    drops = rng.normal(size=(3, 15))
    expected = [
        np.corrcoef([values[i][h].sum() for h in hidden[i]], drops[i])[0, 1] for i in range(3)
    ]
    np.testing.assert_allclose(faithfulness(values, hidden, drops), expected)


def test_score_drops_of_log_probabilities_count_the_other_classes(setting):
    forward, asked = setting
    hidden = np.zeros((N, 1, V), dtype=bool)
    hidden[..., 0] = True
    drops = score_drops(forward, replace(asked, score="log_probability"), hidden)
    np.testing.assert_allclose(drops, np.log(sigmoid(5.5) / sigmoid(1.5)), atol=1e-12)
