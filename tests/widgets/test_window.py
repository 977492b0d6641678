import base64
import gzip
import re

import numpy as np
import pytest

from msg3d_lab import MSG3D, graph, skeletons
from msg3d_lab.analysis import learned_graphs
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
        ({"edges": "full"}, "edges is one of 'dense', 'grid', found 'full'"),
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


@pytest.fixture(scope="module")
def trained():
    model = MSG3D(
        num_classes=2,
        skeleton="coco17",
        base_channels=6,
        num_gcn_scales=2,
        num_g3d_scales=2,
        window_sizes=(3, 5),
        window_dilations=(1, 2),
        window_edges="grid",
    )
    for name, parameter in model.named_parameters():
        if name.endswith("A_res"):
            parameter.data.normal_(0, 0.1)
    return model


def test_masks_are_those_of_the_chosen_window(trained):
    explorer = WindowExplorer(masks=trained, learned="alone", joint="nose")
    graphs = {n: g for n, g in learned_graphs(trained).items() if ".g3d." in n}
    assert explorer.data["network"]["windows"]["block2.g3d.window5d2"] == [5, 2]
    assert explorer.data["network"]["edges"] == "grid"
    for name, own in graphs.items():
        explorer.graph = name
        assert explorer.mask["graph"] == name
        np.testing.assert_allclose(unpacked(explorer.mask["A_res"]), own.A_res, rtol=1e-3)
        np.testing.assert_allclose(unpacked(explorer.mask["A"]), own.A, rtol=1e-3)
    explorer.step = 4
    row = own.A_res[1, 4 * 17 + explorer._body.joints.index("nose")].copy()
    row[4 * 17 + explorer._body.joints.index("nose")] = 0  # itself is no edge
    most = np.abs(row).argmax()
    frame = {-4: "t−4", -2: "t−2", 0: "t", 2: "t+2", 4: "t+4"}[own.frames[most]]
    assert explorer.describe().startswith(
        f"Mask alone of {name}, scale 1: the largest weights to the nose at t+4 are from "
        f"{explorer._body.joints[most % 17]} at {frame} ({row[most]:.2g})"
    )
    drawn, bar = explorer.figure().axes
    assert drawn.get_title(loc="left") == f"{name}, k = 1: mask alone"
    assert bar.get_ylabel() == "change of the weight (unitless)"
    explorer.k = 2
    assert explorer.describe().endswith("are from no joint.")  # the network has scales 0 and 1
    explorer.k, explorer.learned = 1, "added"
    row = own.total[1, 4 * 17 + explorer._body.joints.index("nose")].copy()
    row[4 * 17 + explorer._body.joints.index("nose")] = 0
    assert f"({row[np.abs(row).argmax()]:.2g})" in explorer.describe()
    assert explorer.figure().axes[1].get_ylabel() == "weight (unitless)"
    explorer.learned = "off"
    assert explorer.describe().startswith("Dense window of 3 frames")


def test_refuses_masks_that_are_not_there(trained):
    explorer = WindowExplorer("coco17")
    with pytest.raises(ValueError, match=re.escape("give masks=")):
        explorer.learned = "added"
    with pytest.raises(ValueError, match="found skeleton ntu25"):
        WindowExplorer("ntu25", masks=trained)
    with pytest.raises(ValueError, match="window5d2', found 'block9'"):
        WindowExplorer(masks=trained).graph = "block9"
    small = {"num_classes": 2, "base_channels": 6, "num_gcn_scales": 2, "num_g3d_scales": 2}
    with pytest.raises(ValueError, match="without the g3d pathway"):
        WindowExplorer(masks=MSG3D(**small, pathways=["factorized"]))


def test_the_page_is_small():
    assert len(WindowExplorer().html()) < 100_000
