"""Arrays of .npy files that were not written here: their headers are not believed unchecked."""

from __future__ import annotations

import io
import math
import warnings
from typing import IO, NamedTuple

import numpy as np

__all__ = ["read_array", "read_header"]

_LONGEST = 10_000  # NumPy's own limit, which it checks after reading


def read_header(
    file: IO[bytes], where: str, *, kinds: str = "f"
) -> tuple[np.dtype, tuple[int, ...], int]:
    """Read the header of an array of numbers whose last index runs fastest.

    Args:
        file: read up to where the numbers start.
        where: how errors name the array.
        kinds: the kinds of numbers there may be, as in `numpy.dtype.kind`.

    Returns:
        Type, shape, and the number of bytes read.

    Raises:
        ValueError: not such an array.
    """
    header = _header(file, f"{where}: ")
    if header.dtype.kind not in kinds or header.fortran:
        raise ValueError(f"{where}: expected numbers in C order, found {header.dtype!s:.100}")
    return header.dtype, header.shape, header.start


def read_array(content: bytes) -> np.ndarray:
    """Read the array of a file, of any type but Python objects and in any order.

    Raises:
        ValueError: it is no such file, is cut short, or holds Python objects.
    """
    dtype, shape, start, fortran = _header(io.BytesIO(content), "")
    if dtype.hasobject:
        raise ValueError("it holds Python objects: save an array of numbers")
    claimed, there = math.prod(shape) * dtype.itemsize, len(content) - start
    if claimed > there:
        raise ValueError(f"cut short: {there} bytes of {claimed}")
    values = np.ndarray(shape, dtype, content, offset=start, order="F" if fortran else "C")
    return values.copy()


class _Header(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    fortran: bool


def _header(file: IO[bytes], prefix: str) -> _Header:
    start = file.read(8)  # a magic word and the version
    width = {b"\x01\x00": 2, b"\x02\x00": 4}.get(start[6:], 0)
    size = file.read(width)
    length = int.from_bytes(size, "little")
    fits = 0 < length <= _LONGEST
    header = io.BytesIO(start + size + (file.read(length) if fits else b""))
    try:
        if not fits:
            raise ValueError("unknown version, or a header of another size than any has")
        np.lib.format.read_magic(header)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            if width == 2:
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
            else:
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(header)
    except Exception as error:  # NumPy parses it as Python, and fails in as many ways
        raise ValueError(
            f"{prefix}not a .npy file, or damaged ({error!s:.200}): get it again"
        ) from error
    if not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise ValueError(f"{prefix}its header claims an impossible shape")
    return _Header(dtype, shape, 8 + width + length, fortran)
