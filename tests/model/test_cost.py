import copy

import pytest
import torch
from reference import ReferenceMSG3D
from torch.utils.flop_counter import FlopCounterMode

from msg3d_lab.model import MSG3D
from msg3d_lab.model.cost import _kept_for_backward, network_cost, published_form_macs

SMALL = {"base_channels": 12, "num_gcn_scales": 4, "num_g3d_scales": 3}


def small(**arguments):
    return MSG3D(num_classes=7, **{**SMALL, **arguments})


def noise(model, clips, clip_len):
    return torch.randn(
        clips, model.num_persons, clip_len, model.skeleton.num_joints, model.in_channels
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_persons": 1, "window_sizes": (3,), "window_dilations": (2,)},
        {"pathways": ("factorized",), "skeleton": "coco17"},
        {"pathways": ("g3d",), "residual_mask": False, "tcn_dilations": (1, 2)},
    ],
    ids=["both", "one person", "factorized", "g3d"],
)
def test_macs_are_those_torch_counts(arguments):
    model = small(**arguments)
    cost = network_cost(model, clip_len=12)
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        copy.deepcopy(model).eval()(noise(model, 1, 12))
    assert 2 * cost.macs == forward.get_total_flops()
    with FlopCounterMode(display=False) as both:
        copy.deepcopy(model).train()(noise(model, 1, 12)).sum().backward()
    assert 2 * cost.training_macs == both.get_total_flops()


def test_parts_add_up_and_say_where_it_is():
    model = small()
    cost = network_cost(model, clip_len=12)
    for name in ("parameters", "macs"):
        assert getattr(cost, name) == sum(getattr(part, name) for part in cost.parts)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    names = [part.name for part in cost.parts]
    assert (names[0], names[-1]) == ("data_bn", "fc")
    assert "blocks.1.g3d.windows.1" in names
    shapes = {part.name: part.output_shape for part in cost.parts}
    assert shapes["blocks.0.factorized.0"] == (2, 12, 25, 12)
    assert shapes["blocks.2.tcn"] == (2, 3, 25, 48)
    assert shapes["fc"] == (1, 7)


def test_macs_of_layers_have_closed_forms():
    """Of the first block at T frames, V joints, M persons, by hand."""
    T, V, M, C, O, K, W = 12, 25, 2, 3, 12, 4, 3  # noqa: E741
    model = small(num_persons=M, window_sizes=(W,), window_dilations=(1,))
    macs = {part.name: part.macs for part in network_cost(model, clip_len=T).parts}
    frames = M * T
    # K adjacencies of V x V on C channels, then a 1 x 1 convolution of K * C to O.
    assert macs["blocks.0.factorized.0"] == frames * V * (K * V * C + K * C * O)
    # 5 bottlenecks, 4 convolutions over 3 frames, a pointwise one; 6 branches share O channels.
    width = O // 6
    assert macs["blocks.0.factorized.1"] == frames * V * (
        5 * O * width + 4 * 3 * width * width + O * (O - 5 * width)
    )
    # Thin input: aggregated over W frames first, then projected, then W steps collapse to one.
    scales = 3
    assert macs["blocks.0.g3d.windows.0"] == frames * V * W * (
        scales * W * V * C + scales * C * O + O * O
    )
    assert macs["fc"] == 4 * O * 7
    assert macs["data_bn"] == 0


def test_cost_grows_with_frames_and_persons():
    one, two = (network_cost(small(num_persons=m), clip_len=16) for m in (1, 2))
    fc = 4 * 12 * 7
    assert two.macs - fc == 2 * (one.macs - fc)
    assert two.activation_bytes == pytest.approx(2 * one.activation_bytes, rel=0.01)
    long = network_cost(small(), clip_len=32)
    assert long.macs == pytest.approx(2 * two.macs, rel=0.08)  # windows reach beyond both ends


