"""Graphs on joints: hop distance, k-adjacency, adjacency powers, normalisations, G3D's window.

All functions take and return NumPy arrays in float64. In a matrix that aggregates, row `v`
receives and column `u` sends: `out[v] = sum_u A[v, u] x[u]`.

Source: Liu et al., CVPR 2020 (arXiv 2003.14111), sections 3.1 to 3.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import DTypeLike

from msg3d_lab.skeletons import Skeleton

if TYPE_CHECKING:
    import networkx as nx


Aggregation = Literal["disentangled", "powers"]
Normalization = Literal["symmetric", "column"]
WindowEdges = Literal["dense", "grid"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
WINDOW_EDGES: tuple[WindowEdges, ...] = get_args(WindowEdges)


def hop_distance(A: np.ndarray) -> np.ndarray:
    """Return the number of edges on the shortest path between every two joints.

    Args:
        A: (V, V) adjacency; any non-zero entry is an edge, self-loops do not count.

    Returns:
        (V, V) float64; `inf` where there is no path.

    Raises:
        ValueError: `A` is not square, or not symmetric.

    Example:
        >>> hop_distance(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]))[0]
        array([0., 1., 2.])
    """
    from scipy.sparse.csgraph import shortest_path

    return np.asarray(shortest_path(_binary(A), unweighted=True))


def hop_shares(A: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return how the weight of every row of an adjacency spreads over hop distances.

    Args:
        A: weights of 0 or more, receiver first.
        distance: hops between the nodes; see `hop_distance`.

    Shapes:
        A: (..., V, V), distance: (V, V) -> (..., D + 1, V): the fraction of row v's weight at each
        of 0 to D hops. They add up to 1 over hops; a row without weight has zeros.
    """
    total = A.sum(axis=-1, keepdims=True)
    shares = np.divide(A, total, out=np.zeros_like(A), where=total > 0)
    hops = range(int(distance[np.isfinite(distance)].max()) + 1)
    return np.stack([np.where(distance == d, shares, 0).sum(axis=-1) for d in hops], axis=-2)


def k_adjacency(A: np.ndarray, k: int, *, self_loops: bool = True) -> np.ndarray:
    """Return the disentangled k-adjacency: joints at exactly k hops, and each joint itself.

    Powers of the adjacency count walks, and walks favour near joints; the k-adjacency gives every
    joint at distance k the same weight and every other none. `[A_k]_ij = 1` if `d(i, j) = k` or
    `i = j`, else 0.

    Args:
        A: (V, V) adjacency; self-loops are ignored.
        k: hop, 0 or more. Beyond the graph's diameter only the self-loops are left.
        self_loops: whether a joint keeps itself at k >= 1, as in the paper.

    Raises:
        ValueError: k is negative; `A` is not square or not symmetric.

    Source: Liu et al., CVPR 2020, equation 3.

    Example:
        >>> k_adjacency(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]), 2)
        array([[1., 0., 1.],
               [0., 1., 0.],
               [1., 0., 1.]])
    """
    if k < 0:
        raise ValueError(f"k counts hops and must be 0 or more, found {k}")
    return _at_distance(hop_distance(A), k, self_loops=self_loops)


def _at_distance(distance: np.ndarray, k: int, *, self_loops: bool = True) -> np.ndarray:
    exact = (distance == k).astype(float)
    if k > 0 and self_loops:
        exact += np.eye(len(exact))
    return exact


def adjacency_power(
    A: np.ndarray,
    k: int,
    *,
    normalization: Normalization = "symmetric",
    dtype: DTypeLike = np.float64,
) -> np.ndarray:
    """Return the k-th power of the normalised adjacency with self-loops.

    The multi-scale aggregation that the disentangled one replaces: `(D^-1/2 (A + I) D^-1/2)^k`.

    Raises:
        ValueError: k is negative; `A` is not square or not symmetric.

    Source: Liu et al., CVPR 2020, equations 1 and 2.
    """
    if k < 0:
        raise ValueError(f"k is a power and must be 0 or more, found {k}")
    with_loops = np.maximum(_binary(A), np.eye(len(A)))
    return np.linalg.matrix_power(normalize(with_loops, normalization, dtype=dtype), k)


def normalize(
    A: np.ndarray,
    normalization: Normalization = "symmetric",
    *,
    dtype: DTypeLike = np.float64,
) -> np.ndarray:
    """Normalise an adjacency by its degrees, ready to aggregate (rows receive).

    "symmetric" is `D^-1/2 A D^-1/2` (the author's code). "column" is `A D^-1`, which mmaction2 and
    pyskl contract over its first index; as rows receive here, that is `D^-1 A^T`: the mean over
    neighbours. A joint without edges keeps a row of zeros.

    Args:
        A: (V, V) adjacency.
        normalization: which one.
        dtype: in which degrees, roots and result are rounded. The published networks hold float32,
            and their logits are reproduced to float64 round-off only with the same rounding.

    Raises:
        ValueError: unknown normalisation.
    """
    A = A.astype(dtype)
    degree = A.sum(axis=0)
    inverse = np.divide(1, degree, out=np.zeros_like(degree), where=degree > 0)
    if normalization == "symmetric":
        root = np.power(degree, -0.5, out=np.zeros_like(degree), where=degree > 0)
        return root[:, None] * A * root[None, :]
    if normalization == "column":
        return inverse[:, None] * A.T
    raise ValueError(f"normalization is 'symmetric' or 'column', found {normalization!r}")


