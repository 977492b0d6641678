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
    ("A", "options", "message"),
    [
        (np.ones((2, 3)), {}, "square"),
        (np.ones((0, 0)), {}, "square"),
        (np.eye(3), {"joints": ["a"]}, "expected 3 joint names, one per row, found 1"),
        (np.eye(3), {"blocks": 2}, "must divide 3"),
    ],
)
def test_adjacency_heatmap_refuses(A, options, message):
    with pytest.raises(ValueError, match=message):
        viz.adjacency_heatmap(A, **options)


def test_window_heatmap_names_the_frames(body):
    ax = viz.adjacency_heatmap(graph.window_graph(body.adjacency, 3), blocks=25)
    names = [tick.get_text() for tick in ax.get_xticklabels()]
    assert names == ["t\N{MINUS SIGN}1", "t", "t+1"]
    assert len(ax.lines) == 4


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
    ax = viz.adjacency_heatmap(A, blocks=25, dilation=dilation)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == expected
    figure = viz.scales_figure({"k = 1": A}, blocks=25, dilation=dilation)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == expected
    ax = viz.window_heat(A[30].reshape(steps, 25), body, focus=(1, 5), dilation=dilation)
    shown = [text.get_text() for text in ax.texts if text.get_text()]
    assert shown == [f"frame {name}" for name in expected]
    # Where the network's padding puts the first of them.
    before = Window(steps, 1, dilation).padding()[0]
    assert int(expected[0].removeprefix("t").replace("\N{MINUS SIGN}", "-")) == -before


def test_weights_have_a_unit(body):
    bar = viz.adjacency_heatmap(body.adjacency).figure.axes[-1]
    assert bar.get_ylabel() == "weight (unitless)"
    bar = viz.body_heat(np.ones(25), body, colorbar=True).figure.axes[-1]
    assert bar.get_ylabel() == "weight (unitless)"
    assert viz.scales_figure({"A": body.adjacency}).axes[-1].get_ylabel() == "weight (unitless)"


def test_scales_figure_shares_one_scale_that_self_loops_do_not_set(body):
    scales = graph.scale_adjacencies(body.adjacency, 3)
    figure = viz.scales_figure({f"k = {k}": A for k, A in enumerate(scales)}, columns=2)
    images = [image for ax in figure.axes for image in ax.images]
    off_diagonal = max((A * (1 - np.eye(25))).max() for A in scales)
    assert {image.get_clim() for image in images} == {(0, off_diagonal)}
    assert [ax.get_title(loc="left") for ax in figure.axes[:3]] == ["k = 0", "k = 1", "k = 2"]
    with pytest.raises(ValueError, match="at least one"):
        viz.scales_figure({})


@pytest.mark.parametrize("labels", ["names", "numbers", None])
def test_body_graph_draws_every_edge_and_label(body, labels):
    ax = viz.body_graph(body, labels=labels)
    assert len(ax.lines) == len(body.edges)
    assert len(ax.texts) == (25 if labels else 0)


def test_body_heat_sizes_grow_with_the_weight_and_zeros_stay_apart(body):
    weights = np.zeros(25)
    weights[[3, 4, 5]] = 0.1, 0.2, 0.4
    ax = viz.body_heat(weights, body, focus=5, colorbar=True)
    none, some, ring = ax.collections
    assert len(none.get_offsets()) == 22
    sizes = some.get_sizes()
    assert sizes[0] < sizes[1] < sizes[2]
    np.testing.assert_allclose(ring.get_offsets()[0], viz.body_layout(body)[5])


@pytest.mark.parametrize("weights", [np.ones(24), -np.ones(25)])
def test_body_heat_refuses_other_shapes_and_negative_weights(body, weights):
    with pytest.raises(ValueError, match="25 weights of 0 or more"):
        viz.body_heat(weights, body)


@pytest.mark.parametrize(("edges", "links"), [("grid", 2), ("dense", 6)])
def test_window_heat_links_the_other_frames(body, edges, links):
    wrist = 6
    row = graph.window_graph(body.adjacency, 3, edges=edges)[25 + wrist]
    ax = viz.window_heat(row.reshape(3, 25), body, focus=(1, wrist))
    arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None) is not None]
    assert len(arrows) == links
    with pytest.raises(ValueError, match="window_size, V"):
        viz.window_heat(row, body, focus=(1, wrist))
