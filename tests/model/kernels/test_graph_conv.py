import pytest
import torch

from msg3d_lab.model.kernels.graph_conv import Window, aggregate_project, project_aggregate

WINDOWS = [Window(), Window(1, 2, 1), Window(3, 1, 1), Window(3, 2, 1), Window(2, 2, 3)]
B, T, S, K, O = 2, 7, 4, 2, 5  # noqa: E741
CHANNELS = [3, 16]  # narrow and wide: other products


def tensors(*shapes):
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def windows(x, window):
    """Step by step and copied: (B, T', size, S, C)."""
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


@pytest.mark.parametrize("C", CHANNELS)
@pytest.mark.parametrize("window", WINDOWS)
def test_aggregate_project_equals_an_einsum_over_copied_windows(window, C):
    R = window.size * S
    A, x, weight, bias = tensors((R * K, R), (B, T, S, C), (O, K * C), (O,))

    def einsum(A, x, weight, bias):
        graph = A.view(R, K, window.size, S)
        return bias + torch.einsum(
            "rkws,btwsc,okc->btro", graph, windows(x, window), weight.view(O, K, C)
        )

    def product(*inputs):
        return aggregate_project(*inputs, window=window)

    assert_equal(product, einsum, (A, x, weight, bias))
    assert product(A, x, weight, bias).shape[1] == -(-T // window.stride)


@pytest.mark.parametrize("C", CHANNELS)
@pytest.mark.parametrize("window", WINDOWS)
def test_project_aggregate_equals_an_einsum_over_copied_windows(window, C):
    R, O = window.size * S, C + 2  # noqa: E741
    A, x, weight, bias = tensors((R, R * K), (B, T, S, C), (K * O, C), (O,))

    def einsum(A, x, weight, bias):
        graph = A.view(R, window.size, S, K)
        return bias + torch.einsum(
            "rwsk,btwsc,koc->btro", graph, windows(x, window), weight.view(K, O, C)
        )

    def product(*inputs):
        return project_aggregate(*inputs, window=window)

    assert_equal(product, einsum, (A, x, weight, bias))


@pytest.mark.parametrize("product", [aggregate_project, project_aggregate])
def test_products_leave_out_gradients_nobody_needs(product):
    shapes = {"A": (4, 4), "x": (2, 5, 4, 3), "weight": (3, 3)}
    for wanted in shapes:
        inputs = {n: torch.randn(s, requires_grad=n == wanted) for n, s in shapes.items()}
        product(**inputs, bias=None).sum().backward()
        assert [n for n, t in inputs.items() if t.grad is not None] == [wanted]
        torch.testing.assert_close(
            inputs[wanted].grad,
            torch.autograd.grad(
                torch.einsum("rs,btsc,oc->btro", *inputs.values()).sum(), inputs[wanted]
            )[0],
        )


@pytest.mark.parametrize("product", [aggregate_project, project_aggregate])
def test_products_compute_in_the_type_of_autocast(product):
    A, x, weight = torch.randn(4, 4), torch.randn(2, 5, 4, 3), torch.randn(3, 3)
    weight.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = product(A, x, weight, None)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert weight.grad.dtype == torch.float32
