import pytest
import torch

from msg3d_lab import MSG3D
from msg3d_lab.analysis import mean, only, replace, run_with_cache, run_with_interventions, zero
from msg3d_lab.analysis.points import graph_layers, list_points


def logits_of(model, x):
    with torch.no_grad():
        return model(x)


def with_state_of(model, **arguments):
    """A network with other arguments and the tensors of this one that it has."""
    other = MSG3D(**{**model.arguments, **arguments}).double().eval()
    state = model.state_dict()
    other.load_state_dict({name: state[name] for name in other.state_dict()})
    return other


def test_replacing_every_point_by_its_own_value_changes_nothing(network, batch):
    logits, cache = run_with_cache(network, batch)
    for name, value in cache.items():
        again = run_with_interventions(network, batch, {name: replace(value)})
        torch.testing.assert_close(again, logits, rtol=0, atol=1e-12, msg=name)


def test_every_point_matters(network, batch):
    logits = logits_of(network, batch)
    for point in list_points(network):
        changed = run_with_interventions(network, batch, {point.name: lambda value: 2 * value + 1})
        assert (changed - logits).abs().max() > 1e-6, point.name


@pytest.mark.parametrize(
    ("point", "arguments"),
    [
        ("block*.g3d", {"pathways": ("factorized",)}),
        ("block*.factorized", {"pathways": ("g3d",)}),
        ("block*.g3d.window5", {"window_sizes": (3,), "window_dilations": (1,)}),
    ],
)
def test_zero_at_a_pathway_is_the_network_without_it(network, batch, point, arguments):
    expected = logits_of(with_state_of(network, **arguments), batch)
    with torch.no_grad():
        found = run_with_interventions(network, batch, {point: zero})
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("graph", ["block2.factorized", "block1.g3d.window3", "block3.g3d.window5"])
def test_zero_at_a_scale_is_the_network_with_an_empty_graph_there(make_network, batch, graph):
    network, emptied = make_network(), make_network()
    adjacency = graph_layers(emptied)[graph].adjacency
    adjacency.A[1] = 0
    adjacency.A_res.data[1] = 0
    with torch.no_grad():
        found = run_with_interventions(network, batch, {f"{graph}.scale1": zero})
    torch.testing.assert_close(found, logits_of(emptied, batch), rtol=0, atol=1e-12)


def test_zero_at_a_branch_is_the_network_without_its_normalisation(make_network, batch):
    network, emptied = make_network(), make_network()
    tcn = emptied.blocks[1].tcn
    tcn.bn.weight.data[tcn.width : 2 * tcn.width] = 0
    tcn.bn.bias.data[tcn.width : 2 * tcn.width] = 0
    with torch.no_grad():
        found = run_with_interventions(network, batch, {"block2.tcn.dilation2": zero})
    torch.testing.assert_close(found, logits_of(emptied, batch), rtol=0, atol=1e-12)


def test_mean_over_all_places_leaves_one_value_per_channel(network, batch):
    plain = run_with_cache(network, batch, names=["block1"])[1]["block1"]
    _, cache = run_with_cache(network, batch, names="block1", interventions={"block1": mean()})
    expected = plain.mean(dim=(0, 1, 2, 3)).expand_as(plain)
    torch.testing.assert_close(cache["block1"], expected)


def test_only_limits_an_intervention(network, batch):
    plain = run_with_cache(network, batch, names=["input"])[1]["input"]
    here = only(zero, clips=[1], joints=[0, 4], frames=[2], channels=[1])
    _, cache = run_with_cache(network, batch, names=["input"], interventions={"input": here})
    expected = plain.clone()
    for v in (0, 4):
        expected[1, :, 2, v, 1] = 0
    torch.testing.assert_close(cache["input"], expected, rtol=0, atol=0)
    assert (only(zero, persons=[1])(plain) == plain).flatten(2).all(dim=-1).tolist() == [
        [True, False]
    ] * 3


def test_interventions_reach_what_comes_after_and_nothing_before(network, batch):
    change = {"block2.factorized": zero}
    _, plain = run_with_cache(network, batch)
    _, changed = run_with_cache(network, batch, interventions=change)
    same = {name for name in plain if torch.equal(plain[name], changed[name])}
    names = list(plain)
    expected = set(names[: names.index("block2.factorized")])
    assert same == expected | {name for name in names if name.startswith("block2.g3d")}


