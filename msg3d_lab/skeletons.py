"""Joint layouts: names, edges, bone parents, centre, left and right, body parts.

The library's layouts are YAML files in `layouts/`. A layout of your own is such a file too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from msg3d_lab.yaml_library import YamlLibrary, read_mapping

_KIND = "joint layout"
_REQUIRED = {"name", "joints", "edges", "center"}
_OPTIONAL = {"edge_sets", "bones", "align", "mirror", "parts"}


@dataclass(frozen=True)
class Skeleton:
    """A joint layout. Joints are numbered from 0 in the order of `joints`.

    Args:
        name: the layout's name, e.g. "ntu25".
        joints: joint names, unique.
        edges: undirected pairs of joints; the graph of the convolutions.
        parents: for each joint, the joint its bone starts at; a root is its own parent.
        center: the body's root, where parents are walked from if no bones are given.
        edge_set: which variant of the edges this is, where a layout has several.
        up: (from, to): the joints whose line PreNormalize3D turns parallel to z.
        across: (from, to): the joints whose line it turns parallel to x.
        mirror: pairs (left, right).
        parts: body part -> joints.
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    parents: tuple[int, ...]
    center: int
    edge_set: str | None = None
    up: tuple[int, int] | None = None
    across: tuple[int, int] | None = None
    mirror: tuple[tuple[int, int], ...] = ()
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)

    @property
    def num_joints(self) -> int:
        """V."""
        return len(self.joints)

    @property
    def adjacency(self) -> np.ndarray:
        """The binary, symmetric adjacency without self-loops: (V, V) float64."""
        A = np.zeros((self.num_joints, self.num_joints))
        for i, j in self.edges:
            A[i, j] = A[j, i] = 1
        return A

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(joint, parent) of every joint that has a parent other than itself."""
        return tuple((v, p) for v, p in enumerate(self.parents) if v != p)

    @property
    def label(self) -> str:
        """The name with the edge set, as people read it: `ntu25 (star)`."""
        return self.name if self.edge_set is None else f"{self.name} ({self.edge_set})"

    def to_dict(self) -> dict[str, Any]:
        """Everything, in plain types; `from_record` is the inverse."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Skeleton:
        """Rebuild what `to_dict` gave, also after a trip through JSON."""
        parts = {name: _tuples(members) for name, members in record["parts"].items()}
        return cls(**{name: _tuples(value) for name, value in record.items()} | {"parts": parts})


