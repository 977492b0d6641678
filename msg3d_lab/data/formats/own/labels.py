"""Read the CSV of labels of your own recordings: class, splits, subject, camera, setup."""

from __future__ import annotations

import csv
import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple

import numpy as np

from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.importer import Entry
from msg3d_lab.data.formats.own import faults

_REQUIRED = ("sample", "label")
_OPTIONAL = ("label_name", "splits", "subject", "camera", "setup")
_MISSPELT = 0.8  # similarity: reached by "spilts" and "splits", not by "set" and "setup"
_WHOLE = re.compile(r"([+-]?\d{1,9})(?:\.0*)?")  # "3.0": pandas writes so if a cell is blank


@dataclass(frozen=True)
class LabelRow:
    """The labels of one sample; the fields are those of `Clip`."""

    label: int
    splits: tuple[str, ...] = ()
    subject: int | None = None
    camera: int | None = None
    setup: int | None = None

    def clip(self, name: str, keypoints: np.ndarray) -> Clip:
        """The sample."""
        return Clip(name, keypoints, **vars(self))


@dataclass(frozen=True)
class Labels:
    """A labels CSV."""

    path: Path  # the file
    rows: Mapping[str, LabelRow]  # the labels of each sample that has one
    names: tuple[str, ...]  # class names in the order of the labels
    faults: tuple[LeftOut, ...]  # everything wrong with the file; `id` is the sample or row

    @property
    def record(self) -> str:
        """The file's name and a hash of what was read, also of splits in files beside it."""
        read = repr((self.names, sorted(self.rows.items())))
        return f"{self.path.name} {hashlib.sha256(read.encode()).hexdigest()[:12]}"

    def refuse_faults(self) -> None:
        """Raise ValueError if anything is wrong with the file."""
        if self.faults:
            raise ValueError(summarize(f"{self.path} cannot be used", self.faults))

    def without_recording(self, found: Iterable[str]) -> list[LeftOut]:
        """The samples that are not among the recordings that were found."""
        known = set(found)
        return [LeftOut(name, faults.NO_RECORDING) for name in self.rows if name not in known]


class Labelled(NamedTuple, Generic[Entry]):
    """A recording that has a label: what is needed to read it, and the label."""

    id: str
    entry: Entry
    row: LabelRow


def add_labels(
    entries: Sequence[Entry | LeftOut], known: Labels
) -> list[Labelled[Entry] | LeftOut]:
    """Add labels to recordings. Those without one are left out, and labels without a recording."""
    labelled: list[Labelled[Entry] | LeftOut] = []
    for entry in entries:
        if isinstance(entry, LeftOut):
            labelled.append(entry)
        elif entry.id in known.rows:
            labelled.append(Labelled(entry.id, entry, known.rows[entry.id]))
        else:
            labelled.append(LeftOut(entry.id, faults.NO_LABEL))
    return labelled + known.without_recording(entry.id for entry in entries)


def summarize(what: str, found: Sequence[LeftOut]) -> str:
    """Return a line with each kind of fault, its number and an example."""
    counts = Counter(fault.reason for fault in found)
    first = {fault.reason: fault for fault in reversed(found)}
    listed = [
        f"{reason} ({count}, e.g. {first[reason].id}: {first[reason].detail})"
        for reason, count in counts.items()
    ]
    return f"{what}: {'; '.join(listed)}. `msg3d-lab data check` explains each"


def find_labels(source: Path) -> Path:
    """Return the path of the labels of a table or folder.

    It is `labels.csv` in the folder, or `NAME.labels.csv` beside a table or folder `NAME`, or
    `labels.csv` beside a table.
    """
    own = source.with_name(f"{source.stem}.labels.csv")
    shared = source / "labels.csv" if source.is_dir() else source.with_name("labels.csv")
    places = [shared, own] if source.is_dir() else [own, shared]
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        return found
    raise ValueError(
        f"{source} has no labels: write a CSV with the columns sample, label and splits to "
        f"{' or '.join(map(str, places))}, or name yours (--labels)"
    )


