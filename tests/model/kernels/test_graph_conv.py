import pytest
import torch

from msg3d_lab.model.kernels.graph_conv import Window, graph_conv

pytestmark = pytest.mark.usefixtures("at_once")

WINDOWS = [Window(), Window(1, 2, 1), Window(3, 1, 1), Window(3, 2, 1), Window(2, 2, 3)]
B, T, V, K, O = 2, 7, 4, 2, 5  # noqa: E741
CHANNELS = [3, 16]  # narrow and wide: other products


def tensors(*shapes):
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def windows(x, window):
    """Step by step and copied: (B, T', size, V, C)."""
    before, after = window.padding()
    frames = torch.cat([x.new_zeros(B, before, *x.shape[2:]), x], dim=1)
    frames = torch.cat([frames, x.new_zeros(B, after, *x.shape[2:])], dim=1)
    starts = range(0, frames.shape[1] - window.dilation * (window.size - 1), window.stride)
    steps = [[frames[:, t + window.dilation * w] for w in range(window.size)] for t in starts]
    return torch.stack([torch.stack(step, dim=1) for step in steps], dim=1)


def assert_equal(product, einsum, inputs):
    out, expected = product(*inputs), einsum(*inputs)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    weights = torch.randn(out.shape, dtype=torch.float64)
    for mine, theirs in zip(
        *(torch.autograd.grad((y * weights).sum(), inputs) for y in (out, expected)), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    with torch.no_grad():
        assert torch.equal(product(*inputs), out)


@pytest.mark.parametrize("project_first", [False, True])
@pytest.mark.parametrize("C", CHANNELS)
@pytest.mark.parametrize("window", WINDOWS)
def test_graph_conv_equals_an_einsum_over_copied_windows(window, C, project_first):
    W = window.size
    A, x, weight, bias = tensors((K, W * V, W * V), (B, T, V, C), (O, K * C, 1, 1), (O,))

    def einsum(A, x, weight, bias):
        graph, matrices = A.view(K, W, V, W, V), weight.view(O, K, C)
        out = torch.einsum("kwvsu,btsuc,okc->btvwo", graph, windows(x, window), matrices)
        return (bias + out).flatten(2, 3)

    def product(*inputs):
        return graph_conv(*inputs, window=window, project_first=project_first)

    assert_equal(product, einsum, (A, x, weight, bias))
    assert product(A, x, weight, bias).shape[1] == -(-T // window.stride)


@pytest.mark.parametrize("project_first", [False, True])
def test_graph_conv_leaves_out_gradients_nobody_needs(project_first):
    shapes = {"A": (1, 4, 4), "x": (2, 5, 4, 3), "weight": (3, 3, 1, 1)}
    for wanted in shapes:
        inputs = {n: torch.randn(s, requires_grad=n == wanted) for n, s in shapes.items()}
        graph_conv(**inputs, bias=None, project_first=project_first).sum().backward()
        assert [n for n, t in inputs.items() if t.grad is not None] == [wanted]
        A, x, weight = inputs.values()
        expected = torch.einsum("rs,btsc,oc->btro", A[0], x, weight[:, :, 0, 0]).sum()
        torch.testing.assert_close(
            inputs[wanted].grad, torch.autograd.grad(expected, inputs[wanted])[0]
        )


@pytest.mark.parametrize("project_first", [False, True])
def test_graph_conv_computes_in_the_type_of_autocast(project_first):
    A, x, weight = torch.randn(1, 4, 4), torch.randn(2, 5, 4, 3), torch.randn(3, 3, 1, 1)
    weight.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = graph_conv(A, x, weight, None, project_first=project_first)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert weight.grad.dtype == torch.float32