def test_gradients_are_closed_forms_behind_the_last_block(network, batch):
    logits, cache = run_with_cache(network, batch, names=["block3", "pooled"], gradients=True)
    of_block, of_pooled = torch.autograd.grad(logits[:, 2].sum(), list(cache.values()))
    weight = network.fc.weight[2].detach()
    value = cache["block3"]
    share = weight.expand_as(value) / value[0, ..., 0].numel()
    torch.testing.assert_close(of_block, share)
    torch.testing.assert_close(of_pooled, weight.expand(3, -1))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_gradients_are_those_of_small_changes(network, batch):
    name, places = "block2.g3d.window5.scale1", (0, 1, 2, 3, 7)
    logits, cache = run_with_cache(network, batch, names=[name], gradients=True)
    (gradient,) = torch.autograd.grad(logits[0, 1], cache[name])

    def moved(step):
        def change(value):
            value = value.clone()
            value[places] += step
            return value

        return run_with_interventions(network, batch, {name: change})[0, 1].item()

    assert gradient[places].item() == pytest.approx((moved(1e-5) - moved(-1e-5)) / 2e-5, rel=1e-5)
    assert gradient[1:].abs().max() == 0  # clips do not depend on each other in evaluation


def test_gradients_work_with_frozen_parameters_and_where_an_intervention_cut_the_past(
    network, batch
):
    network.requires_grad_(False)
    change = {"block2": replace(torch.zeros(3, 2, 5, 5, 16, dtype=torch.float64))}
    logits, cache = run_with_cache(
        network, batch, names=["block1", "block2"], interventions=change, gradients=True
    )
    values = list(cache.values())
    before, behind = torch.autograd.grad(logits.sum(), values, allow_unused=True)
    assert before is None
    assert behind.abs().max() > 0


def test_without_gradients_nothing_is_kept_for_them(network, batch):
    logits, cache = run_with_cache(network, batch, names=["block1"])
    assert not logits.requires_grad
    assert not cache["block1"].requires_grad


def test_kept_and_given_values_are_not_written_into(make_network, batch):
    """With a single window, the G3D pathway's output is its window's, in the same memory."""
    network = make_network(window_sizes=(3,), window_dilations=(1,))
    window, pathway = "block1.g3d.window3", "block1.g3d"
    plain = run_with_cache(network, batch, names=[window])[1][window]
    in_place = {pathway: lambda value: value.mul_(0)}
    _, cache = run_with_cache(network, batch, names=[window, pathway], interventions=in_place)
    torch.testing.assert_close(cache[window], plain, rtol=0, atol=1e-12)
    assert cache[pathway].abs().max() == 0
    given = torch.ones_like(plain)
    with torch.no_grad():
        run_with_interventions(network, batch, {window: replace(given), **in_place})
    assert torch.equal(given, torch.ones_like(given))


def hooks_of(model):
    """What watching might leave behind."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_nothing_is_left_behind(network, batch):
    network.recompute = network.share_empty = network.sliced = True
    seen = []

    def look(value):
        switches = network.recompute or network.share_empty or network.sliced
        seen.append((switches, hooks_of(network)))
        return value

    def fail(value):
        raise RuntimeError("on purpose")

    run_with_interventions(network, batch, {"block1.tcn.max": look})
    with pytest.raises(RuntimeError, match="on purpose"):
        run_with_interventions(network, batch, {"input": look, "block2.g3d.*": fail, "*.gcn": look})
    assert seen[0] == (False, 1)
    assert network.recompute
    assert network.share_empty
    assert network.sliced
    assert hooks_of(network) == 0


def test_points_are_passed_once_in_training_with_recomputation(make_network, batch):
    network = make_network().train()
    network.recompute = True
    passed = []
    changes = {"block2.factorized.gcn": lambda value: passed.append(1) or value}
    run_with_interventions(network, batch, changes).sum().backward()
    assert passed == [1]
    assert network.recompute


def test_interventions_keep_the_caller_s_graph(network, batch):
    x = batch.requires_grad_()
    run_with_interventions(network, x, {"block1.g3d": zero}).sum().backward()
    assert x.grad.abs().max() > 0


def test_values_come_in_the_network_s_order(network, batch):
    _, cache = run_with_cache(network, batch, names=["block*.g3d", "pooled"])
    assert list(cache) == ["block1.g3d", "block2.g3d", "block3.g3d", "pooled"]
    assert cache["block1.g3d"].shape == (3, 2, 9, 5, 8)


@pytest.mark.parametrize(
    ("interventions", "message"),
    [
        ({"block1.g3": zero}, "no point is called 'block1.g3': did you mean block1.g3d"),
        ({"block9.*": zero}, "no point is called"),
        ({"block1.g3d": zero, "block1.*": zero}, "two interventions at block1.g3d"),
        ({"block1": lambda value: value[..., :1]}, "must keep the shape"),
    ],
)
def test_run_with_interventions_refuses(network, batch, interventions, message):
    with pytest.raises(ValueError, match=message):
        run_with_interventions(network, batch, interventions)


def test_run_with_cache_refuses_what_is_no_msg3d(network, batch):
    with pytest.raises(ValueError, match="found a Sequential"):
        run_with_cache(torch.nn.Sequential(network), batch)
