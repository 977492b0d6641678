import numpy as np
import pandas as pd
import pytest

from msg3d_lab import graph
from msg3d_lab.viz.graphs import masks as figures


@pytest.fixture
def scales(body):
    return graph.scale_adjacencies(body.adjacency, 4)


def test_learned_graph_figure_draws_the_sum_and_centres_signed_panels(body, scales):
    mask = np.random.default_rng(0).normal(0, 0.01, (25, 25))
    figure = figures.learned_graph_figure(scales[2], mask, joints=body.joints, title="Block 1")
    panels = [ax for ax in figure.axes if ax.images]
    titles = [ax.get_title(loc="left") for ax in panels]
    assert titles == ["designed, A", "added, A_res", "used"]
    designed, added, used = (ax.images[0] for ax in panels)
    np.testing.assert_allclose(used.get_array().filled(0), scales[2] + mask)
    assert designed.get_clim() == (0, scales[2].max())
    for image in (added, used):
        low, high = image.get_clim()
        assert low == -high
    assert added.get_clim()[1] == np.abs(mask).max()
    assert [tick.get_text() for tick in panels[0].get_yticklabels()] == list(body.joints)
    assert figure.get_suptitle() == "Block 1"


def test_learned_graph_figure_refuses_other_shapes(scales):
    with pytest.raises(ValueError, match=r"one shape, found \(25, 25\) and \(4, 25, 25\)"):
        figures.learned_graph_figure(scales[0], scales)


def test_mask_figure_has_one_scale_around_zero_that_few_edges_do_not_set(scales):
    scales[0, 0, 0] = 50
    figure = figures.mask_figure(scales)
    images = [image for ax in figure.axes for image in ax.images]
    limit = np.quantile(scales, 0.995)
    assert limit < 2
    assert {image.get_clim() for image in images} == {(-limit, limit)}
    assert [ax.get_title(loc="left") for ax in figure.axes[:4]] == [f"k = {k}" for k in range(4)]
    colorbar = figure.axes[-1]
    assert "unitless" in colorbar.get_ylabel()


def test_mask_figure_of_windows_names_their_steps():
    figure = figures.mask_figure(np.ones((5, 12, 12)), blocks=4, columns=3, names=list("abcde"))
    first = figure.axes[0]
    steps = ["t\N{MINUS SIGN}1", "t", "t+1"]
    assert [tick.get_text() for tick in first.get_yticklabels()] == steps
    assert len(first.lines) == 4
    assert not figure.axes[5].axison
    figure = figures.mask_figure(np.ones((1, 12, 12)), blocks=4, dilation=2)
    steps = ["t\N{MINUS SIGN}2", "t", "t+2"]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == steps
    figure = figures.learned_graph_figure(np.eye(12), np.eye(12), blocks=4, dilation=2)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == steps


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.ones((3, 3)), {}, r"expected masks \(K\+1, V, V\), found shape \(3, 3\)"),
        (np.ones((0, 3, 3)), {}, "expected masks"),
        (np.ones((2, 3, 3)), {"names": ["a"]}, "expected 2 names, one per mask, found 1"),
    ],
)
def test_mask_figure_refuses(values, options, message):
    with pytest.raises(ValueError, match=message):
        figures.mask_figure(values, **options)


def test_mask_figure_of_an_untrained_network_can_be_drawn():
    figure = figures.mask_figure(np.zeros((2, 3, 3)))
    assert figure.axes[0].images[0].get_clim() == (-1, 1)


def test_hop_bars_draw_percentages_side_by_side():
    shares = pd.DataFrame({"designed": [0.5, 0.5], "learned": [0.2, 0.8]}, index=[0, 1])
    ax = figures.hop_bars(shares, title="Reach")
    assert [[bar.get_height() for bar in bars] for bars in ax.containers] == [[50, 50], [20, 80]]
    lefts = sorted(bar.get_x() for bars in ax.containers for bar in bars)
    assert np.diff(lefts).min() >= 0.4 - 1e-9
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["designed", "learned"]
    assert ax.get_ylabel() == "share of the weight (%)"
    assert figures.hop_bars(shares, label="of the gradient").get_ylabel() == "of the gradient"


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (pd.DataFrame(index=[0, 1]), "1 to 6 columns to compare, found 0"),
        (pd.DataFrame(np.ones((2, 7))), "found 7"),
        (pd.DataFrame({"a": [-0.5]}), "0 or more, found -0.5"),
    ],
)
def test_hop_bars_refuse(shares, message):
    with pytest.raises(ValueError, match=message):
        figures.hop_bars(shares)


def test_share_heatmap_writes_percentages_and_leaves_gaps():
    table = pd.DataFrame({0: [0.25, 0.5], 1: [0.75, np.nan]}, index=["g3d", "factorized"])
    table.columns.name = "scale"
    ax = figures.share_heatmap(table)
    assert [text.get_text() for text in ax.texts] == ["25", "75", "50"]
    assert ax.images[0].get_clim() == (0, 75)
    assert ax.get_xlabel() == "scale"
    signed = figures.share_heatmap(pd.DataFrame([[-0.2, 1.2]]))
    assert signed.images[0].get_clim() == (-120, 120)
    assert signed.texts[0].get_text() == "\N{MINUS SIGN}20"
    with pytest.raises(ValueError, match="found none"):
        figures.share_heatmap(pd.DataFrame([[np.nan]]))


def test_axes_level_functions_draw_where_they_are_told():
    import matplotlib.pyplot as plt

    _, (left, right) = plt.subplots(1, 2)
    assert figures.hop_bars(pd.DataFrame({"a": [1.0]}), ax=left) is left
    assert figures.share_heatmap(pd.DataFrame([[1.0]]), ax=right) is right
