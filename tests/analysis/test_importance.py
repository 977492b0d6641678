import numpy as np
import pytest
import torch

from msg3d_lab import MSG3D, skeletons
from msg3d_lab.analysis.baselines import BASELINES, make_baseline, mean_pose
from msg3d_lab.analysis.features import GROUPINGS, hide, make_features
from msg3d_lab.analysis.importance import (
    METHODS,
    attribute,
    explained_score,
    gradient_map,
    passes,
)

T, M, C, K = 6, 2, 3, 4


@pytest.fixture
def clips(toy_skeleton):
    return torch.randn(5, M, T, toy_skeleton.num_joints, C, dtype=torch.float64)


@pytest.fixture
def weights(toy_skeleton):
    return torch.randn(K, M, T, toy_skeleton.num_joints, C, dtype=torch.float64)


def linear(weights):
    return lambda x: torch.einsum("nmtvc,kmtvc->nk", x, weights)


def additive(weights):
    """A sum over joints, but not linear in any of them."""
    return lambda x: torch.einsum("nmtvc,kmtvc->nkv", x, weights).tanh().sum(-1)


CLASSES = torch.tensor([0, 3, 1, 1, 2])


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("by", GROUPINGS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_exact_on_a_linear_network(
    method, by, name, clips, weights, toy_skeleton_with_parts
):
    features = make_features(by, toy_skeleton_with_parts, num_frames=T, num_segments=3)
    baseline = make_baseline(clips, name)
    found = attribute(
        linear(weights), clips, classes=CLASSES, method=method, features=features,
        baseline=baseline, samples=2, steps=3, batch_size=4,
    )  # fmt: skip
    each = ((clips - baseline) * weights[CLASSES]).sum(-1)
    expected = np.zeros((5, len(features)))
    for t in range(T):
        for v in range(5):
            expected[:, features.index[t, v]] += each[:, :, t, v].sum(1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion", "shapley"])
def test_methods_agree_on_a_sum_over_joints(method, clips, weights, toy_skeleton):
    features = make_features("joint", toy_skeleton, num_frames=T)
    forward, baseline = additive(0.1 * weights), make_baseline(clips, "removed")
    found = attribute(
        forward, clips, classes=CLASSES, method=method, features=features, baseline=baseline,
        samples=1, steps=64,
    )  # fmt: skip
    parts = torch.einsum("nmtvc,nmtvc->nv", clips, 0.1 * weights[CLASSES]).tanh()
    np.testing.assert_allclose(found, parts.numpy(), atol=1e-5)


@pytest.mark.parametrize("score", ["logit", "log_probability"])
@pytest.mark.parametrize("method", ["integrated_gradients", "shapley"])
def test_importance_sums_to_the_difference_of_the_scores(method, score, clips, toy_skeleton):
    model = small_network(toy_skeleton).double()
    features = make_features("joint_x_segment", toy_skeleton, num_frames=T, num_segments=2)
    baseline = make_baseline(clips, "first_frame")
    classes = CLASSES % 3
    found = attribute(
        model, clips, classes=classes, method=method, features=features, baseline=baseline,
        score=score, samples=2, steps=100,
    )  # fmt: skip
    with torch.no_grad():
        whole = explained_score(model(clips), classes, score=score)
        nothing = explained_score(model(baseline), classes, score=score)
    difference = (whole - nothing).numpy()
    assert np.abs(difference).max() > 0.01
    # A rectifier is not smooth: the sum over 100 points is good to a few per cent, not to the bit.
    tolerance = 1e-5 if method == "shapley" else 0.03 * np.abs(found).sum(1).max()
    np.testing.assert_allclose(found.sum(1), difference, atol=tolerance)


def test_shapley_sampling_comes_near_the_exact_values(toy_skeleton):
    """Of a product of two joints each gets half; occlusion gives each of them all of it."""
    features = make_features("joint", toy_skeleton, num_frames=T)
    x = torch.ones(2, M, T, 5, C)

    arguments = {
        "classes": torch.zeros(2, dtype=torch.long),
        "features": features,
        "baseline": torch.zeros_like(x),
    }
    shapley = attribute(product_of_two_joints, x, method="shapley", samples=400, **arguments)
    np.testing.assert_allclose(shapley, [[0, 0.5, 0, 0.5, 0]] * 2, atol=0.1)
    np.testing.assert_allclose(shapley.sum(1), 1, atol=1e-6)
    occlusion = attribute(product_of_two_joints, x, method="occlusion", **arguments)
    np.testing.assert_array_equal(occlusion, [[0, 1, 0, 1, 0]] * 2)


@pytest.mark.parametrize("method", METHODS)
def test_importance_does_not_depend_on_the_batch_size(method, clips, toy_skeleton):
    model = small_network(toy_skeleton).double()
    features = make_features("joint", toy_skeleton, num_frames=T)
    arguments = {
        "classes": CLASSES % 3,
        "method": method,
        "features": features,
        "baseline": make_baseline(clips, "mean_pose"),
        "samples": 2,
        "steps": 3,
    }
    whole = attribute(model, clips, batch_size=64, **arguments)
    for batch_size in (1, 2, 7):
        found = attribute(model, clips, batch_size=batch_size, **arguments)
        np.testing.assert_allclose(found, whole, atol=1e-6)
    assert np.abs(whole).max() > 1e-3


def product_of_two_joints(x):
    joint = x[:, 0, 0, :, 0]
    return torch.stack([joint[:, 1] * joint[:, 3], joint[:, 2]], dim=1)


def test_shapley_orders_are_each_clip_s_own(toy_skeleton):
    """Of a product, an order gives all to the joint that comes last: a coin that each clip tosses.

    With one order for all of them, any number of clips would be wrong in the same way.
    """
    N = 400
    x = torch.ones(N, M, T, 5, C)
    asked = {
        "classes": torch.zeros(N, dtype=torch.long),
        "features": make_features("joint", toy_skeleton, num_frames=T),
        "baseline": torch.zeros_like(x),
        "method": "shapley",
        "samples": 1,
    }
    found = attribute(product_of_two_joints, x, **asked)
    np.testing.assert_array_equal(found[:, [0, 2, 4]], 0)
    np.testing.assert_array_equal(np.sort(found[:, [1, 3]], axis=1), [[0, 1]] * N)
    assert found[:, 1].mean() == pytest.approx(0.5, abs=4 * 0.5 / N**0.5)
    other = attribute(product_of_two_joints, x, seed=1, **asked)
    same = (other == found).all(axis=1).mean()
    assert same == pytest.approx(0.5, abs=4 * 0.5 / N**0.5)


def test_shapley_orders_go_with_the_names_of_clips(clips, toy_skeleton):
    model, ids = small_network(toy_skeleton).double(), [f"clip{i}" for i in range(5)]
    asked = {
        "method": "shapley",
        "features": make_features("joint", toy_skeleton, num_frames=T),
        "samples": 2,
    }

    def of(places, **others):
        x = clips[places]
        given = {"classes": CLASSES[places] % 3, "baseline": torch.zeros_like(x), **asked}
        return attribute(model, x, **given, **others)

    whole = of([0, 1, 2, 3, 4], ids=ids)
    some = of([3, 0, 2], ids=[ids[3], ids[0], ids[2]], batch_size=2)
    np.testing.assert_allclose(some, whole[[3, 0, 2]], atol=1e-6)
    renamed = of([3, 0, 2], ids=["a", "b", "c"])
    assert (np.abs(renamed - some).max(axis=1) > 1e-4).all()
    with pytest.raises(ValueError, match="expected 3 ids, one per clip, found 5"):
        of([3, 0, 2], ids=ids)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 7, 64])
