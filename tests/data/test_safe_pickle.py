"""What a pickle may hold, and that nothing else gets through.

Each attack is first shown to work on Python's own unpickler (where it is one that runs), so that
its refusal means something.
"""

from __future__ import annotations

import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msg3d_lab.data.safe_pickle import load_pickle

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


@pytest.fixture
def load(tmp_path):
    def _load(content):
        path = tmp_path / "file.pkl"
        path.write_bytes(content)
        return load_pickle(path)

    return _load


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *args, state=None):
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.parts


def forge(module, name, *args):
    """A protocol-4 pickle that calls `module.name(*args)`, whatever the name is."""

    def text(value):
        raw = value.encode()
        return b"\x8c" + struct.pack("B", len(raw)) + raw

    plain = b"".join(pickle.dumps(a, 4)[2:-1].replace(b"\x94", b"") for a in args)
    return b"\x80\x04" + text(module) + text(name) + b"\x93(" + plain + b"tR."


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float16).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6.0, dtype=">f8"),
        np.arange(10)[::3],
        np.zeros((0, 3), dtype=np.float32),
        np.array(7),
        np.array([True, False]),
        np.array(["S001", "ab"]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_come_through(load, array, protocol):
    loaded = load(pickle.dumps({"a": [array, array]}, protocol))
    for found in loaded["a"]:
        assert type(found) is np.ndarray
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_and_numbers_come_through(load, protocol):
    data = {"split": {"a": ["x", "y"]}, "n": (1, 2.5, None, True), "b": b"\x00\xff"}
    assert load(pickle.dumps(data, protocol)) == data
    numbers = load(pickle.dumps([np.int64(3), np.float32(0.5), np.str_("S001")], protocol))
    assert numbers == [3, 0.5, "S001"]
    assert [type(n) for n in numbers] == [int, float, str]


def test_arrays_of_numpy_before_2_come_through(load):
    new = pickle.dumps([np.arange(4), np.float64(2)], 2)
    old = new.replace(b"numpy._core.", b"numpy.core.")
    assert old != new
    a, b = load(old)
    np.testing.assert_array_equal(a, np.arange(4))
    assert b == 2


def test_a_small_pickle_cannot_grow_without_bounds(load):
    nested = ["x"]
    for _ in range(60):
        nested = [nested, nested]
    loaded = load(pickle.dumps(nested))
    for _ in range(60):
        loaded = loaded[0]
    assert loaded == ["x"]


def attacks(canary):
    command = f"touch {canary}"
    holder = np.empty(1, dtype=object)
    holder[0] = Call(os.system, command)
    return {
        "os.system": pickle.dumps(Call(os.system, command)),
        "inside an annotation": pickle.dumps({"annotations": [{"x": Call(os.system, command)}]}),
        "eval": pickle.dumps(Call(eval, f"__import__('os').system({command!r})")),
        "exec": pickle.dumps(Call(exec, f"import os; os.system({command!r})")),
        "object array": pickle.dumps(holder),
        "subprocess": forge("subprocess", "getoutput", command),
        "old protocol": b"cos\nsystem\n(S'" + command.encode() + b"'\ntR.",
        "INST opcode": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "through a dotted name": forge("pathlib", "os.system", command),
    }


@pytest.mark.parametrize("attack", list(attacks("x")))
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(load, tmp_path, attack):
    canary = tmp_path / "ran"
    content = attacks(canary)[attack]
    pickle.loads(content)
    assert canary.exists(), "this attack does not work, so its refusal would mean nothing"
    canary.unlink()
    with pytest.raises(ValueError, match=r"file\.pkl was refused: the pickle asks for"):
        load(content)
    assert not canary.exists()


def test_the_message_names_what_was_asked_for(load):
    with pytest.raises(ValueError, match=r"the pickle asks for (posix|nt)\.system"):
        load(pickle.dumps(Call(os.system, "true")))


def reconstruct(dtype, data, shape=(1,), state_of_dtype=(3, "<", None, None, None, -1, -1, 0)):
    """An array spelled out, so that its parts can be wrong."""
    make = np.arange(1).__reduce__()[0]
    kind = Call(np.dtype, dtype, False, True, state=state_of_dtype)
    return pickle.dumps(Call(make, np.ndarray, (0,), b"b", state=(1, shape, kind, False, data)))


RECORD = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(np.array([None, {}], dtype=object)),
        pickle.dumps(np.array([(1, 2.0)], dtype="i4,f8")),
        pickle.dumps(np.array(["2020-01-01"], dtype="M8[D]")),
        pickle.dumps(np.dtype("f8")),
        pickle.dumps(np.ma.array([1.0])),
        pickle.dumps(np.arange(3).view(np.recarray)),
        pickle.dumps(np.random.default_rng(0)),
        pickle.dumps(np.ndarray),
        pickle.dumps({1, 2}),
        pickle.dumps(1j),
        reconstruct("V8", b"12345678"),
        reconstruct("V8", b"12345678", state_of_dtype=RECORD),
        reconstruct("f8", b"12345678", state_of_dtype=RECORD),
        reconstruct("f8", b"1234567"),
        reconstruct("f8", b"12345678", shape=(2**40,)),
        reconstruct("f8", b"12345678", shape=(-1, -1)),
        reconstruct("f8", b"12345678", shape=(True,)),
        reconstruct("f8", [1.0]),
        reconstruct("f8", "12345678"),
        forge("numpy", "ndarray", (10**9,)),
        forge("numpy", "dtype.__init__", "f8"),
        forge("numpy", "load", "x.npy"),
        forge("numpy._core.multiarray", "fromfile", "x"),
        forge("numpy._core.multiarray", "_reconstruct", "list", (0,), b"b"),
        forge("builtins", "getattr", "x", "__class__"),
        forge("builtins", "object"),
        forge("copyreg", "_reconstructor", 1, 2, 3),
        forge("_codecs", "encode", "x", "rot13"),
        forge("_codecs", "decode", b"x", "latin1"),
        forge("msg3d_lab.data.safe_pickle", "_CALLS"),
        forge("operator", "attrgetter", "x"),
        forge("functools", "partial", print),
    ],
)
def test_everything_that_is_not_plain_data_is_refused(load, content):
    with pytest.raises(ValueError, match=r"file\.pkl was refused: the pickle"):
        load(content)


@pytest.mark.parametrize("state", [{"_name": "dtype"}, (None, {"_name": "dtype"})])
def test_a_pickle_cannot_change_the_functions_it_may_call(load, state):
    name = b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93"
    content = name + pickle.dumps(state, 4)[2:-1].replace(b"\x94", b"") + b"b."
    with pytest.raises(ValueError, match=r"file\.pkl"):
        load(content)
    np.testing.assert_array_equal(load(pickle.dumps(np.arange(3))), np.arange(3))


@given(st.floats(0, 0.999))
def test_a_pickle_that_is_cut_short_says_so(tmp_path_factory, share):
    content = pickle.dumps({"split": {}, "annotations": [{"keypoint": np.zeros((2, 3, 4))}]})
    path = tmp_path_factory.mktemp("cut") / "file.pkl"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"file\.pkl .* cut short or damaged"):
        load_pickle(path)


@given(st.binary(max_size=200))
def test_noise_never_gives_anything_but_data_or_a_value_error(tmp_path_factory, noise):
    path = tmp_path_factory.mktemp("noise") / "file.pkl"
    path.write_bytes(b"\x80\x04" + noise)
    try:
        loaded = load_pickle(path)
    except ValueError:
        return
    assert isinstance(loaded, (type(None), bool, int, float, str, bytes, list, tuple, dict))


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_pickle(tmp_path / "none.pkl")