def _tuples(value: Any) -> Any:
    """Lists, and lists in them, as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


_LIBRARY: YamlLibrary[dict[str, Any]] = YamlLibrary(
    Path(__file__).with_name("layouts"),
    kind=_KIND,
    entries=lambda path: {path.stem: read_mapping(path, kind=_KIND)},
)


def names() -> list[str]:
    """The names of the layouts that come with the library."""
    return _LIBRARY.names()


def edge_sets(name: str) -> list[str]:
    """The edge sets of a layout that comes with the library; empty where it has only one."""
    return list(_LIBRARY.get(name).get("edge_sets", {}))


def get(name: str, *, edge_set: str | None = None) -> Skeleton:
    """Return a layout that comes with the library; `load` reads one of your own.

    Args:
        name: one of `names()`.
        edge_set: for "ntu25": "chain" (the author's, the default) or "star" (mmaction2, pyskl).

    Raises:
        ValueError: unknown name or edge set.

    Example:
        >>> get("ntu25", edge_set="star").num_joints
        25
    """
    return from_dict(_LIBRARY.get(name), edge_set=edge_set)


def variants(name: str) -> list[Skeleton]:
    """Return a layout that comes with the library with each of its edge sets, the default first."""
    sets: list[str | None] = [*edge_sets(name)]
    return [get(name, edge_set=edge_set) for edge_set in sets or [None]]


def load(path: str | Path, *, edge_set: str | None = None) -> Skeleton:
    """Read a layout from YAML.

    The file has `name`, `joints`, `edges`, `center` and, where wanted, `edge_sets`, `bones`
    (without it the parents follow from walking the edges outwards from the centre), `align`,
    `mirror` and `parts`. Joints are given by name or by 0-based number.

    Raises:
        ValueError: the file is not such a layout; the message names the file and the entry.
    """
    document = read_mapping(path, kind=_KIND)
    try:
        return from_dict(document, edge_set=edge_set)
    except ValueError as error:
        raise ValueError(f"{path} is not a joint layout: {error}") from error


def from_dict(document: Mapping[str, Any], *, edge_set: str | None = None) -> Skeleton:
    """Build a `Skeleton` from a layout document (see `load`).

    Raises:
        ValueError: a missing, unknown or malformed entry, an unknown joint, a joint named twice, an
            edge from a joint to itself, joints that no edges connect, a bone parent missing or
            given twice, bones that form a cycle, mirror pairs that share a joint.
    """
    missing, unknown = _REQUIRED - set(document), set(document) - _REQUIRED - _OPTIONAL
    if missing or unknown:
        raise ValueError(
            f"missing entries {sorted(missing)}, unknown entries {sorted(map(str, unknown))}; "
            f"expected {sorted(_REQUIRED)} and, if wanted, {sorted(_OPTIONAL)}"
        )
    if not isinstance(document["name"], str) or not document["name"].strip():
        raise ValueError(f"expected a name, a text, found {document['name']!r}")
    joints = _joint_names(document["joints"])
    number = {j: i for i, j in enumerate(joints)}

    def joint(value: Any) -> int:
        if type(value) is int and 0 <= value < len(joints):
            return value
        if str(value) not in number:
            raise ValueError(f"unknown joint {value!r}; the joints are {', '.join(joints)}")
        return number[str(value)]

    def pair(value: Any) -> tuple[int, int]:
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise ValueError(f"expected a pair of joints, found {value!r}")
        return joint(value[0]), joint(value[1])

    def pairs(value: Any, entry: str) -> list[tuple[int, int]]:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"expected {entry} to be a list of pairs of joints, found {value!r}")
        return [pair(p) for p in value]

    edge_sets = _mapping(document.get("edge_sets"), "edge_sets")
    if edge_set is None and edge_sets:
        edge_set = next(iter(edge_sets))
    if edge_set is not None and edge_set not in edge_sets:
        raise ValueError(
            f"unknown edge set {edge_set!r} of {document['name']}: "
            f"expected one of {list(edge_sets) or 'none (it has a single edge set)'}"
        )
    edges = pairs(document["edges"], "edges")
    if edge_set is not None:
        edges += pairs(edge_sets[edge_set], f"edge_sets.{edge_set}")
    loops = [joints[i] for i, j in edges if i == j]
    if loops:
        raise ValueError(f"an edge joins {loops[0]!r} to itself; self-loops are added by the graph")
    center = joint(document["center"])
    walked = _walk(len(joints), edges, center)
    parents = walked
    if "bones" in document:
        parents = _parents_from_bones(joints, pairs(document["bones"], "bones"))
    alone = [name for name, parent in zip(joints, walked, strict=True) if parent < 0]
    if alone:
        raise ValueError(
            f"no edges lead from the centre {joints[center]!r} to {alone}: connect them, since "
            "nothing flows between joints that no edges connect"
        )
    align = _mapping(document.get("align"), "align")
    if set(align) - {"z", "x"}:
        raise ValueError(f"expected align to have z and x, found {sorted(align)}")
    lines = {axis: pair(ends) for axis, ends in align.items()}
    for axis, (i, j) in lines.items():
        if i == j:
            raise ValueError(f"align.{axis} needs two different joints, found {joints[i]!r} twice")
    mirror = pairs(document.get("mirror") or [], "mirror")
    sides = [joints[i] for sides in mirror for i in sides]
    twice = sorted({name for name in sides if sides.count(name) > 1})
    if twice:
        raise ValueError(f"mirror pairs share joints: {twice}; each has one counterpart at most")
    parts = _mapping(document.get("parts"), "parts")
    for name, members in parts.items():
        if not isinstance(members, (list, tuple)):
            raise ValueError(f"expected parts.{name} to be a list of joints, found {members!r}")
    return Skeleton(
        name=document["name"],
        joints=joints,
        edges=tuple(edges),
        parents=parents,
        center=center,
        edge_set=edge_set,
        up=lines.get("z"),
        across=lines.get("x"),
        mirror=tuple(mirror),
        parts={name: tuple(map(joint, members)) for name, members in parts.items()},
    )


def _joint_names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"expected joints to be a list of names, found {value!r}")
    for position, name in enumerate(value):
        # YAML reads no, yes, on and off as truth values.
        if type(name) not in (str, int) or not str(name).strip():
            raise ValueError(f"joint {position}: expected a name, found {name!r}; write it in ''")
        if str(name).strip().isdigit() and str(name) != str(position):
            raise ValueError(
                f"joint {position} is called {name!r}, but numbers stand for 0-based positions: "
                "give the joints names"
            )
    names = [str(name) for name in value]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"joint names must be unique; found twice: {twice}")
    return tuple(names)


def _mapping(value: Any, entry: str) -> dict[str, Any]:
    """The mapping under an optional entry; empty where there is none."""
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"expected {entry} to be a mapping, found {value!r}")
    return {str(key): item for key, item in (value or {}).items()}


def _parents_from_bones(joints: Sequence[str], bones: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    parent_of = dict(bones)
    starts = [joints[v] for v, _ in bones]
    twice = sorted({name for name in starts if starts.count(name) > 1})
    if twice:
        raise ValueError(f"bones give more than one parent for {twice}")
    orphans = [joints[v] for v in range(len(joints)) if v not in parent_of]
    if orphans:
        raise ValueError(f"bones give no parent for {orphans}; a root is its own parent")
    rooted = {v for v, parent in parent_of.items() if v == parent}
    for _ in joints:
        rooted |= {v for v, parent in parent_of.items() if parent in rooted}
    if len(rooted) < len(joints):
        cycle = [joints[v] for v in range(len(joints)) if v not in rooted]
        raise ValueError(f"bones form a cycle at {cycle}; a root is its own parent")
    return tuple(parent_of[v] for v in range(len(joints)))


def _walk(num_joints: int, edges: Sequence[tuple[int, int]], center: int) -> tuple[int, ...]:
    """Parents of a breadth-first walk from the centre, its own parent; -1 if not reached."""
    neighbours: list[list[int]] = [[] for _ in range(num_joints)]
    for i, j in edges:
        neighbours[i].append(j)
        neighbours[j].append(i)
    parents = [-1] * num_joints
    parents[center] = center
    reached = [center]
    for parent in reached:
        for child in neighbours[parent]:
            if parents[child] < 0:
                parents[child] = parent
                reached.append(child)
    return tuple(parents)
