"""One file for every data set: an Arrow IPC file, of which clips are read when they are asked for.

All coordinates lie in one flat float32 column with offsets, next to what is known about each clip;
what holds for the whole data set (joint layout, class names, preparation) is in the schema's
metadata. Clips keep their own number of persons and frames: nothing is padded, nothing is held in
memory, and several processes share what the system keeps of the file.

Nothing that is damaged passes for data: a checksum over everything but the coordinates is checked
when a store is opened, and every clip's own when it is first read. An Arrow file itself has none.
"""

from __future__ import annotations

import mmap
import os
import weakref
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msg3d_lab.data.arrow_file import VERSION, checked, numbers_of, read_contents, write_contents
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.files import write_aside
from msg3d_lab.skeletons import Skeleton

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Store", "open_store", "write_store"]


def write_store(
    path: str | Path,
    clips: Iterable[Clip | LeftOut],
    *,
    dataset: str,
    skeleton: Skeleton,
    label_names: Sequence[str],
    channels: int,
    preparation: Mapping[str, Any],
    synthetic: bool = False,
) -> Path:
    """Write clips, one after the other, to a new store.

    Args:
        path: the new file; its folder is made. Nothing is left behind if a clip is refused.
        clips: may be a generator; about 16 MB of it are held at a time. Recordings that were left
            out are recorded: `Store.left_out`.
        dataset: the data set's name, e.g. "ntu60".
        skeleton: the joint layout of every clip.
        label_names: class names; a clip's label is a position in this list.
        channels: C, the numbers per joint.
        preparation: name and options of what was done to the coordinates and a hash of the source,
            in plain types. `scored: True` says that the last channel is a confidence score.
        synthetic: whether the clips were made up; shown wherever the data set is.

    Returns:
        The path.

    Raises:
        FileExistsError: there is a file at `path`.
        ValueError: a clip that does not fit (see `check_clip`), an id that occurs twice, no clips.
    """
    from msg3d_lab import __version__

    document = {
        "version": VERSION,
        "dataset": dataset,
        "skeleton": skeleton.to_dict(),
        "label_names": list(label_names),
        "channels": channels,
        "preparation": dict(preparation),
        "synthetic": synthetic,
        "library": __version__,
    }
    with write_aside(path) as aside:
        write_contents(aside, checked(clips, document, skeleton.num_joints), document)
    return Path(path)


def open_store(path: str | Path) -> Store:
    """Open a store that `write_store` or `msg3d-lab data import` wrote.

    Raises:
        FileNotFoundError: there is no file at `path`.
        ValueError: it is not a store, or it is cut short or damaged.
    """
    return Store(path)


