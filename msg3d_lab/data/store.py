"""Write and read stores: a store is one Arrow IPC file that holds a whole data set.

The file has three parts:

- the schema's metadata: a JSON document of what holds for all clips, such as joint layout, class
  names and preparation;
- record batches with one row per clip. The coordinates of a clip are one list of float32: clips
  keep their own number of persons and frames, nothing is padded;
- a last record batch without rows. Its metadata have the recordings that were left out and the
  sha256 of everything but the coordinates.

Arrow IPC has no checksums of its own. The sha256 is checked when a store is opened, and the CRC-32
of a clip's coordinates when the clip is first read.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import weakref
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msg3d_lab.data.clips import Clip, LeftOut, checked_clips
from msg3d_lab.files import write_aside
from msg3d_lab.skeletons import Skeleton

if TYPE_CHECKING:
    import pandas as pd


FORMAT_VERSION = 3
_DOCUMENT = b"msg3d_lab.store"
_DIGEST, _LEFT_OUT = b"msg3d_lab.digest", b"msg3d_lab.left_out"
# The size of a record batch, 16 MB. Fingerprints depend on it: it is part of the format.
_BATCH_FLOATS = 4 << 20


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
    """Write clips to a new store.

    Args:
        path: the new file; its folder is made. If writing fails, no file is left behind.
        clips: may be a generator; about 16 MB of clips are in memory at a time. Entries of type
            `LeftOut` are recorded in `Store.left_out`.
        dataset: the data set's name, e.g. "ntu60".
        skeleton: the joint layout of every clip.
        label_names: class names; a clip's label is a position in this list.
        channels: C, the numbers per joint.
        preparation: name and options of what was done to the coordinates and a hash of the source,
            in plain types. `scored: True` says that the last channel is a confidence score.
        synthetic: whether the clips are generated; shown wherever the data set is.

    Returns:
        The path.

    Raises:
        FileExistsError: there is a file at `path`.
        ValueError: a clip that does not fit (see `check_clip`), an id that occurs twice, no clips.
    """
    document = store_document(
        dataset=dataset,
        skeleton=skeleton,
        label_names=label_names,
        channels=channels,
        preparation=preparation,
        synthetic=synthetic,
    )
    return write_entries(path, checked_clips(clips, document, leave_out=False), document)


def write_entries(
    path: str | Path,
    entries: Iterable[Clip | LeftOut],
    document: Mapping[str, Any],
    *,
    may_be_empty: bool = False,
) -> Path:
    """Write clips that were checked before (see `checked_clips`) to a new store.

    Raises:
        FileExistsError: there is a file at `path`.
        ValueError: no clips, unless there may be none.
    """
    with write_aside(path) as aside:
        num_clips, left_out = _write_arrow_file(aside, entries, document)
        if num_clips == 0 and not may_be_empty:
            example = "; for example {} {} ({})".format(*left_out[0]) if left_out else ""
            raise ValueError(f"no clips to write: the source has none that can be used{example}")
    return Path(path)


def open_store(path: str | Path) -> Store:
    """Open a store that `write_store` or `msg3d-lab data import` wrote.

    Raises:
        FileNotFoundError: there is no file at `path`.
        ValueError: the file is not a store, or it is cut short or damaged.
    """
    return Store(path)


class Store:
    """A data set on disk. Open it with `open_store`. A pickled store is its path.

    Attributes:
        path: the file, an absolute path.
        dataset, skeleton, label_names, channels, preparation, synthetic: as given to `write_store`.
        num_classes: the number of class names.
        scored: whether the last channel is a confidence score (2D) rather than a coordinate.
        dimensions: coordinates per joint: 2 or 3, without a score.
        persons: number of persons of each clip, (clips,) int64.
        frames: number of frames of each clip, (clips,) int64.
        joint_order: of a store that is read with its joints in another order (`with_joints_of`):
            where each joint of `skeleton` is in the file. Otherwise None.
        fingerprint: twelve hex digits that identify the contents: coordinates, labels, splits,
            layout, class names, preparation. It does not depend on where the file is, nor on the
            version of the library.

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
            self._read_all_but_coordinates()
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is not a store of this library, or it is cut short or damaged ({error}): "
                "import the data set again"
            ) from error

    def _read_all_but_coordinates(self) -> None:
        import pyarrow as pa

        buffer = pa.py_buffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
        file = pa.ipc.open_file(buffer)
        metadata = file.schema.metadata[_DOCUMENT]
        document = json.loads(metadata)
        if document["version"] != FORMAT_VERSION:
            raise ValueError(f"version {document['version']}, this library reads {FORMAT_VERSION}")
        if not file.schema.equals(_schema()):
            raise ValueError("its columns are not those of a store")
        last = file.num_record_batches - 1
        without_rows, closing = file.get_batch_with_custom_metadata(last)
        batches = [file.get_batch(i) for i in range(last)]
        digest = hashlib.sha256(metadata)
        for batch in batches:
            batch.validate(full=True)
            _update_digest(digest, batch)
        digest.update(closing[_LEFT_OUT])
        if digest.hexdigest().encode() != closing[_DIGEST] or without_rows.num_rows:
            raise ValueError("its checksum does not match its contents")
        self.fingerprint = digest.hexdigest()[:12]
        self._left_out: list[list[str]] = json.loads(closing[_LEFT_OUT])
        self._table = pa.Table.from_batches(batches, schema=file.schema)

        self.dataset: str = document["dataset"]
        self.label_names: list[str] = document["label_names"]
        self.preparation: dict[str, Any] = document["preparation"]
        self.synthetic: bool = document["synthetic"]
        self.skeleton = Skeleton.from_record(document["skeleton"])
        self.num_classes = len(self.label_names)
        self.channels = int(document["channels"])
        self.scored = bool(self.preparation.get("scored", False))
        self.dimensions = self.channels - self.scored
        self.persons, self.frames, self._checksums = (
            _to_numpy(self._table.column(name).combine_chunks()).astype(np.int64)
            for name in ("persons", "frames", "checksum")
        )
        self._offsets = _clip_offsets(buffer, self._table.column("keypoints"))
        sizes = self.persons * self.frames * (self.skeleton.num_joints * self.channels)
        if (self._offsets[1] - self._offsets[0] != 4 * sizes).any():
            raise ValueError("the coordinates do not have the lengths that the clips state")
        self._verified = np.zeros(len(self), dtype=bool)  # clips whose checksum was right
        self.joint_order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        return f"<Store {self.path.name}: {self.dataset}, {len(self)} clips>"

    def __reduce__(self) -> tuple[Callable[[Path], Store], tuple[Path]]:
        return open_store, (self.path,)

    @cached_property
    def labels(self) -> np.ndarray:
        """Class numbers: (clips,) int64."""
        return _to_numpy(self._table.column("label").combine_chunks()).astype(np.int64)

    @cached_property
    def ids(self) -> list[str]:
        """Sample ids in the order of the file."""
        return list(self._table.column("id").to_pylist())

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per clip: id, label, subject, camera, setup, persons, frames, splits."""
        import pandas as pd

        columns = {
            name: self._table.column(name).to_pylist() for name in self._table.column_names[:-2]
        }
        nullable = dict.fromkeys(("subject", "camera", "setup"), "Int64")
        return pd.DataFrame(columns).astype(nullable)

    @cached_property
    def left_out(self) -> pd.DataFrame:
        """The recordings of the source that are not in the store: id, reason, detail."""
        import pandas as pd

        return pd.DataFrame(self._left_out, columns=["id", "reason", "detail"], dtype=str)

    @cached_property
    def _split_indices(self) -> dict[str, np.ndarray]:
        column = self._table.column("splits").combine_chunks()
        owners = np.repeat(np.arange(len(self)), np.diff(_to_numpy(column.offsets)))
        names = np.array(column.values.to_pylist())
        return {str(name): owners[names == name] for name in np.unique(names)}

    @property
    def splits(self) -> dict[str, int]:
        """The names of the splits and how many clips each has."""
        return {name: len(indices) for name, indices in self._split_indices.items()}

    def indices(self, split: str) -> np.ndarray:
        """Return the positions of a split's clips, ascending: int64.

        Raises:
            ValueError: there is no such split.
        """
        if split not in self._split_indices:
            raise ValueError(
                f"{self.path.name} has no split {split!r}: expected one of "
                f"{', '.join(self._split_indices) or '(it has no splits)'}"
            )
        return self._split_indices[split].copy()

    def keypoints(self, i: int) -> np.ndarray:
        """Return clip `i`: (M, T, V, C) float32, read-only.

        Raises:
            ValueError: the clip is damaged.
        """
        shape = (self.persons[i], self.frames[i], self.skeleton.num_joints, self.channels)
        out = np.empty(shape, dtype="<f4")
        self.read_into(out, i)
        out.flags.writeable = False
        return out

    def read_into(self, out: np.ndarray, i: int) -> None:
        """Read clip `i` into an array. Several threads may read at once.

        The clip is read, not memory-mapped: mapped pages count as this process's memory, which
        batch systems limit, and a mapped file that is cut short ends the process. `out` is float32,
        C-contiguous, (M, T, V, C) when filled.

        Raises:
            ValueError: the clip is damaged, or `out` has another size.
        """
        start, stop = self._offsets[:, i].tolist()
        if out.nbytes != stop - start:
            raise ValueError(f"expected room for {(stop - start) // 4} numbers, found {out.size}")
        view = out.data.cast("B")
        if hasattr(os, "preadv"):
            read = os.preadv(self._file.fileno(), [view], start)
        else:  # Windows
            with self.path.open("rb") as file:
                file.seek(start)
                read = file.readinto(view)
        if not self._verified[i]:
            self._verified[i] = zlib.crc32(view) == self._checksums[i]
        if read != out.nbytes or not self._verified[i]:
            raise ValueError(
                f"clip {self.ids[i]} of {self.path} is damaged (its checksum is wrong): import the "
                "data set again"
            )
        if self.joint_order is not None:
            joints = out.reshape(-1, self.skeleton.num_joints, self.channels)
            joints[:] = joints[:, self.joint_order]

    def copies(self, indices: np.ndarray, *, of: np.ndarray) -> np.ndarray:
        """Return which clips are the same recording as one of other clips, under another name.

        The same: as many persons and frames, and the same checksum of the coordinates.

        Shapes:
            indices (N,), of (K,) -> (N,) bool
        """
        contents = np.stack([self.persons, self.frames, self._checksums], axis=1)
        known = {row.tobytes() for row in contents[of]}
        return np.array([row.tobytes() in known for row in contents[indices]], dtype=bool)

    def with_joints_of(self, skeleton: Skeleton) -> Store:
        """Open the store again, with its joints in the order of another layout of the same names.

        Raises:
            ValueError: other joint names.
        """
        if sorted(skeleton.joints) != sorted(self.skeleton.joints):
            raise ValueError(
                f"expected the joints of {skeleton.name} in any order, found those of "
                f"{self.skeleton.name}: {', '.join(self.skeleton.joints)}"
            )
        store = open_store(self.path)
        places = {name: place for place, name in enumerate(self.skeleton.joints)}
        store.joint_order = np.array([places[name] for name in skeleton.joints])
        store.skeleton = skeleton
        return store

    def clip(self, i: int) -> Clip:
        """Return clip `i` with all that is known about it; see `keypoints`.

        Raises:
            ValueError: the clip is damaged.
        """
        row = self._table.slice(i, 1).select(self._table.column_names[:-2]).to_pylist()[0]
        facts = {key: row[key] for key in ("id", "label", "subject", "camera", "setup")}
        return Clip(keypoints=self.keypoints(i), splits=tuple(row["splits"]), **facts)

    def verify(self) -> list[str]:
        """Read every clip and return the ids of those that are damaged."""
        damaged = []
        for i in range(len(self)):
            self._verified[i] = False
            try:
                self.keypoints(i)
            except ValueError:
                damaged.append(self.ids[i])
        return damaged


def store_document(
    *,
    dataset: str,
    skeleton: Skeleton,
    label_names: Sequence[str],
    channels: int,
    preparation: Mapping[str, Any],
    synthetic: bool = False,
) -> dict[str, Any]:
    """Return the document of a store's metadata. The fingerprint depends on every byte of it."""
    return {
        "version": FORMAT_VERSION,
        "dataset": dataset,
        "skeleton": skeleton.to_dict(),
        "label_names": list(label_names),
        "channels": channels,
        "preparation": dict(preparation),
        "synthetic": synthetic,
        # The version of the library that introduced this format. A constant: fingerprints must not
        # change with the library's version.
        "library": "0.1.0",
    }


