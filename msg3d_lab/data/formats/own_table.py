"""Read your own recordings from one long table, CSV or Parquet.

The table has a row per sample, frame, person and joint. It is read in blocks of some megabytes,
so that only one sample is in memory.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.own_labels import LENGTH, match_columns
from msg3d_lab.skeletons import Skeleton

__all__ = ["FAULTS", "FINITE", "JOINTS", "LARGEST", "NOT_TOGETHER", "TOO_LONG", "LongTable"]

JOINTS = "joints that do not match the layout"
FINITE = "coordinates NaN or infinite"
TEXT = "text where a number belongs"
FRAMES = "frames that are not whole numbers"
REPEATED = "the same joint twice in a frame"
TOO_LONG = "too long for a clip"
NOT_TOGETHER = "rows of a sample that are not together"
# Each fault, and what to do about it.
FAULTS = {
    JOINTS: "name joints as the layout does, or by their 0-based numbers; rename or remove others",
    FINITE: "leave out the rows of joints that were not seen; in arrays write zeros",
    TEXT: "write numbers with a decimal point and nothing else",
    FRAMES: "number frames 0, 1, 2 and so on in each sample",
    REPEATED: "keep one row for each sample, frame, person and joint; two persons need two labels",
    TOO_LONG: "if `frame` is a time stamp, number frames 0, 1, 2 and so on instead; cut long "
    "recordings into clips",
    NOT_TOGETHER: "sort the table by sample",
}
LARGEST = 1e30  # larger coordinates overflow float32 during preparation
_TEXTS, _NUMBERS = ("sample", "person", "joint"), ("frame", "x", "y", "z", "score")
_REQUIRED = ("sample", "frame", "person", "joint", "x", "y")
_OPTIONAL = ("z", "score")
_BLANK = frozenset(("", "na", "n/a", "null", "none"))
_BLOCK_BYTES, _BLOCK_ROWS = 4 << 20, 1 << 16
_MAX_ROWS = 4 << 20  # of one sample
_MAX_SHORT_ROWS = 10_000  # between two samples
_MAX_CELLS = 16 << 20  # numbers in one clip: 64 MB


class _Rows(NamedTuple):
    """Some rows of one sample."""

    frame: np.ndarray  # (n,) float64
    person: np.ndarray  # (n,) positions in LongTable._person_names
    joint: np.ndarray  # (n,) joint numbers; negative: -1 - position in LongTable._unknown
    values: np.ndarray  # (n, C) float64
    bad: list[str]  # cells that are not numbers


class LongTable:
    """A table of recordings. The constructor reads the header, `samples` the rows.

    Args:
        path: the CSV or Parquet file.
        layout: the names and number of the joints.

    Raises:
        ValueError: neither CSV in UTF-8 nor Parquet, or a column is missing or misspelt.
    """

    def __init__(self, path: Path, layout: Skeleton) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path, self.layout = path, layout
        with path.open("rb") as file:
            self.is_parquet = file.read(4) == b"PAR1"
        try:
            found = pq.read_schema(path).names if self.is_parquet else _csv_header(path)
        except (pa.ArrowException, OSError, csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path} is neither a CSV in UTF-8 nor a Parquet file: {error}"
            ) from error
        self._columns = {
            name: found[at] for name, at in match_columns(path, found, _REQUIRED, _OPTIONAL).items()
        }
        self.axes = [axis for axis in ("x", "y", "z") if axis in self._columns]
        self.scored = "score" in self._columns
        self.channels = len(self.axes) + self.scored
        numbers = {text: i for i in range(layout.num_joints) for text in (f"{i}", f"{i}.0")}
        self._joints = numbers | {name: i for i, name in enumerate(layout.joints)}
        self._unknown: list[str] = []  # joints that are not in the layout: -1, -2, ...
        self._persons: dict[str, int] = {}
        self._person_names: list[str] = []
        self._short_rows: list[LeftOut] = []

    @property
    def format(self) -> str:
        """The format's name in `data info`."""
        return f"long table, {'Parquet' if self.is_parquet else 'CSV'}"

    def samples(self) -> Iterator[Clip | LeftOut]:
        """Yield a clip for each sample, or each fault of a sample that cannot be used.

        Clips are float64 and have no label (-1).

        Raises:
            ValueError: the file is damaged.
        """
        seen, scattered = set[str](), set[str]()
        for sample, parts in groupby(self._parts(), key=lambda part: part[0]):
            yield from self._short_rows
            self._short_rows.clear()
            kept, num_rows = list[_Rows](), 0
            for _, rows in parts:
                num_rows += len(rows.frame)
                if sample not in seen and num_rows <= _MAX_ROWS:
                    kept.append(rows)
            if sample not in seen:
                seen.add(sample)
                if num_rows <= _MAX_ROWS:
                    yield from self._clip_or_faults(sample, kept)
                else:
                    yield LeftOut(sample, TOO_LONG, f"more than {_MAX_ROWS} rows")
            elif sample not in scattered:  # reported once
                scattered.add(sample)
                yield LeftOut(sample, NOT_TOGETHER, "it comes back after another sample")
        yield from self._short_rows
        if not seen:
            raise ValueError(f"{self.path} has a header, but no rows that can be read")

    def _parts(self) -> Iterator[tuple[str, _Rows]]:
        """Yield consecutive rows of one sample; a sample can go on in the next block."""
        import pyarrow as pa

        try:
            for block in filter(lambda block: len(block["sample"]), self._blocks()):
                texts = {name: block[name].dictionary_encode() for name in _TEXTS}
                codes = {name: text.indices.to_numpy() for name, text in texts.items()}
                names = {name: _stripped(text.dictionary) for name, text in texts.items()}
                joints = np.array([self._joint(name) for name in names["joint"]])
                persons = np.array([self._person(name) for name in names["person"]])
                numbers, bad = {}, []
                for name in (*self.axes, *(["score"] * self.scored), "frame"):
                    numbers[name], wrong = _as_numbers(block[name])
                    bad += [(row, f"{name} is {text!r}") for row, text in wrong]
                frame = numbers.pop("frame")
                values = np.stack(list(numbers.values()), axis=1)
                # Names that differ only in surrounding blanks are one sample.
                first: dict[str, int] = {}
                samples = [first.setdefault(name, i) for i, name in enumerate(names["sample"])]
                sample = np.array(samples)[codes["sample"]]
                start = 0
                for end in (*(np.flatnonzero(np.diff(sample)) + 1), len(sample)):
                    rows = slice(start, end)
                    yield (
                        names["sample"][sample[start]],
                        _Rows(
                            frame[rows],
                            persons[codes["person"][rows]],
                            joints[codes["joint"][rows]],
                            values[rows],
                            [text for row, text in bad if start <= row < end],
                        ),
                    )
                    start = end
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{self.path} cannot be read to its end: {error}") from error

    def _blocks(self) -> Iterator[dict[str, Any]]:
        """Yield the columns of some rows: texts as strings, numbers as strings or float64."""
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet as pq

        own = list(self._columns.values())
        if self.is_parquet:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(_BLOCK_ROWS, columns=own):
                    block = {name: batch.column(column) for name, column in self._columns.items()}
                    for name, column in block.items():
                        text = pa.types.is_string(column.type) or pa.types.is_large_string(
                            column.type
                        )
                        if name in _TEXTS or text:
                            block[name] = column.cast(pa.string()).fill_null("")
                        else:
                            block[name] = column.cast(pa.float64(), safe=False)
                    yield block
            return
        # All cells are read as text, so that one that is not a number can be shown.
        reader = pyarrow.csv.open_csv(
            self.path,
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=self._short_row),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(own, pa.string()), include_columns=own
            ),
        )
        with reader:
            for batch in reader:
                yield {name: batch.column(column) for name, column in self._columns.items()}

    def _short_row(self, row: Any) -> str:
        detail = f"{row.actual_columns} fields, the header has {row.expected_columns}"
        where = "a row" if row.number is None else f"row {row.number}"
        self._short_rows.append(LeftOut(f"{self.path.name}, {where}", LENGTH, detail))
        return "skip" if len(self._short_rows) < _MAX_SHORT_ROWS else "error"

    def _person(self, name: str) -> int:
        if name not in self._persons:
            self._persons[name] = len(self._persons)
            self._person_names.append(name)
        return self._persons[name]

    def _joint(self, name: str) -> int:
        if name not in self._joints:
            self._unknown.append(name)
            self._joints[name] = -len(self._unknown)
        return self._joints[name]

    def _clip_or_faults(self, sample: str, parts: list[_Rows]) -> Sequence[Clip | LeftOut]:
        """Make a clip (M, T, V, C) of a sample's rows, or list all their faults."""
        frame, person, joint = (np.concatenate([p[i] for p in parts]) for i in range(3))
        values = np.concatenate([part.values for part in parts])
        bad = [text for part in parts for text in part.bad]
        faults: list[LeftOut] = []

        def fault(reason: str, detail: str) -> None:
            faults.append(LeftOut(sample, reason, detail))

        if bad:
            fault(TEXT, f"{len(bad)} cells, e.g. {bad[0]}")
        wrong = joint[joint < 0]
        if wrong.size:
            fault(
                JOINTS,
                f"{wrong.size} rows, e.g. joint {self._unknown[-wrong[0] - 1]!r}, which "
                f"{self.layout.name} does not have",
            )
        lost = ~(np.abs(values) <= LARGEST)
        if lost.any():
            row = int(lost.any(axis=1).argmax())
            where = f"frame {frame[row]:g}, joint {self._joint_name(joint[row])}"
            fault(FINITE, f"{np.count_nonzero(lost)} numbers, e.g. {where}")
        uneven = ~((frame == np.floor(frame)) & (np.abs(frame) < 2**53))
        if uneven.any():
            fault(FRAMES, f"{np.count_nonzero(uneven)} rows, e.g. frame {frame[uneven][0]:g}")
        elif not bad and not wrong.size:
            return self._placed(sample, frame, person, joint, values, faults)
        return faults

    def _placed(
        self,
        sample: str,
        frame: np.ndarray,
        person: np.ndarray,
        joint: np.ndarray,
        values: np.ndarray,
        faults: list[LeftOut],
    ) -> Sequence[Clip | LeftOut]:
        t = (frame - frame.min()).astype(np.int64)
        order, m = self._order(person)
        shape = (len(order), int(t.max()) + 1, self.layout.num_joints, self.channels)
        if math.prod(shape) > _MAX_CELLS:
            detail = f"frames {frame.min():.0f} to {frame.max():.0f} of {shape[0]} persons"
            return [*faults, LeftOut(sample, TOO_LONG, detail)]
        cell = (m * shape[1] + t) * shape[2] + joint
        keypoints = np.zeros(shape)
        keypoints.reshape(-1, self.channels)[cell] = values
        _, first, times = np.unique(cell, return_index=True, return_counts=True)
        if (times > 1).any():
            row = int(first[(times > 1).argmax()])
            where = f"frame {frame[row]:.0f}, person {order[m[row]]}"
            detail = f"{(times - 1).sum()} rows, e.g. {where}, {self._joint_name(joint[row])}"
            faults.append(LeftOut(sample, REPEATED, detail))
        return faults or [Clip(sample, keypoints, label=-1)]

    def _order(self, person: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the persons of a sample and, for each row, the position of its person.

        Numbers are sorted; other labels keep the order in which they occur first.
        """
        codes, first, inverse = np.unique(person, return_index=True, return_inverse=True)
        names = [self._person_names[code] for code in codes]
        if all(name.removesuffix(".0").isdecimal() for name in names):
            rank = np.argsort([int(name.removesuffix(".0")) for name in names], kind="stable")
        else:
            rank = np.argsort(first)
        place = np.empty(len(rank), dtype=np.int64)
        place[rank] = np.arange(len(rank))
        return [names[i] for i in rank], place[inverse]

    def _joint_name(self, joint: int) -> str:
        return self._unknown[-joint - 1] if joint < 0 else self.layout.joints[joint]


def _csv_header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(filter(None, csv.reader(file)), None)
    if header is None:
        raise ValueError(f"{path} is empty: expected a header with {', '.join(_REQUIRED)}")
    return header


def _stripped(texts: Any) -> list[str]:
    return [text.strip() for text in texts.to_pylist()]


def _as_numbers(column: Any) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Return a column as float64, NaN for blanks, and (row, text) of cells that are no number.

    Such cells are 0 in the array, so that they are not reported as NaN as well.
    """
    import pyarrow as pa

    try:
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False), []
    except pa.ArrowInvalid:
        pass
    values, bad = np.zeros(len(column)), []
    for row, cell in enumerate(column.to_pylist()):
        text = (cell or "").strip()
        try:
            # float() would accept 1_000.
            values[row] = (
                math.nan if text.lower() in _BLANK else float(text.replace("_", " in between "))
            )
        except ValueError:
            bad.append((row, text))
    return values, bad
