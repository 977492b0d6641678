"""Reading pickles of plain data and NumPy arrays: nothing is run, little is held in memory.

A pickle is a program: it names functions and calls them. Not Python's unpickler but
`pickle_machine` carries it out, which has no means to import anything or to make objects of any
class. Only the names that arrays, NumPy's numbers and bytes need are answered (`_ALLOWED`), and not
with NumPy's own functions but with the stand-ins below, which check what they are given: NumPy's
would also build arrays of arbitrary objects, or of record types whose fields point anywhere in
memory. Everything else is refused before anything is called.

What arrays consist of, nearly all of a file, is not read but noted as a place in it, and the length
that a pickle claims is compared with the file before anything is allocated.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from msg3d_lab.data.formats import torch_pickle
from msg3d_lab.data.formats.pickle_machine import Machine, Place, RefusedError

__all__ = ["StoredArray", "index_pickle", "load_pickle"]

_PLAIN = re.compile(r"[biuf][1248]|U[1-9]\d{0,5}")  # bool, integers, floats, text


class StoredArray(NamedTuple):
    """An array that still lies in its pickle.

    Args:
        dtype: a plain type of fixed size.
        shape: its shape.
        order: "C" or "F".
        body: the place of its bytes, or the bytes if they are few.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    order: Any
    body: Place | bytes

    @property
    def nbytes(self) -> int:
        """How many bytes its values take."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, path: str | Path) -> np.ndarray:
        """Read it from the file it was found in: read-only.

        Raises:
            ValueError: the file has changed, or its bytes are not as many as its shape needs.
        """
        if isinstance(self.body, bytes):
            return self.over(self.body)
        with Path(path).open("rb") as file:
            file.seek(self.body.start)
            return self.over(self.body.decode(file.read(self.body.length)))

    def over(self, content: bytes) -> np.ndarray:
        """View bytes as this array."""
        if len(content) != self.nbytes:
            raise ValueError(
                f"an array of shape {self.shape} needs {self.nbytes} bytes, found {len(content)}"
            )
        return np.ndarray(self.shape, self.dtype, content, order=self.order)


def load_pickle(path: str | Path, *, tensors: bool = False) -> Any:
    """Read a pickle made of Python's plain types, NumPy arrays and NumPy numbers.

    Arrays are read-only views of the file, which stays open while one of them lives; those of
    protocol 2 and below, where bytes are written as text, are in memory.

    Args:
        path: the file.
        tensors: whether torch's tensors may be in it, too; they become arrays in memory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it asks for anything else (nothing of it has been run), or it is cut short or
            damaged.
    """
    return _load(Path(path), views=True, tensors=tensors)


def index_pickle(path: str | Path) -> Any:
    """Read a pickle as `load_pickle` does, with a `StoredArray` in the place of each array.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as in `load_pickle`.
    """
    return _load(Path(path), views=False)


def _load(path: Path, *, views: bool, tensors: bool = False) -> Any:
    find = _find_with_tensors if tensors else _find
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            found = Machine(data, find=find, call=_call, build=_build).run()
            return _resolve(found, data, {}, views=views)
        except RefusedError as error:
            raise ValueError(
                f"{path} was refused: {error}. Recordings and scores need numbers, text and "
                "arrays only; do not open this one with anything else unless you trust its origin"
            ) from error
        except Exception as error:  # a broken one may lead to any of them
            raise ValueError(
                f"{path} is not a readable pickle; it is cut short or damaged "
                f"({type(error).__name__}: {error}): download it again"
            ) from error


class _Array:
    """Stands for an array until its state is known."""

    __slots__ = ("array",)
    array: StoredArray

    def build(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


class _DType:
    """Stands for a plain dtype."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if not (isinstance(code, str) and _PLAIN.fullmatch(code)):
            raise RefusedError("the pickle asks for an array of something else than numbers")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        _, order, *rest = state[:5]
        if order not in ("<", ">", "=", "|") or any(made is not None for made in rest):
            raise RefusedError("the pickle asks for an array of a made-up type")
        self.dtype = self.dtype.newbyteorder(order)


class _Function(NamedTuple):
    """A function that a pickle may call, by name: there is nothing in it to change."""

    name: str


class _TorchFunction(NamedTuple):
    """One of torch's, likewise."""

    name: str


def _array(data: Any, dtype: Any, shape: Any, order: str) -> StoredArray:
    if not (isinstance(data, (bytes, Place)) and isinstance(dtype, _DType)):
        raise RefusedError("the pickle asks for an array that does not consist of plain numbers")
    if not (
        type(shape) is tuple
        and len(shape) <= 32
        and all(type(n) is int and 0 <= n < 1 << 48 for n in shape)
    ):
        raise RefusedError("the pickle asks for an array of an impossible shape")
    array = StoredArray(dtype.dtype, shape, order, data)
    if isinstance(data, bytes):
        least = most = len(data)
    elif data.is_text:
        raise RefusedError("the pickle asks for an array that consists of text")
    else:
        least, most = data.least, data.length
    if not least <= array.nbytes <= most:
        raise RefusedError(f"the pickle fills an array of shape {shape} with {most} bytes")
    return array