def _write_arrow_file(
    path: Path, entries: Iterable[Clip | LeftOut], document: Mapping[str, Any]
) -> tuple[int, list[tuple[str, str, str]]]:
    """Write clips, a record batch at a time; return how many, and all that was left out."""
    import pyarrow as pa

    metadata = json.dumps(document).encode()
    schema = _schema().with_metadata({_DOCUMENT: metadata})
    digest = hashlib.sha256(metadata)
    waiting: list[Clip] = []
    num_clips = num_floats = 0
    left_out: list[tuple[str, str, str]] = []
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:

        def write_batch() -> None:
            batch = _record_batch(waiting, schema)
            _update_digest(digest, batch)
            writer.write_batch(batch)
            waiting.clear()

        for entry in entries:
            if isinstance(entry, LeftOut):
                left_out.append((entry.id, entry.reason, entry.detail))
                continue
            num_clips += 1
            waiting.append(entry)
            num_floats += entry.keypoints.size
            if num_floats >= _BATCH_FLOATS:
                write_batch()
                num_floats = 0
        if waiting:
            write_batch()
        names = json.dumps(left_out).encode()
        digest.update(names)
        closing = {_DIGEST: digest.hexdigest().encode(), _LEFT_OUT: names}
        writer.write_batch(_record_batch([], schema), custom_metadata=closing)
    return num_clips, left_out


