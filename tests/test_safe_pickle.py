"""What a pickle may hold, and that nothing else gets through.

Each attack is first shown to work on Python's own unpickler (where it is one that runs), so that
its refusal means something.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msg3d_lab.data.formats import pickle_machine
from msg3d_lab.safe_pickle import StoredArray, index_pickle, load_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
LARGE = np.random.default_rng(0).integers(0, 256, (7, 11, 13), dtype=np.uint8)


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
        LARGE,
        np.asfortranarray(LARGE),
        np.arange(1000, dtype=">i4").reshape(10, 100),
        np.array(["S001C001P001R001A001"] * 9),
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
    long = {"text": "äß" * 500, "bytes": bytes(range(256)) * 9, "x" * 255: [2**63 + 1, -1e300]}
    assert load(pickle.dumps(long, protocol)) == long
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
        forge("msg3d_lab.safe_pickle", "_CALLS"),
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


# Memory


def peak_of(code, *arguments):
    """Anonymous memory that a call takes at most beyond what was there before, in MB, and its end.

    Anonymous: the pages of a mapped file are the system's to drop.
    """
    program = f"""
import sys, threading, time
from msg3d_lab.safe_pickle import index_pickle, load_pickle

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

def watch():
    while True:
        peaks.append(anonymous())
        time.sleep(0.002)

peaks, before = [], anonymous()
threading.Thread(target=watch, daemon=True).start()
try:
    {code}
except ValueError as error:
    print(str(error)[:300])
print(max([*peaks, anonymous()]) - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    *said, peak = done.stdout.splitlines()
    return float(peak), " ".join(said)


linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="until /proc is there")


@linux
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_arrays_are_not_held_in_memory(tmp_path, protocol):
    path = tmp_path / "large.pkl"
    array = np.arange(2_000_000 if protocol == 4 else 500_000, dtype=np.float32)
    with path.open("wb") as file:
        pickler = pickle.Pickler(file, protocol)
        pickler.dump({"annotations": [{"keypoint": array + i} for i in range(25)]})
    assert path.stat().st_size > (200e6 if protocol == 4 else 50e6)
    peak, _ = peak_of("found = index_pickle(sys.argv[1])", path)
    assert peak < 10
    if protocol > 2:
        peak, _ = peak_of("found = load_pickle(sys.argv[1])", path)
        assert peak < 10
    last = index_pickle(path)["annotations"][-1]["keypoint"]
    assert isinstance(last, StoredArray)
    np.testing.assert_array_equal(last.read(path), array + 24)


def test_views_of_the_file_outlive_the_call_and_are_read_only(load):
    array = load(pickle.dumps(LARGE, 4))
    np.testing.assert_array_equal(array, LARGE)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0, 0] = 1


def test_a_stored_array_pickles_small_and_reads_itself(tmp_path):
    path = tmp_path / "file.pkl"
    array = np.asfortranarray(np.arange(30_000.0).reshape(100, 300))
    for protocol in PROTOCOLS:
        path.write_bytes(pickle.dumps([array], protocol))
        (stored,) = index_pickle(path)
        assert (stored.shape, stored.nbytes) == ((100, 300), 240_000)
        assert len(pickle.dumps(stored)) < 600
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(stored)).read(path), array)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="needs 240000 bytes, found"):
        stored.read(path)


def test_bytes_written_as_text_are_counted_when_they_are_read(tmp_path):
    """As text they may have any length between one and two bytes each."""
    path = tmp_path / "file.pkl"
    content = pickle.dumps(np.full(1000, 200, dtype=np.uint8), 2)
    assert content.count(b"M\xe8\x03\x85") == 1  # the shape, (1000,)
    path.write_bytes(content.replace(b"M\xe8\x03\x85", b"M\xe9\x03\x85"))
    with pytest.raises(ValueError, match="needs 1001 bytes, found 1000"):
        index_pickle(path).read(path)
    with pytest.raises(ValueError, match="needs 1001 bytes, found 1000"):
        load_pickle(path)
    path.write_bytes(content.replace(b"M\xe8\x03\x85", b"M\xe8\x13\x85"))
    with pytest.raises(ValueError, match="fills an array of shape"):
        index_pickle(path)


