"""Reading pickles of plain data and NumPy arrays without letting them run anything.

A pickle is a program: it names functions and calls them. Here only the names that arrays, NumPy's
numbers and bytes need are answered (`_ALLOWED`), and not with NumPy's own functions but with the
stand-ins below, which check what they are given: NumPy's would also build arrays of arbitrary
objects, or of record types whose fields point anywhere in memory. Everything else is refused before
anything is called.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["load_pickle"]

_PLAIN = re.compile(r"[biuf][1248]|U[1-9]\d{0,5}")  # bool, integers, floats, text


def load_pickle(path: str | Path) -> Any:
    """Read a pickle made of Python's plain types, NumPy arrays and NumPy numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it asks for anything else (nothing of it has been run), or it is cut short or
            damaged.
    """
    with Path(path).open("rb") as file:
        try:
            return _resolve(_Unpickler(file).load())
        except _RefusedError as error:
            raise ValueError(
                f"{path} was refused: {error}. A file of recordings needs numbers, text and NumPy "
                "arrays only; do not open this one with anything else unless you trust its origin"
            ) from error
        except Exception as error:  # pickle's documentation: a broken one may raise anything
            raise ValueError(
                f"{path} is not a readable pickle; it is cut short or damaged "
                f"({type(error).__name__}: {error}): download it again"
            ) from error


class _RefusedError(Exception):
    """The pickle asks for something that plain data does not need."""


class _Array:
    """Stands for an array until the pickle is read; a pickle can only call `__setstate__`."""

    __slots__ = ("array",)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


class _DType:
    """Stands for a plain dtype."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if not (isinstance(code, str) and _PLAIN.fullmatch(code)):
            raise _RefusedError(f"the pickle asks for an array of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        _, order, subarray, names, fields = state[:5]
        if (subarray, names, fields) != (None, None, None):
            raise _RefusedError("the pickle asks for an array of a made-up type")
        self.dtype = self.dtype.newbyteorder(order)


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not (isinstance(data, (bytes, bytearray)) and isinstance(dtype, _DType)):
        raise _RefusedError("the pickle asks for an array that does not consist of plain numbers")
    if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
        raise _RefusedError(f"the pickle asks for an array of shape {shape!r}")
    if len(data) != math.prod(shape) * dtype.dtype.itemsize:
        raise _RefusedError(f"the pickle fills an array of shape {shape} with {len(data)} bytes")
    return np.ndarray(shape, dtype.dtype, bytes(data), order="F" if order == "F" else "C")


class _Function:
    """A function that a pickle may call but cannot change: no `__dict__`, nothing to set.

    The plain function is looked up by its name, so the instance holds a string only.
    """

    __slots__ = ("_name",)
    _name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise _RefusedError(f"the pickle tries to change {self._name}")

    def __call__(self, *args: Any) -> Any:
        return _CALLS[self._name](*args)


def _reconstruct(subtype: Any, shape: Any, typecode: Any) -> _Array:
    if subtype is not _NDARRAY:
        raise _RefusedError("the pickle asks for an array of a class of its own")
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    made = _Array()
    made.array = _array(data, dtype, shape, order)
    return made


def _scalar(dtype: Any, data: Any) -> Any:
    return _array(data, dtype, (), "C").item()


def _encode(text: Any, encoding: Any) -> bytes:
    """How pickles of protocol 2 and below spell bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError(f"the pickle asks for the text encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How they spell empty bytes."""
    return b""


def _not_callable(*args: Any) -> Any:
    raise _RefusedError("the pickle calls numpy.ndarray")


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


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Answer the names in the list; no import, and no dots inside a name."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"the pickle asks for {module}.{name}") from None


def _resolve(value: Any, done: dict[int, Any] | None = None) -> Any:
    """Put the arrays in the places of their stand-ins; copies lists, tuples and dicts.

    `done` keeps what occurs twice from being copied twice: a small pickle can nest one list in
    another so often that its copies would fill the memory.
    """
    done = {} if done is None else done
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, (dict, list, tuple)):
        if id(value) not in done:
            if isinstance(value, dict):
                done[id(value)] = {_plain(k): _resolve(v, done) for k, v in value.items()}
            else:
                done[id(value)] = type(value)(_resolve(v, done) for v in value)
        return done[id(value)]
    return _plain(value)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bytes, bool, int, float)):
        return value
    raise _RefusedError("the pickle holds something else than data")