@pytest.mark.parametrize("method", METHODS)
def test_no_more_clips_at_a_time_than_the_batch_size(
    method, batch_size, clips, weights, toy_skeleton
):
    forward, seen = linear(weights), []

    def watched(x):
        seen.append(len(x))
        return forward(x)

    asked = {"classes": CLASSES, "method": method, "baseline": torch.zeros_like(clips)}
    features = make_features("joint", toy_skeleton, num_frames=T)
    attribute(
        watched, clips, features=features, samples=2, steps=16, batch_size=batch_size, **asked
    )
    if "gradient" in method:
        gradient_map(watched, clips, steps=16, batch_size=batch_size, **asked)
    assert max(seen) <= batch_size


@pytest.mark.parametrize("method", METHODS)
def test_passes_are_counted_before_they_are_made(method, clips, weights, toy_skeleton):
    features = make_features("joint", toy_skeleton, num_frames=T)
    forward, seen = linear(weights), {"forward": 0, "backward": 0}

    def counting(x):
        seen["forward"] += len(x)
        if x.requires_grad:
            x.register_hook(lambda gradient: seen.update(backward=seen["backward"] + len(x)))
        return forward(x)

    attribute(
        counting, clips, classes=CLASSES, method=method, features=features,
        baseline=torch.zeros_like(clips), samples=3, steps=6,
    )  # fmt: skip
    expected = passes(method, num_features=len(features), samples=3, steps=6)
    assert seen["forward"] == len(clips) * expected.forward
    assert seen["backward"] == len(clips) * expected.backward


