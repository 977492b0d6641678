import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from msg3d_lab import analysis
from msg3d_lab.analysis import run_with_cache, run_with_interventions
from msg3d_lab.analysis.decomposition import spread_over_frames
from msg3d_lab.analysis.points import graph_layers


def logits_of(model, x):
    with torch.no_grad():
        return model(x)


@pytest.mark.parametrize("num_frames", [4, 9, 16, 30])
@pytest.mark.parametrize("classes", [None, 3, [0, 2, 1]])
def test_class_activation_adds_up_to_the_logit(network, num_frames, classes):
    x = torch.randn(3, 2, num_frames, 5, 3, dtype=torch.float64)
    logits = logits_of(network, x)
    chosen = logits.argmax(dim=1) if classes is None else torch.tensor(classes).expand(3)
    values = analysis.class_activation(network, x, classes)
    assert values.shape == (3, 2, num_frames, 5)
    total = values.mean(dim=(1, 2, 3)) + network.fc.bias[chosen]
    torch.testing.assert_close(total, logits.gather(1, chosen[:, None])[:, 0], rtol=0, atol=1e-12)
    assert not values.requires_grad


def test_class_activation_is_within_round_off_in_single_precision(network, batch):
    model, x = network.float(), batch.float()
    logits = logits_of(model, x)
    values = analysis.class_activation(model, x, 1)
    total = values.mean(dim=(1, 2, 3)) + model.fc.bias[1]
    torch.testing.assert_close(total, logits[:, 1], rtol=1e-5, atol=1e-5)


def test_class_activation_of_a_place_is_the_logit_that_is_left_without_all_others(network, batch):
    # The last block has 3 of the clip's 9 frames.
    values = analysis.class_activation(network, batch, 2)[:, :, ::3]
    _, M, T, V = values.shape
    for m, t, v in ((0, 0, 0), (1, 2, 4), (0, 1, 3)):

        def alone(value, m=m, t=t, v=v):
            kept = torch.zeros_like(value)
            kept[:, m, t, v] = value[:, m, t, v]
            return kept

        with torch.no_grad():
            logit = run_with_interventions(network, batch, {"block3": alone})[:, 2]
        expected = (logit - network.fc.bias[2]) * M * T * V
        torch.testing.assert_close(values[:, m, t, v], expected.detach())


@given(count=st.integers(1, 12), more=st.integers(0, 40))
def test_spread_over_frames_keeps_the_mean_and_the_order(count, more):
    values = torch.arange(1.0, count + 1, dtype=torch.float64).view(1, 1, -1, 1)
    spread = spread_over_frames(values, count + more)
    assert spread.shape == (1, 1, count + more, 1)
    assert spread.mean().item() == pytest.approx(values.mean().item())
    if more % count == 0:
        times = (count + more) // count
        assert torch.equal(spread, values.repeat_interleave(times, dim=2))


@pytest.mark.parametrize("windows", [((3, 5), (1, 1)), ((3, 3), (1, 2))])
def test_pathway_contributions_add_up_to_what_the_last_layer_sees(make_network, batch, windows):
    network = make_network(window_sizes=windows[0], window_dilations=windows[1])
    seen = []
    network.share_empty = network.sliced = False  # the hooks are to see the whole batch
    handles = [
        block.tcn.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        for block in network.blocks
    ]
    logits_of(network, batch)
    for handle in handles:
        handle.remove()
    raw = analysis.pathway_contributions(network, batch)
    assert list(raw) == ["block1", "block2", "block3"]
    assert [name.split(".")[0] for name in raw["block1"]] == ["factorized", "g3d", "g3d"]
    for block, expected in zip(raw, seen, strict=True):
        assert (sum(raw[block].values()) < 0).any()
        total = sum(raw[block].values()).relu()
        torch.testing.assert_close(total.flatten(0, 1), expected, rtol=0, atol=1e-12)


def test_scale_shares_add_up_to_one(network, batch):
    table = analysis.scale_shares(network, batch)
    assert table.groupby("graph")["share"].sum().to_numpy() == pytest.approx(1)
    assert len(table) == 3 * (3 + 2 + 2)


@pytest.mark.parametrize("graph", ["block2.factorized", "block1.g3d.window3"])
def test_scale_shares_are_the_covariances_with_the_normalised_sum(network, batch, graph):
    """Each scale alone, through the layer's own normalisation."""
    mlp = graph_layers(network)[graph].mlp
    _, cache = run_with_cache(network, batch, names=[f"{graph}.scale*"])
    values = [value.flatten(0, 3) for value in cache.values()]
    if graph.endswith("factorized"):
        weights = mlp.conv.weight[:, :, 0, 0].detach().split(values[0].shape[1], dim=1)
        terms = [value @ W.T for value, W in zip(values, weights, strict=True)]
    else:
        terms = [value.reshape(-1, mlp.conv.out_channels) for value in values]

    def normalised(term):
        bn = mlp.bn
        return F.batch_norm(term, bn.running_mean, bn.running_var, bn.weight, bn.bias).detach()

    total = normalised(sum(terms) + mlp.conv.bias)
    centred = total - total.mean(dim=0)
    expected = [(centred * normalised(term)).sum() / centred.square().sum() for term in terms]
    table = analysis.scale_shares(network, batch)
    found = table.loc[table["graph"] == graph, "share"]
    assert found.to_list() == pytest.approx([share.item() for share in expected])


@pytest.mark.parametrize(
    "function",
    [
        analysis.class_activation,
        analysis.pathway_contributions,
        analysis.scale_shares,
    ],
)
def test_decompositions_refuse_a_network_in_training(network, batch, function):
    network.train()
    before = network.data_bn.running_mean.clone()
    with pytest.raises(ValueError, match="training mode"):
        function(network, batch)
    assert torch.equal(network.data_bn.running_mean, before)
