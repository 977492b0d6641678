import pytest
import torch

from msg3d_lab.model.kernels.matmul import (
    VALUES_AT_ONCE,
    body_slices,
    from_image,
    image,
    outer,
    project,
)

SIZES = [(5, 3), (3, 5), (33, 16), (16, 48)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_project_is_a_matrix_product(size, with_bias):
    O, C = size  # noqa: E741
    x, weight = torch.randn(2, 7, 4, C).double(), torch.randn(O, C).double()
    bias = torch.randn(O).double() if with_bias else None
    y = project(x, weight, bias)
    assert y.is_contiguous()
    expected = x @ weight.mT if bias is None else x @ weight.mT + bias
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)


def test_project_takes_views_of_weights_and_of_activations():
    x, weight = torch.randn(2, 4, 7, 6).double().transpose(1, 2), torch.randn(6, 5).double()
    expected = x @ weight
    torch.testing.assert_close(project(x, weight.mT), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(project(x[:, ::2], weight.mT), expected[:, ::2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_outer_is_the_gradient_of_the_weight(size):
    O, C = size  # noqa: E741
    x, g = torch.randn(2, 7, 4, C).double(), torch.randn(2, 7, 4, O).double()
    expected = torch.einsum("btvo,btvc->oc", g, x)
    torch.testing.assert_close(outer(g, x), expected, rtol=0, atol=1e-12)
    weight = torch.randn(O, C, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((project(x, weight) * g).sum(), weight)
    torch.testing.assert_close(outer(g, x), gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_products_in_single_and_half_precision(size):
    O, C = size  # noqa: E741
    x, g, weight = torch.randn(2, 50, 25, C), torch.randn(2, 50, 25, O), torch.randn(O, C)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 2e-2)):
        y, w = project(x.to(dtype), weight.to(dtype)), outer(g.to(dtype), x.to(dtype))
        assert y.dtype == w.dtype == dtype
        expected = torch.einsum("btvo,btvc->oc", g.double(), x.double())
        assert (w - expected).norm() / expected.norm() < tolerance
        expected = x.double() @ weight.double().mT
        assert (y - expected).norm() / expected.norm() < tolerance


def test_images_are_views_of_the_same_memory():
    x = torch.randn(2, 7, 4, 3)
    seen = image(x)
    assert seen.shape == (2, 3, 7, 4)
    assert seen.is_contiguous(memory_format=torch.channels_last)
    assert from_image(seen).data_ptr() == seen.data_ptr() == x.data_ptr()


@pytest.mark.parametrize(
    ("values", "starts"),
    [
        (VALUES_AT_ONCE, [0, 1, 2, 3, 4]),
        (2 * VALUES_AT_ONCE, [0, 1, 2, 3, 4]),
        (VALUES_AT_ONCE // 2, [0, 2, 4]),
        (1, [0]),
    ],
)
def test_body_slices_have_as_many_bodies_as_fit(values, starts):
    x = torch.arange(5)
    slices = body_slices(x, values=values)
    assert [i.start for i in slices] == starts
    assert torch.equal(torch.cat([x[i] for i in slices]), x)