def _reconstruct(subtype: Any, shape: Any, typecode: Any) -> _Array:
    if subtype is not _NDARRAY:
        raise RefusedError("the pickle asks for an array of a class of its own")
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> StoredArray:
    return _array(data, dtype, shape, "F" if order == "F" else "C")


def _scalar(dtype: Any, data: Any) -> Any:
    array = _array(data, dtype, (), "C")
    if not isinstance(array.body, bytes):
        raise RefusedError(f"the pickle asks for a number of {array.nbytes} bytes")
    return array.over(array.body).item()


def _encode(text: Any, encoding: Any) -> bytes | Place:
    """How pickles of protocol 2 and below spell bytes."""
    if encoding == "latin1" and isinstance(text, str):
        return text.encode("latin1")
    if encoding == "latin1" and isinstance(text, Place) and text.is_text:
        return text._replace(latin1=True)
    raise RefusedError("the pickle asks for another text encoding than latin1")


def _no_bytes() -> bytes:
    """How they spell empty bytes."""
    return b""


def _not_callable(*args: Any) -> Any:
    raise RefusedError("the pickle calls numpy.ndarray")


_CALLS: dict[str, Callable[..., Any]] = {
    "ndarray": _not_callable,
    "dtype": _DType,
    "_reconstruct": _reconstruct,
    "_frombuffer": _from_buffer,
    "scalar": _scalar,
    "encode": _encode,
    "bytes": _no_bytes,
}
_NDARRAY = _Function("ndarray")
_ALLOWED = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Function("dtype"),
    ("_codecs", "encode"): _Function("encode"),
    ("__builtin__", "bytes"): _Function("bytes"),
    **{
        (f"numpy.{core}.{module}", name): _Function(name)
        for core in ("core", "_core")  # before and after NumPy 2
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    },
}


def _find(module: str, name: str) -> Any:
    """Answer the names in the list; no import, and no dots inside a name."""
    try:
        return _ALLOWED[module, name]
    except KeyError:
        raise RefusedError(f"the pickle asks for {module:.80}.{name:.80}") from None


def _find_with_tensors(module: str, name: str) -> Any:
    return _TorchFunction(name) if (module, name) in torch_pickle.NAMES else _find(module, name)


def _call(function: Any, arguments: Any) -> Any:
    if type(function) not in (_Function, _TorchFunction) or type(arguments) is not tuple:
        raise RefusedError("the pickle calls something that is not a function")
    if type(function) is _TorchFunction:
        return torch_pickle.call(function.name, arguments)
    return _CALLS[function.name](*arguments)


def _build(made: Any, state: Any) -> None:
    if not isinstance(made, (_Array, _DType)):
        raise RefusedError("the pickle sets the state of something else than an array")
    made.build(state)


def _resolve(value: Any, data: mmap.mmap, done: dict[Any, Any], *, views: bool) -> Any:
    """Put arrays, bytes and texts in the places of what stands for them.

    Lists and dicts are changed in place. `done` has what was found for each object, together with
    the object, so that its id stays its own: a small pickle can nest one list in another so often
    that going through all of it, or copying it, would never end.
    """
    kind = type(value)
    if value is None or kind in (str, bytes, bool, int, float):
        return value
    key = value if kind is Place else id(value)
    if key in done:
        return done[key][1]
    if kind is list:
        done[key] = value, value
        value[:] = [_resolve(v, data, done, views=views) for v in value]
    elif kind is dict:
        done[key] = value, value
        for k, v in value.items():
            value[k] = _resolve(v, data, done, views=views)
    elif kind is tuple:
        done[key] = value, tuple(_resolve(v, data, done, views=views) for v in value)
    elif kind is Place:
        done[key] = value, value.content(data)
    elif kind is _Array or kind is StoredArray:
        array = value.array if kind is _Array else value
        done[key] = value, _view(array, data, done) if views else array
    elif kind is torch_pickle.Tensor:
        done[key] = value, value.over(_numbers(value.storage, data, done))
    else:
        raise RefusedError("the pickle holds something else than data")
    return done[key][1]


def _numbers(
    storage: torch_pickle.Storage, data: mmap.mmap, done: dict[Any, Any]
) -> torch_pickle.Numbers:
    """Read a storage, once for all the tensors in it."""
    key = "storage", id(storage)
    if key not in done:
        content = _resolve(storage.content, data, done, views=True)
        done[key] = storage, torch_pickle.read_storage(content)
    numbers: torch_pickle.Numbers = done[key][1]
    return numbers


def _view(array: StoredArray, data: mmap.mmap, done: dict[Any, Any]) -> np.ndarray:
    if isinstance(array.body, bytes):
        return array.over(array.body)
    if array.body.coding is None:
        return np.ndarray(array.shape, array.dtype, data, array.body.start, order=array.order)
    return array.over(_resolve(array.body, data, done, views=True))
