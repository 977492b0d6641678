import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from msg3d_lab import graph, skeletons

# Ordered joint pairs at exactly k hops on NTU's body graph.
HOP_COUNTS = {
    "chain": [25, 48, 54, 60, 66, 72, 72, 72, 56, 40, 30, 20, 10],
    "star": [25, 48, 58, 60, 66, 72, 80, 72, 56, 40, 32, 16],
}
PATH3 = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])


@st.composite
def graphs(draw):
    n = draw(st.integers(1, 9))
    upper = np.triu(draw(hnp.arrays(bool, (n, n))), 1)
    return (upper | upper.T).astype(float)


@given(graphs())
def test_hop_distance_equals_networkx(A):
    lengths = dict(nx.all_pairs_shortest_path_length(nx.from_numpy_array(A)))
    expected = [[lengths[i].get(j, np.inf) for j in range(len(A))] for i in range(len(A))]
    np.testing.assert_array_equal(graph.hop_distance(A), expected)


@given(graphs(), st.integers(0, 8))
def test_k_adjacency_is_the_difference_of_reachabilities(A, k):
    """Equation 3 as the author computes it: what k steps reach and k - 1 do not."""
    I = np.eye(len(A))  # noqa: E741
    reach = np.minimum(np.linalg.matrix_power(A + I, k), 1)
    before = np.minimum(np.linalg.matrix_power(A + I, k - 1), 1) if k else np.zeros_like(A)
    np.testing.assert_array_equal(graph.k_adjacency(A, k, self_loops=False), reach - before)
    expected = reach - before + (I if k else 0)
    np.testing.assert_array_equal(graph.k_adjacency(A, k), expected)


@given(graphs())
def test_k_adjacencies_without_loops_part_the_connected_pairs(A):
    total = sum(graph.k_adjacency(A, k, self_loops=False) for k in range(len(A)))
    np.testing.assert_array_equal(total, np.isfinite(graph.hop_distance(A)))


@pytest.mark.parametrize("edge_set", HOP_COUNTS)
def test_k_adjacency_has_the_known_number_of_pairs(edge_set):
    A = skeletons.get("ntu25", edge_set=edge_set).adjacency
    counts = HOP_COUNTS[edge_set]
    found = [graph.k_adjacency(A, k, self_loops=False).sum() for k in range(len(counts))]
    assert found == counts
    np.testing.assert_array_equal(graph.k_adjacency(A, len(counts)), np.eye(25))
    assert graph.hop_distance(A).max() == len(counts) - 1


def test_k_adjacency_by_hand():
    np.testing.assert_array_equal(graph.k_adjacency(PATH3, 0), np.eye(3))
    np.testing.assert_array_equal(graph.k_adjacency(PATH3, 1), [[1, 1, 0], [1, 1, 1], [0, 1, 1]])
    np.testing.assert_array_equal(graph.k_adjacency(PATH3, 2), [[1, 0, 1], [0, 1, 0], [1, 0, 1]])
    np.testing.assert_array_equal(
        graph.k_adjacency(PATH3, 2, self_loops=False), [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    )


def test_k_adjacency_ignores_self_loops_in_its_input():
    np.testing.assert_array_equal(
        graph.k_adjacency(PATH3 + np.eye(3), 2), graph.k_adjacency(PATH3, 2)
    )


def test_normalize_by_hand():
    with_loops = graph.k_adjacency(PATH3, 1)  # degrees 2, 3, 2
    r = 1 / np.sqrt(6)
    np.testing.assert_allclose(
        graph.normalize(with_loops), [[1 / 2, r, 0], [r, 1 / 3, r], [0, r, 1 / 2]]
    )
    np.testing.assert_allclose(
        graph.normalize(with_loops, "column"),
        [[1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3], [0, 1 / 2, 1 / 2]],
    )


@given(graphs())
def test_normalize_keeps_what_it_should(A):
    """Columns: rows that receive anything average. Symmetric: no eigenvalue beyond 1."""
    column = graph.normalize(A, "column")
    np.testing.assert_allclose(column.sum(1), A.any(1).astype(float), atol=1e-12)
    symmetric = graph.normalize(A)
    np.testing.assert_allclose(symmetric, symmetric.T, atol=1e-15)
    assert np.abs(np.linalg.eigvalsh(symmetric)).max() <= 1 + 1e-12


@pytest.mark.parametrize("normalization", graph.NORMALIZATIONS)
def test_normalize_rounds_to_the_asked_precision(normalization):
    A = graph.k_adjacency(skeletons.get("ntu25").adjacency, 2)
    single = graph.normalize(A, normalization, dtype=np.float32)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, graph.normalize(A, normalization), rtol=3e-7)


