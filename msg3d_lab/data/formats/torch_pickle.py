"""Tensors inside pickles of plain data, read without torch: for `safe_pickle`.

A tensor is pickled as a call: its storage, and where in it the tensor lies. The storage is a file
of `torch.save`'s older kind, as bytes: five small pickles (a magic number, a version, facts of the
machine, the storage's type and length, its key), then the length again and the numbers. All of it
is read by `pickle_machine`, with stand-ins for the few names in it; nothing of torch is called.

Source: `torch.Tensor.__reduce_ex__`, `torch.storage` and `_legacy_save` in `torch.serialization`,
as torch 1.8 to 2.13 write them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from msg3d_lab.data.formats.pickle_machine import Machine, Place, RefusedError

__all__ = ["NAMES", "Numbers", "Storage", "Tensor", "call", "read_storage"]

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_HEADER = 2000  # bytes that the five pickles take at most, and steps: real ones take 300 and 50
_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
NAMES = {
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch.storage", "_load_from_bytes"),
    ("collections", "OrderedDict"),  # a tensor's hooks: empty
}


class Storage(NamedTuple):
    """The numbers of one tensor or several, as a file of `torch.save`."""

    content: bytes | Place


class Numbers(NamedTuple):
    """The numbers themselves.

    Args:
        dtype: their type.
        start: where they begin in the file.
        content: the file.
    """

    dtype: np.dtype
    start: int
    content: bytes


class Tensor(NamedTuple):
    """A tensor that still lies in its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def over(self, numbers: Numbers) -> np.ndarray:
        """View the numbers of its storage as this tensor: read-only.

        Raises:
            ValueError: the tensor lies outside its storage.
        """
        size = numbers.dtype.itemsize
        return np.ndarray(
            self.shape,
            numbers.dtype,
            numbers.content,
            numbers.start + self.offset * size,
            [step * size for step in self.strides],
        )


def call(name: str, arguments: tuple[Any, ...]) -> Any:
    """Answer the call of one of `NAMES`.

    Raises:
        RefusedError: the arguments are not those that torch writes.
    """
    if name == "OrderedDict" and not arguments:
        return {}
    if name == "_load_from_bytes" and len(arguments) == 1 and _are_bytes(arguments[0]):
        return Storage(arguments[0])
    if name == "_rebuild_tensor_v2" and len(arguments) >= 4:
        storage, offset, shape, strides = arguments[:4]
        lengths = _are_lengths(shape) and _are_lengths(strides) and _are_lengths((offset,))
        if isinstance(storage, Storage) and lengths and len(shape) == len(strides):
            return Tensor(storage, offset, shape, strides)
    raise RefusedError(f"the pickle calls {name} in another way than torch writes it")


def _are_bytes(content: Any) -> bool:
    return type(content) is bytes or (type(content) is Place and not content.is_text)


def _are_lengths(numbers: Any) -> bool:
    return (
        type(numbers) is tuple
        and len(numbers) <= 32
        and all(type(n) is int and 0 <= n < 1 << 48 for n in numbers)
    )


class _Type(NamedTuple):
    """Stands for the class of a storage."""

    dtype: np.dtype


class _Claim(NamedTuple):
    """What the storage's own pickle says of it."""

    dtype: np.dtype
    key: str
    length: int


def read_storage(content: bytes) -> Numbers:
    """Find the numbers in a storage.

    Raises:
        RefusedError: it is not one of plain numbers as torch writes it.
        ValueError: it is damaged.
    """
    header, at, found = content[:_HEADER], 0, []
    for _ in range(5):
        machine = Machine(
            header,
            find=_find,
            call=_refuse,
            build=_refuse,
            point=_point,
            start=at,
            most_steps=_HEADER,
        )
        found.append(machine.run())
        at = machine.end
    magic, version, facts, claim, keys = found
    if magic != _MAGIC or version != _VERSION or type(claim) is not _Claim:
        raise RefusedError("the pickle holds a tensor in another format than torch writes")
    if not isinstance(facts, dict) or facts.get("little_endian") is not True:
        raise RefusedError("the pickle holds a tensor of a machine with another order of bytes")
    count = int.from_bytes(content[at : at + 8], "little")
    size = count * claim.dtype.itemsize
    if keys != [claim.key] or count != claim.length or len(content) != at + 8 + size:
        raise ValueError("a tensor's storage has another length than it says")
    return Numbers(claim.dtype, at + 8, content)


def _find(module: str, name: str) -> Any:
    if module != "torch" or name not in _TYPES:
        raise RefusedError(f"the pickle holds a tensor of {module:.80}.{name:.80}")
    return _Type(np.dtype(_TYPES[name]))


def _point(what: Any) -> _Claim:
    if type(what) is tuple and len(what) >= 5 and what[0] == "storage":
        _, kind, key, _, count = what[:5]
        plain = type(kind) is _Type and type(key) is str and type(count) is int and count >= 0
        if plain and what[5:] in ((), (None,)):  # with a view of a view in torch 0.4 and before
            return _Claim(kind.dtype, key, count)
    raise RefusedError("the pickle holds a tensor in another format than torch writes")


def _refuse(*_: Any) -> Any:
    raise RefusedError("the pickle holds a tensor that is not plain data")
