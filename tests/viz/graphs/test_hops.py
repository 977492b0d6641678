from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from msg3d_lab import graph, viz
from msg3d_lab.viz import style


@pytest.mark.parametrize("aggregation", ["powers", "disentangled"])
def test_hop_share_table_is_the_slow_loop(body, aggregation):
    scales = graph.scale_adjacencies(body.adjacency, 4, aggregation=aggregation)
    paths = dict(nx.all_pairs_shortest_path_length(graph.to_networkx(body)))
    expected = np.zeros((4, 13))
    for k in range(4):
        for v in range(25):
            for u in range(25):
                expected[k, paths[v][u]] += scales[k, v, u] / scales[k, v].sum() / 25
    table = viz.hop_share_table(scales, body)
    np.testing.assert_allclose(table, expected, atol=1e-12)
    assert table.index.name == "k"
    assert list(table.columns) == list(range(13))


def test_hop_share_of_disentangled_scales_is_at_zero_and_k_hops(body):
    table = viz.hop_share_table(graph.scale_adjacencies(body.adjacency, 13), body)
    for k in range(1, 13):
        assert table.loc[k, [0, k]].sum() == pytest.approx(1)


def test_hop_share_table_leaves_out_rows_without_weight(toy_skeleton):
    table = viz.hop_share_table(np.zeros((1, 5, 5)), toy_skeleton)
    assert table.to_numpy().sum() == 0


@pytest.mark.parametrize("scales", [np.ones((25, 25)), np.ones((2, 24, 24)), -np.ones((1, 25, 25))])
def test_hop_share_table_refuses(body, scales):
    with pytest.raises(ValueError, match="non-negative adjacencies"):
        viz.hop_share_table(scales, body)


def test_share_heatmap_of_hops_writes_the_percentages(body):
    table = viz.hop_share_table(graph.scale_adjacencies(body.adjacency, 2), body)
    ax = viz.share_heatmap(table)
    texts = [text.get_text() for text in ax.texts if text.get_text()]
    assert texts == ["100", f"{100 * table.loc[1, 0]:.0f}", f"{100 * table.loc[1, 1]:.0f}"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("hops away", "k")


def test_hop_figure_bars_are_the_shares(body):
    figure = viz.hop_figure(body, 4, focus=6)
    powers, disentangled = figure.axes[2].containers
    assert to_hex(powers[0].get_facecolor()) == style.POWERS
    assert to_hex(disentangled[0].get_facecolor()) == style.DISENTANGLED
    assert sum(bar.get_height() for bar in powers) == pytest.approx(100)
    heights = [bar.get_height() for bar in disentangled]
    assert heights[0] + heights[4] == pytest.approx(100)


def test_disentangled_figure_spreads_its_scales_to_the_farthest_joint(body, toy_skeleton):
    titles = [ax.get_title() for ax in viz.disentangled_figure(body, focus=6).axes]
    assert titles[:5] == ["k = 1", "k = 3", "k = 5", "k = 7", "k = 9"]
    captions = [
        text.get_text() for ax in viz.disentangled_figure(body, focus=6).axes for text in ax.texts
    ]
    assert "under 1 % at 9 hops" in captions
    assert "77 % at 9 hops" in captions
    assert len(viz.disentangled_figure(toy_skeleton, focus=0).axes) == 4


def test_hop_figures_refuse(body):
    with pytest.raises(ValueError, match="focus is a joint of ntu25"):
        viz.disentangled_figure(body, focus=25)
    with pytest.raises(ValueError, match="0 or more, found -1"):
        viz.hop_figure(body, -1, focus=0)


def test_readme_figure_is_what_the_function_draws(body, tmp_path):
    """Size and overall darkness, not pixels: those change with matplotlib's version."""
    from PIL import Image

    committed = Path(__file__).parents[3] / "docs" / "figures" / "disentangled.png"
    viz.disentangled_figure(body, focus=6).savefig(tmp_path / "now.png", dpi=110)
    assert committed.stat().st_size < 150_000
    with Image.open(committed) as then, Image.open(tmp_path / "now.png") as now:
        small = [
            np.asarray(image.convert("L").resize((60, 30)), dtype=float) for image in (then, now)
        ]
    assert np.abs(small[0] - small[1]).mean() < 3


def test_hop_bars_draw_percentages_side_by_side():
    shares = pd.DataFrame({"designed": [0.5, 0.5], "learned": [0.2, 0.8]}, index=[0, 1])
    ax = viz.hop_bars(shares, title="Reach")
    assert [[bar.get_height() for bar in bars] for bars in ax.containers] == [[50, 50], [20, 80]]
    lefts = sorted(bar.get_x() for bars in ax.containers for bar in bars)
    assert np.diff(lefts).min() >= 0.4 - 1e-9
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["designed", "learned"]
    assert ax.get_ylabel() == "share of the weight (%)"


def test_share_heatmap_writes_percentages_and_leaves_gaps():
    table = pd.DataFrame({0: [0.25, 0.5], 1: [0.75, np.nan]}, index=["g3d", "factorized"])
    table.columns.name = "scale"
    ax = viz.share_heatmap(table)
    assert [text.get_text() for text in ax.texts] == ["25", "75", "50"]
    assert ax.collections[0].get_clim() == (0, 75)
    assert ax.get_xlabel() == "scale"
    signed = viz.share_heatmap(pd.DataFrame([[-0.2, 1.2]]))
    assert signed.collections[0].get_clim() == (-120, 120)
    assert signed.texts[0].get_text() == "\N{MINUS SIGN}20"


def test_axes_level_functions_draw_where_they_are_told():
    import matplotlib.pyplot as plt

    _, (left, right) = plt.subplots(1, 2)
    assert viz.hop_bars(pd.DataFrame({"a": [1.0]}), ax=left) is left
    assert viz.share_heatmap(pd.DataFrame([[1.0]]), ax=right) is right