def scale_adjacencies(
    A: np.ndarray,
    num_scales: int,
    *,
    aggregation: Aggregation = "disentangled",
    normalization: Normalization = "symmetric",
    dtype: DTypeLike = np.float64,
) -> np.ndarray:
    """Return the normalised adjacencies of all scales, k = 0 to num_scales - 1.

    Args:
        A: (V, V) adjacency of the body or of a G3D window.
        num_scales: K + 1; the highest hop is K.
        aggregation: "disentangled" (k-adjacencies) or "powers".
        normalization: see `normalize`.
        dtype: see `normalize`.

    Shapes:
        (V, V) -> (num_scales, V, V), receiver first.

    Raises:
        ValueError: fewer than one scale, or an unknown aggregation.
    """
    if num_scales < 1:
        raise ValueError(
            f"num_scales counts the hops 0 to K and must be 1 or more, found {num_scales}"
        )
    ks = range(num_scales)
    if aggregation == "disentangled":
        distance = hop_distance(A)
        scales = [normalize(_at_distance(distance, k), normalization, dtype=dtype) for k in ks]
    elif aggregation == "powers":
        scales = [adjacency_power(A, k, normalization=normalization, dtype=dtype) for k in ks]
    else:
        raise ValueError(f"aggregation is 'disentangled' or 'powers', found {aggregation!r}")
    return np.stack(scales)


def window_frames(window_size: int, dilation: int = 1) -> np.ndarray:
    """Return the frames of a window's steps, relative to the frame of the output.

    That is the middle of the window: of the (window_size - 1) * dilation frames between the first
    and the last step, half, rounded down, come before it. With an even number of steps, it may be
    between two of them.
    """
    return np.arange(window_size) * dilation - (window_size - 1) * dilation // 2


def window_graph(A: np.ndarray, window_size: int, *, edges: WindowEdges = "dense") -> np.ndarray:
    """Return the graph of a space-time window: joint `v` of window step `w` is node `w * V + v`.

    "dense" tiles `A + I`: a joint reaches itself and its neighbours in every step at once, the
    cross-space-time edges of G3D. "grid" is the usual space-time graph: neighbours in the same
    step, itself in the steps before and after. The dilation spaces the steps in time and leaves the
    graph as it is.

    Shapes:
        (V, V) -> (window_size * V, window_size * V), binary, no self-loops.

    Raises:
        ValueError: window_size below 1, unknown edges, `A` not square or not symmetric.

    Source: Liu et al., CVPR 2020, section 3.3; "grid" is the graph of ST-GCN (Yan et al.
        2018).
    """
    if window_size < 1:
        raise ValueError(f"window_size counts frames and must be 1 or more, found {window_size}")
    body = _binary(A).astype(float)
    identity = np.eye(len(body))
    if edges == "dense":
        graph = np.tile(body + identity, (window_size, window_size))
    elif edges == "grid":
        steps = np.eye(window_size)
        neighbours = np.eye(window_size, k=1) + np.eye(window_size, k=-1)
        graph = np.kron(steps, body) + np.kron(neighbours, identity)
    else:
        raise ValueError(f"window edges are 'dense' or 'grid', found {edges!r}")
    np.fill_diagonal(graph, 0)
    return graph


def to_networkx(skeleton: Skeleton) -> nx.Graph:
    """Return the body graph with joint numbers as nodes and `name`, `part` as attributes."""
    import networkx as nx

    part_of = {joint: part for part, joints in skeleton.parts.items() for joint in joints}
    graph: nx.Graph = nx.Graph(name=skeleton.label)
    for joint, name in enumerate(skeleton.joints):
        graph.add_node(joint, name=name, part=part_of.get(joint))
    graph.add_edges_from(skeleton.edges)
    return graph


def _binary(A: np.ndarray) -> np.ndarray:
    """Edges as booleans without self-loops, checked."""
    edges = np.asarray(A) != 0
    if edges.ndim != 2 or edges.shape[0] != edges.shape[1]:
        raise ValueError(f"expected a square adjacency (V, V), found shape {edges.shape}")
    if not np.array_equal(edges, edges.T):
        raise ValueError("expected a symmetric adjacency (undirected edges), found one-way edges")
    return edges & ~np.eye(len(edges), dtype=bool)
