from dataclasses import replace

import numpy as np
import pytest
import torch

from msg3d_lab import MSG3D
from msg3d_lab.explain import (
    METHODS,
    GradientInput,
    IntegratedGradients,
    Occlusion,
    Question,
    Shapley,
    attribute,
    make_features,
)
from msg3d_lab.explain.baselines import BASELINES, make_baseline
from msg3d_lab.explain.features import GROUPINGS
from msg3d_lab.explain.question import class_scores

T, M, C, K = 6, 2, 3, 4
CLASSES = torch.tensor([0, 3, 1, 1, 2])
# The methods that work on any callable, with little work.
SMALL = (GradientInput(), IntegratedGradients(steps=3), Occlusion(), Shapley(samples=2))
any_method = pytest.mark.parametrize("method", SMALL, ids=lambda method: method.name)


@pytest.fixture
def clips(toy_skeleton):
    return torch.randn(5, M, T, toy_skeleton.num_joints, C, dtype=torch.float64)


@pytest.fixture
def weights(toy_skeleton):
    return torch.randn(K, M, T, toy_skeleton.num_joints, C, dtype=torch.float64)


@pytest.fixture
def ask(clips, toy_skeleton):
    """Make questions about five clips, by joint and with zeros as the baseline."""

    def make(**changes):
        given = {
            "x": clips,
            "classes": CLASSES,
            "features": make_features("joint", toy_skeleton, num_frames=T),
            "baseline": torch.zeros_like(clips),
        }
        return Question(**(given | changes))

    return make


@pytest.fixture(scope="module")
def network(toy_skeleton):
    """A small network of four classes whose weights are large enough to matter."""
    torch.manual_seed(0)
    model = MSG3D(
        num_classes=K, skeleton=toy_skeleton, base_channels=6, num_gcn_scales=2,
        pathways=("factorized",), tcn_dilations=(1,),
    )  # fmt: skip
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    return model.double().eval()


def linear(weights):
    return lambda x: torch.einsum("nmtvc,kmtvc->nk", x, weights)


def additive(weights):
    """A sum over joints, but not linear in any of them."""
    return lambda x: torch.einsum("nmtvc,kmtvc->nkv", x, weights).tanh().sum(-1)


def product_of_two_joints(x):
    joint = x[:, 0, 0, :, 0]
    return torch.stack([joint[:, 1] * joint[:, 3], joint[:, 2]], dim=1)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("by", GROUPINGS)
@any_method
def test_every_method_is_exact_on_a_linear_network(
    method, by, name, ask, clips, weights, toy_skeleton_with_parts
):
    features = make_features(by, toy_skeleton_with_parts, num_frames=T, num_segments=3)
    baseline = make_baseline(clips, name)
    asked = ask(features=features, baseline=baseline, batch_size=4)
    found = attribute(linear(weights), asked, method)
    each = ((clips - baseline) * weights[CLASSES]).sum(-1)
    expected = np.zeros((5, len(features)))
    for t in range(T):
        for v in range(5):
            expected[:, features.index[t, v]] += each[:, :, t, v].sum(1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "method",
    [IntegratedGradients(steps=64), Occlusion(), Shapley(samples=1)],
    ids=lambda method: method.name,
)
def test_methods_agree_on_a_sum_over_joints(method, ask, clips, weights):
    found = attribute(additive(0.1 * weights), ask(), method)
    parts = torch.einsum("nmtvc,nmtvc->nv", clips, 0.1 * weights[CLASSES]).tanh()
    np.testing.assert_allclose(found, parts.numpy(), atol=1e-5)


@pytest.mark.parametrize("score", ["logit", "log_probability"])
@pytest.mark.parametrize(
    "method",
    [IntegratedGradients(steps=100), Shapley(samples=2)],
    ids=lambda method: method.name,
)
def test_importance_sums_to_the_difference_of_the_scores(
    method, score, ask, clips, network, toy_skeleton
):
    features = make_features("joint_x_segment", toy_skeleton, num_frames=T, num_segments=2)
    x, classes, baseline = clips[:2], CLASSES[:2], make_baseline(clips[:2], "first_frame")
    asked = ask(x=x, classes=classes, features=features, baseline=baseline, score=score)
    found = attribute(network, asked, method)
    with torch.no_grad():
        whole, nothing = (
            class_scores(network(each), classes, score=score) for each in (x, baseline)
        )
    difference = (whole - nothing).numpy()
    assert np.abs(difference).max() > 0.01
    # A rectifier is not smooth: the sum over 100 points is good to a few per cent, not to the bit.
    exact = isinstance(method, Shapley)
    tolerance = 1e-5 if exact else 0.03 * np.abs(found).sum(1).max()
    np.testing.assert_allclose(found.sum(1), difference, atol=tolerance)


def test_shapley_sampling_comes_near_the_exact_values(ask):
    """Of a product of two joints each gets half; occlusion gives each of them all of it."""
    x = torch.ones(2, M, T, 5, C)
    asked = ask(x=x, classes=torch.zeros(2, dtype=torch.long), baseline=torch.zeros_like(x))
    shapley = attribute(product_of_two_joints, asked, Shapley(samples=400))
    np.testing.assert_allclose(shapley, [[0, 0.5, 0, 0.5, 0]] * 2, atol=0.1)
    np.testing.assert_allclose(shapley.sum(1), 1, atol=1e-6)
    occlusion = attribute(product_of_two_joints, asked, Occlusion())
    np.testing.assert_array_equal(occlusion, [[0, 1, 0, 1, 0]] * 2)


