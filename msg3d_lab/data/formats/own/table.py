"""Read your own recordings from tables, CSV or Parquet: one table, or a folder with one per clip.

A long table has a row per sample, frame, person and joint; a wide one a row per sample, frame and
person, with a column for each coordinate of each joint (`wide_columns`). Tables are read in blocks
of some megabytes, so that only one sample is in memory.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.importer import LazyClips
from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.formats.own.columns import KEYS, find_key, wide_columns
from msg3d_lab.data.formats.own.labels import match_columns
from msg3d_lab.data.formats.zip_or_folder import Member, list_members, read_member
from msg3d_lab.data.preprocess import zero_unseen
from msg3d_lab.skeletons import Skeleton

if TYPE_CHECKING:
    import pandas as pd


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


class RecordingTable:
    """A table of recordings, long or wide. The constructor reads the header, `samples` the rows.

    In a wide table the columns of sample, frame and person (`KEYS`) may be missing: then all rows
    are of one sample, called as the file; of frames 0, 1, 2 and so on; of one person.

    Args:
        path: the CSV or Parquet file.
        layout: the names and number of the joints.
        content: the file, if it was read already.
        sample: if the table is one clip, its name.

    Raises:
        ValueError: neither CSV in UTF-8 nor Parquet, or a column is missing or misspelt.
    """

    def __init__(
        self,
        path: Path,
        layout: Skeleton,
        *,
        content: bytes | None = None,
        sample: str | None = None,
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path, self.layout, self._content = path, layout, content
        with self._open() as file:
            self.is_parquet = file.read(4) == b"PAR1"
        try:
            with self._open() as file:
                found = pq.read_schema(file).names if self.is_parquet else _csv_header(path, file)
        except (pa.ArrowException, OSError, csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path} is neither a CSV in UTF-8 nor a Parquet file ({error}): save it as UTF-8 "
                "(Excel: 'CSV UTF-8')"
            ) from error
        named = [name.strip().lower() for name in found]
        self.is_wide = "joint" not in named and bool(columns := wide_columns(path, found, layout))
        if self.is_wide:
            self._columns = {f"{joint} {axis}": column for (joint, axis), column in columns.items()}
            keys = {key: column for key in KEYS if (column := find_key(key, found)) is not None}
            self._columns |= keys
            self.axes = [axis for axis in ("x", "y", "z") if (0, axis) in columns]
            self.scored = (0, "score") in columns
        else:
            required = [name for name in _REQUIRED if name != "sample" or sample is None]
            try:
                places = match_columns(path, found, required, _OPTIONAL)
            except ValueError as error:
                if "joint" in named:
                    raise
                raise ValueError(
                    f"{error}. A wide table needs columns such as nose_x, nose_y or x0, y0"
                ) from None
            self._columns = {name: found[at] for name, at in places.items()}
            self.axes = [axis for axis in ("x", "y", "z") if axis in self._columns]
            self.scored = "score" in self._columns
        self._numbers = [*self.axes, *(["score"] * self.scored)]
        # What a whole table is, without a column that says it.
        self._constant = {"person": "0", "joint": "", "sample": path.stem}
        if sample is not None:
            self._columns.pop("sample", None)
            self._constant["sample"] = sample
        if self.is_wide and "person" in self._columns and "frame" not in self._columns:
            raise ValueError(
                f"{path} has a column {self._columns['person']}, but none of frames: add a column "
                "frame, so that the rows of each person are known"
            )
        numbers = {text: i for i in range(layout.num_joints) for text in (f"{i}", f"{i}.0")}
        self._joints = numbers | {name: i for i, name in enumerate(layout.joints)}
        self._short_rows: list[LeftOut] = []

    @property
    def format(self) -> str:
        """The format's name in `data info`."""
        kind = "wide" if self.is_wide else "long"
        return f"{kind} table, {'Parquet' if self.is_parquet else 'CSV'}"

    def _open(self) -> BinaryIO:
        return self.path.open("rb") if self._content is None else io.BytesIO(self._content)

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
                for name in self._columns:
                    if name in _TEXTS:
                        # Each different text is stripped once.
                        text = block[name].dictionary_encode().to_pandas()
                        columns[name] = pd.Series(text).map(str.strip).astype(object)
                        continue
                    columns[name], wrong = _as_numbers(block[name])
                    shown = self._columns[name].strip()
                    bad += [(row, f"{shown} is {text!r}") for row, text in wrong]
                table = pd.DataFrame(columns)
                for name in _TEXTS:
                    if name not in columns:
                        table[name] = self._constant[name]
                starts = (table["sample"] != table["sample"].shift()).cumsum()
                for _, rows in table.groupby(starts, sort=False):
                    here = [text for row, text in bad if rows.index[0] <= row <= rows.index[-1]]
                    yield _Part(rows["sample"].iloc[0], rows, here)
        except (pa.ArrowException, OSError) as error:
            cure = "; save it as UTF-8 (Excel: 'CSV UTF-8')" if "UTF8" in str(error) else ""
            raise ValueError(f"{self.path} cannot be read to its end: {error}{cure}") from error

    def _blocks(self) -> Iterator[dict[str, Any]]:
        """Yield the columns of some rows: texts as strings, numbers as strings or float64."""
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet as pq

        own = list(self._columns.values())
        if self.is_parquet:
            with self._open() as opened, pq.ParquetFile(opened) as file:
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
            self.path if self._content is None else io.BytesIO(self._content),
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
        if self.is_wide:
            rows = self._as_long(rows)
        bad = [text for part in parts for text in part.bad]
        joint, frame = rows["joint"].map(self._joints), rows["frame"].to_numpy()
        values = zero_unseen(rows[self._numbers].to_numpy(), len(self.axes))
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

    def _as_long(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Give each joint of a wide table a row of its own."""
        import pandas as pd

        R, V = len(rows), self.layout.num_joints
        frame = rows["frame"].to_numpy() if "frame" in rows else np.arange(R, dtype=np.float64)
        long = {"person": np.repeat(rows["person"].to_numpy(), V), "frame": np.repeat(frame, V)}
        long["joint"] = np.tile(np.array([str(j) for j in range(V)], dtype=object), R)
        for axis in self._numbers:
            long[axis] = rows[[f"{j} {axis}" for j in range(V)]].to_numpy().ravel()
        return pd.DataFrame(long)

    def _joint_name(self, text: str) -> str:
        return self.layout.joints[self._joints[text]] if text in self._joints else text


def _in_order(persons: list[str]) -> list[str]:
    """Sort persons if all are numbers; otherwise keep the order in which they occur first."""
    if all(name.removesuffix(".0").isdecimal() for name in persons):
        return sorted(persons, key=lambda name: int(name.removesuffix(".0")))
    return persons


class Tables(NamedTuple):
    """The tables of a folder or zip: one clip each.

    Args:
        clips: unprepared clips without a label (-1).
        axes: coordinates per joint; None if no table can be used.
        scored: whether a score follows them.
    """

    clips: LazyClips[Member]
    axes: int | None
    scored: bool


def open_tables(source: Path, layout: Skeleton) -> Tables | None:
    """List the tables (.csv) of a folder or zip; None if there are none but labels.

    The first table that can be used says which coordinates all have.

    Raises:
        ValueError: a damaged zip.
    """
    members = [
        member
        for member in list_members([source], suffix=".csv")
        if member.id != "labels" and not member.id.endswith(".labels")
    ]
    if not members:
        return None
    entries: list[Member | LeftOut] = []
    for before, member in zip([None, *members], members, strict=False):
        twice = before is not None and before.id == member.id
        entries.append(LeftOut(member.id, faults.DUPLICATE, member.name) if twice else member)
    for member in members:
        try:
            table = RecordingTable(Path(member.name), layout, content=read_member(member))
        except ValueError:
            continue
        read = partial(_read_table, layout=layout, numbers=tuple(table._numbers))
        return Tables(LazyClips(entries, read), len(table.axes), table.scored)
    return Tables(LazyClips(entries, partial(_read_table, layout=layout, numbers=())), None, False)


def _read_table(member: Member, *, layout: Skeleton, numbers: tuple[str, ...]) -> Clip | LeftOut:
    table = RecordingTable(Path(member.name), layout, content=read_member(member), sample=member.id)
    if tuple(table._numbers) != numbers:
        detail = f"its columns are {', '.join(table._numbers)}, others have {', '.join(numbers)}"
        return LeftOut(member.id, faults.SHAPE, detail)
    entries = list(table.samples())
    wrong = [entry for entry in entries if isinstance(entry, LeftOut)]
    if not wrong:
        return entries[0]
    more = [f"{fault.reason}: {fault.detail}" for fault in wrong[1:]]
    return LeftOut(member.id, wrong[0].reason, "; ".join([wrong[0].detail, *more]))


def _csv_header(path: Path, content: BinaryIO) -> list[str]:
    with io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as file:
        header = next(filter(None, csv.reader(file)), None)
    if header is None:
        raise ValueError(f"{path} is empty: expected a header with {', '.join(_REQUIRED)}")
    return header


def _as_numbers(column: Any) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Return a column as float64, NaN for blanks, and (row, text) of cells that are no number.

    Such cells are 0 in the array.
    """
    import pyarrow as pa

    try:
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False), []
    except pa.ArrowInvalid:
        pass
    try:  # with blanks
        cells = pa.array([text or None for text in column.to_pylist()], pa.string())
        return cells.cast(pa.float64()).to_numpy(zero_copy_only=False), []
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
