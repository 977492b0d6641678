import json

import networkx as nx
import pytest

from msg3d_lab import skeletons
from msg3d_lab.skeletons import Skeleton

EVERY = [(n, e) for n in skeletons.names() for e in (skeletons.edge_sets(n) or [None])]


@pytest.mark.parametrize(("name", "edge_set"), EVERY)
def test_get_layouts_are_trees_that_fit_together(name, edge_set):
    s = skeletons.get(name, edge_set=edge_set)
    V = s.num_joints
    graph = nx.Graph(s.edges)
    assert sorted(graph) == list(range(V))
    assert nx.is_tree(graph)
    # Following parents from any joint ends at one root.
    roots = [v for v, p in enumerate(s.parents) if v == p]
    assert len(roots) == 1
    assert len(s.bones) == V - 1
    assert nx.is_tree(nx.Graph(s.bones))
    assert sorted(j for joints in s.parts.values() for j in joints) == list(range(V))
    sides = [j for pair in s.mirror for j in pair]
    assert len(set(sides)) == len(sides)
    for left, right in s.mirror:
        assert s.joints[left].startswith("left")
        assert s.joints[right] == s.joints[left].replace("left", "right")
    assert {n for n in s.joints if n.startswith(("left", "right"))} == {s.joints[j] for j in sides}


def test_get_mirrored_layouts_have_mirrored_edges():
    for name, edge_set in EVERY:
        s = skeletons.get(name, edge_set=edge_set)
        other = {i: i for i in range(s.num_joints)} | {
            k: v for a, b in s.mirror for k, v in ((a, b), (b, a))
        }
        edges = {frozenset(e) for e in s.edges}
        mirrored = {frozenset((other[i], other[j])) for i, j in s.edges}
        # openpose18 and coco17 hang one eye or hip from a joint in the middle: still symmetric.
        assert edges == mirrored, name


def test_get_ntu25_edge_sets_share_bones_and_differ_in_the_hands():
    chain, star = (skeletons.get("ntu25", edge_set=e) for e in ("chain", "star"))
    assert chain.parents == star.parents
    one_based = lambda edges: {frozenset((i + 1, j + 1)) for i, j in edges}  # noqa: E731
    assert one_based(chain.edges) - one_based(star.edges) == {
        frozenset({22, 23}),
        frozenset({24, 25}),
    }
    assert one_based(star.edges) - one_based(chain.edges) == {
        frozenset({22, 8}),
        frozenset({24, 12}),
    }
    assert chain.label == "ntu25 (chain)"
    assert skeletons.get("ntu25") == chain


def test_get_nw_ucla_parents_are_those_of_the_field():
    pairs = "1-2 2-3 4-3 5-3 6-5 7-6 8-7 9-3 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 "
    pairs += "18-17 19-18 20-19"
    expected = {tuple(int(n) - 1 for n in p.split("-")) for p in pairs.split()}
    assert set(skeletons.get("nw-ucla20").bones) == expected


def test_from_record_undoes_to_dict_through_json():
    for name, edge_set in EVERY:
        s = skeletons.get(name, edge_set=edge_set)
        assert Skeleton.from_record(json.loads(json.dumps(s.to_dict()))) == s


def test_load_walks_the_edges_for_parents_when_no_bones_are_given(toy_skeleton):
    assert toy_skeleton.parents == (1, 1, 1, 1, 1)
    assert toy_skeleton.adjacency.sum() == 8


def test_load_reads_names_and_numbers(tmp_path):
    path = tmp_path / "layout.yaml"
    path.write_text("name: two\njoints: [a, b]\nedges: [[0, b]]\ncenter: a\n")
    assert skeletons.load(path).edges == ((0, 1),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "is not YAML"),
        ("- a", "expected a mapping"),
        ("name: x\njoints: [a]\nedges: []", r"missing entries \['center'\]"),
        ("name: x\njoints: [a]\nedges: []\ncenter: a\nbone: []", r"unknown entries \['bone'\]"),
        ("name: x\njoints: [a, a]\nedges: []\ncenter: a", r"found twice: \['a'\]"),
        ("name: x\njoints: [a, b]\nedges: [[a, c]]\ncenter: a", "unknown joint 'c'"),
        ("name: x\njoints: [a, b]\nedges: [[a, 2]]\ncenter: a", "unknown joint 2"),
        ("name: x\njoints: [a, b]\nedges: [[a, a]]\ncenter: a", "joins 'a' to itself"),
        ("name: x\njoints: [a, b]\nedges: [a]\ncenter: a", "expected a pair"),
        (
            "name: x\njoints: [a, b]\nedges: []\ncenter: a\nbones: [[a, a]]",
            r"no parent for \['b'\]",
        ),
    ],
)
def test_load_explains_what_is_wrong(text, message, tmp_path):
    path = tmp_path / "layout.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        skeletons.load(path)
    assert "layout.yaml" in str(error.value)


def test_get_lists_what_there_is():
    with pytest.raises(ValueError, match="coco17, ntu25, nw-ucla20, openpose18"):
        skeletons.get("smpl")
    with pytest.raises(ValueError, match=r"expected one of \['chain', 'star'\]"):
        skeletons.get("ntu25", edge_set="hex")
    with pytest.raises(ValueError, match="single edge set"):
        skeletons.get("coco17", edge_set="star")
