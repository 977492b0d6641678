"""The problems that `check` can find: what they are called, how bad they are, what to do."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from msg3d_lab.data.formats import own_arrays, own_data, own_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KINDS", "Findings", "Origin", "Problem", "explain", "problems_table"]

Severity = Literal["error", "warning"]
# Where recordings come from: one's own table or arrays, or a data set of the field.
Origin = Literal["table", "arrays", "field"]
_EXAMPLES = 5

UNREADABLE = "source that cannot be read"
UNREADABLE_LABELS = "labels that cannot be read"
DAMAGED = "damaged clips"
BOTH_HALVES = "clips in both halves of a protocol"
SUBJECTS_MIXED = "subjects on both sides of a cross-subject split"
SUBJECTS_SHARED = "subjects both trained and tested on"
SUBJECTS_UNKNOWN = "clips of a cross-subject split without a subject"
NOT_TRAINED = "classes missing from a training split"
NOT_TESTED = "classes missing from a test split"
NO_CLIP = "classes without a clip"
HALF = "splits without their other half"
NO_SPLITS = "clips of a data set without splits"
NO_SPLIT = "clips in no split"
STILL = "clips in which nothing moves"
ONE_FRAME = "clips of one frame"
MOSTLY_EMPTY = "clips with nobody in most frames"
NOWHERE = "persons who are nowhere in their clip"
ZERO_JOINTS = "joints that are zero in every clip"
AXES = "clips of 3 persons with 2 channels"
TURNED_OVER = "bodies that align turns over"
SIZE = "bodies of a strange size"

# Kind -> how bad it is, and what to do about it.
KINDS: dict[str, tuple[Severity, str]] = {
    UNREADABLE: (
        "error",
        "give a table (CSV, Parquet) or a folder or zip of .npy files: "
        "docs/data/own-skeletons.md shows both",
    ),
    UNREADABLE_LABELS: (
        "error",
        "give a CSV in UTF-8 with the columns sample, label and splits, beside the recordings or "
        "with --labels",
    ),
    **{reason: ("error", advice) for reason, advice in own_data.FAULTS.items()},
    own_data.NO_RECORDING: ("warning", own_data.FAULTS[own_data.NO_RECORDING]),
    DAMAGED: ("error", "import the data set again"),
    BOTH_HALVES: ("error", "keep each in one half: a clip that is trained on must not be tested"),
    SUBJECTS_MIXED: (
        "error",
        "move all clips of a subject to one side: else people are recognised, not actions",
    ),
    SUBJECTS_SHARED: (
        "warning",
        "fine if the split is meant so; accuracy on new people will be lower",
    ),
    SUBJECTS_UNKNOWN: (
        "warning",
        "nobody can tell whether people are on both sides: fill in `subject` where it is known",
    ),
    NOT_TRAINED: ("error", "split again: they cannot be learned"),
    NOT_TESTED: ("warning", "split again, or know that nothing will be said of them"),
    NO_CLIP: ("warning", "leave them out, or know that the network has outputs for them"),
    HALF: ("warning", "call the halves of a protocol NAME_train and NAME_val, or train and val"),
    NO_SPLITS: ("error", "fill in the column `splits`: which are trained on, which tested on"),
    NO_SPLIT: ("warning", "fill in `splits`: they are neither trained on nor tested on"),
    STILL: ("warning", "look at them, and remove what is no recording"),
    ONE_FRAME: ("warning", "look at them: they have no motion"),
    MOSTLY_EMPTY: (
        "warning",
        "leave out padding; if `frame` is a time stamp, number frames 0, 1, 2 and so on instead",
    ),
    NOWHERE: ("warning", "leave out persons who are all zeros"),
    ZERO_JOINTS: (
        "warning",
        "check their names, or leave them out of the layout: nothing can be learned from them",
    ),
    AXES: (
        "warning",
        "every clip is so: if arrays are (C, T, V, M), transpose them to (M, T, V, C)",
    ),
    TURNED_OVER: (
        "warning",
        "swap the joints of align.x: the line from the second to the first is to point along x "
        "where a body faces the camera; where it points against x, bodies can end upside down",
    ),
    SIZE: (
        "warning",
        "are these metres? Bodies measure 0.5 to 3 of them; scale yours (fine for hands, faces)",
    ),
}
# What else to do about it where the advice above does not fit.
_OF_ARRAYS = {
    own_table.JOINTS: "save the joints of the layout, all of them and in its order, or correct "
    "the layout",
    own_table.FINITE: "write zeros for joints that were not seen",
    MOSTLY_EMPTY: "leave out padding",
    ZERO_JOINTS: "check the order of the joints, or leave them out of the layout: nothing can be "
    "learned from them",
}
_AS_IT_IS = "nothing, if you know the source to be so; else get it again"
_WHOLE = "import the whole data set"
_OF_THE_FIELD = {
    own_arrays.DUPLICATE: "import the data set again",
    own_table.FINITE: "import the data set again",
    **dict.fromkeys(
        (own_data.NOBODY, STILL, ONE_FRAME, MOSTLY_EMPTY, NOWHERE, ZERO_JOINTS, AXES, SIZE),
        _AS_IT_IS,
    ),
    BOTH_HALVES: "get the source again: no protocol of the field does so",
    SUBJECTS_MIXED: "get the source again: no protocol of the field does so",
    SUBJECTS_UNKNOWN: "nothing: the source does not say who is in them",
    NOT_TRAINED: f"{_WHOLE}: they cannot be learned from this part",
    NOT_TESTED: f"{_WHOLE}, or know that nothing will be said of them",
    NO_CLIP: f"{_WHOLE}, or know that the network has outputs for them",
    HALF: f"{_WHOLE}, with both halves of its protocols",
    NO_SPLITS: "take a source that says which are trained on, which tested on",
    NO_SPLIT: "nothing: the source leaves them out of its protocols",
    TURNED_OVER: "look at the first frames, by which prepare_3d turns clips: whoever lies or is "
    "badly tracked there can end upside down",
}
_LEFT_OUT = "left out: "
_NOT_OF = "not of "  # and the data set
_OF_LEFT_OUT = {
    "on the authors' list of missing skeletons": "nothing: all of the field leave them out; "
    "--keep-missing imports them all the same",
    own_data.NOBODY: "nothing: there is nobody in them to recognise",
    "occurs twice": "nothing: the first of each is in the store",
    "not an NTU name": "nothing, if they are no recordings; else give them their names of the data "
    "set, such as S001C002P003R002A013",
    "not in the label file": "nothing, or get the label file that belongs to these recordings",
    "cannot be read": "get these files again and import again, or do without them",
}
_LEFT_OUT_ADVICE = "correct the source and import it again, if these recordings are wanted"
_CHECKED = (
    "joints, coordinates, movement, persons, sizes, labels, classes, splits, subjects, names; in a "
    "store also checksums and what was left out"
)


@dataclass(frozen=True)
class Problem:
    """One kind of problem.

    Args:
        kind: one of `KINDS`, or "left out: " with the reason of a store's `left_out`.
        severity: "error" if recordings are lost or results would be wrong, else "warning".
        count: how often it was found.
        examples: the first five at most.
        advice: what to do about it.
    """

    kind: str
    severity: Severity
    count: int
    examples: tuple[str, ...]
    advice: str


class Findings:
    """Collects what is found; keeps counts and the first examples."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, example: str, detail: str = "") -> None:
        """Count one more of a kind."""
        self._counts[kind] += 1
        if len(self._examples[kind]) < _EXAMPLES:
            self._examples[kind].append(f"{example}: {detail}" if detail else example)

    def add_left_out(self, name: str, reason: str, detail: str) -> None:
        """Count one more recording that is not in a store."""
        self.add(_LEFT_OUT + reason, name, detail)

    def problems(self, origin: Origin = "table") -> list[Problem]:
        """What was found, errors first, else in the order of `KINDS`.

        Args:
            origin: where the recordings come from: the advice depends on it.
        """
        order = {kind: i for i, kind in enumerate(KINDS)}
        made = []
        for kind in sorted(self._counts, key=lambda kind: (order.get(kind, len(order)), kind)):
            severity = KINDS[kind][0] if kind in KINDS else "warning"
            examples = tuple(self._examples[kind])
            advice = _advice(kind, origin)
            made.append(Problem(kind, severity, self._counts[kind], examples, advice))
        return sorted(made, key=lambda problem: problem.severity != "error")


