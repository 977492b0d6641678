import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import FancyArrowPatch

from msg3d_lab import graph, viz
from msg3d_lab.viz import body_layout, learned_edges


def edge(receiver, sender, mean, *, frames=(0, 0), p_holm=np.nan):
    return {
        "receiver": receiver,
        "sender": sender,
        "receiver_frame": frames[0],
        "sender_frame": frames[1],
        "mean": mean,
        "p_holm": p_holm,
    }


def arrows(ax):
    return [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_learned_edges_go_from_the_sender_to_the_receiver(body):
    xy = body_layout(body)
    ax = learned_edges(pd.DataFrame([edge("head", "left hand", 0.5)]), body)
    (arrow,) = arrows(ax)
    start, end = arrow._posA_posB
    np.testing.assert_allclose(start, xy[body.joints.index("left hand")])
    np.testing.assert_allclose(end, xy[body.joints.index("head")])
    assert {text.get_text() for text in ax.texts} == {"head", "left hand"}
    assert labels(ax) == ["sends to (not tested)"]
    assert "unitless" in ax.figure.axes[-1].get_ylabel()


def test_learned_edges_show_size_sign_and_significance(body):
    table = pd.DataFrame(
        [
            edge("head", "left hand", -0.8, p_holm=0.001),
            edge("head", "right hand", 0.4, p_holm=0.3),
        ]
    )
    ax = learned_edges(table, body)
    weak, strong = arrows(ax)  # the strongest is drawn last
    assert strong.get_linewidth() > weak.get_linewidth()
    assert strong.get_linestyle() == "-"
    assert weak.get_linestyle() != "-"
    red, _, blue, _ = strong.get_edgecolor()
    assert blue > red  # less than nothing
    red, _, blue, _ = weak.get_edgecolor()
    assert red > blue
    assert labels(ax) == ["p < 0.05, adjusted", "not significant"]
    assert ax.figure.axes[-1].get_ylim() == (-0.8, 0.8)


def test_learned_edges_across_frames_have_a_body_each(body):
    table = pd.DataFrame([edge("head", "left hand", 0.5, frames=(0, 1))])
    ax = learned_edges(table, body)
    assert [text.get_text() for text in ax.texts][:2] == ["t", "t+1"]
    assert len(ax.lines) == 2 * len(body.edges)
    whole = learned_edges(table, body, frames=[-1, 0, 1])
    assert whole.texts[0].get_text() == "t\N{MINUS SIGN}1"
    assert len(whole.lines) == 3 * len(body.edges)
    start, end = arrows(ax)[0]._posA_posB
    assert start[0] - end[0] > np.ptp(body_layout(body)[:, 0])


def test_learned_edges_keep_names_and_repeats_apart(body):
    """All joints named: no two names on one side are closer than a line of text."""
    table = pd.DataFrame([edge(name, "neck", 0.1) for name in body.joints if name != "neck"])
    ax = learned_edges(table, body)
    for side in ("left", "right"):
        heights = sorted(t.xy[1] for t in ax.texts if t.get_ha() == side)
        assert np.diff(heights).min() > 0.045
    twice = learned_edges(pd.DataFrame([edge("head", "neck", 0.1)] * 2), body)
    first, second = (arrow.get_connectionstyle().rad for arrow in arrows(twice))
    assert first != second


def test_learned_edges_ring_a_joint_that_hears_itself(body):
    ax = learned_edges(pd.DataFrame([edge("head", "head", 0.1)]), body)
    assert not arrows(ax)
    assert [line.get_marker() for line in ax.lines].count("o") == 1


def test_learned_edges_of_an_empty_table_are_a_body(body):
    empty = pd.DataFrame([edge("head", "neck", 0.1)]).iloc[:0]
    ax = learned_edges(empty, body)
    assert not arrows(ax)
    assert len(ax.lines) == len(body.edges)


def test_body_graph_draws_every_edge_and_name(body):
    ax = viz.body_graph(body)
    assert len(ax.lines) == len(body.edges)
    assert len(ax.texts) == 25


def test_body_weights_sizes_grow_with_the_weight_and_zeros_stay_apart(body):
    weights = np.zeros(25)
    weights[[3, 4, 5]] = 0.1, 0.2, 0.4
    ax = viz.body_weights(weights, body, focus=5)
    none, some, ring = ax.collections
    assert len(none.get_offsets()) == 22
    sizes = some.get_sizes()
    assert sizes[0] < sizes[1] < sizes[2]
    np.testing.assert_allclose(ring.get_offsets()[0], viz.body_layout(body)[5])


@pytest.mark.parametrize(("edges", "links"), [("grid", 2), ("dense", 6)])
def test_window_weights_links_the_other_frames(body, edges, links):
    wrist = 6
    row = graph.window_graph(body.adjacency, 3, edges=edges)[25 + wrist]
    ax = viz.window_weights(row.reshape(3, 25), body, focus=(1, wrist))
    arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None) is not None]
    assert len(arrows) == links
