"""Standard deviations of initial weights, against closed forms."""

import pytest
import torch
from torch import nn

from msg3d_lab.model import MSG3D
from msg3d_lab.model.conv import ConvBN
from msg3d_lab.model.initialization import initialize
from msg3d_lab.model.ms_tcn import MSTCN


def drawn(kind):
    torch.manual_seed(0)
    net = MSG3D(num_classes=60)
    initialize(net, kind)
    return net


def check(weight, std):
    """Mean 0 and the standard deviation, to five of their own standard errors."""
    n = weight.numel()
    assert weight.std().item() == pytest.approx(std, rel=5 / (2 * n) ** 0.5)
    assert abs(weight.mean().item()) < 5 * std / n**0.5


def test_initialize_openmmlab_by_hand():
    """Widths of branches: 96 / 6 = 16, 192 / 6 = 32, 384 / 6 = 64; 3 x 1 kernels over time."""
    net = drawn("openmmlab")
    widths = {96: 16, 192: 32, 384: 64}
    layers = [module for module in net.modules() if isinstance(module, MSTCN)]
    assert len(layers) == 9
    for layer in layers:
        out = layer.reduce.conv.out_channels * 6 // 5
        width = widths[out]
        check(layer.reduce.conv.weight, (2 / width) ** 0.5)
        check(layer.pointwise.conv.weight, (2 / width) ** 0.5)
        for conv in layer.temporal:
            check(conv.weight, (2 / (3 * width)) ** 0.5)
        if isinstance(layer.residual, ConvBN):
            check(layer.residual.conv.weight, (2 / out) ** 0.5)
        for conv in layer.modules():
            if isinstance(conv, nn.Conv2d):
                assert not conv.bias.any()
    check(net.fc.weight, 0.01)
    assert not net.fc.bias.any()


@pytest.mark.parametrize("kind", ["openmmlab", "pyskl"])
def test_initialize_leaves_graph_convolutions_to_pytorch(kind):
    """Uniform up to 1 / sqrt(inputs), standard deviation 1 / sqrt(3 inputs): 13 scales of 96."""
    net, plain = drawn(kind), drawn("pytorch")
    conv = net.blocks[1].factorized[0].mlp.conv
    check(conv.weight, (3 * 13 * 96) ** -0.5)
    changed = {
        name
        for (name, one), other in zip(net.named_parameters(), plain.parameters(), strict=True)
        if not torch.equal(one, other)
    }
    assert {"fc.weight", "fc.bias"} <= changed
    tcn = {n for n, m in net.named_modules() if isinstance(m, MSTCN)}
    inside = {name for name in changed if any(name.startswith(f"{n}.") for n in tcn)}
    assert inside == changed - {"fc.weight", "fc.bias"}
    assert bool(inside) == (kind == "openmmlab")
    assert all(".conv." in name or ".temporal." in name for name in inside)


def test_initialize_pytorch_changes_nothing():
    torch.manual_seed(0)
    before = MSG3D(num_classes=60).state_dict()
    for name, value in drawn("pytorch").state_dict().items():
        assert torch.equal(value, before[name])