def explain(problems: Sequence[Problem]) -> str:
    """Say in words what was found, how often, where, and what to do."""
    if not problems:
        return f"No problems found. Looked at: {_CHECKED}."
    errors = sum(problem.severity == "error" for problem in problems)
    blocks = [f"{_some(errors, 'error')}, {_some(len(problems) - errors, 'warning')}"]
    for problem in problems:
        lines = [f"{problem.severity}: {problem.kind}: {problem.count}"]
        lines += [f"    {example}" for example in problem.examples]
        if problem.count > len(problem.examples):
            lines.append(f"    ... and {problem.count - len(problem.examples)} more")
        blocks.append("\n".join([*lines, f"    What to do: {problem.advice}."]))
    return "\n\n".join(blocks)


def problems_table(problems: Sequence[Problem]) -> pd.DataFrame:
    """One row per problem: kind, severity, count, examples (joined by "; "), advice."""
    import pandas as pd

    rows = [(p.kind, p.severity, p.count, "; ".join(p.examples), p.advice) for p in problems]
    return pd.DataFrame(rows, columns=["kind", "severity", "count", "examples", "advice"])


def _advice(kind: str, origin: Origin) -> str:
    if kind in KINDS:
        special = {"table": {}, "arrays": _OF_ARRAYS, "field": _OF_THE_FIELD}[origin]
        return special.get(kind, KINDS[kind][1])
    reason = kind.removeprefix(_LEFT_OUT)
    if origin != "field" and reason in own_data.FAULTS and reason != own_data.NOBODY:
        return f"{_advice(reason, origin)}; then import again"
    if reason.startswith(_NOT_OF):
        return "nothing: they belong to another data set"
    return _OF_LEFT_OUT.get(reason, _LEFT_OUT_ADVICE)


def _some(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'s' * (count != 1)}"
