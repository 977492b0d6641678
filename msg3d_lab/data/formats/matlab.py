"""Read one array of real numbers from a MATLAB file of version 5.

`scipy.io.loadmat` ends the whole process (a segmentation fault) at some files whose headers are
damaged, so files that are not trusted are read here: only real arrays, every size bounded before
anything is unpacked, nothing of cells, structures and objects.

Source: MAT-File Format, The MathWorks, chapter 1, "Level 5 MAT-File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_HEADER = 128  # bytes of text and version before the first element
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8",
            13: "u8"}  # fmt: skip
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_CLASSES = {1: "a cell", 2: "a structure", 3: "an object", 4: "text", 5: "a sparse array"}
_DOUBLE, _SINGLE = 6, 7
_COMPLEX = 0x08


class _Element(NamedTuple):
    type: int
    data: bytes


_NOTHING = _Element(0, b"")


def read_array(content: bytes, name: str, *, largest: int = 8 << 20) -> np.ndarray:
    """Return a variable of real floating-point numbers.

    Args:
        content: of the file.
        name: of the variable.
        largest: bytes that a variable may have when it is unpacked.

    Returns:
        float64, in the variable's shape.

    Raises:
        ValueError: not a MATLAB file of version 5, a damaged one, or not exactly one such variable.
    """
    if content[:10] != b"MATLAB 5.0" or content[126:128] not in (b"IM", b"MI"):
        raise ValueError("expected a MATLAB file of version 5 (MATLAB's save without -v7.3)")
    order = "<" if content[126:128] == b"IM" else ">"
    found = []
    for element in _elements(content[_HEADER:], order):
        if element.type == _COMPRESSED:
            element = next(_elements(_unpack(element.data, largest), order), _NOTHING)
        if element.type != _MATRIX:
            raise ValueError("a damaged MATLAB file: an element is no variable")
        parts = [*_elements(element.data, order), *[_NOTHING] * 4][:4]
        if parts[2] == _Element(_INT8, name.encode("latin-1")):
            found.append(_array(name, *parts, order=order))
    if len(found) != 1:
        raise ValueError(f"expected one variable {name}, found {len(found)}")
    return found[0]


def _array(
    name: str, flags: _Element, dims: _Element, _: _Element, values: _Element, *, order: str
) -> np.ndarray:
    header = (flags.type, len(flags.data), dims.type, len(dims.data) % 4)
    if header != (_UINT32, 8, _INT32, 0):
        raise ValueError("a damaged MATLAB file: its array has another header")
    (bits,) = struct.unpack(f"{order}I", flags.data[:4])
    kind, is_complex = bits & 0xFF, bits >> 8 & _COMPLEX
    if kind not in (_DOUBLE, _SINGLE) or is_complex:
        other = "complex numbers" if is_complex else _CLASSES.get(kind, "whole numbers")
        raise ValueError(f"expected real numbers in {name}, found {other}")
    shape = struct.unpack(f"{order}{len(dims.data) // 4}i", dims.data)
    if values.type not in _NUMBERS:
        raise ValueError(f"a damaged MATLAB file: {name} has no values")
    # MATLAB stores whole numbers in fewer bytes than their class has.
    numbers = np.frombuffer(values.data, np.dtype(order + _NUMBERS[values.type]))
    if len(shape) < 2 or min(shape) < 0 or math.prod(shape) != len(numbers):
        raise ValueError(f"a damaged MATLAB file: {name} is {shape}, with {len(numbers)} numbers")
    return numbers.astype(np.float64).reshape(shape, order="F")


def _elements(content: bytes, order: str) -> Iterator[_Element]:
    """Split into data elements: a tag of type and size, then the data, padded to 8 bytes."""
    place = 0
    while place < len(content):
        if place + 8 > len(content):
            raise ValueError("a damaged MATLAB file: it is cut short")
        kind, size = struct.unpack_from(f"{order}II", content, place)
        start, step = place + 8, 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if kind >> 16:  # a small element: size and type share four bytes, the data the next four
            kind, size, start, step = kind & 0xFFFF, kind >> 16, place + 4, 8
            if size > 4:
                raise ValueError("a damaged MATLAB file: a small element of more than 4 bytes")
        if start + size > len(content):
            raise ValueError("a damaged MATLAB file: it is cut short")
        yield _Element(kind, content[start : start + size])
        place += step


def _unpack(content: bytes, largest: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(content, largest)
    except zlib.error as error:
        raise ValueError(f"a damaged MATLAB file: {error}") from error
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError(f"a damaged MATLAB file: cut short, or of more than {largest} bytes")
    return data
