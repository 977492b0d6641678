"""Kinds of problems: how severe each is, and what to do about it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from msg3d_lab.data.formats.own import faults

Severity = Literal["error", "warning", "note"]
_EXAMPLES = 5

UNREADABLE = "source that cannot be read"
CHANNELS = "channels that may be z or a score"
UNREADABLE_LABELS = "labels that cannot be read"
DAMAGED = "damaged clips"
BOTH_HALVES = "clips in both halves of a protocol"
COPIES = "recordings trained on and tested on, under two names"
SUBJECTS_MIXED = "subjects on both sides of a cross-subject split"
SUBJECTS_SHARED = "subjects both trained and tested on"
SUBJECTS_UNKNOWN = "clips of a cross-subject split without a subject"
NOT_TRAINED = "classes missing from a training split"
NOT_TESTED = "classes missing from a test split"
ONE_CLASS = "recordings of one class only"
NO_CLIP = "classes without a clip"
FROM_ONE = "labels that start at 1"
NOT_IN_IMAGE = "2D clips that are not in their image"
PARTLY_OUTSIDE = "2D clips partly outside their image"
DEPTH = "2D layouts with a third coordinate"
HALF = "splits without their other half"
NO_SPLITS = "clips of a data set without splits"
NO_SPLIT = "clips in no split"
STILL = "clips in which nothing moves"
ONE_FRAME = "clips of one frame"
MOSTLY_EMPTY = "clips with nobody in most frames"
NEVER_PRESENT = "persons who are in no frame of their clip"
MOST_PERSONS = 2  # that the recipes of the field take
SURPLUS = "clips of more than two persons"
UNSEEN = "clips with joints that are not seen in some frames"
ZERO_JOINTS = "joints that are zero in every clip"
UPSIDE_DOWN = "bodies that align turns upside down"
SIZE = "bodies of an unusual size"
_CANNOT_BE_READ = "cannot be read"


@dataclass(frozen=True)
class Kind:
    """How severe a kind of problem is, and what to do about it."""

    severity: Severity
    advice: str
    published: str | None = None


_IMPORT_AGAIN = "import the data set again"
_IF_KNOWN = "nothing, if the source is known to be like this; otherwise download it again"
_WHOLE = "import the whole data set"
_PROTOCOL = "download the source again: no published protocol does this"
KINDS: dict[str, Kind] = {
    UNREADABLE: Kind(
        "error",
        "give a table (CSV, Parquet) or a folder or zip of .npy or .csv files: "
        "docs/data/own-skeletons.md shows both",
    ),
    CHANNELS: Kind("error", "say what the channels are, with --channels"),
    UNREADABLE_LABELS: Kind(
        "error",
        "give a CSV in UTF-8 with the columns sample, label and splits, beside the recordings or "
        "with --labels",
    ),
    faults.JOINTS: Kind(
        "error",
        "name joints as the layout does, or by their 0-based numbers, and remove others; arrays "
        "have all joints of the layout in its order",
    ),
    faults.FINITE: Kind(
        "error",
        "correct these numbers; for joints that were not seen leave cells blank, or write zeros or "
        "NaN in arrays",
        published=_IMPORT_AGAIN,
    ),
    faults.TEXT: Kind("error", "write numbers with a decimal point and nothing else"),
    faults.FRAMES: Kind("error", "number frames 0, 1, 2 and so on in each sample"),
    faults.REPEATED: Kind(
        "error",
        "keep one row for each sample, frame, person and joint; two persons need two labels",
    ),
    faults.TOO_LONG: Kind(
        "error",
        "if `frame` is a time stamp, number frames 0, 1, 2 and so on instead; cut long "
        "recordings into clips",
    ),
    faults.SHAPE: Kind(
        "error",
        "save numbers of shape (persons, frames, joints, channels), or without persons for one "
        "person, with the same channels in every file",
    ),
    faults.DUPLICATE: Kind(
        "error", "give every recording a name of its own, whatever folder it lies in"
    ),
    _CANNOT_BE_READ: Kind(
        "error",
        "save the file again as the reason says: it is damaged, no array, or has other fields",
    ),
    faults.LENGTH: Kind(
        "error",
        "give every row as many fields as the header; put names that hold a comma in quotes",
    ),
    faults.TWICE: Kind("error", "keep one row for each sample"),
    faults.NUMBERS: Kind(
        "error",
        "number the classes 0, 1, 2 and so on without a gap, or write class names instead of "
        "numbers: they are numbered in alphabetical order",
    ),
    faults.NAMES: Kind(
        "error",
        "give each number the same label_name in every row, and no other number that name",
    ),
    faults.NO_LABEL: Kind(
        "error", "add a row with sample and label to the labels, or remove the recording"
    ),
    faults.NO_RECORDING: Kind(
        "warning",
        "remove the row, or correct the name: a sample is called as in the table, or as its file "
        "without .npy",
    ),
    faults.NOBODY: Kind(
        "error", "remove the recording: all its coordinates are zero", published=_IF_KNOWN
    ),
    DAMAGED: Kind("error", _IMPORT_AGAIN),
    BOTH_HALVES: Kind(
        "error",
        "keep each in one half: a clip that is trained on must not be tested",
        published=_PROTOCOL,
    ),
    COPIES: Kind(
        "warning",
        "remove one of each: a clip that is trained on must not be tested",
        published="nothing: results of others on these files have them too; `msg3d-lab test` also "
        "prints the accuracy of the other clips",
    ),
    SUBJECTS_MIXED: Kind(
        "error",
        "move all clips of a subject to one side: otherwise the network can recognise people "
        "instead of actions",
        published=_PROTOCOL,
    ),
    SUBJECTS_SHARED: Kind(
        "warning", "nothing, if the split is meant so; accuracy on new people will be lower"
    ),
    SUBJECTS_UNKNOWN: Kind(
        "warning",
        "fill in `subject` where it is known: without it, people on both sides are not found",
        published="nothing: the source does not say who is in them",
    ),
    NOT_TRAINED: Kind(
        "error",
        "split again: these classes cannot be learned",
        published=f"{_WHOLE}: these classes cannot be learned from this part",
    ),
    ONE_CLASS: Kind(
        "error", "add clips of other classes: with one class there is nothing to tell apart"
    ),
    NOT_TESTED: Kind(
        "warning",
        "split again, or accept that results say nothing about these classes",
        published=f"{_WHOLE}, or accept that results say nothing about these classes",
    ),
    FROM_ONE: Kind(
        "warning",
        "number them from 0, or give the import a list of lines NUMBER,NAME (--labels): now the "
        "network has an output for class 0, which nobody does",
        published=f"{_WHOLE}, or accept that the network has an output for class 0",
    ),
    NO_CLIP: Kind(
        "warning",
        "remove these classes, or accept that the network has outputs for them",
        published=f"{_WHOLE}, or accept that the network has outputs for these classes",
    ),
    HALF: Kind(
        "warning",
        "name the halves of a protocol NAME_train and NAME_val, or train and val",
        published=f"{_WHOLE}, with both halves of its protocols",
    ),
    NO_SPLITS: Kind(
        "error",
        "fill in the column `splits`: which clips are trained on, which are tested on",
        published="import a source that says which clips are trained on and which are tested on",
    ),
    NO_SPLIT: Kind(
        "warning",
        "fill in `splits`: these clips are neither trained on nor tested on",
        published="nothing: the source leaves them out of its protocols",
    ),
    STILL: Kind("warning", "view them, and remove what is not a recording", published=_IF_KNOWN),
    ONE_FRAME: Kind("warning", "view them: they have no motion", published=_IF_KNOWN),
    MOSTLY_EMPTY: Kind(
        "warning",
        "remove padding; if `frame` is a time stamp, number frames 0, 1, 2 and so on instead",
        published=_IF_KNOWN,
    ),
    NEVER_PRESENT: Kind("warning", "remove persons who are all zeros", published=_IF_KNOWN),
    SURPLUS: Kind(
        "warning",
        "remove tracks that are nobody, or set num_persons in the recipe: the network sees the "
        "persons that are seen longest, and no others",
        published="nothing, or set num_persons in the recipe: the network sees the first persons",
    ),
    UNSEEN: Kind(
        "warning",
        "nothing, if they are few: blank cells, missing rows and zeros are joints at zero",
        published=_IF_KNOWN,
    ),
    ZERO_JOINTS: Kind(
        "warning",
        "check their names or order, or remove them from the layout: nothing can be learned from "
        "them",
        published=_IF_KNOWN,
    ),
    UPSIDE_DOWN: Kind(
        "warning",
        "swap the joints of align.x: the line from the second to the first must point along x "
        "where a body faces the camera; if it points against x, bodies can end upside down",
        published="view the first frames, by which prepare_3d rotates clips: a person who lies or "
        "is badly tracked there can end upside down",
    ),
    NOT_IN_IMAGE: Kind(
        "error",
        "import again with the right image size (--image-size HEIGHT WIDTH), or coordinates in "
        "pixels",
    ),
    PARTLY_OUTSIDE: Kind(
        "warning",
        "view them: more than a fifth of their joints are well outside the image, as if it had "
        "another size",
    ),
    DEPTH: Kind(
        "warning",
        "if the third number is the score of a pose estimator, import again and say so: it is "
        "taken for z now",
    ),
    SIZE: Kind(
        "warning",
        "check that the unit is metres: bodies measure 0.5 to 3 of them; scale yours (nothing to "
        "do for hands and faces)",
        published=_IF_KNOWN,
    ),
}
LEFT_OUT = "left out: "  # the kind of a recording that is not in a store, with its reason
_LEFT_OUT_ADVICE = {
    "on the authors' list of missing skeletons": "nothing: published results leave them out; "
    "--keep-missing imports them",
    faults.NOBODY: "nothing: there is nobody in them to recognise",
    "occurs twice": "nothing: the first of each is in the store",
    "in a split, but without an annotation": "nothing, if the source is a part of a data set; "
    "otherwise correct the names in its splits",
    "its kpfile is not there": "get the missing kpfiles and import again, or continue without "
    "these recordings",
    "not an NTU name": "nothing, if they are not recordings; otherwise rename them as in the data "
    "set, such as S001C002P003R002A013",
    "not in the label file": "nothing, or download the label file that belongs to these recordings",
    _CANNOT_BE_READ: "download these files again and import again, or continue without them",
}
_CHECKED = (
    "joints, coordinates, images, movement, persons, sizes, labels, classes, splits, subjects, "
    "names; in a store also checksums and what was left out"
)


@dataclass(frozen=True)
class Problem:
    """One kind of problem, and where it was found."""

    kind: str  # of `KINDS`; "left out: " with the reason of a store's `left_out`; or "assumed"
    severity: Severity  # error: recordings are lost or results would be wrong; note: assumed
    count: int  # how often it was found
    examples: tuple[str, ...]  # the first five at most
    advice: str  # what to do about it


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

    def problems(self, *, published: bool = False) -> list[Problem]:
        """Return what was found, errors first, then in the order of `KINDS`."""
        order = {kind: i for i, kind in enumerate(KINDS)}
        found = []
        for kind in sorted(self._counts, key=lambda kind: (order.get(kind, len(order)), kind)):
            severity = KINDS[kind].severity if kind in KINDS else "warning"
            examples = tuple(self._examples[kind])
            advice = _advice(kind, published)
            found.append(Problem(kind, severity, self._counts[kind], examples, advice))
        return sorted(found, key=lambda problem: problem.severity != "error")


def notes_of(notes: Sequence[str]) -> list[Problem]:
    """Return what an import assumes, such as a layout guessed by the number of joints, if any."""
    advice = "see whether that is what you mean"
    return [Problem("assumed", "note", len(notes), tuple(notes), advice)] if notes else []


def explain_problems(problems: Sequence[Problem]) -> str:
    """Describe what was found, how often, where, and what to do about it."""
    errors, warnings = (
        sum(problem.severity == kind for problem in problems) for kind in ("error", "warning")
    )
    blocks = [f"{_some(errors, 'error')}, {_some(warnings, 'warning')}"]
    if not errors + warnings:
        blocks = [f"No problems found. Checked: {_CHECKED}."]
    for problem in problems:
        lines = [f"{problem.severity}: {problem.kind}: {problem.count}"]
        lines += [f"    {example}" for example in problem.examples]
        if problem.count > len(problem.examples):
            lines.append(f"    ... and {problem.count - len(problem.examples)} more")
        blocks.append("\n".join([*lines, f"    What to do: {problem.advice}."]))
    return "\n\n".join(blocks)


def _advice(kind: str, published: bool) -> str:
    if kind in KINDS:
        known = KINDS[kind]
        return known.published or known.advice if published else known.advice
    reason = kind.removeprefix(LEFT_OUT)
    if not published and reason in KINDS and reason != faults.NOBODY:
        return f"{KINDS[reason].advice}; then import again"
    if reason.startswith("not of "):
        return "nothing: they belong to another data set"
    return _LEFT_OUT_ADVICE.get(
        reason, "correct the source and import it again, if these recordings are needed"
    )


def _some(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'s' * (count != 1)}"
