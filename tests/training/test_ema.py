import math

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from msg3d_lab.training.ema import build_ema
from msg3d_lab.training.setup import build_model


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
def test_ema_after_k_updates_is_the_weighted_sum(decay):
    net, generator = small_net(), torch.Generator().manual_seed(0)
    ema, seen, k = build_ema(net, decay), [], 25
    for _ in range(k):
        seen.append(wander(net, generator))
        ema.update_parameters(net)
    decays = [min(decay, n / (n + 10)) for n in range(k)]
    weights = [(1 - decays[n]) * math.prod(decays[n + 1 :]) for n in range(k)]
    assert sum(weights) == pytest.approx(1)  # nothing of the random start is left
    mean = ema.module.state_dict()
    for name in ("0.weight", "0.bias", "1.running_mean", "1.running_var"):
        expected = sum(w * state[name] for w, state in zip(weights, seen, strict=True))
        torch.testing.assert_close(mean[name], expected, rtol=1e-12, atol=1e-14)
    assert mean["1.num_batches_tracked"] == k


def test_ema_is_the_usual_one_once_the_ramp_is_over():
    """PyTorch's own from the same start gives the same."""
    net, generator = small_net(), torch.Generator().manual_seed(0)
    ema = build_ema(net, 0.9)
    for _ in range(91):  # 90 / 100 is the decay
        wander(net, generator)
        ema.update_parameters(net)
    usual = AveragedModel(ema.module, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    usual.update_parameters(ema.module)
    for _ in range(7):
        wander(net, generator)
        ema.update_parameters(net)
        usual.update_parameters(net)
    for ours, theirs in zip(ema.module.parameters(), usual.module.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-15)


def test_ema_leaves_the_network_alone_and_does_not_follow_it_by_itself():
    net, generator = small_net(), torch.Generator().manual_seed(0)
    ema = build_ema(net, 0.9)
    for _ in range(3):
        own = wander(net, generator)
        ema.update_parameters(net)
    assert all(torch.equal(value, own[name]) for name, value in net.state_dict().items())
    before = ema.module[0].weight.clone()
    wander(net, generator)
    assert torch.equal(ema.module[0].weight, before)


def test_ema_goes_on_from_its_state_to_the_bit(tmp_path):
    net, generator = small_net(), torch.Generator().manual_seed(0)
    ema = build_ema(net, 0.99)
    for _ in range(4):
        wander(net, generator)
        ema.update_parameters(net)
    torch.save(ema.state_dict(), tmp_path / "state.pt")
    again = build_ema(small_net(), 0.99)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(4):
        wander(net, generator)
        ema.update_parameters(net)
        again.update_parameters(net)
    one, other = ema.state_dict(), again.state_dict()
    assert one["n_averaged"] == other["n_averaged"] == 8
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_ema_leaves_the_graph_of_a_network_alone(toy_recipe, toy_store):
    """Adjacency buffers are constants, and so is their average."""
    net = build_model(toy_recipe, toy_store)
    ema = build_ema(net, 0.9)
    constants = {n: b.clone() for n, b in net.named_buffers() if n.rpartition(".")[2] == "A"}
    assert constants
    for _ in range(5):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        ema.update_parameters(net)
    for name, buffer in constants.items():
        assert torch.equal(ema.module.get_buffer(name), buffer)