class Store:
    """A data set on disk. Made by `open_store`; pickles as its path.

    Besides the properties below: `path`, `dataset`, `skeleton`, `label_names`, `channels`,
    `preparation` and `synthetic` as given to `write_store`, the arrays `persons` and `frames`
    (clips,) int64, and `fingerprint`, twelve hex digits that tell two stores apart, wherever they
    lie: of everything in them, coordinates by their checksums.

    Example:
        >>> store = open_store("ntu60-3d.arrow")  # doctest: +SKIP
        >>> store.keypoints(0).shape  # (M, T, V, C)  # doctest: +SKIP
        (1, 103, 25, 3)
    """

    def __init__(self, path: str | Path) -> None:
        import pyarrow as pa

        self.path = Path(path).resolve()
        if not self.path.is_file():
            raise FileNotFoundError(
                f"no store at {path}: make one with `msg3d-lab data import SOURCE --dataset NAME "
                f"--out {path}`"
            )
        try:
            self._file = self.path.open("rb")
            weakref.finalize(self, self._file.close)
            self._read(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is not a store of this library, or it is cut short or damaged ({error}): "
                "import the data set again"
            ) from error

    def _read(self, mapped: mmap.mmap) -> None:
        """Read and check everything but the coordinates."""
        contents = read_contents(mapped)
        document, self._table = contents.document, contents.table
        self._places = contents.places
        self._left_out, self.fingerprint = contents.left_out, contents.digest[:12]
        self.dataset: str = document["dataset"]
        self.label_names: list[str] = document["label_names"]
        self.preparation: dict[str, Any] = document["preparation"]
        self.synthetic: bool = document["synthetic"]
        self.skeleton = Skeleton.from_record(document["skeleton"])
        self.channels = int(document["channels"])
        self.persons, self.frames, self._checksums = (
            numbers_of(self._table.column(name).combine_chunks()).astype(np.int64)
            for name in ("persons", "frames", "checksum")
        )
        sizes = self.persons * self.frames * (self.skeleton.num_joints * self.channels)
        if (self._places[1] - self._places[0] != 4 * sizes).any():
            raise ValueError("the coordinates do not have the lengths that the clips claim")
        self._sound = np.zeros(len(self), dtype=bool)  # whose checksum has been looked at

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        return f"<Store {self.path.name}: {self.dataset}, {len(self)} clips>"

    def __reduce__(self) -> tuple[Callable[[Path], Store], tuple[Path]]:
        return open_store, (self.path,)

    @property
    def num_classes(self) -> int:
        """The number of class names."""
        return len(self.label_names)

    @property
    def scored(self) -> bool:
        """Whether the last channel is a confidence score (2D) rather than a coordinate."""
        return bool(self.preparation.get("scored", False))

    @cached_property
    def labels(self) -> np.ndarray:
        """Class numbers: (clips,) int64."""
        return numbers_of(self._table.column("label").combine_chunks()).astype(np.int64)

    @cached_property
    def ids(self) -> list[str]:
        """Sample ids in the order of the file."""
        return list(self._table.column("id").to_pylist())

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per clip: id, label, subject, camera, setup, persons, frames, splits."""
        import pandas as pd

        plain = {
            name: self._table.column(name).to_pylist() for name in self._table.column_names[:-2]
        }
        nullable = dict.fromkeys(("subject", "camera", "setup"), "Int64")
        return pd.DataFrame(plain).astype(nullable)

    @cached_property
    def _members(self) -> dict[str, np.ndarray]:
        members: dict[str, list[int]] = {}
        column = self._table.column("splits").combine_chunks()
        owners = np.repeat(np.arange(len(self)), np.diff(numbers_of(column.offsets)))
        for owner, name in zip(owners.tolist(), column.values.to_pylist(), strict=True):
            members.setdefault(name, []).append(owner)
        return {name: np.array(members[name], dtype=np.int64) for name in sorted(members)}

    @property
    def splits(self) -> dict[str, int]:
        """The names of the splits and how many clips each has."""
        return {name: len(indices) for name, indices in self._members.items()}

    def indices(self, split: str) -> np.ndarray:
        """Return the positions of a split's clips, ascending: int64.

        Raises:
            ValueError: there is no such split.
        """
        if split not in self._members:
            raise ValueError(
                f"{self.path.name} has no split {split!r}: expected one of "
                f"{', '.join(self._members) or '(it has no splits)'}"
            )
        return self._members[split].copy()

    def keypoints(self, i: int) -> np.ndarray:
        """Return clip `i`: (M, T, V, C) float32, read-only.

        It is read rather than mapped: mapped pages count as this process's memory until the system
        wants them back, which batch systems that kill at a limit do not wait for; and a file that
        is cut while it is mapped ends the process.

        Raises:
            ValueError: the clip is damaged; found out when it is first read.
        """
        start, stop = self._places[:, i].tolist()
        content = self._read_bytes(start, stop)
        if len(content) != stop - start or not (self._sound[i] or self._is_sound(i, content)):
            raise self._damaged(i)
        shape = (self.persons[i], self.frames[i], self.skeleton.num_joints, self.channels)
        return np.frombuffer(content, dtype="<f4").reshape(shape)

    def read_into(self, out: np.ndarray, i: int) -> None:
        """Read clip `i` to where it is wanted, as training does: no copy is made of it.

        Args:
            out: float32, C-contiguous, of as many numbers as the clip.
            i: which clip.

        Raises:
            ValueError: the clip is damaged, or `out` is of another size.
        """
        start, stop = self._places[:, i].tolist()
        if out.nbytes != stop - start:
            raise ValueError(f"expected room for {(stop - start) // 4} numbers, found {out.size}")
        if not hasattr(os, "preadv"):
            out.reshape(-1)[:] = self.keypoints(i).reshape(-1)
            return
        room = out.data.cast("B")
        read = os.preadv(self._file.fileno(), [room], start)
        if read != out.nbytes or not (self._sound[i] or self._is_sound(i, room)):
            raise self._damaged(i)

    def _damaged(self, i: int) -> ValueError:
        return ValueError(
            f"clip {self.ids[i]} of {self.path} is damaged (its checksum is wrong): import the "
            "data set again"
        )

    def _is_sound(self, i: int, content: bytes | memoryview) -> bool:
        self._sound[i] = zlib.crc32(content) == self._checksums[i]
        return bool(self._sound[i])

    def _read_bytes(self, start: int, stop: int) -> bytes:
        if hasattr(os, "pread"):  # several threads may read at once
            return os.pread(self._file.fileno(), stop - start, start)
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def clip(self, i: int) -> Clip:
        """Return clip `i` with all that is known about it.

        Raises:
            ValueError: the clip is damaged.
        """
        row = self._table.slice(i, 1).select(self._table.column_names[:-2]).to_pylist()[0]
        facts = {key: row[key] for key in ("id", "label", "subject", "camera", "setup")}
        return Clip(keypoints=self.keypoints(i), splits=tuple(row["splits"]), **facts)

    def verify(self, *, progress: bool = False) -> list[str]:
        """Read every clip and return the ids of those that are damaged."""
        from tqdm.auto import tqdm

        damaged = []
        for i in tqdm(range(len(self)), desc="checksums", unit="clip", disable=not progress):
            self._sound[i] = False
            try:
                self.keypoints(i)
            except ValueError:
                damaged.append(self.ids[i])
        return damaged

    @cached_property
    def left_out(self) -> pd.DataFrame:
        """The recordings of the source that are not in the store: id, reason, detail."""
        import pandas as pd

        return pd.DataFrame(self._left_out, columns=["id", "reason", "detail"], dtype=str)