# Pickles that are made to exhaust the reader

DEEP = 300_000
PAIRS = b"\x8c\x01x" + b"2\x86" * 200  # (t, t) of (t, t) of ...: short to write, 2**200 leaves
BOMBS = {
    "bytes that claim 2**62 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "bytes that claim 2**63 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**63) + b"x.",
    "bytes that claim 4 GB": b"\x80\x04B" + struct.pack("<I", 2**32 - 1) + b"x.",
    "an array of bytes that claims 2**40": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "text that claims 2**50 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**50) + b"x.",
    "a string that claims 2 GB": b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b"x.",
    "a string of negative length": b"\x80\x02T" + struct.pack("<i", -5) + b"x.",
    "a frame that claims 2**60 bytes": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"\x8e.",
    "a number of 2 GB": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
    "a number of a million bytes": b"\x80\x02\x8b" + struct.pack("<i", 10**6) + b"x" * 10**6 + b".",
    "a number of a million digits": b"I" + b"9" * 10**6 + b"\n.",
    "a real number of a million digits": b"F" + b"9" * 10**6 + b"\n.",
    "a memo number of a million digits": b"Np" + b"9" * 10**6 + b"\n.",
    "a name of a million letters": b"c" + b"a" * 10**6 + b"\nb\n.",
    "nested tuples": b"\x80\x02)" + b"\x85" * DEEP + b".",
    "nested tuples as a key": b"\x80\x02})" + b"\x85" * DEEP + b"Ns.",
    "nested tuples as a key of a later dict": b"\x80\x02()" + b"\x85" * DEEP + b"Nd.",
    "nested lists": b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "nested dicts": b"\x80\x02" + b"}N" * DEEP + b"}" + b"s" * DEEP + b".",
    "marks": b"\x80\x02" + b"(" * DEEP + b".",
    "exponential tuple as a key": b"\x80\x02}" + PAIRS + b"Ns.",
    "exponential tuple in a set": b"\x80\x04\x8f(" + PAIRS + b"\x90.",
    "exponential tuple in a frozenset": b"\x80\x04(" + PAIRS + b"\x91.",
    "exponential tuple as a shape": b"\x80\x02cnumpy\ndtype\n" + PAIRS + b"\x85R.",
    "exponential tuple as a state": b"\x80\x02cnumpy\ndtype\nX\x02\0\0\0f8\x85R" + PAIRS + b"b.",
    "exponential tuple as a name": b"\x80\x04" + PAIRS + PAIRS + b"\x93.",
    "a memo number of 4 billion": b"\x80\x02Nr\xff\xff\xff\xff0j\xfe\xff\xff\xff.",
    "an enormous key": b"\x80\x02}\x8a\x09" + b"\x7f" * 9 + b"Ns.",
    "a long key": b"\x80\x02}X" + struct.pack("<I", 300) + b"x" * 300 + b"Ns.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent object": b"\x80\x02X\x01\0\0\0xQ.",
    "an old persistent object": b"Pobject\n.",
    "a buffer": b"\x80\x05\x97.",
    "an object of a class": b"\x80\x02cnumpy\ndtype\n)\x81.",
    "an object of a class, the old way": b"(cnumpy\ndtype\no.",
    "the state of a list": b"\x80\x02]}b.",
    "items of an array": b"\x80\x02cnumpy\nndarray\nNNs.",
    "more items of text": b"\x80\x02X\x01\0\0\0x(NNe.",
    "a protocol of the future": b"\x80\x09\xff.",
    "nothing": b"",
    "a mark that is not there": b"\x80\x021.",
    "a stack that is empty": b"\x80\x02.",
    "a tuple that lacks items": b"\x80\x02N\x87.",
    "a dict that lacks a value": b"\x80\x02(Nd.",
}


