import pytest
import torch

from msg3d_lab import analysis
from msg3d_lab.analysis.points import graph_layers, list_points, unique

VARIANTS = {
    "published": {},
    "columns": {"normalization": "column"},
    "powers": {"aggregation": "powers"},
    "no masks": {"residual_mask": False},
    "factorized only": {"pathways": ("factorized",)},
    "g3d only": {"pathways": ("g3d",)},
    "one even window": {"window_sizes": (4,), "window_dilations": (1,)},
    "dilated windows": {"window_sizes": (3, 3), "window_dilations": (1, 2)},
    "equal windows": {"window_sizes": (3, 3), "window_dilations": (1, 1)},
    "grid edges": {"window_edges": "grid"},
    "other dilations": {"tcn_dilations": (1, 3, 3)},
    "uneven branches": {"base_channels": 11},
    "many channels": {"in_channels": 9},
    "one scale": {"num_gcn_scales": 1, "num_g3d_scales": 1},
    "one person": {"num_persons": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("training", [False, True])
def test_the_watched_network_is_the_network(make_network, variant, training):
    """Logits and running statistics to the bit, and the shapes that `points` promises."""
    arguments = VARIANTS[variant]
    model, same = (make_network(**arguments).train(training) for _ in range(2))
    x = torch.randn(3, model.num_persons, 9, 5, model.in_channels, dtype=torch.float64)
    same.sliced = False
    with torch.no_grad():
        expected = same(x)
    logits, cache = analysis.run_with_cache(model, x)
    assert torch.equal(logits, expected)
    for (name, mine), other in zip(
        model.state_dict().items(), same.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, other), name

    table = analysis.points(model, clip_len=9)
    assert list(cache) == list(table.index)
    assert table.index.is_unique
    for name, value in cache.items():
        row = table.loc[name]
        places = () if name == "pooled" else (model.num_persons, row.frames, row.joints)
        assert tuple(value.shape) == (3, *places, row.channels), name


def test_the_watched_network_has_the_network_s_gradients(make_network):
    # No absent person: her frames are all alike, and which of them a maximum takes is round-off.
    batch = torch.randn(3, 2, 9, 5, 3, dtype=torch.float64)
    watched, plain = make_network().train(), make_network().train()
    mine, theirs = batch.clone().requires_grad_(), batch.clone().requires_grad_()
    logits, _ = analysis.run_with_cache(watched, mine, gradients=True)
    logits.square().sum().backward()
    plain(theirs).square().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-12)
    for (name, a), b in zip(watched.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12, msg=name)


def test_scales_of_the_factorized_pathway_are_the_slow_loop(network, batch):
    _, cache = analysis.run_with_cache(network, batch, names=["input", "block1.factorized.scale*"])
    A = graph_layers(network)["block1.factorized"].adjacency().detach()
    for k in range(3):
        expected = torch.zeros_like(cache["input"])
        for v in range(5):
            for u in range(5):
                expected[..., v, :] += A[k, v, u] * cache["input"][..., u, :]
        torch.testing.assert_close(cache[f"block1.factorized.scale{k}"], expected)


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize(("size", "dilation"), [(3, 2), (4, 1)])
def test_scales_of_a_window_are_the_slow_loop(make_network, batch, block, size, dilation):
    """Block 1 aggregates before it projects, block 2 after; the point means the same."""
    network = make_network(window_sizes=(size,), window_dilations=(dilation,))
    name = f"block{block}.g3d.window{size}" + ("d2" if dilation == 2 else "")
    before = "input" if block == 1 else "block1"
    _, cache = analysis.run_with_cache(network, batch, names=[before, f"{name}.scale*"])
    layer, x, stride = graph_layers(network)[name], cache[before], block
    V, frames = 5, x.shape[2]
    W = layer.mlp.conv.weight.detach().reshape(-1, 2, x.shape[-1])
    for k, A in enumerate(layer.adjacency().detach()):
        value = cache[f"{name}.scale{k}"]
        expected = torch.zeros_like(value).view(*value.shape[:4], size, -1)
        for t in range(value.shape[2]):
            for s in range(size):
                for w in range(size):
                    source = stride * t + dilation * w - dilation * (size - 1) // 2
                    if 0 <= source < frames:
                        block_A = A[s * V : (s + 1) * V, w * V : (w + 1) * V]
                        sent = torch.einsum("vu,nmuc->nmvc", block_A, x[:, :, source])
                        expected[:, :, t, :, s] += sent @ W[:, k].T
        torch.testing.assert_close(value, expected.flatten(4), rtol=1e-9, atol=1e-12)


def test_branches_and_shortcut_add_up_to_the_pathway(network, batch):
    """The pathway's last layer is not rectified: its parts are the pathway."""
    prefix = "block2.factorized"
    _, cache = analysis.run_with_cache(network, batch, names=[f"{prefix}.tcn2.*", prefix])
    *branches, shortcut = [value for name, value in cache.items() if name != prefix]
    assert [name.split(".")[-1] for name in cache][:4] == [
        "dilation1",
        "dilation2",
        "max",
        "pointwise",
    ]
    torch.testing.assert_close(torch.cat(branches, dim=-1) + shortcut, cache[prefix])


def test_windows_add_up_to_the_g3d_pathway(network, batch):
    names = [f"block3.g3d{window}" for window in ("", ".window3", ".window5")]
    _, cache = analysis.run_with_cache(network, batch, names=names)
    total = cache["block3.g3d.window3"] + cache["block3.g3d.window5"]
    torch.testing.assert_close(total, cache["block3.g3d"])


def test_points_names_follow_the_arguments(make_network):
    names = list(analysis.points(make_network(**VARIANTS["dilated windows"])).index)
    assert {"block1.g3d.window3", "block1.g3d.window3d2"} <= set(names)
    names = list(analysis.points(make_network(**VARIANTS["equal windows"])).index)
    assert {"block1.g3d.window3", "block1.g3d.window3-2"} <= set(names)
    names = list(analysis.points(make_network(**VARIANTS["factorized only"])).index)
    assert not [name for name in names if "g3d" in name]


def test_unique_numbers_repeats():
    assert unique(["a", "b", "a", "a"]) == ["a", "b", "a-2", "a-3"]


@pytest.mark.parametrize("wrapped", [torch.nn.DataParallel, torch.nn.Sequential])
def test_points_refuse_what_is_no_msg3d(network, wrapped):
    with pytest.raises(ValueError, match="expected an MSG3D, found a"):
        list_points(wrapped(network))


def test_points_refuse_a_fused_network(network):
    """Its normalisations are gone, and its graphs no longer tell what was learned."""
    network.fused = True
    with pytest.raises(ValueError, match="found a fused MSG3D"):
        list_points(network)