@any_method
def test_importance_does_not_depend_on_the_batch_size(method, ask, clips, network):
    asked = ask(baseline=make_baseline(clips, "mean_pose"))
    whole = attribute(network, asked, method)
    for batch_size in (1, 2, 7):
        found = attribute(network, replace(asked, batch_size=batch_size), method)
        np.testing.assert_allclose(found, whole, atol=1e-6)
    assert np.abs(whole).max() > 1e-3


def test_shapley_orders_are_each_clip_s_own(ask):
    """Of a product, an order gives all to the joint that comes last: a coin that each clip tosses.

    With one order for all of them, any number of clips would be wrong in the same way.
    """
    N = 400
    x = torch.ones(N, M, T, 5, C)
    asked = ask(x=x, classes=torch.zeros(N, dtype=torch.long), baseline=torch.zeros_like(x))
    found = attribute(product_of_two_joints, asked, Shapley(samples=1))
    np.testing.assert_array_equal(found[:, [0, 2, 4]], 0)
    np.testing.assert_array_equal(np.sort(found[:, [1, 3]], axis=1), [[0, 1]] * N)
    assert found[:, 1].mean() == pytest.approx(0.5, abs=4 * 0.5 / N**0.5)
    other = attribute(product_of_two_joints, replace(asked, seed=1), Shapley(samples=1))
    same = (other == found).all(axis=1).mean()
    assert same == pytest.approx(0.5, abs=4 * 0.5 / N**0.5)


def test_shapley_orders_go_with_the_names_of_clips(ask, clips, network):
    ids = [f"clip{i}" for i in range(5)]

    def of(places, **others):
        x = clips[places]
        asked = ask(x=x, classes=CLASSES[places], baseline=torch.zeros_like(x), **others)
        return attribute(network, asked, Shapley(samples=2))

    whole = of([0, 1, 2, 3, 4], ids=ids)
    some = of([3, 0, 2], ids=[ids[3], ids[0], ids[2]], batch_size=2)
    np.testing.assert_allclose(some, whole[[3, 0, 2]], atol=1e-6)
    renamed = of([3, 0, 2], ids=["a", "b", "c"])
    assert (np.abs(renamed - some).max(axis=1) > 1e-4).all()
    with pytest.raises(ValueError, match="expected 3 ids, one per clip, found 5"):
        of([3, 0, 2], ids=ids)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 7, 64])
@pytest.mark.parametrize(
    "method",
    [GradientInput(), IntegratedGradients(), Occlusion(), Shapley(samples=2)],
    ids=lambda method: method.name,
)
def test_no_more_clips_at_a_time_than_the_batch_size(method, batch_size, ask, weights):
    forward, seen = linear(weights), []

    def watched(x):
        seen.append(len(x))
        return forward(x)

    asked = ask(batch_size=batch_size)
    attribute(watched, asked, method)
    assert max(seen) <= batch_size


@any_method
def test_passes_are_counted_before_they_are_made(method, ask, weights):
    forward, seen = linear(weights), {"forward": 0, "backward": 0}

    def counting(x):
        seen["forward"] += len(x)
        if x.requires_grad:
            x.register_hook(lambda gradient: seen.update(backward=seen["backward"] + len(x)))
        return forward(x)

    attribute(counting, ask(), method)
    assert seen == {name: 5 * count for name, count in method.cost(5)._asdict().items()}


def test_shapley_leaves_the_generator_alone_and_follows_its_seed(ask, network):
    def of(seed):
        return attribute(network, ask(seed=seed), Shapley(samples=1))

    before = torch.get_rng_state()
    first = of(1)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(of(1), first)
    assert not np.allclose(of(2), first)


def test_attribute_leaves_the_network_as_it_was(ask, network):
    state = {name: value.clone() for name, value in network.state_dict().items()}
    for method in SMALL:
        attribute(network, ask(), method)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_methods_have_different_names():
    assert len({method.name for method in METHODS}) == len(METHODS)
    assert Shapley(samples=3, name="few orders").name == "few orders"


def test_attribution_refuses(ask, clips, weights, network, toy_skeleton):
    with pytest.raises(ValueError, match=r"such as ClassActivation\(\), .* found 'occlusion'"):
        attribute(linear(weights), ask(), "occlusion")
    with pytest.raises(ValueError, match="explains the logit, not log_probability"):
        attribute(network, ask(score="log_probability"), METHODS[0])
    for change, message in (
        ({"baseline": clips[:1]}, r"expected a baseline \(5, 2, 6, 5, 3\)"),
        ({"classes": CLASSES[:2]}, "expected 5 classes, one per clip"),
        ({"score": "luck"}, "unknown score 'luck'"),
        ({"batch_size": 0}, "at least 1, found 0"),
        ({"features": make_features("joint", toy_skeleton, num_frames=7)}, r"N, M, 7, 5, C"),
    ):
        with pytest.raises(ValueError, match=message):
            ask(**change)
    with pytest.raises(ValueError, match="samples of at least 1, found 0"):
        Shapley(samples=0)
    with pytest.raises(ValueError, match="steps of at least 1, found 0"):
        IntegratedGradients(steps=0)
    training = torch.nn.Linear(2, 2).train()
    with pytest.raises(ValueError, match=r"training mode.*call model.eval\(\) first"):
        attribute(training, ask(), Occlusion())