def test_shapley_leaves_the_generator_alone_and_follows_its_seed(clips, toy_skeleton):
    model = small_network(toy_skeleton).double()
    arguments = {
        "classes": CLASSES % 3,
        "method": "shapley",
        "features": make_features("joint", toy_skeleton, num_frames=T),
        "baseline": torch.zeros_like(clips),
        "samples": 1,
    }
    before = torch.get_rng_state()
    first = attribute(model, clips, seed=1, **arguments)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(attribute(model, clips, seed=1, **arguments), first)
    assert not np.allclose(attribute(model, clips, seed=2, **arguments), first)


def test_attribute_leaves_the_network_as_it_was(clips, toy_skeleton):
    model = small_network(toy_skeleton).double()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for method in METHODS:
        attribute(
            model, clips, classes=CLASSES % 3, method=method, samples=1, steps=2,
            features=make_features("joint", toy_skeleton, num_frames=T),
            baseline=torch.zeros_like(clips),
        )  # fmt: skip
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_gradient_map_adds_up_to_the_features(clips, weights, toy_skeleton):
    baseline = make_baseline(clips, "mean_pose")
    arguments = {"classes": CLASSES, "method": "gradient_x_input", "baseline": baseline}
    found = gradient_map(linear(weights), clips, **arguments)
    assert found.shape == clips.shape[:-1]
    features = make_features("joint", toy_skeleton, num_frames=T)
    summed = attribute(linear(weights), clips, features=features, **arguments)
    np.testing.assert_allclose(found.sum(dim=(1, 2)).numpy(), summed, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="no value per joint and frame"):
        gradient_map(linear(weights), clips, **{**arguments, "method": "occlusion"})


def test_features_cover_every_joint_and_frame_once(toy_skeleton_with_parts):
    for by, count in (("joint", 5), ("part", 3), ("segment", 3), ("joint_x_segment", 15)):
        features = make_features(by, toy_skeleton_with_parts, num_frames=T, num_segments=3)
        assert len(features) == count == len(set(features.names))
        np.testing.assert_array_equal(np.unique(features.index), np.arange(count))
    assert features.names[1] == "hip, frames 2 to 3"
    assert features.index[2, 0] == 1
    names = make_features("part", toy_skeleton_with_parts, num_frames=T).names
    assert names == ("arms", "trunk", "other")


