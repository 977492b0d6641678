import numpy as np
import pytest

from msg3d_lab import graph, viz
from msg3d_lab.model.kernels.graph_conv import Window


def heat(ax):
    """The image's values, exact zeros masked."""
    return ax.images[0].get_array()


def test_adjacency_heatmap_draws_the_matrix_and_masks_zeros(body):
    ax = viz.adjacency_heatmap(body.adjacency, joints=body.joints)
    assert heat(ax).mask.sum() == 25 * 25 - 2 * len(body.edges)
    np.testing.assert_array_equal(heat(ax).filled(0), body.adjacency)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(body.joints)
    assert ax.get_ylabel() == "receives"


def test_adjacency_heatmap_centres_signed_values_on_zero():
    ax = viz.adjacency_heatmap(np.array([[0.0, -3.0], [1.0, 0.0]]))
    assert ax.images[0].get_clim() == (-3, 3)


def test_adjacency_heatmap_draws_into_the_axes_it_is_given():
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(1, 2)
    assert viz.adjacency_heatmap(np.eye(3), ax=axes[1]) is axes[1]
    assert not axes[0].has_data()


@pytest.mark.parametrize(
    ("steps", "dilation", "expected"),
    [
        (3, 2, ["t\N{MINUS SIGN}2", "t", "t+2"]),
        (4, 1, ["t\N{MINUS SIGN}1", "t", "t+1", "t+2"]),
        (4, 2, ["t\N{MINUS SIGN}3", "t\N{MINUS SIGN}1", "t+1", "t+3"]),
    ],
)
def test_frames_of_a_window_are_those_it_sees(body, steps, dilation, expected):
    A = graph.window_graph(body.adjacency, steps)
    ax = viz.window_weights(A[30].reshape(steps, 25), body, focus=(1, 5), dilation=dilation)
    shown = [text.get_text() for text in ax.texts if text.get_text()]
    assert shown == [f"frame {name}" for name in expected]
    # Where the network's padding puts the first of them.
    before = Window(steps, 1, dilation).padding()[0]
    assert int(expected[0].removeprefix("t").replace("\N{MINUS SIGN}", "-")) == -before


def test_weights_have_a_unit(body):
    bar = viz.adjacency_heatmap(body.adjacency).figure.axes[-1]
    assert bar.get_ylabel() == "weight (unitless)"
    assert viz.scales_figure({"A": body.adjacency}).axes[-1].get_ylabel() == "weight (unitless)"


def test_scales_figure_shares_one_scale_that_self_loops_do_not_set(body):
    scales = graph.scale_adjacencies(body.adjacency, 3)
    figure = viz.scales_figure({f"k = {k}": A for k, A in enumerate(scales)}, columns=2)
    images = [image for ax in figure.axes for image in ax.images]
    off_diagonal = max((A * (1 - np.eye(25))).max() for A in scales)
    assert {image.get_clim() for image in images} == {(0, off_diagonal)}
    assert [ax.get_title(loc="left") for ax in figure.axes[:3]] == ["k = 0", "k = 1", "k = 2"]


@pytest.fixture
def scales(body):
    return graph.scale_adjacencies(body.adjacency, 4)


def test_masks_have_one_scale_around_zero_that_few_edges_do_not_set(scales):
    scales[0, 0, 0], scales[1, 0, 1] = 50, -1
    figure = viz.scales_figure({f"k = {k}": mask for k, mask in enumerate(scales)})
    images = [image for ax in figure.axes for image in ax.images]
    limit = np.quantile(np.abs(scales), 0.995)
    assert limit < 2
    assert {image.get_clim() for image in images} == {(-limit, limit)}
    assert [ax.get_title(loc="left") for ax in figure.axes[:4]] == [f"k = {k}" for k in range(4)]
    colorbar = figure.axes[-1]
    assert "unitless" in colorbar.get_ylabel()


def test_matrices_of_windows_name_their_steps():
    figure = viz.scales_figure(dict.fromkeys("abcde", np.ones((12, 12))), blocks=4, columns=3)
    first = figure.axes[0]
    steps = ["t\N{MINUS SIGN}1", "t", "t+1"]
    assert [tick.get_text() for tick in first.get_yticklabels()] == steps
    assert len(first.lines) == 4
    assert not figure.axes[5].axison


def test_matrices_of_zeros_can_be_drawn():
    figure = viz.scales_figure({"k = 1": np.zeros((3, 3))})
    assert figure.axes[0].images[0].get_clim() == (0, 1)
