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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.formats.own.labels import match_columns
from msg3d_lab.skeletons import Skeleton

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LongTable"]

_TEXTS = ("sample", "person", "joint")
_REQUIRED = ("sample", "frame", "person", "joint", "x", "y")
_OPTIONAL = ("z", "score")
_BLANK = frozenset(("", "na", "n/a", "null", "none"))
_BLOCK_BYTES, _BLOCK_ROWS = 4 << 20, 1 << 16
_MAX_ROWS = 4 << 20  # of one sample
_MAX_SHORT_ROWS = 10_000  # between two samples
_MAX_CELLS = 16 << 20  # numbers in one clip: 64 MB


class _Part(NamedTuple):
    """Consecutive rows of one sample, and those of their cells that are not numbers."""

    sample: str
    rows: pd.DataFrame
    bad: list[str]


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
        self._numbers = [*self.axes, *(["score"] * self.scored)]
        numbers = {text: i for i in range(layout.num_joints) for text in (f"{i}", f"{i}.0")}
        self._joints = numbers | {name: i for i, name in enumerate(layout.joints)}
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
        for sample, parts in groupby(self._parts(), key=lambda part: part.sample):
            yield from self._short_rows
            self._short_rows.clear()
            kept, num_rows = list[_Part](), 0
            for part in parts:
                num_rows += len(part.rows)
                if sample not in seen and num_rows <= _MAX_ROWS:
                    kept.append(part)
            if sample not in seen:
                seen.add(sample)
                if num_rows <= _MAX_ROWS:
                    yield from self._clip_or_faults(sample, kept)
                else:
                    yield LeftOut(sample, faults.TOO_LONG, f"more than {_MAX_ROWS} rows")
            elif sample not in scattered:  # reported once
                scattered.add(sample)
                yield LeftOut(sample, faults.NOT_TOGETHER, "it comes back after another sample")
        yield from self._short_rows
        if not seen:
            raise ValueError(f"{self.path} has a header, but no rows that can be read")

    def _parts(self) -> Iterator[_Part]:
        """Yield consecutive rows of one sample; a sample can go on in the next block."""
        import pandas as pd
        import pyarrow as pa

        try:
            for block in self._blocks():
                columns: dict[str, Any] = {}
                bad: list[tuple[int, str]] = []
                for name in _TEXTS:
                    # Each different text is stripped once.
                    text = block[name].dictionary_encode().to_pandas()
                    columns[name] = pd.Series(text).map(str.strip).astype(object)
                for name in (*self._numbers, "frame"):
                    columns[name], wrong = _as_numbers(block[name])
                    bad += [(row, f"{name} is {text!r}") for row, text in wrong]
                table = pd.DataFrame(columns)
                starts = (table["sample"] != table["sample"].shift()).cumsum()
                for _, rows in table.groupby(starts, sort=False):
                    here = [text for row, text in bad if rows.index[0] <= row <= rows.index[-1]]
                    yield _Part(rows["sample"].iloc[0], rows, here)
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
        self._short_rows.append(LeftOut(f"{self.path.name}, {where}", faults.LENGTH, detail))
        return "skip" if len(self._short_rows) < _MAX_SHORT_ROWS else "error"

    def _clip_or_faults(self, sample: str, parts: list[_Part]) -> Sequence[Clip | LeftOut]:
        """Make a clip (M, T, V, C) of a sample's rows, or list all their faults."""
        import pandas as pd

        rows = pd.concat([part.rows for part in parts], ignore_index=True)
        bad = [text for part in parts for text in part.bad]
        joint, frame = rows["joint"].map(self._joints), rows["frame"].to_numpy()
        values = rows[self._numbers].to_numpy()
        found: list[LeftOut] = []

        def fault(reason: str, detail: str) -> None:
            found.append(LeftOut(sample, reason, detail))

        if bad:
            fault(faults.TEXT, f"{len(bad)} cells, e.g. {bad[0]}")
        wrong = rows["joint"][joint.isna()]
        if wrong.size:
            example = f"e.g. joint {wrong.iloc[0]!r}, which {self.layout.name} does not have"
            fault(faults.JOINTS, f"{wrong.size} rows, {example}")
        lost = ~(np.abs(values) <= faults.LARGEST)
        if lost.any():
            row = int(lost.any(axis=1).argmax())
            where = f"frame {frame[row]:g}, joint {self._joint_name(rows['joint'][row])}"
            fault(faults.FINITE, f"{np.count_nonzero(lost)} numbers, e.g. {where}")
        uneven = ~((frame == np.floor(frame)) & (np.abs(frame) < 2**53))
        if uneven.any():
            example = f"e.g. frame {frame[uneven][0]:g}"
            fault(faults.FRAMES, f"{np.count_nonzero(uneven)} rows, {example}")
        if uneven.any() or bad or wrong.size:
            return found
        order = _in_order(rows["person"].unique().tolist())
        m = rows["person"].map({name: i for i, name in enumerate(order)}).to_numpy()
        t = (frame - frame.min()).astype(np.int64)
        shape = (len(order), int(t.max()) + 1, self.layout.num_joints, len(self._numbers))
        if math.prod(shape) > _MAX_CELLS:
            span = f"frames {frame.min():.0f} to {frame.max():.0f}"
            fault(faults.TOO_LONG, f"{span} of {len(order)} persons")
            return found
        cell = (m * shape[1] + t) * shape[2] + joint.to_numpy(dtype=np.int64)
        _, first, times = np.unique(cell, return_index=True, return_counts=True)
        if (times > 1).any():
            row = int(first[(times > 1).argmax()])
            where = f"frame {frame[row]:.0f}, person {rows['person'][row]}"
            example = f"e.g. {where}, {self._joint_name(rows['joint'][row])}"
            fault(faults.REPEATED, f"{(times - 1).sum()} rows, {example}")
        keypoints = np.zeros(shape)
        keypoints.reshape(-1, shape[3])[cell] = values
        return found or [Clip(sample, keypoints, label=-1)]

    def _joint_name(self, text: str) -> str:
        return self.layout.joints[self._joints[text]] if text in self._joints else text


def _in_order(persons: list[str]) -> list[str]:
    """Sort persons if all are numbers; otherwise keep the order in which they occur first."""
    if all(name.removesuffix(".0").isdecimal() for name in persons):
        return sorted(persons, key=lambda name: int(name.removesuffix(".0")))
    return persons


def _csv_header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(filter(None, csv.reader(file)), None)
    if header is None:
        raise ValueError(f"{path} is empty: expected a header with {', '.join(_REQUIRED)}")
    return header


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
