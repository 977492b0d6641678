import pytest
import torch
from reference import ReferenceMSG3D

from msg3d_lab import MSG3D, skeletons
from msg3d_lab.model import upstream
from msg3d_lab.model.kernels import matmul

SMALL = {
    "num_classes": 4,
    "base_channels": 12,
    "num_gcn_scales": 3,
    "num_g3d_scales": 2,
    "num_persons": 2,
}
VARIANTS = {
    "author": {},
    "openmmlab": {"edge_set": "star", "normalization": "column"},
    "powers": {"aggregation": "powers"},
    "powers, columns": {"aggregation": "powers", "normalization": "column"},
    "no masks": {"residual_mask": False},
    "factorized only": {"pathways": ("factorized",)},
    "g3d only": {"pathways": ("g3d",)},
    "one window": {"window_sizes": (5,), "window_dilations": (1,)},
    "dilated windows": {"window_sizes": (3, 3), "window_dilations": (1, 2)},
    "grid edges": {"window_edges": "grid"},
    "grid edges, powers": {"window_edges": "grid", "aggregation": "powers"},
    "two dilations": {"tcn_dilations": (1, 3)},
    "uneven branches": {"base_channels": 14},
    "two channels": {"in_channels": 2},
    "one scale": {"num_gcn_scales": 1, "num_g3d_scales": 1},
}


def filled(model, seed=0):
    """The model in float64 with every tensor away from its start, graphs in full precision."""
    g = torch.Generator().manual_seed(seed)
    model = model.double()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=g)
        elif not name.endswith("num_batches_tracked"):
            tensor.add_(torch.randn(tensor.shape, generator=g, dtype=tensor.dtype), alpha=0.1)
    return model


def oracle_for(model, **options):
    state, params = {}, {}
    own = model.state_dict()
    for rule in upstream.rules(model, dialect="author", head="fc"):
        for name, tensor in zip(rule.theirs, rule.write(own[rule.own]), strict=True):
            state[name] = params[name] = tensor.detach().clone()
            if tensor.is_floating_point() and "running" not in name:
                state[name].requires_grad_()
    a = model.arguments
    keys = ["normalization", "aggregation", "num_gcn_scales", "num_g3d_scales", "window_sizes"]
    keys += ["window_dilations", "window_edges", "tcn_dilations", "pathways"]
    arguments = {key: a[key] for key in keys}
    return ReferenceMSG3D(state, model.skeleton.adjacency, **arguments, **options), state


def with_exact_graphs(model):
    """Graphs in float64, as the oracle computes them, instead of float32 rounding."""
    from msg3d_lab.graph import scale_adjacencies, window_graph

    a = model.arguments
    kinds = {"aggregation": a["aggregation"], "normalization": a["normalization"]}
    A = model.skeleton.adjacency
    for _, _, layer in upstream.adjacencies(model, prefix=""):
        graph, scales = A, a["num_gcn_scales"]
        if hasattr(layer, "window"):
            graph = window_graph(A, layer.window.size, edges=a["window_edges"])
            scales = a["num_g3d_scales"]
        layer.adjacency.A = torch.from_numpy(scale_adjacencies(graph, scales, **kinds))
    return model


def assert_exact(model, x, *, autograd_input=False):
    """Logits, gradients and running statistics against the plain formulation; to 1e-10."""
    plain, state = oracle_for(model, training=model.training)
    mine, theirs = (x.clone().requires_grad_(autograd_input) for _ in range(2))
    logits, expected = model(mine), plain(theirs)
    assert_close(logits, expected, "logits")

    weights = torch.randn(logits.shape, dtype=torch.float64)
    (logits * weights).sum().backward()
    (expected * weights).sum().backward()
    if autograd_input:
        assert_close(mine.grad, theirs.grad, "input")
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for rule in upstream.rules(model, dialect="author", head="fc"):
        tensors = [state[name] for name in rule.theirs]
        if rule.own in parameters:
            assert_close(parameters[rule.own].grad, rule.read([t.grad for t in tensors]), rule.own)
        elif "running" in rule.own:
            assert_close(buffers[rule.own], rule.read(tensors), rule.own)


def assert_close(one, other, name):
    """To 1e-10 of the largest value, where that is above one.

    A gradient that is zero but for rounding, such as that of a bias before a normalisation, is
    compared with one.
    """
    assert one.dtype == other.dtype == torch.float64
    scale = max(1.0, float(other.detach().abs().max()))
    assert float((one - other).detach().abs().max()) <= 1e-10 * scale, name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("empty", [False, True])
def test_msg3d_equals_the_plain_formulation(variant, training, empty):
    model = with_exact_graphs(filled(MSG3D(**{**SMALL, **VARIANTS[variant]}))).train(training)
    x = torch.randn(4, 2, 7, 25, model.in_channels, dtype=torch.float64)
    if empty:  # three of four second bodies, two first ones
        x[1:, 1] = 0
        x[2:, 0] = 0
    # Frames of an empty body are alike, and which of them a maximum takes is anybody's choice:
    # the input's gradient is then no single one.
    assert_exact(model, x, autograd_input=not empty)