def test_adjacency_power_by_hand():
    step = graph.normalize(graph.k_adjacency(PATH3, 1))
    np.testing.assert_array_equal(graph.adjacency_power(PATH3, 0), np.eye(3))
    np.testing.assert_allclose(graph.adjacency_power(PATH3, 2), step @ step)


def test_adjacency_power_favours_near_joints_and_k_adjacency_does_not():
    """The paper's point, in numbers: what a hand takes from six hops away."""
    A = skeletons.get("ntu25").adjacency
    hand, hops = 7, graph.hop_distance(A)[7]
    power = graph.adjacency_power(A, 6)[hand]
    exact = graph.normalize(graph.k_adjacency(A, 6))[hand]
    assert power[hops <= 2].sum() > 10 * power[hops == 6].sum()
    assert exact[hops == 6].sum() > exact[hops < 6].sum()


@pytest.mark.parametrize("aggregation", graph.AGGREGATIONS)
@pytest.mark.parametrize("normalization", graph.NORMALIZATIONS)
def test_scale_adjacencies_commute_with_relabelling(aggregation, normalization):
    A = skeletons.get("coco17").adjacency
    order = np.random.default_rng(0).permutation(17)
    kinds = {"aggregation": aggregation, "normalization": normalization}
    scales = graph.scale_adjacencies(A, 5, **kinds)
    relabelled = graph.scale_adjacencies(A[np.ix_(order, order)], 5, **kinds)
    assert scales.shape == (5, 17, 17)
    np.testing.assert_allclose(relabelled, scales[:, order][:, :, order], atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("edges", graph.WINDOW_EDGES)
def test_window_graph_hops_have_a_closed_form(size, edges):
    """Dense: a step in time costs nothing on top of one in space; grid: a hop per frame."""
    A = skeletons.get("nw-ucla20").adjacency
    V = len(A)
    body = graph.hop_distance(A)
    hops = graph.hop_distance(graph.window_graph(A, size, edges=edges)).reshape(size, V, size, V)
    for s in range(size):
        for t in range(size):
            if edges == "grid":
                expected = body + abs(s - t)
            else:
                expected = body if s == t else np.maximum(body, 1)
            np.testing.assert_array_equal(hops[s, :, t], expected)


def test_window_graph_by_hand():
    dense = graph.window_graph(np.array([[0, 1], [1, 0]]), 2)
    np.testing.assert_array_equal(dense, np.ones((4, 4)) - np.eye(4))
    grid = graph.window_graph(np.array([[0, 1], [1, 0]]), 2, edges="grid")
    np.testing.assert_array_equal(grid, [[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]])


def test_to_networkx_carries_names_and_parts():
    skeleton = skeletons.get("ntu25", edge_set="star")
    body = graph.to_networkx(skeleton)
    assert body.number_of_edges() == 24
    assert body.nodes[3] == {"name": "head", "part": "torso"}
    assert nx.diameter(body) == 11


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: graph.k_adjacency(PATH3, -1), "found -1"),
        (lambda: graph.adjacency_power(PATH3, -1), "found -1"),
        (lambda: graph.k_adjacency(np.ones((2, 3)), 1), r"square.*\(2, 3\)"),
        (lambda: graph.hop_distance(np.triu(np.ones((3, 3)))), "one-way"),
        (lambda: graph.scale_adjacencies(PATH3, 0), "found 0"),
        (lambda: graph.window_graph(PATH3, 0), "found 0"),
    ],
)
def test_graph_explains_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_window_frames_are_around_the_middle():
    assert graph.window_frames(3, 2).tolist() == [-2, 0, 2]
    assert graph.window_frames(4, 2).tolist() == [-3, -1, 1, 3]  # as G3D pads
