"""One file for every data set: an Arrow IPC file, read through a memory map.

All coordinates lie in one flat float32 column with offsets, next to what is known about each clip;
what holds for the whole data set (joint layout, class names, preparation) is in the schema's
metadata. Clips keep their own number of persons and frames: nothing is padded, nothing is read
before it is asked for, and several processes share the pages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msg3d_lab.data.clips import Clip, check_clip
from msg3d_lab.files import write_aside
from msg3d_lab.skeletons import Skeleton

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Store", "open_store", "write_store"]

_KEY = b"msg3d_lab.store"
_VERSION = 1
_BATCH_FLOATS = 4 << 20  # 16 MB: what is held in memory while writing


def write_store(
    path: str | Path,
    clips: Iterable[Clip],
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
        clips: may be a generator; about 16 MB of it are held at a time.
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
    import pyarrow as pa

    from msg3d_lab import __version__

    document = {
        "version": _VERSION,
        "dataset": dataset,
        "skeleton": skeleton.to_dict(),
        "label_names": list(label_names),
        "channels": channels,
        "preparation": dict(preparation),
        "synthetic": synthetic,
        "library": __version__,
    }
    columns = [(name, arrow_type) for name, arrow_type, _ in _columns(pa)]
    schema = pa.schema(
        [*columns, ("keypoints", pa.large_list(pa.float32()))],
        metadata={_KEY: json.dumps(document)},
    )
    seen: set[str] = set()
    waiting: list[Clip] = []
    floats = 0
    with write_aside(path) as aside, pa.OSFile(str(aside), "wb") as sink:
        with pa.ipc.new_file(sink, schema) as writer:
            for clip in clips:
                check_clip(
                    clip,
                    num_joints=skeleton.num_joints,
                    channels=channels,
                    num_classes=len(label_names),
                )
                if clip.id in seen:
                    raise ValueError(f"clip id {clip.id!r} occurs twice: ids must be unique")
                seen.add(clip.id)
                waiting.append(clip)
                floats += clip.keypoints.size
                if floats >= _BATCH_FLOATS:
                    writer.write_batch(_record_batch(waiting, schema))
                    waiting, floats = [], 0
            if waiting:
                writer.write_batch(_record_batch(waiting, schema))
        if not seen:
            raise ValueError(f"no clips to write to {path}: the source holds none that can be used")
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
    `preparation` and `synthetic` as given to `write_store`, and the arrays `persons` and `frames`
    (clips,) int64.

    Example:
        >>> store = open_store("ntu60-3d.arrow")  # doctest: +SKIP
        >>> store.keypoints(0).shape  # (M, T, V, C), a view of the file  # doctest: +SKIP
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
            file = pa.memory_map(str(self.path))
            self._table = pa.ipc.open_file(file).read_all()
            document = json.loads(self._table.schema.metadata[_KEY])
            if document["version"] != _VERSION:
                raise ValueError(f"version {document['version']}, this library reads {_VERSION}")
            self._floats, self._starts = _locate(file, self._table.column("keypoints"))
            self.skeleton = Skeleton.from_record(document["skeleton"])
            self.channels = int(document["channels"])
            self.persons = self._table.column("persons").to_numpy().astype(np.int64)
            self.frames = self._table.column("frames").to_numpy().astype(np.int64)
            sizes = self.persons * self.frames * (self.skeleton.num_joints * self.channels)
            if (self._starts[1] - self._starts[0] != sizes).any():
                raise ValueError("the coordinates do not have the lengths that the clips claim")
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is not a store of this library, or it is cut short or damaged ({error}): "
                "import the data set again"
            ) from error
        self.dataset: str = document["dataset"]
        self.label_names: list[str] = document["label_names"]
        self.preparation: dict[str, Any] = document["preparation"]
        self.synthetic: bool = document["synthetic"]

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
        return self._table.column("label").to_numpy().astype(np.int64)

    @cached_property
    def ids(self) -> list[str]:
        """Sample ids in the order of the file."""
        return list(self._table.column("id").to_pylist())

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per clip: id, label, subject, camera, setup, persons, frames, splits."""
        import pandas as pd

        plain = {
            name: self._table.column(name).to_pylist() for name in self._table.column_names[:-1]
        }
        nullable = dict.fromkeys(("subject", "camera", "setup"), "Int64")
        return pd.DataFrame(plain).astype(nullable)

    @cached_property
    def _members(self) -> dict[str, np.ndarray]:
        members: dict[str, list[int]] = {}
        for i, names in enumerate(self._table.column("splits").to_pylist()):
            for name in names:
                members.setdefault(name, []).append(i)
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
        """Return clip `i`: (M, T, V, C) float32, a read-only view of the file, not a copy."""
        start, stop = self._starts[:, i]
        shape = (self.persons[i], self.frames[i], self.skeleton.num_joints, self.channels)
        return self._floats[start:stop].reshape(shape)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits that tell two stores apart, wherever they lie.

        From the metadata (with the hash of the source), the ids, labels and lengths and the file
        size: cheap, so that every run can record it; it does not read the coordinates.
        """
        digest = hashlib.sha256(self._table.schema.metadata[_KEY])
        digest.update("\n".join(self.ids).encode())
        for column in (self.labels, self.persons, self.frames):
            digest.update(column.tobytes())
        digest.update(str(self.path.stat().st_size).encode())
        return digest.hexdigest()[:12]


def _columns(pa: Any) -> list[tuple[str, Any, Callable[[Clip], Any]]]:
    """Name, Arrow type and value of every column that describes a clip."""
    return [
        ("id", pa.string(), lambda clip: clip.id),
        ("label", pa.int32(), lambda clip: clip.label),
        ("subject", pa.int32(), lambda clip: clip.subject),
        ("camera", pa.int32(), lambda clip: clip.camera),
        ("setup", pa.int32(), lambda clip: clip.setup),
        ("persons", pa.int32(), lambda clip: clip.keypoints.shape[0]),
        ("frames", pa.int32(), lambda clip: clip.keypoints.shape[1]),
        ("splits", pa.list_(pa.string()), lambda clip: list(clip.splits)),
    ]


def _record_batch(clips: Sequence[Clip], schema: Any) -> Any:
    import pyarrow as pa

    arrays = [pa.array([value(clip) for clip in clips], type=t) for _, t, value in _columns(pa)]
    offsets = np.cumsum([0, *(clip.keypoints.size for clip in clips)], dtype=np.int64)
    flat = np.concatenate([clip.keypoints.astype(np.float32, copy=False).ravel() for clip in clips])
    arrays.append(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat)))
    return pa.record_batch(arrays, schema=schema)


def _locate(file: Any, column: Any) -> tuple[np.ndarray, np.ndarray]:
    """Find every clip's numbers in the mapped file.

    Arrow aligns its buffers, so the whole file can be seen as float32; a clip is then a start and a
    stop in that one array, whichever record batch it lies in. This is what lets a batch of clips be
    gathered without asking Arrow for each of them.

    Returns:
        The file as float32, and (2, clips) starts and stops in it.
    """
    size = file.size()
    whole = file.read_buffer(size)
    floats = np.frombuffer(whole, dtype="<f4", count=size // 4)
    places = [np.zeros((2, 0), dtype=np.int64)]
    for chunk in column.chunks:
        values = chunk.values
        first = (values.buffers()[1].address - whole.address) // 4
        offsets = chunk.offsets.to_numpy()
        if not 0 <= offsets[0] <= offsets[-1] <= len(values):
            raise ValueError("offsets outside the coordinates")
        places.append(first + np.stack([offsets[:-1], offsets[1:]]))
    return floats, np.concatenate(places, axis=1)