def test_msg3d_trains_as_the_plain_formulation():
    """Equal weights and clips, the author's SGD: the losses of eight steps, each of other clips."""
    model = with_exact_graphs(filled(MSG3D(**SMALL))).train()
    plain, state = oracle_for(model, training=True)
    losses = []
    for net, parameters in (
        (model, model.parameters()),
        (plain, [tensor for tensor in state.values() if tensor.requires_grad]),
    ):
        sgd = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
        g = torch.Generator().manual_seed(0)
        for _ in range(8):
            x = torch.randn(4, 2, 7, 25, 3, dtype=torch.float64, generator=g)
            x[1:, 1] = 0
            labels = torch.randint(0, 4, (4,), generator=g)
            loss = torch.nn.functional.cross_entropy(net(x), labels)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            losses.append(loss.item())
    assert losses[:8] == pytest.approx(losses[8:], rel=1e-10)
    assert len(set(losses[:8])) == 8


def test_msg3d_single_precision_is_close_to_double():
    model = filled(MSG3D(**SMALL)).eval()
    x = torch.randn(2, 2, 16, 25, 3)
    with torch.no_grad():
        double = model(x.double())
        single = model.float()(x)
    assert (single - double).norm() / double.norm() < 1e-6


def test_msg3d_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in MSG3D(num_classes=60).parameters()) == 3_194_595


def test_msg3d_relabelled_joints_give_the_same_logits(toy_skeleton):
    order = [3, 0, 4, 2, 1]
    where = {old: new for new, old in enumerate(order)}
    relabelled = skeletons.Skeleton(
        name="toy5r",
        joints=tuple(toy_skeleton.joints[i] for i in order),
        edges=tuple((where[i], where[j]) for i, j in toy_skeleton.edges),
        parents=tuple(where[toy_skeleton.parents[i]] for i in order),
        center=where[toy_skeleton.center],
    )
    arguments = {**SMALL, "num_persons": 1}
    model = filled(MSG3D(skeleton=toy_skeleton, **arguments)).eval()
    other = MSG3D(skeleton=relabelled, **arguments).double().eval()
    state = model.state_dict()
    for name, tensor in state.items():
        if name.endswith("A_res"):
            V, steps = 5, tensor.shape[-1] // 5
            nodes = [s * V + i for s in range(steps) for i in order]
            state[name] = tensor[:, nodes][:, :, nodes]
        elif name.startswith("data_bn") and tensor.ndim:
            state[name] = tensor.view(5, 3)[order].flatten()
    other.load_state_dict(state)
    x = torch.randn(2, 1, 10, 5, 3, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), other(x[:, :, :, order]), rtol=0, atol=1e-12)


def test_msg3d_batch_equals_one_by_one():
    model = filled(MSG3D(**SMALL)).eval()
    x = torch.randn(3, 2, 12, 25, 3, dtype=torch.float64)
    with torch.no_grad():
        single = torch.cat([model(clip[None]) for clip in x])
        torch.testing.assert_close(model(x), single, rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_frames", [1, 2, 5, 31])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_msg3d_takes_any_length_and_window(num_frames, size):
    windows = {"window_sizes": (size,), "window_dilations": (1,)}
    model = MSG3D(**{**SMALL, "base_channels": 6, **windows}).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 2, num_frames, 25, 3)).shape == (1, 4)


def test_msg3d_dropout_acts_in_training_only():
    model = MSG3D(**SMALL, dropout=0.5)
    x = torch.randn(2, 2, 8, 25, 3)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_msg3d_arguments_build_it_again():
    model = MSG3D(**SMALL, edge_set="star", window_edges="grid", pathways=["g3d"])
    again = MSG3D(**model.arguments)
    assert again.arguments == model.arguments
    assert again.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"skeleton": "ntu26"}, "unknown joint layout 'ntu26'"),
        ({"edge_set": "ring"}, "unknown edge set 'ring'"),
        ({"skeleton": skeletons.get("ntu25"), "edge_set": "star"}, r"ntu25 \(chain\)"),
        ({"pathways": ()}, "pathways are"),
        ({"window_sizes": (3,)}, "one window dilation per window size"),
        ({"base_channels": 3}, "cannot be shared by 6 temporal branches"),
        ({"num_gcn_scales": 0}, "num_scales"),
        ({"normalization": "rows"}, "normalization is"),
        ({"aggregation": "mean"}, "aggregation is"),
        ({"window_edges": "ring"}, "window edges are"),
    ],
)
def test_msg3d_explains_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MSG3D(**{**SMALL, **arguments})


@pytest.mark.parametrize(
    "shape", [(2, 2, 9, 25, 2), (2, 1, 9, 25, 3), (2, 2, 9, 17, 3), (9, 25, 3)]
)
def test_msg3d_explains_wrong_input(shape):
    with pytest.raises(ValueError, match=r"takes \(N, 2, T, 25, 3\)"):
        MSG3D(**SMALL)(torch.zeros(shape))


def test_msg3d_evaluates_in_slices_only_where_bodies_are_apart(monkeypatch):
    model = filled(MSG3D(**SMALL)).eval()
    x = torch.randn(3, 2, 12, 25, 3, dtype=torch.float64)
    calls = []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    # Input and output of a layer of 12 channels: a number too few for five bodies.
    monkeypatch.setattr(matmul, "VALUES_AT_ONCE", 5 * 12 * 25 * 24 - 1)
    with torch.no_grad():
        in_slices = model(x)
        model.sliced = False
        torch.testing.assert_close(model(x), in_slices, rtol=0, atol=1e-12)
        model.sliced = True
        model.train()(x)  # statistics are those of the batch
    model.eval()(x)  # with gradients there is nothing to be saved
    assert calls == [4, 2, 6, 6, 6]
