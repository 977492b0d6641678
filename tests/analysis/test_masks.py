import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from msg3d_lab import analysis, graph
from msg3d_lab.analysis.points import graph_layers


@pytest.fixture
def seeds(make_network):
    """Four networks that differ in their masks: noise, and one planted edge."""
    models = [make_network(seed) for seed in range(4)]
    for i, model in enumerate(models):
        g = torch.Generator().manual_seed(i)
        for layer in graph_layers(model).values():
            mask = layer.adjacency.A_res
            mask.data = 0.01 * torch.randn(mask.shape, generator=g, dtype=mask.dtype)
        planted = graph_layers(model)["block2.factorized"].adjacency.A_res
        planted.data[2, 3, 4] = -0.9 + 1e-5 * i
    return models


def row_of(table, name, scale, receiver, sender, frames=(0, 0)):
    here = (table["graph"] == name) & (table["scale"] == scale)
    here &= (table["receiver"] == receiver) & (table["sender"] == sender)
    here &= (table["receiver_frame"] == frames[0]) & (table["sender_frame"] == frames[1])
    assert here.sum() == 1
    return table[here].iloc[0]


def test_learned_graphs_are_what_the_network_aggregates_with(network):
    graphs = analysis.learned_graphs(network)
    assert list(graphs)[:3] == ["block1.factorized", "block1.g3d.window3", "block1.g3d.window5"]
    for name, layer in graph_layers(network).items():
        np.testing.assert_array_equal(graphs[name].total, layer.adjacency().detach().numpy())
    body = graphs["block1.factorized"]
    designed = graph.scale_adjacencies(network.skeleton.adjacency, 3)
    np.testing.assert_allclose(body.A, designed, atol=1e-7)


def test_learned_graphs_of_a_network_without_masks_are_the_designed_ones(make_network):
    for own in analysis.learned_graphs(make_network(residual_mask=False)).values():
        assert not own.A_res.any()
        np.testing.assert_array_equal(own.total, own.A)


def test_learned_graphs_know_the_frames_and_hops_of_a_window(make_network):
    network = make_network(window_sizes=(3, 4), window_dilations=(2, 1))
    graphs = analysis.learned_graphs(network)
    wide, even = graphs["block1.g3d.window3d2"], graphs["block1.g3d.window4"]
    assert wide.frames.reshape(3, 5)[:, 0].tolist() == [-2, 0, 2]
    assert even.frames.reshape(4, 5)[:, 4].tolist() == [-1, 0, 1, 2]
    head, left_hand = 2, 3
    assert wide.hops[5 + head, 10 + left_hand] == 2
    assert wide.hops[head, 10 + head] == 0


@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (3, 2), (4, 1), (4, 2), (4, 3), (2, 2)])
def test_frames_of_a_window_are_those_that_the_network_sees(make_network, size, dilation):
    network = make_network(window_sizes=(size,), window_dilations=(dilation,))
    name = f"window{size}" + (f"d{dilation}" if dilation > 1 else "")
    layer = graph_layers(network)[f"block1.g3d.{name}"]
    x = torch.randn(1, 25, 5, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x)[0, 12].sum(), x)
    seen = gradient[0].abs().sum(dim=(1, 2)).nonzero()[:, 0] - 12
    frames = analysis.learned_graphs(network)[f"block1.g3d.{name}"].frames
    assert frames.reshape(size, 5)[:, 0].tolist() == seen.tolist()


def test_mask_change_of_one_network_is_its_mask_untested(network):
    table = analysis.mask_change(network)
    own = analysis.learned_graphs(network)["block1.g3d.window3"]
    found = row_of(table, "block1.g3d.window3", 1, "head", "left hand", frames=(0, 1))
    assert found["mean"] == own.A_res[1, 5 + 2, 10 + 3]
    assert found["A"] == own.A[1, 5 + 2, 10 + 3]
    assert found["hops"] == 2
    assert table[["sd", "p_value", "p_holm"]].isna().all(axis=None)
    assert len(table) == 3 * (3 * 25 + 2 * 15**2 + 2 * 25**2)


def test_mask_change_over_seeds_is_the_t_test_of_scipy(seeds):
    table = analysis.mask_change(seeds)
    name = "block3.g3d.window3"
    masks = np.stack([analysis.learned_graphs(model)[name].A_res for model in seeds])
    here = table[table["graph"] == name]
    expected = stats.ttest_1samp(masks, 0).pvalue.ravel()
    np.testing.assert_allclose(here["p_value"], expected)
    np.testing.assert_allclose(here["mean"], masks.mean(axis=0).ravel())
    np.testing.assert_allclose(here["sd"], masks.std(axis=0, ddof=1).ravel())


