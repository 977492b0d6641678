import json

import networkx as nx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from msg3d_lab import skeletons
from msg3d_lab.skeletons import Skeleton

TWO = "name: x\njoints: [a, b]\nedges: [[a, b]]\ncenter: a\n"
EVERY = [(n, e) for n in skeletons.names() for e in (skeletons.edge_sets(n) or [None])]


@pytest.mark.parametrize(("name", "edge_set"), EVERY)
def test_get_layouts_have_parts_that_fit_together(name, edge_set):
    s = skeletons.get(name, edge_set=edge_set)
    V = s.num_joints
    graph = nx.Graph(s.edges)
    assert sorted(graph) == list(range(V))
    assert nx.is_connected(graph)
    assert nx.is_tree(graph) == (name not in ("hand21", "mediapipe33"))  # palm, hands, trunk
    # Following parents from any joint ends at one root.
    roots = [v for v, p in enumerate(s.parents) if v == p]
    assert len(roots) == 1
    assert len(s.bones) == V - 1
    assert nx.is_tree(nx.Graph(s.bones))
    assert sorted(j for joints in s.parts.values() for j in joints) == list(range(V))
    sides = [j for pair in s.mirror for j in pair]
    assert len(set(sides)) == len(sides)
    for left, right in s.mirror:
        assert "left" in s.joints[left]
        assert s.joints[right] == s.joints[left].replace("left", "right")
    assert {n for n in s.joints if {"left", "right"} & {*n.split()}} == {s.joints[j] for j in sides}


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


def test_get_utd_mhad_has_the_body_of_nw_ucla_in_another_order():
    one, other = skeletons.get("nw-ucla20"), skeletons.get("utd-mhad20")
    assert other.joints[:5] == ("head", "shoulder center", "spine", "hip center", "left shoulder")
    assert other.joints[4:] == one.joints[4:]
    by_name = lambda s, pairs: {frozenset((s.joints[i], s.joints[j])) for i, j in pairs}  # noqa: E731
    for pairs in ("edges", "bones", "mirror"):
        assert by_name(one, getattr(one, pairs)) == by_name(other, getattr(other, pairs))
    assert one.joints[one.center] == other.joints[other.center]
    assert [one.joints[i] for i in one.up] == [other.joints[i] for i in other.up]


def test_get_mediapipe_layouts_have_the_numbers_of_their_landmarks():
    """From MediaPipe's enumerations PoseLandmark and HandLandmark."""
    body, hand = skeletons.get("mediapipe33"), skeletons.get("hand21")
    for number, name in {0: "nose", 8: "right ear", 9: "mouth left", 15: "left wrist"}.items():
        assert body.joints[number] == name
    for number, name in {24: "right hip", 29: "left heel", 32: "right foot index"}.items():
        assert body.joints[number] == name
    assert {(11, 12), (11, 23), (16, 22), (28, 32)} <= set(body.edges)
    assert len(body.edges) == 35 + 4  # POSE_CONNECTIONS, and four that connect the face
    tips = {4: "thumb tip", 8: "index finger tip", 12: "middle finger tip", 20: "pinky tip"}
    assert {number: hand.joints[number] for number in tips} == tips
    assert len(hand.edges) == 21  # HAND_CONNECTIONS


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
        ("name: 7\njoints: [a]\nedges: []\ncenter: a", "expected a name, a text, found 7"),
        ("name: x\njoints: ab\nedges: []\ncenter: a", "joints to be a list of names, found 'ab'"),
        ("name: x\njoints: []\nedges: []\ncenter: a", "joints to be a list of names"),
        ("name: x\njoints: [on]\nedges: []\ncenter: 0", "joint 0: expected a name, found True"),
        ("name: x\njoints: [1, 2]\nedges: []\ncenter: 0", "joint 0 is called 1, but numbers"),
        ("name: x\njoints: [a, b]\nedges: a-b\ncenter: a", "edges to be a list of pairs"),
        ("name: x\njoints: [a, b]\nedges:\ncenter: a", "edges to be a list of pairs"),
        ("name: x\njoints: [a, b]\nedges: [[a, on]]\ncenter: a", "unknown joint True"),
        ("name: x\njoints: [a, b, c]\nedges: [[a, b]]\ncenter: a", r"'a' to \['c'\]: connect"),
        (TWO + "edge_sets: [[a, b]]", "expected edge_sets to be a mapping"),
        (TWO + "edge_sets: {one: b}", "expected edge_sets.one to be a list"),
        (TWO + "bones: [[a, a], [b, a], [b, b]]", r"more than one parent for \['b'\]"),
        (TWO + "bones: [[a, b], [b, a]]", r"form a cycle at \['a', 'b'\]"),
        (TWO + "bones: [a, b]", "expected a pair"),
        (TWO + "align: [a, b]", "expected align to be a mapping"),
        (TWO + "align: {y: [a, b]}", r"align to have z and x, found \['y'\]"),
        (TWO + "align: {z: [a, a]}", "align.z needs two different joints"),
        (TWO + "mirror: [[a, b], [b, a]]", r"mirror pairs share joints: \['a', 'b'\]"),
        (TWO + "mirror: [[a, a]]", r"mirror pairs share joints: \['a'\]"),
        (TWO + "mirror: {a: b}", "expected mirror to be a list of pairs"),
        (TWO + "parts: [a]", "expected parts to be a mapping"),
        (TWO + "parts: {all: a}", "expected parts.all to be a list"),
        (TWO + "1: 2", r"unknown entries \['1'\]"),
    ],
)
def test_load_explains_what_is_wrong(text, message, tmp_path):
    path = tmp_path / "layout.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        skeletons.load(path)
    assert "layout.yaml" in str(error.value)


