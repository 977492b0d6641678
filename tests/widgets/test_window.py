import base64
import gzip
import re

import numpy as np
import pytest

from msg3d_lab import graph, skeletons
from msg3d_lab.widgets import WindowExplorer


def unpacked(packed):
    raw = gzip.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(raw, packed["type"]).reshape(packed["shape"])


def test_hops_are_those_of_the_window_graph():
    explorer = WindowExplorer("coco17", max_window_size=4)
    A = skeletons.get("coco17").adjacency
    assert set(explorer.data["hops"]) == {
        f"{e} {n}" for e in ("dense", "grid") for n in range(1, 5)
    }
    for name, packed in explorer.data["hops"].items():
        edges, size = name.split()
        expected = graph.hop_distance(graph.window_graph(A, int(size), edges=edges))
        np.testing.assert_array_equal(unpacked(packed), expected)
    assert explorer.data["frames"]["3 2"] == [-2, 0, 2]
    assert explorer.data["frames"]["4 1"] == [-1, 0, 1, 2]
    assert explorer.data["ranges"]["k"] == [0, 8 + 3]  # the grid: hops on the body and frames


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_size": 8}, "window_size goes from 1 to 7, found 8 (see max_window_size)"),
        ({"dilation": 0}, "dilation goes from 1 to 4"),
        ({"edges": "full"}, "'dense' or 'grid', found 'full'"),
        ({"joint": "tail"}, "found 'tail'"),
        ({"k": 19}, "k goes from 0 to 18"),
        ({"step": 7}, "step goes from 0 to 6"),
        ({"max_dilation": 0}, "1 or more, found 7 and 0"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        WindowExplorer(**options)


def test_describes_the_row_of_the_k_adjacency():
    explorer = WindowExplorer("ntu25", joint="head", edges="grid")
    assert explorer.describe().endswith(": 3 joints are 1 hop away from the head at t.")
    explorer.edges = "dense"  # itself and the neck in every frame
    assert explorer.describe().endswith(": 5 joints are 1 hop away from the head at t.")
    explorer.window_size, explorer.dilation, explorer.step = 5, 3, 6
    assert explorer.describe() == (
        "Dense window of 5 frames, 3 apart, of ntu25 (chain): 9 joints are 1 hop away from the "
        "head at t+6."
    )
    explorer.k = 18
    assert "no joint is 18 hops away" in explorer.describe()


def test_figure_is_the_window():
    ax = WindowExplorer("ntu25", edges="grid", k=2).figure().axes[0]
    assert ax.get_title(loc="left") == "Grid window, k = 2"


def test_the_page_is_small():
    assert len(WindowExplorer().html()) < 100_000