def _columns() -> list[tuple[str, Any, Callable[[Clip], Any]]]:
    """Name, Arrow type and value of every column but the coordinates."""
    import pyarrow as pa

    return [
        ("id", pa.string(), lambda clip: clip.id),
        ("label", pa.int32(), lambda clip: clip.label),
        ("subject", pa.int32(), lambda clip: clip.subject),
        ("camera", pa.int32(), lambda clip: clip.camera),
        ("setup", pa.int32(), lambda clip: clip.setup),
        ("persons", pa.int32(), lambda clip: clip.keypoints.shape[0]),
        ("frames", pa.int32(), lambda clip: clip.keypoints.shape[1]),
        ("splits", pa.list_(pa.string()), lambda clip: list(clip.splits)),
        ("checksum", pa.uint32(), lambda clip: zlib.crc32(_flat(clip).data)),
    ]


def _schema() -> Any:
    import pyarrow as pa

    columns = [(name, arrow_type) for name, arrow_type, _ in _columns()]
    return pa.schema([*columns, ("keypoints", pa.large_list(pa.float32()))])


def _record_batch(clips: Sequence[Clip], schema: Any) -> Any:
    import pyarrow as pa

    arrays = [pa.array([value(clip) for clip in clips], type=t) for _, t, value in _columns()]
    offsets = np.cumsum([0, *(clip.keypoints.size for clip in clips)], dtype=np.int64)
    flat = np.concatenate([np.zeros(0, np.float32), *map(_flat, clips)])
    arrays.append(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat)))
    return pa.record_batch(arrays, schema=schema)


