"""Read your own recordings from tables, CSV or Parquet: one table, or a folder with one per clip.

A long table has a row per sample, frame, person and joint; a wide one a row per sample, frame and
person, with a column for each coordinate of each joint (`wide_columns`). A table is in memory as a
whole.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.importer import LazyClips
from msg3d_lab.data.formats.own import faults
from msg3d_lab.data.formats.own.columns import KEYS, find_key, wide_columns
from msg3d_lab.data.formats.own.labels import match_columns
from msg3d_lab.data.formats.own.source import Source, join, leave_out_duplicates
from msg3d_lab.data.formats.zip_or_folder import DAMAGE, Member, list_members, read_member
from msg3d_lab.data.preprocess import zero_unseen
from msg3d_lab.skeletons import Skeleton

if TYPE_CHECKING:
    import pandas as pd


_TEXTS = ("sample", "person", "joint")
_REQUIRED = ("sample", "frame", "person", "joint", "x", "y")
_OPTIONAL = ("z", "score")
_BLANK = ("", "na", "n/a", "null", "none", "nan")
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(inf|Inf|INF|infinity|Infinity)$"
_MAX_CELLS = 16 << 20  # numbers in one clip: 64 MB


class RecordingTable:
    """A table of recordings, long or wide. The constructor reads the header, `samples` the rows.

    In a wide table the columns of sample, frame and person (`KEYS`) may be missing: then all rows
    are of one sample, called as the file; of frames 0, 1, 2 and so on; of one person.

    Args:
        content: the file, if it was read already.
        sample: if the table is one clip, its name.

    Attributes:
        axes: the coordinates that it has.
        numbers: these, and "score" if there are scores.
        format: the format's name in `data info`.

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
        self.path, self.layout, self._content = path, layout, content
        found = self._read_header()
        named = [name.strip().lower() for name in found]
        wide = {} if "joint" in named else wide_columns(path, found, layout)
        self.is_wide = bool(wide)
        if wide:
            keys = {key: find_key(key, found) for key in KEYS}
            self._columns = {f"{joint} {axis}": column for (joint, axis), column in wide.items()}
            self._columns |= {key: column for key, column in keys.items() if column is not None}
            have = {axis for _, axis in wide}
        else:
            self._columns = self._long_columns(found, without_sample=sample is not None)
            have = set(self._columns)
        self.axes = [axis for axis in ("x", "y", "z") if axis in have]
        self.scored = "score" in have
        self.numbers = [*self.axes, *(["score"] * self.scored)]
        self.format = f"{'wide' if wide else 'long'} table, {self._kind}"
        # What a whole table is, without a column that says it.
        self._constant = {"person": "0", "joint": "", "sample": path.stem}
        if sample is not None:
            self._columns.pop("sample", None)
            self._constant["sample"] = sample
        if wide and "person" in self._columns and "frame" not in self._columns:
            raise ValueError(
                f"{path} has a column {self._columns['person']}, but none of frames: add a column "
                "frame, so that the rows of each person are known"
            )
        numbers = {text: i for i in range(layout.num_joints) for text in (f"{i}", f"{i}.0")}
        self._joints = numbers | {name: i for i, name in enumerate(layout.joints)}
        self._short_rows: list[LeftOut] = []

    def _open(self) -> BinaryIO:
        return self.path.open("rb") if self._content is None else io.BytesIO(self._content)

    def _read_header(self) -> list[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self._open() as file:
                self._kind = "Parquet" if file.read(4) == b"PAR1" else "CSV"
                file.seek(0)
                if self._kind == "Parquet":
                    return list(pq.read_schema(file).names)
                with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
                    header = next(filter(None, csv.reader(text)), None)
        except (pa.ArrowException, OSError, csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{self.path} is neither a CSV in UTF-8 nor a Parquet file ({error}): save it as "
                "UTF-8 (Excel: 'CSV UTF-8')"
            ) from error
        if header is None:
            raise ValueError(f"{self.path} is empty: expected a header with {', '.join(_REQUIRED)}")
        return header

    def _long_columns(self, found: Sequence[str], *, without_sample: bool) -> dict[str, str]:
        required = [name for name in _REQUIRED if name != "sample" or not without_sample]
        try:
            places = match_columns(self.path, found, required, _OPTIONAL)
        except ValueError as error:
            if "joint" in [name.strip().lower() for name in found]:
                raise
            raise ValueError(
                f"{error}. A wide table needs columns such as nose_x, nose_y or x0, y0"
            ) from None
        return {name: found[at] for name, at in places.items()}

    def samples(self) -> Iterator[Clip | LeftOut]:
        """Yield a clip for each sample, or each fault of a sample that cannot be used.

        Clips are float64 and have no label (-1).
        """
        rows, bad = self._read()
        yield from self._short_rows
        if rows.empty:
            raise ValueError(f"{self.path} has a header, but no rows that can be read")
        for sample, part in rows.groupby("sample", sort=False):
            wrong = [bad[row] for row in part.index if row in bad]
            yield from self._clip_or_faults(str(sample), part, wrong)

    def _read(self) -> tuple[pd.DataFrame, dict[int, str]]:
        """Read all rows, and the first cell of each that should be a number and is none."""
        import pandas as pd
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet as pq

        own = list(self._columns.values())
        try:
            with self._open() as file:
                if self._kind == "Parquet":
                    found = pq.read_table(file, columns=own, use_threads=False)
                else:  # as text, so that a cell that is not a number can be shown
                    found = pyarrow.csv.read_csv(
                        file,
                        pyarrow.csv.ReadOptions(use_threads=False),
                        pyarrow.csv.ParseOptions(invalid_row_handler=self._short_row),
                        pyarrow.csv.ConvertOptions(
                            column_types=dict.fromkeys(own, pa.string()), include_columns=own
                        ),
                    )
        except (pa.ArrowException, OSError) as error:
            cure = "; save it as UTF-8 (Excel: 'CSV UTF-8')" if "UTF8" in str(error) else ""
            raise ValueError(f"{self.path} cannot be read to its end: {error}{cure}") from error
        columns: dict[str, Any] = {}
        bad: dict[int, str] = {}
        for name, column in self._columns.items():
            if name in _TEXTS:
                text = found[column].cast(pa.string()).fill_null("")
                # Each different text is stripped once.
                texts = pd.Series(text.dictionary_encode().to_pandas())
                columns[name] = texts.map(str.strip).astype(object)
            else:
                columns[name], wrong = _as_numbers(found[column].combine_chunks())
                bad = {i: f"{column.strip()} is {text!r}" for i, text in wrong} | bad
        return pd.DataFrame(self._constant | columns, index=range(len(found))), bad

    def _short_row(self, row: Any) -> str:
        detail = f"{row.actual_columns} fields, the header has {row.expected_columns}"
        where = "a row" if row.number is None else f"row {row.number}"
        self._short_rows.append(LeftOut(f"{self.path.name}, {where}", faults.LENGTH, detail))
        return "skip"

    def _clip_or_faults(
        self, sample: str, rows: pd.DataFrame, bad: list[str]
    ) -> Sequence[Clip | LeftOut]:
        """Make a clip (M, T, V, C) of a sample's rows, or list all their faults."""
        rows = self._as_long(rows) if self.is_wide else rows.reset_index(drop=True)
        joint, frame = rows["joint"].map(self._joints), rows["frame"].to_numpy()
        values = zero_unseen(rows[self.numbers].to_numpy(), len(self.axes))
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
        shape = (len(order), int(t.max()) + 1, self.layout.num_joints, len(self.numbers))
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
        for axis in self.numbers:
            long[axis] = rows[[f"{j} {axis}" for j in range(V)]].to_numpy().ravel()
        return pd.DataFrame(long)

    def _joint_name(self, text: str) -> str:
        return self.layout.joints[self._joints[text]] if text in self._joints else text


def _in_order(persons: list[str]) -> list[str]:
    """Sort persons if all are numbers; otherwise keep the order in which they occur first."""
    if all(name.removesuffix(".0").isdecimal() for name in persons):
        return sorted(persons, key=lambda name: int(name.removesuffix(".0")))
    return persons


def open_tables(source: Path, layout: Skeleton) -> Source | None:
    """List the tables (.csv) of a folder or zip; None if there are none but labels.

    The first table that can be used says which coordinates all have.
    """
    members = [
        member
        for member in list_members([source], suffix=".csv")
        if member.id != "labels" and not member.id.endswith(".labels")
    ]
    if not members:
        return None
    axes, scored, numbers = None, False, list[str]()
    for member in members:
        try:
            table = _open_member(member, layout)
        except DAMAGE:
            continue
        axes, scored, numbers = len(table.axes), table.scored, table.numbers
        break
    read = partial(_read_table, layout=layout, numbers=numbers)
    clips = LazyClips(leave_out_duplicates(members), read)
    return Source(clips, axes, scored, "folder of tables")


def _open_member(member: Member, layout: Skeleton) -> RecordingTable:
    content = read_member(member)
    return RecordingTable(Path(member.name), layout, content=content, sample=member.id)


def _read_table(member: Member, *, layout: Skeleton, numbers: list[str]) -> Clip | LeftOut:
    table = _open_member(member, layout)
    if table.numbers != numbers:
        detail = f"its columns are {', '.join(table.numbers)}, others have {', '.join(numbers)}"
        return LeftOut(member.id, faults.SHAPE, detail)
    entries = list(table.samples())
    wrong = [entry for entry in entries if isinstance(entry, LeftOut)]
    return join(wrong) if wrong else entries[0]


def _as_numbers(column: Any) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Return a column as float64, NaN for blanks, and (row, text) of cells that are no number.

    Such cells are 0 in the array.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    bad = []
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.utf8_trim_whitespace(column.fill_null(""))
        blank = pc.is_in(pc.utf8_lower(column), pa.array(_BLANK, column.type))
        wrong = pc.invert(pc.or_(blank, pc.match_substring_regex(column, _NUMBER)))
        bad = [(i, column[i].as_py()) for i in pc.indices_nonzero(wrong).to_pylist()]
        column = pc.if_else(blank, None, pc.if_else(wrong, "0", pc.utf8_ltrim(column, "+")))
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), bad
