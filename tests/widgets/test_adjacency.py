import base64
import gzip
import re

import numpy as np
import pytest
from made_runs import made_run

from msg3d_lab import MSG3D, graph, skeletons
from msg3d_lab.analysis.masks import learned_graphs
from msg3d_lab.widgets import AdjacencyExplorer


def unpacked(packed):
    raw = gzip.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(raw, packed["type"]).reshape(packed["shape"])


@pytest.fixture(scope="module")
def trained():
    import torch

    torch.manual_seed(0)
    model = MSG3D(
        num_classes=4,
        skeleton="ntu25",
        edge_set="star",
        base_channels=6,
        num_gcn_scales=4,
        num_g3d_scales=2,
        normalization="column",
    )
    for name, parameter in model.named_parameters():
        if name.endswith("A_res"):
            parameter.data.normal_(0, 0.1)
    return model


def test_packed_weights_are_those_of_the_graph():
    explorer = AdjacencyExplorer("ntu25", num_scales=5, layouts=["coco17"])
    labels = [body["label"] for body in explorer.data["bodies"]]
    assert labels == ["ntu25 (chain)", "ntu25 (star)", "coco17"]
    for packed, body in zip(
        explorer.data["bodies"],
        [*skeletons.variants("ntu25"), skeletons.get("coco17")],
        strict=True,
    ):
        np.testing.assert_array_equal(unpacked(packed["hops"]), graph.hop_distance(body.adjacency))
        for aggregation in graph.AGGREGATIONS:
            for normalization in graph.NORMALIZATIONS:
                expected = graph.scale_adjacencies(
                    body.adjacency, 5, aggregation=aggregation, normalization=normalization
                )
                found = unpacked(packed["weights"][f"{aggregation} {normalization}"])
                np.testing.assert_allclose(found, expected, rtol=1e-4)
                np.testing.assert_array_equal(found == 0, expected == 0)


def test_masks_are_those_of_the_network(trained):
    explorer = AdjacencyExplorer(masks=trained)
    network = explorer.data["network"]
    assert (network["skeleton"], network["edge_set"]) == ("ntu25", "star")
    assert (network["aggregation"], network["normalization"]) == ("disentangled", "column")
    frames = {n: g for n, g in learned_graphs(trained).items() if g.window_size == 1}
    assert list(network["graphs"]) == list(frames)
    for name, packed in network["graphs"].items():
        np.testing.assert_allclose(unpacked(packed), frames[name].A_res, rtol=1e-3)
    assert (explorer.learned, explorer.edge_set) == ("added", "star")
    explorer.k = 2
    total = frames[explorer.graph].total
    np.testing.assert_allclose(explorer._matrix("disentangled"), total[2], atol=1e-6)
    explorer.learned = "alone"
    np.testing.assert_array_equal(explorer._matrix("disentangled"), frames[explorer.graph].A_res[2])
    assert "mask alone" in explorer.figure().axes[0].get_title(loc="left")
    explorer.k = 9  # the network has four scales
    assert not explorer._matrix("disentangled").any()


def test_masks_of_a_run(tmp_path):
    explorer = AdjacencyExplorer(masks=made_run(tmp_path / "run"))
    body = skeletons.get("ntu25")
    assert [each["label"] for each in explorer.data["bodies"]] == [body.label, "ntu25 (star)"]
    assert explorer.learned == "added"


def test_traits_are_values_of_the_graph():
    explorer = AdjacencyExplorer("ntu25", joint=6, layouts=["coco17"])
    assert (explorer.joint, explorer.sender, explorer.learned) == ("left wrist", "", "off")
    for name, value, message in [
        ("k", 13, "0 to num_scales - 1 = 12, found 13"),
        ("joint", "tail", "joint is one of"),
        ("aggregation", "mean", "'both', 'disentangled', 'powers', found 'mean'"),
        ("edge_set", "ring", "'chain', 'star'"),
        ("learned", "added", "give masks="),
        ("skeleton", "hand21", "'ntu25', 'coco17'"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            setattr(explorer, name, value)
    explorer.skeleton = "coco17"
    assert "coco17: the nose" not in explorer.describe()  # it has a left wrist too
    explorer.joint = "spine base"  # it has none: its centre is shown
    assert explorer._joint_of(skeletons.get("coco17")) == skeletons.get("coco17").center


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_scales": 0}, "1 or more, found 0"),
        ({"k": -1}, "found -1"),
        ({"joint": 25}, "0 to 24"),
        ({"joint": "tail"}, "'tail'"),
        ({"masks": 3}, "an MSG3D or a run, found int"),
        ({"learned": "alone"}, "give masks="),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        AdjacencyExplorer(**options)


def test_refuses_networks_without_masks_of_frames():
    small = {"num_classes": 2, "base_channels": 6, "num_gcn_scales": 2, "num_g3d_scales": 2}
    with pytest.raises(ValueError, match="no residual masks"):
        AdjacencyExplorer(masks=MSG3D(**small, residual_mask=False))
    with pytest.raises(ValueError, match="factorized"):
        AdjacencyExplorer(masks=MSG3D(**small, pathways=["g3d"]))


def test_it_says_what_is_seen():
    explorer = AdjacencyExplorer("ntu25", k=1, joint="head", normalization="column")
    assert explorer.describe() == (
        "Scale 1 of ntu25 (chain): the head receives from 1 joint at 1 hop: 50 % of its weight by "
        "disentangled, 50 % of its weight by powers."
    )
    explorer.set_trait("k", 12)
    assert "no joint is 12 hops away from the head" in explorer.describe()
    assert "receives at scale k = 12" in explorer.figure().get_suptitle()


def test_the_default_joint_reaches_farthest():
    explorer = AdjacencyExplorer("ntu25", k=12)
    assert "no joint" not in explorer.describe()


def test_the_page_is_small(trained):
    assert len(AdjacencyExplorer().html()) < 150_000
    assert len(AdjacencyExplorer("ntu25", layouts=["coco17"], masks=trained).html()) < 250_000


def test_a_layout_of_ones_own(toy_skeleton):
    explorer = AdjacencyExplorer(toy_skeleton, num_scales=3, k=1)
    assert [body["label"] for body in explorer.data["bodies"]] == [toy_skeleton.label]
