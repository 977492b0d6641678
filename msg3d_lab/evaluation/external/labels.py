"""True classes in a file of their own, and rules that map one spelling of sample ids to another."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from msg3d_lab.safe_pickle import load_npy, load_pickle

_ROWS = (list, tuple, np.ndarray)


class LabelFile(NamedTuple):
    """Names, if the file has them, and true classes from 0; `start` is where the file begins."""

    names: list[str] | None
    labels: np.ndarray
    start: int


def read_labels(path: str | Path, *, num_classes: int) -> LabelFile:
    """Read the true classes of samples.

    Accepted are a pickle of (names, labels) as MS-G3D, ST-GCN and 2s-AGCN keep it, of dicts with
    `file_name` and `label` (CTR-GCN on NW-UCLA), of name -> label, of labels alone; an .npy array
    of labels; a CSV or text file with a line `name,label` per sample.

    Args:
        num_classes: the classes that there are scores for; tells whether labels start at 1.
    """
    path = Path(path)
    names, values = _names_and_labels(path)
    labels = _whole_numbers(values, path)
    start = int(len(labels) > 0 and labels.min() == 1 and labels.max() == num_classes)
    labels = labels - start
    if not len(labels) or labels.min() < 0 or labels.max() >= num_classes:
        ends = f"from {labels.min()} to {labels.max()}" if len(labels) else "none"
        raise ValueError(
            f"{path}: expected labels from 0 to {num_classes - 1} (or 1 to {num_classes}), because "
            f"there are {num_classes} scores for each sample, found {ends}: are they of the same "
            "data set?"
        )
    refuse_repeats(names or (), path)
    return LabelFile(names, labels, start)


def refuse_repeats(names: Sequence[str], path: Path) -> None:
    """Raise ValueError if a sample of a file occurs more than once."""
    if repeated := len(names) - len(set(names)):
        raise ValueError(f"{path}: {repeated} samples occur more than once")


def read_names(path: Path) -> list[str]:
    """Read sample names: one a line, or a pickle of names and labels (see `read_labels`)."""
    with path.open("rb") as file:
        pickled = file.read(1) in (b"\x80", b"(")
    if not pickled:
        lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
        return [line for line in lines if line]
    names, _ = _names_and_labels(path)
    if names is None:
        raise ValueError(
            f"{path}: expected sample names: one a line, or a pickle of them and labels"
        )
    return names


def read_name_rule(rule: str | Path) -> Callable[[str], str]:
    r"""Return a function that maps the names of a score file to sample ids.

    Args:
        rule: a regular expression with one group, which is the id (searched for in the name), or a
            CSV file with two columns: the name and the id.

    Example:
        >>> read_name_rule(r"(S\d+A\d+E\d+V\d+)")("clips/S09A06E03V03_rgb.avi")
        'S09A06E03V03'
    """
    if Path(rule).is_file():
        rows = _csv_rows(Path(rule))
        table = dict(rows)
        if len(table) < len(rows):
            raise ValueError(f"{rule}: {len(rows) - len(table)} names occur more than once")

        def look_up(name: str) -> str:
            if name not in table:
                raise ValueError(f"{rule} has no row for {name!r}: expected name,id for every one")
            return table[name]

        return look_up
    try:
        pattern = re.compile(str(rule))
    except re.error as error:
        raise ValueError(f"{rule!r} is no file and no regular expression ({error})") from None
    if pattern.groups != 1:
        raise ValueError(
            f"expected a regular expression with one group (...), which is the sample id, or a CSV "
            f"of two columns, found {str(rule)!r} with {pattern.groups} groups"
        )

    def search(name: str) -> str:
        found = pattern.search(name)
        if found is None or found[1] is None:
            raise ValueError(f"the name rule {str(rule)!r} does not fit {name!r}")
        return found[1]

    return search


def _names_and_labels(path: Path) -> tuple[list[str] | None, Sequence[Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"no file of labels at {path}")
    with path.open("rb") as file:
        start = file.read(6)
    if start == b"\x93NUMPY":
        return None, load_npy(path).ravel().tolist()
    if start[:1] not in (b"\x80", b"(", b"]", b"}"):
        rows = _csv_rows(path)
        if not rows[0][1].strip().lstrip("-").isdecimal():
            rows = rows[1:]  # a header
        return [name for name, _ in rows], [label for _, label in rows]
    content = load_pickle(path, tensors=True)
    if isinstance(content, dict):
        return [str(name) for name in content], list(content.values())
    if isinstance(content, np.ndarray):
        return None, content.ravel().tolist()
    if isinstance(content, list | tuple) and content:
        if all(isinstance(entry, dict) for entry in content):
            pairs = [(entry.get("file_name"), entry.get("label")) for entry in content]
            if all(isinstance(name, str) for name, _ in pairs):
                return [str(name) for name, _ in pairs], [label for _, label in pairs]
        elif len(content) == 2 and all(isinstance(part, _ROWS) for part in content):
            names, labels = content[0], np.ravel(content[1]).tolist()
            if len(names) == len(labels) and all(isinstance(name, str) for name in names):
                return list(names), labels
        elif not any(isinstance(entry, list | tuple | str) for entry in content):
            return None, content
    raise ValueError(
        f"{path}: expected labels: a pickle of (names, labels), of dicts with 'file_name' and "
        "'label', of name -> label, or of labels alone; an .npy array; or lines name,label"
    )


def _csv_rows(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}): save it as UTF-8") from error
    wrong = next((i for i, row in enumerate(rows) if len(row) != 2), None)
    if wrong is not None or not rows:
        found = f"{len(rows[wrong])} in row {wrong + 1}" if wrong is not None else "no rows"
        raise ValueError(f"{path}: expected two columns separated by a comma, found {found}")
    return [(row[0].strip(), row[1].strip()) for row in rows]


def _whole_numbers(values: Sequence[Any], path: Path) -> np.ndarray:
    found = []
    for value in values:
        try:
            number = float(np.asarray(value).item() if not isinstance(value, str) else value)
            if not number.is_integer():
                raise ValueError
        except (ValueError, TypeError, OverflowError):
            raise ValueError(
                f"{path}: expected whole numbers as labels, found {str(value)!r:.60}"
            ) from None
        found.append(int(number))
    return np.array(found, dtype=np.int64)
