import itertools

import numpy as np
import pytest
import torch

from msg3d_lab import MSG3D, analysis, viz
from msg3d_lab.analysis.points import graph_layers


def without_masks(model):
    for layer in graph_layers(model).values():
        layer.adjacency.A_res.data.zero_()
    return model


@pytest.mark.parametrize("aggregation", ["disentangled", "powers"])
def test_receptive_field_of_an_untrained_network_is_that_of_its_graphs(make_network, aggregation):
    network = without_masks(make_network(aggregation=aggregation))
    table = analysis.receptive_field_by_hop(network)
    own = table[table["graph"] == "block2.factorized"]
    scales = analysis.learned_graphs(network)["block2.factorized"].A
    expected = viz.hop_share_table(scales, network.skeleton)
    for kind in ("designed", "learned"):
        found = own.pivot(index="scale", columns="hops", values=kind)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    sums = table.groupby(["graph", "scale"])[["designed", "learned"]].sum()
    assert sums.to_numpy() == pytest.approx(1)


def test_receptive_field_of_a_window_counts_all_its_frames(make_network):
    """On a dense window a joint hears, at one hop, itself in the other frames and neighbours."""
    network = make_network(normalization="column", window_sizes=(3,), window_dilations=(1,))
    table = analysis.receptive_field_by_hop(network)
    own = table[(table["graph"] == "block1.g3d.window3") & (table["scale"] == 1)]
    # The chest has 3 frames x 4 neighbours and itself 3 times; the others 3 x 1 and 3 times.
    expected = (3 / 15 + 4 * 3 / 6) / 5
    shares = own.set_index("hops")["designed"]
    assert shares[0] == pytest.approx(expected)
    assert shares[0] + shares[1] == pytest.approx(1)


def test_receptive_field_sees_a_learned_edge(make_network):
    network = without_masks(make_network(num_gcn_scales=1))
    mask = graph_layers(network)["block1.factorized"].adjacency.A_res
    mask.data[0, 2, 0] = -3.0  # the head hears the hip; sizes count, not signs
    table = analysis.receptive_field_by_hop(network)
    own = table[table["graph"] == "block1.factorized"].set_index("hops")
    assert own["designed"].to_dict() == {0: 1.0, 1: 0.0, 2: 0.0}
    assert own["learned"].to_dict() == pytest.approx({0: (4 + 0.25) / 5, 1: 0.0, 2: 0.75 / 5})


def chain(length):
    from msg3d_lab import skeletons

    names = [f"j{i}" for i in range(length)]
    edges = [list(pair) for pair in itertools.pairwise(names)]
    return skeletons.from_dict({"name": "chain", "joints": names, "edges": edges, "center": "j0"})


@pytest.mark.parametrize("aggregation", ["disentangled", "powers"])
@pytest.mark.parametrize("num_scales", [1, 2, 4])
def test_effective_reach_ends_at_the_highest_hop(aggregation, num_scales):
    model = MSG3D(
        num_classes=2,
        skeleton=chain(6),
        num_persons=1,
        base_channels=8,
        tcn_dilations=(1, 2),
        pathways=("factorized",),
        num_gcn_scales=num_scales,
        aggregation=aggregation,
    )
    model = without_masks(model.double()).eval()
    x = torch.randn(2, 1, 8, 6, 3, dtype=torch.float64)
    shares = analysis.effective_reach(model, x)["share"]
    assert list(shares.index) == list(range(6))
    assert shares.sum() == pytest.approx(1)
    assert (shares[:num_scales] > 0).all()
    assert (shares[num_scales:] == 0).all()
    # Another block reaches as far again.
    twice = analysis.effective_reach(model, x, point="block2")["share"]
    assert (twice[: 2 * num_scales - 1] > 0).all()
    assert (twice[2 * num_scales - 1 :] == 0).all()


def test_effective_reach_is_the_slow_loop(network, batch):
    """Against derivatives by small changes of the input, joint by joint."""
    x = batch[:1, :, :2]
    shares = analysis.effective_reach(network, x)["share"]
    signs = torch.randint(2, (1, 2, 8), generator=torch.Generator().manual_seed(0)) * 2 - 1
    energy = np.zeros((5, 5))
    _, cache = analysis.run_with_cache(network, x, names=["input"])
    for m, t, u, c in np.ndindex(2, 2, 5, 3):

        def value(step, place=(0, m, t, u, c)):
            moved = cache["input"].clone()
            moved[place] += step
            change = {"input": analysis.replace(moved)}
            names = ["block1"]
            _, after = analysis.run_with_cache(network, x, names=names, interventions=change)
            return (after["block1"][:, :, 1] * signs[:, :, None]).sum(dim=(0, 1, 3)).numpy()

        energy[:, u] += ((value(1e-6) - value(-1e-6)) / 2e-6) ** 2
    rows = energy / energy.sum(axis=1, keepdims=True)
    hops = analysis.learned_graphs(network)["block1.factorized"].hops
    expected = [rows[hops == d].sum() / 5 for d in range(3)]
    assert shares.to_list() == pytest.approx(expected, rel=1e-4)


def test_effective_reach_refuses(network, batch):
    with pytest.raises(ValueError, match="'pooled' has no joints"):
        analysis.effective_reach(network, batch, point="pooled")
    with pytest.raises(ValueError, match="training mode"):
        analysis.effective_reach(network.train(), batch)
