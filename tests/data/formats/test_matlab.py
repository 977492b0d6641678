"""Against SciPy, which writes the files and is the oracle where it is safe."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from msg3d_lab.data.formats.matlab import read_array


def matlab(compress=False, **variables):
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=compress)
    return file.getvalue()


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(4, 3, 2) / 7,
        np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
        np.array([[2.5]]),  # small enough to share the tag's eight bytes if single
        np.array([[2.5]], np.float32),
        np.ones((3, 0, 2)),
    ],
)
def test_read_array_equals_scipy(compress, array):
    content = matlab(compress, before=np.ones(5), x=array, after="text")
    found = read_array(content, "x")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, scipy.io.loadmat(io.BytesIO(content))["x"])


def element(order, kind, data):
    padding = bytes(-len(data) % 8)
    return struct.pack(f"{order}II", kind, len(data)) + data + padding


def by_hand(order, *, values=(6, 5, 4), number=(3, "h"), flags=6, dims=(1, 3), name=b"x"):
    """A file of one array, byte by byte as the format's description has it."""
    kind, code = number
    matrix = element(order, 6, struct.pack(f"{order}II", flags, 0))
    matrix += element(order, 5, struct.pack(f"{order}{len(dims)}i", *dims))
    matrix += element(order, 1, name)
    matrix += element(order, kind, struct.pack(f"{order}{len(values)}{code}", *values))
    header = b"MATLAB 5.0".ljust(124) + struct.pack(f"{order}H", 0x0100)
    return header + (b"IM" if order == "<" else b"MI") + element(order, 14, matrix)


@pytest.mark.parametrize("order", ["<", ">"])
def test_read_array_of_either_byte_order_and_of_values_stored_as_whole_numbers(order):
    content = by_hand(order)
    np.testing.assert_array_equal(read_array(content, "x"), [[6, 5, 4]])
    np.testing.assert_array_equal(scipy.io.loadmat(io.BytesIO(content))["x"], [[6, 5, 4]])


def compressed(data):
    packed = zlib.compress(data)
    return by_hand("<")[:128] + struct.pack("<II", 15, len(packed)) + packed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a MATLAB file of version 5"),
        (b"MATLAB 7.3 MAT-file" + bytes(600), "without -v7.3"),
        (by_hand("<")[:60], "expected a MATLAB file of version 5"),
        (by_hand("<")[:128], "expected one variable x, found 0"),
        (by_hand("<")[:132], "cut short"),
        (by_hand("<")[:-20], "cut short"),
        (by_hand("<", name=b"y"), "expected one variable x, found 0"),
        (by_hand("<") + by_hand("<")[128:], "expected one variable x, found 2"),
        (by_hand("<", dims=(2, 3)), r"x is \(2, 3\), with 3 numbers"),
        (by_hand("<", dims=(-1, -3)), r"x is \(-1, -3\)"),
        (by_hand("<", dims=(2**31 - 1, 2**31 - 1)), "with 3 numbers"),
        (by_hand("<", dims=()), "with 3 numbers"),
        (by_hand("<", number=(14, "h")), "x has no values"),
        (by_hand("<", flags=6 | 0x0800), "found complex numbers"),
        (by_hand("<", flags=12), "found whole numbers"),
        (matlab(x="joints"), "found text"),
        (matlab(x={"a": 1.0}), "found a structure"),
        (matlab(x=np.array([[1.0, "a"]], object)), "found a cell"),
        (compressed(bytes(9 << 20)), "of more than 8388608 bytes"),
        (compressed(by_hand("<")[128:])[:-5], "cut short"),
        (compressed(by_hand("<")[128:])[:-3] + b"abc", "a damaged MATLAB file"),
        (compressed(b""), "damaged"),
    ],
)
def test_read_array_says_what_is_wrong(content, message):
    with pytest.raises(ValueError, match=message):
        read_array(content, "x")


@pytest.mark.parametrize("compress", [False, True])
def test_read_array_of_damaged_headers_reads_or_raises_value_error(compress):
    original = matlab(compress, x=np.arange(1800.0).reshape(20, 3, 30))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        content = bytearray(original)
        content[int(rng.integers(120, 200))] = int(rng.integers(256))
        try:
            assert read_array(bytes(content), "x").size == 1800
        except ValueError:
            refused += 1
    assert 500 < refused < 2000
