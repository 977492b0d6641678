import math

import pytest
import torch
import torch.nn.functional as F
from msg3d_lab.training.optimization import Average, build_optimizer, learning_rate_factor
from torch import nn

from msg3d_lab.training import recipes


def training(toy_recipe, *settings):
    return recipes.with_settings(toy_recipe, settings).training


def steps(optimizer, weight, gradients):
    """The weight after a step with each gradient."""
    seen = []
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=weight.dtype)
        optimizer.step()
        seen.append(weight.detach().clone())
    return seen


def test_build_optimizer_sgd_steps_by_hand(toy_recipe):
    settings = training(toy_recipe, "momentum=0.9", "weight_decay=0.01")
    w = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
    optimizer = build_optimizer([w], settings, learning_rate=0.1)
    one, two = steps(optimizer, w, [[1.0, 0.0], [0.0, 3.0]])
    # Nesterov: v = 0.9 v + g, w -= lr * (g + 0.9 v), with g = gradient + 0.01 w.
    start = torch.tensor([2.0, -1.0], dtype=torch.float64)
    g = torch.tensor([1.0, 0.0], dtype=torch.float64) + 0.01 * start
    v = g
    expected = start - 0.1 * (g + 0.9 * v)
    torch.testing.assert_close(one, expected, rtol=1e-14, atol=0)
    g = torch.tensor([0.0, 3.0], dtype=torch.float64) + 0.01 * expected
    v = 0.9 * v + g
    torch.testing.assert_close(two, expected - 0.1 * (g + 0.9 * v), rtol=1e-14, atol=0)


def test_build_optimizer_without_momentum_is_plain_descent(toy_recipe):
    settings = training(toy_recipe, "momentum=0", "weight_decay=0")
    w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    (one,) = steps(build_optimizer([w], settings, learning_rate=0.5), w, [[0.25]])
    assert one.item() == 1 - 0.5 * 0.25


def test_build_optimizer_adamw_steps_by_hand(toy_recipe):
    settings = training(toy_recipe, "optimizer=adamw", "betas=[0.8, 0.95]", "weight_decay=0.1")
    w = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    seen = steps(build_optimizer([w], settings, learning_rate=0.01), w, [[0.5], [-2.0], [1.0]])
    value, m, v = 2.0, 0.0, 0.0
    for k, g in enumerate([0.5, -2.0, 1.0], start=1):
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        mean, square = m / (1 - 0.8**k), v / (1 - 0.95**k)
        value = value * (1 - 0.01 * 0.1) - 0.01 * mean / (math.sqrt(square) + 1e-8)
        assert seen[k - 1].item() == pytest.approx(value, rel=1e-12)


def test_learning_rate_factor_cosine_has_a_closed_form(toy_recipe):
    settings = training(toy_recipe, "epochs=4", "warmup_epochs=0")
    factors = [learning_rate_factor(s, steps_per_epoch=5, settings=settings) for s in range(20)]
    expected = [(1 + math.cos(math.pi * s / 20)) / 2 for s in range(20)]
    assert factors == pytest.approx(expected)


def test_learning_rate_factor_cosine_after_warm_up_starts_at_the_peak(toy_recipe):
    settings = training(toy_recipe, "epochs=5", "warmup_epochs=1")
    factors = [learning_rate_factor(s, steps_per_epoch=4, settings=settings) for s in range(20)]
    assert factors[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factors[4:] == pytest.approx([(1 + math.cos(math.pi * s / 16)) / 2 for s in range(16)])


def test_learning_rate_factor_grows_then_drops_at_milestones(toy_recipe):
    settings = training(
        toy_recipe, "epochs=6", "warmup_epochs=1", "schedule=steps", "milestones=[3, 5]"
    )
    factors = [learning_rate_factor(s, steps_per_epoch=4, settings=settings) for s in range(24)]
    warmup = [0.2, 0.4, 0.6, 0.8]
    assert factors == pytest.approx([*warmup, *[1] * 8, *[0.1] * 8, *[0.01] * 4])


def test_label_smoothing_is_the_formula(toy_recipe):
    """The share is spread over all classes, the right one included."""
    share = training(toy_recipe, "label_smoothing=0.1").label_smoothing
    logits = torch.randn(6, 5, dtype=torch.float64)
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    target = torch.full((6, 5), share / 5, dtype=torch.float64)
    target[torch.arange(6), labels] += 1 - share
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    loss = F.cross_entropy(logits, labels, label_smoothing=share)
    torch.testing.assert_close(loss, expected, rtol=1e-14, atol=0)


def small_net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()


def wander(net, generator):
    """Weights and statistics as after one more step of some training."""
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator, dtype=value.dtype))
        else:
            value.add_(1)
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_average_after_k_updates_is_the_weighted_sum(decay):
    net, generator = small_net(), torch.Generator().manual_seed(0)
    average, seen, k = Average(net, decay), [], 25
    for _ in range(k):
        seen.append(wander(net, generator))
        average.update(net)
    decays = [min(decay, n / (n + 10)) for n in range(k)]
    weights = [(1 - decays[n]) * math.prod(decays[n + 1 :]) for n in range(k)]
    assert sum(weights) == pytest.approx(1)  # nothing of the random start is left
    mean = average.state_dict()["mean"]
    for name in ("0.weight", "0.bias", "1.running_mean", "1.running_var"):
        expected = sum(w * state[name] for w, state in zip(weights, seen, strict=True))
        torch.testing.assert_close(mean[name], expected, rtol=1e-12, atol=1e-14)
    assert mean["1.num_batches_tracked"] == k


