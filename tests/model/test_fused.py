"""The form for evaluation gives the same logits from fewer operations."""

import copy

import pytest
import torch
from torch import nn

from msg3d_lab import MSG3D, load_model, save_model
from msg3d_lab.model import convert, fuse

SMALL = {"num_classes": 4, "base_channels": 12, "num_gcn_scales": 4, "num_g3d_scales": 3}
VARIANTS = {
    "author": {},
    "openmmlab": {"edge_set": "star", "normalization": "column"},
    "powers, no masks": {"aggregation": "powers", "residual_mask": False},
    "factorized only": {"pathways": ("factorized",)},
    "g3d only, dilated": {"pathways": ("g3d",), "window_dilations": (1, 2)},
    "uneven branches, dropout": {"base_channels": 14, "dropout": 0.5},
}


def trained(**variant):
    """A network with statistics, scales and shifts of all signs and sizes."""
    torch.manual_seed(1)
    model = MSG3D(**{**SMALL, **variant})
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.3, 2)
        elif tensor.is_floating_point():
            tensor.add_(torch.randn_like(tensor), alpha=0.3 if tensor.ndim == 1 else 0.05)
        if name.endswith("bn.weight"):
            tensor[::3] *= -1
    return model.eval()


def clips(number=3, frames=11):
    x = torch.randn(number, 2, frames, 25, 3)
    x[1:, 1] = 0
    return x


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_fuse_gives_the_same_logits(variant):
    model, x = trained(**variant), clips()
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        model, x = model.to(dtype), x.to(dtype)
        with torch.no_grad():
            logits, expected = fuse(model)(x), model(x)
        assert logits.dtype == dtype
        assert (logits - expected).norm() / expected.norm() < tolerance


def test_fuse_leaves_no_normalisation_but_the_inputs():
    fused = fuse(trained())
    norms = [m for m in fused.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms == [fused.data_bn]
    assert not any(name.endswith("A_res") for name, _ in fused.named_parameters())
    assert not any(p.requires_grad for p in fused.parameters())


def test_fuse_leaves_the_network_as_it_is():
    model = trained().train()
    before = copy.deepcopy(model.state_dict())
    fuse(model)
    assert model.training
    assert not model.fused
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())
    model(clips()).sum().backward()


def test_fuse_says_what_cannot_be_done(tmp_path):
    fused = fuse(trained())
    assert fused.eval() is fused
    with pytest.raises(RuntimeError, match="fused network cannot be trained"):
        fused.train()
    with pytest.raises(ValueError, match="fused already"):
        fuse(fused)
    with pytest.raises(ValueError, match="load it with fused=True"):
        save_model(fused, tmp_path / "fused")
    assert not (tmp_path / "fused").exists()
    odd = trained()
    odd.blocks[0].tcn.reduce.bn = nn.InstanceNorm2d(10)
    with pytest.raises(ValueError, match="running statistics, found InstanceNorm2d"):
        fuse(odd)


def test_fuse_still_gives_the_inputs_gradient():
    model = trained().double()
    gradients = []
    for network in (model, fuse(model)):
        x = torch.randn(2, 2, 9, 25, 3, generator=torch.Generator().manual_seed(3)).double()
        x.requires_grad_()
        network(x)[:, 1].sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def test_load_model_fuses_any_file(tmp_path):
    model, x = trained(), clips()
    save_model(model, tmp_path / "own")
    convert(tmp_path / "own", tmp_path / "theirs", to="author")
    with torch.no_grad():
        expected = fuse(model)(x)
        for name in ("own", "theirs"):
            loaded = load_model(tmp_path / name, fused=True)
            assert loaded.fused
            assert torch.equal(loaded(x), expected)
            assert not load_model(tmp_path / name).fused


def test_fused_networks_run_in_bfloat16():
    model, x = trained(), clips()
    with torch.no_grad():
        expected = model(x)
        converted = fuse(model).to(torch.bfloat16)(x.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            mixed = fuse(model)(x)
    assert converted.dtype == torch.bfloat16
    for logits in (converted, mixed):
        assert (logits.float() - expected).norm() / expected.norm() < 0.05


@pytest.mark.slow
def test_fused_networks_can_be_compiled():
    """Up to the compiler itself, which takes minutes: the whole forward is one graph."""
    model, x = fuse(trained(pathways=("g3d",))), clips(2)
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="eager")(x)
        torch.testing.assert_close(compiled, model(x), rtol=1e-5, atol=1e-5)


def test_compiled_blocks_carry_empty_bodies_once_in_one_program():
    # One pathway and two branches: the compiler traces every one of them.
    small = trained(pathways=("factorized",), tcn_dilations=(1, 2))
    model, plain, seen = fuse(small), fuse(small), []
    blocks, programs = model._features, []
    model._features = lambda x: seen.append(len(x)) or blocks(x)

    def backend(program, inputs):
        programs.append(program)
        return program.forward

    model.compile(backend=backend)
    with torch.no_grad():
        for alone in (2, 3):
            x = torch.randn(4, 2, 11, 25, 3)
            x[:alone, 1] = 0
            torch.testing.assert_close(model(x), plain(x), rtol=1e-5, atol=1e-5)
    assert seen == [7, 6]  # of eight bodies; one empty one is carried
    assert len(programs) == len(model.blocks)
