"""The file under a store: how clips lie in Arrow IPC, and the checksums that Arrow has not."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from msg3d_lab.data.clips import Clip, LeftOut, check_clip

__all__ = ["VERSION", "Contents", "checked", "numbers_of", "read_contents", "write_contents"]

VERSION = 3  # of the format
_KEY = b"msg3d_lab.store"
# Known only when all clips are written: kept with the last record batch, which has no rows.
_DIGEST, _LEFT_OUT = b"msg3d_lab.digest", b"msg3d_lab.left_out"
_BATCH_FLOATS = 4 << 20  # 16 MB: what is held in memory while writing


class Contents(NamedTuple):
    """Everything in a file.

    Args:
        document: what holds for the whole data set.
        table: an Arrow table, one row per clip.
        places: (2, clips) int64, start and stop of every clip's coordinates in the file, in bytes.
        left_out: (id, reason, detail) of the recordings that are not among the clips.
        digest: sha256 of all this; of the coordinates it has the checksums only.
    """

    document: dict[str, Any]
    table: Any
    places: np.ndarray
    left_out: list[list[str]]
    digest: str


def checked(
    clips: Iterable[Clip | LeftOut], document: Mapping[str, Any], num_joints: int
) -> Iterator[Clip | LeftOut]:
    """Pass on clips that fit the document; see `write_store` for what is raised at others."""
    seen: set[str] = set()
    first: LeftOut | None = None
    for clip in clips:
        if isinstance(clip, LeftOut):
            first = first or clip
        else:
            check_clip(
                clip,
                num_joints=num_joints,
                channels=document["channels"],
                num_classes=len(document["label_names"]),
            )
            if clip.id in seen:
                raise ValueError(f"clip id {clip.id!r} occurs twice: ids must be unique")
            seen.add(clip.id)
        yield clip
    if not seen:
        why = f": {first.id}, for one, {first.reason} ({first.detail})" if first else ""
        raise ValueError(f"no clips to write: the source holds none that can be used{why}")


def write_contents(
    path: Path, clips: Iterable[Clip | LeftOut], document: Mapping[str, Any]
) -> None:
    """Write clips that have been checked, a bounded amount of memory at a time."""
    import pyarrow as pa

    metadata = json.dumps(document).encode()
    schema = _schema(pa).with_metadata({_KEY: metadata})
    digest = hashlib.sha256(metadata)
    waiting: list[Clip] = []
    floats = 0
    left_out: list[tuple[str, str, str]] = []
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:

        def flush() -> None:
            batch = _record_batch(waiting, schema)
            _update(digest, batch)
            writer.write_batch(batch)
            waiting.clear()

        for clip in clips:
            if isinstance(clip, LeftOut):
                left_out.append((clip.id, clip.reason, clip.detail))
                continue
            waiting.append(clip)
            floats += clip.keypoints.size
            if floats >= _BATCH_FLOATS:
                flush()
                floats = 0
        if waiting:
            flush()
        names = json.dumps(left_out).encode()
        digest.update(names)
        closing = {_DIGEST: digest.hexdigest().encode(), _LEFT_OUT: names}
        writer.write_batch(_record_batch([], schema), custom_metadata=closing)


def read_contents(mapped: Any) -> Contents:
    """Read a file and check everything in it but the coordinates.

    Args:
        mapped: a memory map, or bytes.

    Raises:
        pyarrow.ArrowException, KeyError, TypeError, ValueError: it is not such a file, or damaged.
    """
    import pyarrow as pa

    buffer = pa.py_buffer(mapped)
    file = pa.ipc.open_file(buffer)
    metadata = file.schema.metadata[_KEY]
    document = json.loads(metadata)
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']}, this library reads {VERSION}")
    if not file.schema.equals(_schema(pa)):
        raise ValueError("its columns are not those of a store")
    last = file.num_record_batches - 1
    rest, closing = file.get_batch_with_custom_metadata(last)
    batches = [file.get_batch(i) for i in range(last)]
    digest = hashlib.sha256(metadata)
    for batch in batches:
        batch.validate(full=True)
        _update(digest, batch)
    digest.update(closing[_LEFT_OUT])
    if digest.hexdigest().encode() != closing[_DIGEST] or rest.num_rows:
        raise ValueError("its checksum is not that of its contents")
    table = pa.Table.from_batches(batches, schema=file.schema)
    places = _locate(buffer, table.column("keypoints"))
    left_out = json.loads(closing[_LEFT_OUT])
    return Contents(document, table, places, left_out, digest.hexdigest())


def numbers_of(array: Any) -> np.ndarray:
    """The numbers of an Arrow array without nulls.

    Neither this nor `_update` asks Arrow to compute: its own ways would import its table of
    functions, or pandas, which takes longer than to read NTU60.
    """
    return np.from_dlpack(array) if len(array) else np.zeros(0, dtype=np.int64)


def _schema(pa: Any) -> Any:
    columns = [(name, arrow_type) for name, arrow_type, _ in _columns(pa)]
    return pa.schema([*columns, ("keypoints", pa.large_list(pa.float32()))])


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
        ("checksum", pa.uint32(), lambda clip: zlib.crc32(_flat(clip).data)),
    ]


def _record_batch(clips: Sequence[Clip], schema: Any) -> Any:
    import pyarrow as pa

    arrays = [pa.array([value(clip) for clip in clips], type=t) for _, t, value in _columns(pa)]
    offsets = np.cumsum([0, *(clip.keypoints.size for clip in clips)], dtype=np.int64)
    flat = np.concatenate([np.zeros(0, np.float32), *map(_flat, clips)])
    arrays.append(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat)))
    return pa.record_batch(arrays, schema=schema)


def _flat(clip: Clip) -> np.ndarray:
    return np.ascontiguousarray(clip.keypoints, dtype="<f4").ravel()


def _update(digest: Any, batch: Any) -> None:
    """Feed a record batch, without its coordinates, to a hash."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name != "keypoints":
            digest.update(f"{name} {len(column)}\n".encode())
            _update_array(digest, column)


def _update_array(digest: Any, array: Any) -> None:
    """Feed values to a hash: what lies in Arrow's buffers without what it leaves open there."""
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
        _update_array(digest, array.values[offsets[0] : offsets[-1]])
    elif texts and texts[0] is not None:
        digest.update(memoryview(texts[0])[offsets[0] : offsets[-1]])


def _locate(whole: Any, column: Any) -> np.ndarray:
    """Find every clip's coordinates in the mapped file: (2, clips) starts and stops in bytes.

    This is what lets a batch of clips be gathered without asking Arrow for each of them.
    """
    places = [np.zeros((2, 0), dtype=np.int64)]
    for chunk in column.chunks:
        values = chunk.values
        first = values.buffers()[1].address - whole.address
        offsets = numbers_of(chunk.offsets)
        if not 0 <= offsets[0] <= offsets[-1] <= len(values):
            raise ValueError("offsets outside the coordinates")
        places.append(first + 4 * np.stack([offsets[:-1], offsets[1:]]))
    return np.concatenate(places, axis=1)