@pytest.mark.parametrize("bomb", list(BOMBS))
def test_a_pickle_made_to_exhaust_the_reader_is_refused(load, bomb):
    with pytest.raises(
        ValueError, match=r"file\.pkl (was refused|is not a readable pickle)"
    ) as error:
        load(BOMBS[bomb])
    assert len(str(error.value)) < 600


def test_a_list_in_itself_comes_through(load):
    found = load(b"\x80\x02]q\x00h\x00a.")
    assert found[0] is found


def test_a_shape_of_enormous_numbers_is_not_multiplied(load):
    number = b"\x8a\xff" + b"\x7f" * 255
    shape = b"(" + number + b"2" * 100_000 + b"t"
    content = reconstruct("f8", b"12345678", shape=(1, 1))
    at = content.index(b"K\x01K\x01\x86")
    with pytest.raises(ValueError, match="an impossible shape"):
        load(content[:at] + shape + content[at + 5 :])


@linux
def test_small_objects_are_bounded_by_the_number_of_steps(tmp_path):
    path = tmp_path / "steps.pkl"
    path.write_bytes(b"\x80\x02" + b"}0" * 500 + b"}" * 2_000_000 + b".")
    code = "from msg3d_lab.data import pickle_machine as m; m._MOST_STEPS = 100_000; " + (
        "load_pickle(sys.argv[1])"
    )
    peak, said = peak_of(code, path)
    assert "takes more than 100000 steps" in said
    assert peak < 30


def test_what_is_shared_is_made_once(load):
    """A thousand arrays of one text, and a thousand references to one long bytes."""
    text = b"X" + struct.pack("<I", 10**6) + b"\x7f" * 10**6
    found = load(b"\x80\x02](" + text + b"q\x00" + b"h\x00" * 1000 + b"e.")
    assert len(found) == 1001
    assert len({id(one) for one in found}) == 1
    encode = b"c_codecs\nencode\nX\x06\0\0\0latin1q\x010("
    encoded = b"c_codecs\nencode\n(h\x00h\x01tR"
    for long in (text, b"V" + b"\x7f" * 10**6 + b"\n"):
        found = load(encode + b"1" + b"](" + long + b"q\x00" + encoded * 1000 + b"e.")
        assert len({id(one) for one in found[1:]}) == 1


@given(st.data())
def test_one_wrong_byte_never_gives_anything_but_data_or_a_value_error(tmp_path_factory, data):
    document = {
        "split": {"a": ["x", "y"]},
        "annotations": [{"label": np.int64(3), "keypoint": np.zeros((2, 3, 50), np.float16)}],
    }
    content = bytearray(pickle.dumps(document, data.draw(st.sampled_from([2, 4, 5]))))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("byte") / "file.pkl"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        load_pickle(path)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(-9, 9), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(plain, st.sampled_from(PROTOCOLS))
@example(["\ud800", b"", "", [[]], ({},)], 3)
def test_whatever_is_plain_comes_through_as_from_pickle(tmp_path_factory, value, protocol):
    path = tmp_path_factory.mktemp("plain") / "file.pkl"
    for content in (pickle.dumps(value, protocol), slow_dumps(value, protocol)):
        path.write_bytes(content)
        assert load_pickle(path) == pickle.loads(content)
        assert repr(load_pickle(path)) == repr(value)


def slow_dumps(value, protocol):
    """By Python's other pickler, which writes some things in another way."""
    file = io.BytesIO()
    pickle._Pickler(file, protocol).dump(value)
    return file.getvalue()


def test_every_opcode_is_read_or_refused():
    known = {bytes([code]) for code, step in enumerate(pickle_machine._STEPS) if step}
    all_codes = {opcode.code.encode("latin1") for opcode in pickletools.opcodes}
    assert known | {pickle.STOP} == all_codes