def test_load_refuses_what_is_not_utf8(tmp_path):
    path = tmp_path / "layout.yaml"
    path.write_bytes("name: Läufer\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"layout\.yaml is not YAML"):
        skeletons.load(path)


def test_load_reads_a_byte_order_mark(tmp_path):
    path = tmp_path / "layout.yaml"
    path.write_bytes(TWO.encode("utf-8-sig"))
    assert skeletons.load(path).edges == ((0, 1),)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.sampled_from(["a", "b", "", "z"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "x", "z", 1]), inner, max_size=2)
    ),
    max_leaves=6,
)


@settings(max_examples=60)
@given(
    changes=st.dictionaries(
        st.sampled_from(
            ["name", "joints", "edges", "center", "edge_sets", "bones", "align", "mirror", "parts"]
        ),
        ANYTHING,
        min_size=1,
        max_size=3,
    )
)
def test_from_dict_explains_anything_or_makes_a_sound_layout(changes):
    try:
        s = skeletons.from_dict(yaml.safe_load(TWO) | changes)
    except ValueError:
        return
    assert Skeleton.from_record(json.loads(json.dumps(s.to_dict()))) == s
    assert nx.is_connected(nx.Graph([(v, v) for v in range(s.num_joints)] + list(s.edges)))
    assert nx.number_of_selfloops(nx.Graph(s.edges)) == 0
    assert all(0 <= parent < s.num_joints for parent in s.parents)


@settings(max_examples=40)
@given(data=st.data())
def test_from_dict_walks_the_edges_as_networkx_does(data):
    V = data.draw(st.integers(1, 9))
    tree = [(data.draw(st.integers(0, v - 1)), v) for v in range(1, V)]
    more = data.draw(
        st.lists(st.tuples(*[st.integers(0, V - 1)] * 2).filter(lambda e: e[0] != e[1]), max_size=4)
        if V > 1
        else st.just([])
    )
    edges = data.draw(st.permutations(tree + more))
    center = data.draw(st.integers(0, V - 1))
    s = skeletons.from_dict(
        {
            "name": "any",
            "joints": [f"j{v}" for v in range(V)],
            "edges": [list(e) for e in edges],
            "center": center,
        }
    )
    graph = nx.Graph(edges)
    graph.add_node(center)
    parents = {center: center} | {v: u for u, v in nx.bfs_edges(graph, center)}
    assert dict(enumerate(s.parents)) == parents


def test_get_lists_what_there_is():
    with pytest.raises(
        ValueError, match="coco17, hand21, mediapipe33, ntu25, nw-ucla20, openpose18, utd-mhad20"
    ):
        skeletons.get("smpl")
    with pytest.raises(ValueError, match=r"expected one of \['chain', 'star'\]"):
        skeletons.get("ntu25", edge_set="hex")
    with pytest.raises(ValueError, match="single edge set"):
        skeletons.get("coco17", edge_set="star")
