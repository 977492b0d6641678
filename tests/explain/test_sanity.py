import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from msg3d_lab.explain import Motion, Question, make_features
from msg3d_lab.explain.sanity import (
    chance_similarity,
    planted_auc,
    pointing_game,
    randomisation_check,
    rank_similarity,
    shuffled_copies,
)


def test_rank_similarity_agrees_with_scipy_also_with_ties():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (20, 9)).astype(float), rng.normal(size=(20, 9))
    expected = [spearmanr(*rows).statistic for rows in zip(a, b, strict=True)]
    np.testing.assert_allclose(rank_similarity(a, b), expected)
    np.testing.assert_allclose(rank_similarity(b, np.exp(b)), 1)
    np.testing.assert_allclose(rank_similarity(b, -b), -1)
    assert np.isnan(rank_similarity(np.ones((1, 9)), b[:1])).all()


def test_pointing_game_and_auc_in_closed_form():
    truth = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    values = np.array([[4, 3, 2, 1], [1, 3, 2, 4], [1, 1, 1, 0], [1, 2, 3, 4], [1, 2, 3, 4]])
    np.testing.assert_allclose(pointing_game(values, truth), [1, 0, 1 / 3, np.nan, np.nan])
    # Wins of the 2 x 2 pairs: all four; 3 beats 2 only; two halves and a whole of three.
    np.testing.assert_allclose(planted_auc(values, truth), [1, 0.25, 2 / 3, np.nan, np.nan])


def test_auc_agrees_with_counting_pairs():
    rng = np.random.default_rng(2)
    values, truth = rng.integers(0, 5, (30, 12)), rng.random((30, 12)) < 0.4
    for row, planted, found in zip(values, truth, planted_auc(values, truth), strict=True):
        inside, outside = row[planted][:, None], row[~planted]
        wins = (inside > outside) + 0.5 * (inside == outside)
        assert found == pytest.approx(wins.mean())


def test_chance_is_what_random_importance_gets():
    rng = np.random.default_rng(3)
    truth = np.arange(10) < 3
    truth = np.broadcast_to(truth, (20_000, 10))
    values = rng.random(truth.shape)
    assert pointing_game(values, truth).mean() == pytest.approx(0.3, abs=0.02)
    assert planted_auc(values, truth).mean() == pytest.approx(0.5, abs=0.01)


def test_motion_energy_in_closed_form(toy_skeleton):
    x = torch.zeros(1, 2, 3, 5, 3)
    x[0, 0, 1, 2] = torch.tensor([1.0, 2, 0])
    x[0, 1, 2, 4] = torch.tensor([0.0, 0, 3])
    features = make_features("joint", toy_skeleton, num_frames=3)
    classes = torch.zeros(1, dtype=torch.long)
    asked = Question(x=x, classes=classes, features=features, baseline=torch.zeros_like(x))
    assert Motion().attribute(torch.nn.Identity(), asked).tolist() == [[0, 0, 10, 0, 9]]


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(6, 8)])
        self.bn, self.fc = nn.BatchNorm1d(8), nn.Linear(8, 2)

    def forward(self, x):
        return self.fc(self.bn(self.blocks[0](x)).relu())


def network():
    torch.manual_seed(0)
    return Network().eval()


def test_shuffled_copies_keep_the_numbers_and_leave_the_network_alone():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copies = dict(shuffled_copies(model))
    assert list(copies) == ["fc", "blocks.0"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for stage, changed in (
        ("fc", {"fc.weight"}),
        ("blocks.0", {"fc.weight", "blocks.0.weight", "blocks.0.bias"}),
    ):
        for name, value in copies[stage].state_dict().items():
            torch.testing.assert_close(
                value.flatten().sort().values, before[name].flatten().sort().values, rtol=0, atol=0
            )
            if name in changed:
                assert not torch.equal(value, before[name]), (stage, name)
            elif name != "fc.bias":
                assert torch.equal(value, before[name]), (stage, name)
    again = dict(shuffled_copies(model))
    assert torch.equal(again["blocks.0"].fc.weight, copies["blocks.0"].fc.weight)


def test_randomisation_check_tells_a_network_from_a_control():
    model = network()
    x = torch.randn(40, 6)

    def gradient(net):
        inputs = x.clone().requires_grad_()
        net(inputs)[:, 0].sum().backward()
        return (inputs.grad * x).numpy()

    of_network = randomisation_check(model, gradient)
    assert of_network.index.tolist() == ["trained", "fc shuffled", "and blocks.0"]
    assert of_network.loc["trained", "similarity"] == pytest.approx(1)
    assert of_network.loc["and blocks.0", "size"] < 0.6
    control = randomisation_check(model, lambda net: x.numpy())
    np.testing.assert_allclose(control[["size", "similarity"]], 1)


def test_randomisation_check_is_not_taken_in_by_signs():
    """The same picture with the sign of half of the clips turned: no similarity, and all of it."""
    model, rng = network(), np.random.default_rng(4)
    values, signs = rng.normal(size=(40, 9)), np.resize([1.0, -1], 40)[:, None]

    def turned(net):
        return values if net is model else signs * values

    found = randomisation_check(model, turned).loc["fc shuffled"]
    assert found["size"] == pytest.approx(1)
    assert found["similarity"] == pytest.approx(0)
    assert found["sd"] == pytest.approx(1)
    assert found["chance"] == chance_similarity(9)
    unrelated = {True: values, False: rng.normal(size=(40, 9))}
    found = randomisation_check(model, lambda net: unrelated[net is model])
    assert found.loc["fc shuffled", "size"] == pytest.approx(found["chance"].iloc[1], abs=0.12)


@pytest.mark.parametrize("num_features", [2, 3, 5, 8, 14, 25])
def test_chance_similarity_is_what_unrelated_importance_has(num_features):
    rng = np.random.default_rng(num_features)
    a, b = rng.normal(size=(2, 20_000, num_features))
    found = [abs(spearmanr(*rows).statistic) for rows in zip(a[:50], b[:50], strict=True)]
    np.testing.assert_allclose(np.abs(rank_similarity(a, b))[:50], found)
    simulated = np.abs(rank_similarity(a, b)).mean()
    assert chance_similarity(num_features) == pytest.approx(simulated, abs=0.008)


def test_chance_similarity_of_few_features_in_closed_form():
    assert chance_similarity(2) == pytest.approx(1)  # in order or in reverse
    assert chance_similarity(3) == pytest.approx(2 / 3)  # (1 + 4 * 0.5 + 1) / 6 orders
    assert np.isnan(chance_similarity(1))
