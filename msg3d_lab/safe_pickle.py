"""Read pickles, PyTorch files and .npy files of others without running anything in them.

A pickle names functions and calls them. Here `find_class` answers only the names on a list, and
with the functions below instead of NumPy's and torch's own: those would also build arrays of Python
objects, or of record types whose fields point anywhere in memory. What is read is then walked
through once: only numbers, text, bytes, lists, tuples, dicts and arrays are let out.

Guarded: nothing of the file runs; an array has as many bytes as the file has for it. Not guarded:
a file made for it can use up time or memory, or end the process, for instance with nested tuples as
the key of a dict. A pickle is in memory as a whole, arrays once (while it is read, up to protocol
2, twice).
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import struct
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

_PLAIN_DTYPE = re.compile(r"[biuf][1248]|U[1-9]\d{0,5}")  # bool, integers, floats, text


class _RefusedError(Exception):
    """The file asks for something that plain data do not need."""


def load_pickle(path: str | Path, *, tensors: bool = False) -> Any:
    """Read a pickle of Python's plain types, NumPy arrays and NumPy numbers.

    Arrays are read-only. NumPy's numbers become Python's, an OrderedDict becomes a dict. Pickles of
    Python 2 and of NumPy 1 and 2 are read.

    Args:
        path: the file.
        tensors: whether torch's tensors may be in it too; they become arrays.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it asks for anything else (nothing of it has been run), or it is cut short or
            damaged.
    """
    with Path(path).open("rb") as file:
        try:
            return _plain(_Unpickler(file, tensors=tensors).load(), {})
        except _RefusedError as error:
            raise ValueError(
                f"{path} was refused: {error}. Recordings and scores need numbers, text and "
                "arrays only; do not open this one with anything else unless you trust its origin"
            ) from error
        except Exception as error:  # a damaged pickle may lead to any of them
            raise ValueError(
                f"{path} is not a readable pickle; it is cut short or damaged "
                f"({type(error).__name__}: {error!s:.200}): download it again"
            ) from error


def load_torch(path: str | Path) -> Any:
    """Read a file of `torch.save` with `weights_only=True`.

    Tensors and plain values come through. NumPy's values and mmengine's log objects, which
    checkpoints of a training hold beside the weights, do not, but do no harm.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds anything else (nothing of it has been run), or it is cut short or no
            PyTorch file.
    """
    try:
        with Path(path).open("rb") as file:
            return _load_torch(file)
    except _RefusedError as error:
        raise ValueError(
            f"the file was refused: {error}; if you trust it, save its state dict alone: "
            "torch.save(model.state_dict(), path)"
        ) from error
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file may lead to any of them
        raise ValueError(
            f"the file is cut short or not a PyTorch checkpoint ({error!s:.200})"
        ) from error


def load_npy(file: str | Path | IO[bytes], *, memory_map: bool = False) -> Any:
    """Read an array from an .npy file with `numpy.lib.format`; Python objects are refused.

    Args:
        file: the file's path, or the open file, which is closed.
        memory_map: whether to map the file, given by path, instead of reading it: read-only.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no such file, is cut short, or holds Python objects.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers that Python 2 wrote
            if memory_map:
                return np.lib.format.open_memmap(str(file), mode="r")
            with Path(file).open("rb") if isinstance(file, (str, Path)) else file as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # NumPy reads the header as Python, and fails in as many ways
        where = file if isinstance(file, (str, Path)) else "the file"
        raise ValueError(
            f"{where} is not an .npy file of numbers, or it is cut short or damaged "
            f"({error!s:.200}): get it again"
        ) from error


def _load_torch(file: IO[bytes]) -> Any:
    import torch

    known: list[Any] = [(call, f"{module}.{name}") for (module, name), call in _NUMPY.items()]
    known += [(_Ignored, "mmengine.logging.history_buffer.HistoryBuffer"), _Array, _DType]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(known):
            warnings.simplefilter("ignore")  # about what is unusual: it is refused if need be
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error.__context__ or error).split("\n")[0].split(". ")[0]  # without advice
        unknown = re.search(r"GLOBAL (\S+) was not", reason)
        if unknown is not None:
            reason = f"an object of type {unknown[1]}; torch.save(model) writes whole modules so"
        raise _RefusedError(f"it holds more than tensors and plain values ({reason})") from error


# Python's unpickler in Python: the one in C reserves memory for any memo number that a file names.
class _Unpickler(pickle._Unpickler):
    def __init__(self, file: IO[bytes], *, tensors: bool) -> None:
        super().__init__(file, encoding="latin1")  # Python 2's bytes and text
        self._file_size = os.fstat(file.fileno()).st_size
        self._functions = _FUNCTIONS
        if tensors:
            self._functions = _FUNCTIONS | {
                ("torch._utils", "_rebuild_tensor_v2"): _Function(_rebuild_tensor),
                # Rows of a batch come with the whole batch each.
                ("torch.storage", "_load_from_bytes"): _Function(cache(_load_storage)),
            }

    def find_class(self, module: str, name: str) -> Any:
        """Answer the names on the list: no import, and no dots inside a name."""
        try:
            return self._functions[module, name]
        except KeyError:
            raise _RefusedError(f"the pickle asks for {module:.80}.{name:.80}") from None

    def load_bytearray8(self) -> None:
        """Read a bytearray; Python's method makes one of any size before it reads."""
        [size] = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        if size > self._file_size:
            raise pickle.UnpicklingError(f"{size} bytes in a file of {self._file_size}")
        content = bytearray(size)
        self.readinto(content)  # type: ignore[attr-defined]
        self.append(content)  # type: ignore[attr-defined]

    dispatch = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: load_bytearray8}  # type: ignore


