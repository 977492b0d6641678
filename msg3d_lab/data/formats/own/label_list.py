"""Class names from a list: a text file with a name per line, or a CSV of numbers and names."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_NUMBERED = re.compile(r"(\d{1,9})[\s,;.:]+(\S.*)")
_HEADERS = {"id", "label", "number", "index", "name", "label_name", "class", "label_index"}


@dataclass(frozen=True)
class Classes:
    """The classes of recordings."""

    names: tuple[str, ...]  # in the order of the class numbers in the store
    numbers: Mapping[int, int]  # class number in the source -> position in `names`
    notes: tuple[str, ...] = ()  # what a user should know about them


def read_label_list(path: str | Path) -> dict[int, str] | tuple[str, ...]:
    """Read class names.

    One name per line; or lines `NUMBER NAME` or `NUMBER,NAME`, with or without a header.

    Returns:
        The names in order, or number -> name where every line has a number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no label list {path}: expected a text file, a class per line")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}): save it as UTF-8") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if path.suffix.lower() == ".csv":
        delimiter = ";" if lines and ";" in lines[0] and "," not in lines[0] else ","
        rows = list(csv.reader(lines, delimiter=delimiter))
        if rows and {cell.strip().lower() for cell in rows[0]} & {"sample", "splits"}:
            raise ValueError(
                f"{path} is a table of samples: expected a list of classes, one name per line or "
                "lines NUMBER,NAME"
            )
        lines = [" ".join(cell.strip() for cell in row if cell.strip()) for row in rows]
        if lines and set(lines[0].lower().split()) <= _HEADERS:
            lines = lines[1:]
    if not lines:
        raise ValueError(f"{path} has 0 lines: expected a class name in each")
    pairs = [match.groups() for line in lines if (match := _NUMBERED.fullmatch(line))]
    numbered = len(pairs) == len(lines)
    names = tuple(name for _, name in pairs) if numbered else tuple(lines)
    numbers = [int(number) for number, _ in pairs] if numbered else []
    for what, found in (("name", names), ("number", numbers)):
        for value, count in Counter(found).most_common(1):
            if count > 1:
                raise ValueError(f"{path} has the {what} {value!s:.80} in {count} lines: keep one")
    return dict(sorted(zip(numbers, names, strict=True))) if numbered else names


def name_classes(labels: Collection[int], listed: str | Path | None, *, where: str) -> Classes:
    """Give class names to the class numbers that occur in recordings.

    A list without numbers names the classes 0, 1, 2 and so on. Numbers in a list are those of the
    recordings, and the classes of the store follow their order; if they are not, because the list
    counts from 1 and the recordings from 0, the list's order counts. Without a list, the names are
    `class 0` to the highest number. Messages call the recordings `where`.
    """
    found = sorted(labels)
    span = f"labels {found[0]} to {found[-1]}" if found else "no labels"
    if listed is None:
        count = found[-1] + 1 if found else 0
        names = tuple(f"class {i}" for i in range(count))
        gaps = sorted(set(range(count)) - set(found))
        notes: tuple[str, ...] = ("no list of class names (--labels): they are called class 0 ...",)
        if gaps == [0]:
            notes += (
                f"the labels start at 1 ({span}): class 0 has no clip. Number them from 0, or give "
                "a list of lines NUMBER,NAME (--labels)",
            )
        elif gaps:
            notes += (
                f"{len(gaps)} of {count} classes have no clip ({_some(gaps)}): a list of lines "
                "NUMBER,NAME (--labels) with those that occur leaves them out",
            )
        return Classes(names, {i: i for i in range(count)}, notes)
    names_found = read_label_list(listed)
    names = tuple(names_found.values() if isinstance(names_found, dict) else names_found)
    numbers = list(names_found) if isinstance(names_found, dict) else list(range(len(names)))
    if set(found) <= set(numbers):
        return Classes(names, {number: i for i, number in enumerate(numbers)})
    if numbers == list(range(1, len(names) + 1)) and found[-1] < len(names):
        note = f"{Path(listed).name} counts classes from 1, {where} from 0: its order was taken"
        return Classes(names, {i: i for i in range(len(names))}, (note,))
    missing = sorted(set(found) - set(numbers))
    if not isinstance(names_found, dict) and found[0] > 0 and missing == [len(names)]:
        raise ValueError(
            f"{where} has {span}, and {listed} {len(names)} names for 0 to {len(names) - 1}: the "
            "labels start at 1. Number them from 0, or write the list as lines NUMBER,NAME with "
            "the numbers of the labels"
        )
    raise ValueError(
        f"{where} has {span}, and {listed} has no name for {_some(missing)}: expected a name for "
        f"each, found {len(names)} for {_some(numbers)}. Add the names, or write lines NUMBER,NAME"
    )


def _some(numbers: Sequence[int]) -> str:
    """A few of the numbers, and whether there are more."""
    return ", ".join(map(str, numbers[:5])) + (f", ... {numbers[-1]}" if len(numbers) > 5 else "")