def _flat(clip: Clip) -> np.ndarray:
    return np.ascontiguousarray(clip.keypoints, dtype="<f4").ravel()


def _to_numpy(array: Any) -> np.ndarray:
    """Convert an Arrow array of numbers without nulls.

    `array.to_numpy` would import Arrow's compute functions or pandas, which takes longer than
    opening a store of NTU60.
    """
    return np.from_dlpack(array) if len(array) else np.zeros(0, dtype=np.int64)


def _update_digest(digest: Any, batch: Any) -> None:
    """Add a record batch, without its coordinates, to a hash."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name != "keypoints":
            digest.update(f"{name} {len(column)}\n".encode())
            _update_digest_with_array(digest, column)


def _update_digest_with_array(digest: Any, array: Any) -> None:
    """Add an array's values to a hash, without the padding of its buffers."""
    import pyarrow as pa

    if not len(array):
        return
    here = slice(array.offset, array.offset + len(array))
    valid, numbers, *texts = array.buffers()
    mask = np.ones(len(array), dtype=bool)
    if valid is not None and array.null_count:
        bits = np.frombuffer(valid, dtype=np.uint8)
        mask = np.unpackbits(bits, bitorder="little")[here].astype(bool)
    digest.update(mask.tobytes())
    if pa.types.is_integer(array.type):
        digest.update((np.frombuffer(numbers, dtype="<u4")[here] * mask).tobytes())
        return
    offsets = np.frombuffer(numbers, dtype="<i4")[here.start : here.stop + 1]
    digest.update(np.diff(offsets).tobytes())
    if pa.types.is_list(array.type):
        _update_digest_with_array(digest, array.values[offsets[0] : offsets[-1]])
    elif texts and texts[0] is not None:
        digest.update(memoryview(texts[0])[offsets[0] : offsets[-1]])


def _clip_offsets(file: Any, keypoints: Any) -> np.ndarray:
    """Find every clip's coordinates in the file: (2, clips) int64, start and stop in bytes."""
    found = [np.zeros((2, 0), dtype=np.int64)]
    for chunk in keypoints.chunks:
        values = chunk.values
        first = values.buffers()[1].address - file.address
        offsets = _to_numpy(chunk.offsets)
        if not 0 <= offsets[0] <= offsets[-1] <= len(values):
            raise ValueError("offsets outside the coordinates")
        found.append(first + 4 * np.stack([offsets[:-1], offsets[1:]]))
    return np.concatenate(found, axis=1)