def read_labels(path: Path) -> Labels:
    """Read a labels CSV. Faults of single rows are listed in `Labels.faults`.

    If all labels are whole numbers, they are the class numbers. Otherwise they are class names,
    numbered in alphabetical order. The same holds for subjects, cameras and setups.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no labels file {path}: expected a CSV with the columns sample, label and splits; "
            "correct its path (--labels), or leave it out if the labels lie with the recordings"
        )
    found: list[LeftOut] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = _rows(path, csv.reader(file), found)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a CSV in UTF-8 ({error}): save it as UTF-8 (Excel: 'CSV UTF-8')"
        ) from error
    labelled = {sample: row for sample, row in table.items() if row["label"]}
    names, numbers = _classes(labelled, found)
    subjects, cameras, setups = (
        _numbered(row[what] for row in labelled.values()) for what in ("subject", "camera", "setup")
    )
    rows = {
        sample: LabelRow(
            label=numbers[row["label"]],
            splits=tuple(dict.fromkeys(filter(None, re.split(r"[\s;,]+", row["splits"])))),
            subject=subjects.get(row["subject"]),
            camera=cameras.get(row["camera"]),
            setup=setups.get(row["setup"]),
        )
        for sample, row in labelled.items()
    }
    return Labels(path, rows, names, tuple(found))


def match_columns(
    path: Path, found: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> dict[str, int]:
    """Return the positions of columns, found by name.

    Case and surrounding blanks of names do not matter. Other columns are ignored.
    """
    names = [name.strip().lower() for name in found]
    missing = [name for name in required if name not in names]
    if missing:
        hint = ""
        if len(names) == 1 and re.search(r"[;\t]", names[0]):
            hint = ": separate the columns by commas, and write decimals with a point"
        elif missing == ["person"]:
            hint = ": add it, with 0 in every row if there is one person"
        more = f" and {len(found) - 12} more" if len(found) > 12 else ""
        raise ValueError(
            f"{path} has no column {' or '.join(missing)}, found {list(found[:12])}{more}{hint}"
        )
    known = {*required, *optional}
    for name in names:
        # Required columns were found, so a column such as `sample_name` is no misspelling.
        near = difflib.get_close_matches(name, known - set(names), n=1, cutoff=_MISSPELT)
        if name not in known and near:
            raise ValueError(f"{path} has a column {name!r}: is it {near[0]!r}? Rename it")
    twice = sorted(name for name in known if names.count(name) > 1)
    if twice:
        raise ValueError(f"{path} has two columns {twice[0]!r}: keep one")
    return {name: names.index(name) for name in (*required, *optional) if name in names}


def _rows(
    path: Path, lines: Iterator[list[str]], found: list[LeftOut]
) -> dict[str, dict[str, str]]:
    """Return sample -> column -> text, "" where a column is missing."""
    header = next(filter(None, lines), None)
    if header is None:
        raise ValueError(f"{path} is empty: expected a CSV with the columns sample and label")
    columns = match_columns(path, header, _REQUIRED, _OPTIONAL)
    table: dict[str, dict[str, str]] = {}
    for number, line in enumerate(lines, start=2):
        if not any(map(str.strip, line)):
            continue
        if len(line) != len(header):
            detail = f"{len(line)} fields, the header has {len(header)}"
            found.append(LeftOut(f"{path.name}, row {number}", faults.LENGTH, detail))
            continue
        texts = {name: line[at].strip() for name, at in columns.items()}
        sample = texts["sample"]
        if sample in table:
            found.append(LeftOut(sample, faults.TWICE, f"again in row {number}"))
            continue
        table[sample] = dict.fromkeys(_OPTIONAL, "") | texts
    return table


def _classes(
    rows: Mapping[str, Mapping[str, str]], found: list[LeftOut]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the class names, and the class number of each text in the column `label`."""
    texts = {row["label"] for row in rows.values()}
    whole = {text: number for text in texts if (number := _whole(text)) is not None}
    if len(whole) < len(texts):
        names = tuple(sorted(texts))
        return names, {name: i for i, name in enumerate(names)}
    numbers = sorted(set(whole.values()))
    count = len(numbers)
    called: dict[int, set[str]] = {number: set() for number in numbers}
    for sample, row in rows.items():
        number = whole[row["label"]]
        called[number] |= {row["label_name"]} - {""}
        if not 0 <= number < count:
            detail = f"label {number}; {count} classes are numbered 0 to {count - 1}"
            if numbers == list(range(1, count + 1)):
                detail += "; yours start at 1: subtract 1"
            found.append(LeftOut(sample, faults.NUMBERS, detail))
    names = tuple(min(called[number], default=str(number)) for number in numbers)
    for number in numbers:
        if len(called[number]) > 1:
            several = " and ".join(sorted(called[number]))
            found.append(LeftOut(f"label {number}", faults.NAMES, several))
    for name in dict.fromkeys(names):
        owners = [str(n) for n, own in zip(numbers, names, strict=True) if own == name]
        if len(owners) > 1:
            found.append(LeftOut(f"labels {', '.join(owners)}", faults.NAMES, f"all {name}"))
    # If numbers have gaps, `data check` continues with the classes that occur.
    return names, {text: numbers.index(number) for text, number in whole.items()}


def _numbered(texts: Iterable[str]) -> dict[str, int]:
    """Return a number for each text but "": itself if all are whole numbers, else its rank."""
    different = sorted(set(texts) - {""})
    whole = {text: number for text in different if (number := _whole(text)) is not None}
    if len(whole) == len(different):
        return whole
    return {text: i for i, text in enumerate(different)}


def _whole(text: str) -> int | None:
    match = _WHOLE.fullmatch(text)
    return int(match[1]) if match else None