def test_hide_replaces_what_is_not_kept_in_all_persons(clips, toy_skeleton):
    features = make_features("joint", toy_skeleton, num_frames=T)
    kept = torch.ones(5, 5, dtype=torch.bool)
    kept[2, 4] = False
    found = hide(clips, torch.zeros_like(clips), kept, features)
    expected = clips.clone()
    expected[2, :, :, 4] = 0
    assert torch.equal(found, expected)


def test_baselines_in_closed_form():
    x = torch.zeros(2, 2, 4, 3, 2)
    x[:, 0] = torch.arange(4.0)[:, None, None] + 1
    x[0, 1, 2:] = torch.tensor([5.0, 7.0])[:, None, None]
    pose = mean_pose(x)
    assert pose[0].unique().tolist() == [2.5]
    assert pose[1].unique().tolist() == [6.0]
    held = make_baseline(x, "first_frame")
    assert held[:, 0].unique().tolist() == [1.0]
    assert held[0, 1, :, 0, 0].tolist() == [0, 0, 5, 5]
    assert held[1, 1].abs().max() == 0
    mean = make_baseline(x, "mean_pose")
    assert mean[0, 1, :, 0, 0].tolist() == [0, 0, 6, 6]
    assert make_baseline(x, "removed").abs().max() == 0
    assert mean_pose(torch.zeros(1, 2, 4, 3, 2)).abs().max() == 0


def test_importance_refuses(clips, weights, toy_skeleton):
    features = make_features("joint", toy_skeleton, num_frames=T)
    good = {
        "classes": CLASSES,
        "method": "occlusion",
        "features": features,
        "baseline": torch.zeros_like(clips),
    }
    for change, message in (
        ({"method": "magic"}, "unknown method 'magic': expected one of gradient_x_input"),
        ({"baseline": clips[:1]}, r"expected a baseline \(5, 2, 6, 5, 3\)"),
        ({"classes": CLASSES[:2]}, "expected 5 classes, one per clip"),
        ({"score": "luck"}, "unknown score 'luck'"),
        ({"batch_size": 0}, "at least 1, found 0"),
        ({"features": make_features("joint", toy_skeleton, num_frames=7)}, r"N, M, 7, 5, C"),
    ):
        with pytest.raises(ValueError, match=message):
            attribute(linear(weights), clips, **{**good, **change})
    with pytest.raises(ValueError, match=r"training mode.*call model.eval\(\) first"):
        attribute(small_network(toy_skeleton).train(), clips, **good)
    with pytest.raises(ValueError, match="unknown baseline 'blur'"):
        make_baseline(clips, "blur")
    with pytest.raises(ValueError, match=r"expected a pose \(2, 5, 3\)"):
        make_baseline(clips, "mean_pose", pose=torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"expected clips \(N, M, T, V, C\)"):
        mean_pose(clips[0])
    with pytest.raises(ValueError, match="1 to 6 segments of 6 frames, found 7"):
        make_features("segment", toy_skeleton, num_frames=6, num_segments=7)
    with pytest.raises(ValueError, match="importance by 'bone'"):
        make_features("bone", toy_skeleton, num_frames=6)
    with pytest.raises(ValueError, match="toy5 has no body parts"):
        make_features("part", toy_skeleton, num_frames=6)
    with pytest.raises(ValueError, match="unknown method"):
        passes("magic", num_features=3)


@pytest.fixture
def toy_skeleton_with_parts(toy_skeleton):
    """The toy with two parts, and its head in none of them."""
    record = toy_skeleton.to_dict() | {"parts": {"arms": [3, 4], "trunk": [0, 1]}}
    return skeletons.Skeleton.from_record(record)


def small_network(skeleton):
    model = MSG3D(
        num_classes=3, skeleton=skeleton, base_channels=6, num_gcn_scales=2, num_g3d_scales=2,
        window_sizes=(3,), window_dilations=(1,),
    )  # fmt: skip
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    return model.eval()
