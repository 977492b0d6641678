import launchers
import pytest
import torch
import torch.nn.functional as F

from msg3d_lab.model.conv import TemporalConv


@pytest.mark.parametrize("channels", [6, 31, 32, 40])
@pytest.mark.parametrize("frames", [1, 7, 8])
def test_a_strided_1x1_convolution_is_torchs(channels, frames):
    """Narrow ones take another way; see `TemporalConv.forward`."""
    conv = TemporalConv(channels, 5, stride=2).double()
    x = torch.randn(2, frames, 3, channels, dtype=torch.float64, requires_grad=True)
    out = conv(x)
    expected = F.conv2d(x.permute(0, 3, 1, 2), conv.weight, conv.bias, stride=(2, 1))
    torch.testing.assert_close(out, expected.permute(0, 2, 3, 1))
    weight = torch.randn_like(out)
    one = torch.autograd.grad((out * weight).sum(), [x, *conv.parameters()], retain_graph=True)
    other = torch.autograd.grad(
        (expected.permute(0, 2, 3, 1) * weight).sum(), [x, *conv.parameters()]
    )
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


def test_narrow_networks_train_without_crashing(tmp_path):
    """Torch 2.13 corrupts its memory in these shapes if they reach oneDNN as they are."""
    code = """
import torch
from msg3d_lab import MSG3D
for channels in (6, 12, 18):
    model = MSG3D(
        num_classes=5,
        skeleton="ntu25",
        base_channels=channels,
        num_gcn_scales=3,
        num_g3d_scales=2,
    )
    for _ in range(3):
        model(torch.randn(4, 2, 64, 25, 3)).sum().backward()
"""
    ended, said = launchers.run_script(code, tmp_path)
    assert ended == 0, said