def test_average_is_the_usual_one_once_the_ramp_is_over():
    """torch.optim.swa_utils from the same start gives the same."""
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    net, generator = small_net(), torch.Generator().manual_seed(0)
    average = Average(net, 0.9)
    for _ in range(91):  # 90 / 100 is the decay
        wander(net, generator)
        average.update(net)
    with average.applied(net):
        usual = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        usual.update_parameters(net)
    for _ in range(7):
        wander(net, generator)
        average.update(net)
        usual.update_parameters(net)
    with average.applied(net):
        for ours, theirs in zip(net.parameters(), usual.module.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-15)


def test_average_applied_swaps_in_and_back_to_the_bit():
    net, generator = small_net(), torch.Generator().manual_seed(0)
    average = Average(net, 0.9)
    parameters = list(net.parameters())
    for _ in range(3):
        own = wander(net, generator)
        average.update(net)

    def block():
        with average.applied(net):
            for name, value in net.state_dict().items():
                assert torch.equal(value, average.state_dict()["mean"][name])
            assert not torch.equal(net[0].weight, own["0.weight"])
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        block()
    assert all(torch.equal(value, own[name]) for name, value in net.state_dict().items())
    # The optimizer holds on to the same tensors.
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True))


def test_average_goes_on_from_its_state_to_the_bit(tmp_path):
    net, generator = small_net(), torch.Generator().manual_seed(0)
    average = Average(net, 0.99)
    for _ in range(4):
        wander(net, generator)
        average.update(net)
    torch.save(average.state_dict(), tmp_path / "state.pt")
    again = Average(small_net(), 0.99)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(4):
        wander(net, generator)
        average.update(net)
        again.update(net)
    one, other = average.state_dict(), again.state_dict()
    assert one["updates"] == other["updates"] == 8
    assert all(torch.equal(one["mean"][name], other["mean"][name]) for name in one["mean"])


def test_average_does_not_follow_the_network_by_itself():
    net = small_net()
    average = Average(net, 0.9)
    before = average.state_dict()["mean"]["0.weight"].clone()
    wander(net, torch.Generator().manual_seed(0))
    assert torch.equal(average.state_dict()["mean"]["0.weight"], before)


def test_average_refuses_the_state_of_another_network():
    average = Average(small_net(), 0.9)
    other = Average(nn.Linear(3, 5).double(), 0.9)
    with pytest.raises(ValueError, match=r"same weights, found 0\.bias to differ"):
        average.load_state_dict(other.state_dict())


@pytest.mark.parametrize("decay", [1.0, -0.1, math.nan])
def test_average_refuses_a_decay_that_never_forgets(decay):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        Average(small_net(), decay)


def test_average_leaves_the_graph_of_a_network_alone(toy_recipe, toy_store):
    """Adjacency buffers are constants: their average is they."""
    from msg3d_lab.training.setup import build_model

    net = build_model(toy_recipe, toy_store)
    average = Average(net, 0.9)
    constants = {n: b.clone() for n, b in net.named_buffers() if n.rpartition(".")[2] == "A"}
    for _ in range(5):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        average.update(net)
    with average.applied(net):
        for name, buffer in constants.items():
            assert torch.equal(net.get_buffer(name), buffer)