def test_activations_are_what_backward_needs():
    """A closed form, of a chain so short that it can be written down."""
    layers = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    with _kept_for_backward(layers) as storages:
        layers(torch.randn(3, 5))
    # The input, for the first weights; the rectified values, which both other layers need.
    assert sum(s.nbytes() for s in storages.values()) == 4 * (3 * 5 + 3 * 8)


def test_activation_bytes_are_those_of_torchs_own_profiler():
    """What two more clips add to what the forward pass leaves allocated."""
    model = small(num_persons=1).train()

    def left(clips):
        x = noise(model, clips, 16)
        with torch.autograd.profiler.profile(profile_memory=True) as profile:
            logits = model(x)
        events = profile.kineto_results.events()
        assert logits.requires_grad  # its graph is alive
        return sum(e.nbytes() for e in events if e.name() == "[memory]") + x.nbytes

    counted = 2 * network_cost(model, clip_len=16).activation_bytes
    assert counted == pytest.approx(left(4) - left(2), rel=0.03)


def test_recomputation_keeps_less_and_computes_more():
    model = small()
    plain = network_cost(model, clip_len=16)
    model.recompute = True
    again = network_cost(model, clip_len=16)
    assert again.macs == plain.macs
    assert plain.training_macs < again.training_macs < 1.5 * plain.training_macs
    assert again.activation_bytes < 0.3 * plain.activation_bytes


def test_the_model_and_the_generator_are_left_alone():
    model = small(dropout=0.5).double().train()
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    network_cost(model, clip_len=8)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], v) for name, v in model.state_dict().items())
    assert model.training
    assert model.fc.weight.dtype == torch.float64
    assert not model._forward_hooks
    assert bool((model.fc.weight.grad == 1).all())


def test_a_frozen_network_keeps_nothing():
    model = small().requires_grad_(requires_grad=False)
    cost = network_cost(model, clip_len=8)
    assert cost.macs > 0
    assert (cost.training_macs, cost.activation_bytes) == (0, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"pathways": ("factorized",), "skeleton": "coco17"},
        {"pathways": ("g3d",), "window_sizes": (3,), "window_dilations": (2,), "num_persons": 1},
    ],
)
def test_published_form_macs_are_those_torch_counts_of_the_plain_formulation(arguments):
    """The reference aggregates first and projects afterwards, as the published programs do."""
    model = small(**arguments)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ReferenceMSG3D.from_model(model)(noise(model, 1, 11))
    counts = counter.get_flop_counts()["Global"]
    products = sum(n for kind, n in counts.items() if "bmm" in str(kind)) // 2
    rest = sum(counts.values()) // 2 - products
    assert published_form_macs(model, clip_len=11) == (rest, products)


def test_published_form_macs_of_the_published_network():
    """T = 300, M = 2: 24.25 GMACs in convolutions, 8.52 in graphs, 32.77 together."""
    convolutions, graphs = published_form_macs(MSG3D(num_classes=60), clip_len=300)
    assert (round(convolutions / 1e9, 2), round(graphs / 1e9, 2)) == (24.25, 8.52)
    assert round((convolutions + graphs) / 1e9, 2) == 32.77


def test_a_single_frame_can_be_counted():
    assert network_cost(small(), clip_len=1).training_macs > 0
    with pytest.raises(ValueError, match="at least 1 frame, found clip_len=0"):
        network_cost(small(), clip_len=0)


@pytest.mark.slow
def test_the_published_network_costs_what_is_known():
    """18.5 GFLOP forward, 55.5 with backward, per clip at T = 100, as 2 x MACs: within 2 %.

    Backward computes the cheaper product of every graph convolution again: 7.5 % on top.
    """
    cost = network_cost(MSG3D(num_classes=60), clip_len=100)
    assert cost.parameters == 3_194_595
    assert 2e-9 * cost.macs == pytest.approx(18.5, rel=0.02)
    assert 2e-9 * cost.training_macs == pytest.approx(1.075 * 55.5, rel=0.02)
    # At T = 300 it is 27.80 GMACs; per frame the same but for the windows beyond both ends.
    assert 3e-9 * cost.macs == pytest.approx(27.80, rel=0.01)