def test_mask_change_finds_the_planted_edge_and_no_other(seeds):
    table = analysis.mask_change(seeds)
    found = table[table["p_holm"] < 0.05]
    assert len(found) == 1
    assert (found.iloc[0]["receiver"], found.iloc[0]["sender"]) == ("left hand", "right hand")
    assert found.iloc[0]["graph"] == "block2.factorized"
    strongest = analysis.strongest_edges(table, top=3)
    assert strongest.iloc[0]["mean"] == pytest.approx(-0.9, abs=1e-4)


def test_mask_change_counts_from_the_untrained_networks(seeds, make_network):
    starts = [make_network(seed) for seed in range(4)]
    name = "block2.factorized"
    planted = analysis.mask_change(seeds, starts)
    expected = np.mean(
        [
            analysis.learned_graphs(a)[name].A_res - analysis.learned_graphs(b)[name].A_res
            for a, b in zip(seeds, starts, strict=True)
        ],
        axis=0,
    )
    np.testing.assert_allclose(planted[planted["graph"] == name]["mean"], expected.ravel())
    against_one = analysis.mask_change(seeds, starts[0])
    same = analysis.mask_change(seeds, [starts[0]] * 4)
    pd.testing.assert_frame_equal(against_one, same)


def test_mask_change_says_what_is_not_known_of_identical_networks(network):
    """No change is no change; the same change in copies of one network is no sample of seeds."""
    unchanged = analysis.mask_change([network, network], [network, network])
    assert (unchanged["mean"] == 0).all()
    assert (unchanged["p_value"] == 1).all()
    copies = analysis.mask_change([network, network])
    assert copies["p_value"].isna().all()


def test_mask_change_refuses(network, make_network):
    with pytest.raises(ValueError, match="residual_mask=False"):
        analysis.mask_change(make_network(residual_mask=False))
    with pytest.raises(ValueError, match=r"different graphs.*block1.factorized.* differ"):
        analysis.mask_change([network, make_network(normalization="column")])
    with pytest.raises(ValueError, match="different graphs"):
        analysis.mask_change([network, make_network(pathways=("factorized",))])
    with pytest.raises(ValueError, match="different graphs"):
        analysis.mask_change(network, make_network(num_gcn_scales=2))
    with pytest.raises(ValueError, match="broadcast"):
        analysis.mask_change([network] * 3, [network] * 2)


def test_networks_of_other_widths_and_classes_can_be_compared(network, make_network):
    other = make_network(base_channels=11, num_classes=7)
    assert len(analysis.mask_change([network, other])) == len(analysis.mask_change(network))


def test_mask_agreement_is_one_for_copies_and_minus_one_for_opposites(make_network):
    first, opposite = make_network(1), make_network(1)
    for layer in graph_layers(opposite).values():
        layer.adjacency.A_res.data.neg_()
    same = analysis.mask_agreement([first, first])
    assert same["correlation"].to_numpy() == pytest.approx(1)
    mixed = analysis.mask_agreement([first, opposite, first])
    assert mixed["correlation"].to_numpy() == pytest.approx(-1 / 3)
    assert mixed["lowest"].to_numpy() == pytest.approx(-1)
    assert mixed["highest"].to_numpy() == pytest.approx(1)
    for layer in graph_layers(opposite).values():
        layer.adjacency.A_res.data.zero_()
    assert analysis.mask_agreement([first, opposite])["correlation"].isna().all()


def test_strongest_edges_are_the_largest_that_are_left(seeds):
    table = analysis.mask_change(seeds)
    far = analysis.strongest_edges(table, top=5, graph="*.g3d.*", min_frames=2)
    assert far["graph"].str.contains("g3d.window5|g3d.window3").all()
    assert ((far["receiver_frame"] - far["sender_frame"]).abs() >= 2).all()
    assert (far["hops"] >= 2).all()
    rest = table[table["graph"].isin([n for n in table["graph"].unique() if "g3d" in n])]
    rest = rest[rest["hops"] >= 2]
    rest = rest[(rest["receiver_frame"] - rest["sender_frame"]).abs() >= 2]
    np.testing.assert_array_equal(far["mean"].abs(), rest["mean"].abs().nlargest(5))


def test_strongest_edges_refuse_an_unknown_graph(seeds):
    with pytest.raises(ValueError, match="no graph is called 'block4': there are block1"):
        analysis.strongest_edges(analysis.mask_change(seeds), graph="block4")