class _Function(NamedTuple):
    """What a pickle may call. A tuple, so that a pickle cannot set its attributes."""

    function: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


class _DType:
    """Stands for a dtype while a pickle is read: a real one would take any state."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if not (isinstance(code, str) and _PLAIN_DTYPE.fullmatch(code)):
            raise _RefusedError("the pickle asks for an array of something else than numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        _, order, *fields = state[:5]
        if order not in ("<", ">", "=", "|") or any(field is not None for field in fields):
            raise _RefusedError("the pickle asks for an array of a made-up type")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for an array while a pickle is read: its shape and bytes come later, as its state."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray | None = None) -> None:
        self.array = array

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _view(data, dtype, shape, "F" if fortran else "C")


class _Storage(NamedTuple):
    """The numbers of torch's tensors, in one dimension."""

    numbers: Any


class _Ignored:
    """Stands for an object of a training log; holds nothing."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _view(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """View bytes as an array, if they are as many as it needs."""
    if isinstance(data, str):  # bytes, as Python 2 pickled them
        data = data.encode("latin1")
    if not (isinstance(data, (bytes, bytearray)) and isinstance(dtype, _DType)):
        raise _RefusedError("the pickle asks for an array that does not consist of plain numbers")
    if not (type(shape) is tuple and _are_sizes(shape)):
        raise _RefusedError("the pickle asks for an array of an impossible shape")
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise _RefusedError(f"the pickle fills an array of shape {shape} with {len(data)} bytes")
    array = np.ndarray(shape, dtype.dtype, data, order="F" if order == "F" else "C")
    array.flags.writeable = False  # as over bytes; protocol 5 writes bytearrays
    return array


def _are_sizes(numbers: tuple[Any, ...]) -> bool:
    return all(type(n) is int and 0 <= n < 1 << 48 for n in numbers)


def _reconstruct(subtype: Any, shape: Any, typecode: Any) -> _Array:
    """How NumPy begins an array; NumPy's own function would make one of any size."""
    if subtype is not _NDARRAY:
        raise _RefusedError("the pickle asks for an array of a class of its own")
    return _Array()


def _not_callable(*args: Any) -> Any:
    raise _RefusedError("the pickle calls numpy.ndarray")


def _encode(text: Any, encoding: Any) -> bytes:
    """How pickles of protocol 2 and below spell bytes."""
    if not (isinstance(text, str) and encoding == "latin1"):
        raise _RefusedError("the pickle asks for another text encoding than latin1")
    return text.encode("latin1")


def _load_storage(content: bytes) -> _Storage:
    """How a tensor in a pickle spells its numbers: as a file of `torch.save`."""
    import torch

    storage = _load_torch(io.BytesIO(content))
    if not isinstance(storage, torch.storage.TypedStorage):
        raise _RefusedError("the pickle holds a tensor in another format than torch writes")
    if not hasattr(np, str(storage.dtype).removeprefix("torch.")):
        raise _RefusedError(f"the pickle holds a tensor of {storage.dtype}")
    return _Storage(torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage))


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Array:
    """View a storage as an array; torch's own function would make a short storage longer."""
    if not (isinstance(storage, _Storage) and type(shape) is tuple and _are_sizes(shape)):
        raise _RefusedError("the pickle holds a tensor in another format than torch writes")
    array = storage.numbers.as_strided(shape, strides, offset).numpy()
    array.flags.writeable = False
    return _Array(array)


_NDARRAY = _Function(_not_callable)
_NUMPY = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Function(_DType),
    **{
        (f"numpy.{core}.{module}", name): _Function(function)
        for core in ("core", "_core")  # before and after NumPy 2
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", lambda dtype, data: _view(data, dtype, (), "C").item()),
            ("numeric", "_frombuffer", lambda *args: _Array(_view(*args))),
        )
    },
}
_FUNCTIONS = _NUMPY | {
    ("__builtin__", "bytes"): _Function(lambda: b""),  # empty bytes of protocol 2
    ("collections", "OrderedDict"): _Function(dict),
    ("_codecs", "encode"): _Function(_encode),
}


def _plain(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """Put arrays in the places of what stands for them; refuse everything that is no plain data.

    Lists and dicts are changed in place. `done` keeps what was found for each object (and the
    object, so that its id stays its own): a small pickle can nest one list in itself very often.
    """
    kind = type(value)
    if value is None or kind in (str, bytes, bool, int, float):
        return value
    if id(value) in done:
        return done[id(value)][1]
    if kind is list:
        done[id(value)] = value, value
        value[:] = [_plain(v, done) for v in value]
    elif kind is dict:
        done[id(value)] = value, value
        for k, v in value.items():
            value[_plain(k, done)] = _plain(v, done)
    elif kind is tuple:
        done[id(value)] = value, tuple(_plain(v, done) for v in value)
    elif kind is _Array and value.array is not None:
        done[id(value)] = value, value.array
    else:
        raise _RefusedError("the pickle holds something else than plain data")
    return done[id(value)][1]
