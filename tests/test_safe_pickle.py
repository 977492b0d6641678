"""What pickles and PyTorch files may hold, and that nothing else gets through.

Each attack is first shown to work on Python's own unpickler (where it is one that runs), so that
its refusal means something.
"""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from msg3d_lab.safe_pickle import load_pickle, load_torch

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
LARGE = np.random.default_rng(0).integers(0, 256, (7, 11, 13), dtype=np.uint8)


@pytest.fixture
def load(tmp_path):
    def _load(content, **options):
        path = tmp_path / "file.pkl"
        path.write_bytes(content)
        return load_pickle(path, **options)

    return _load


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("folder")


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

    plain = b"".join(pickle.dumps(a, 3)[2:-1] for a in args)
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
        assert not found.flags.writeable
        np.testing.assert_array_equal(found, array)
    assert loaded["a"][0] is loaded["a"][1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_and_numbers_come_through(load, protocol):
    data = {"split": {"a": ["x", "y"]}, "n": (1, 2.5, None, True), "b": b"\x00\xff"}
    assert load(pickle.dumps(data, protocol)) == data
    long = {"text": "äß" * 500, "bytes": bytes(range(256)) * 9, "x" * 255: [2**63 + 1, -1e300]}
    assert load(pickle.dumps(long, protocol)) == long
    numbers = load(pickle.dumps([np.int64(3), np.float32(0.5), np.str_("S001")], protocol))
    assert numbers == [3, 0.5, "S001"]
    assert [type(n) for n in numbers] == [int, float, str]
    ordered = load(pickle.dumps(collections.OrderedDict(b=1, a=[2]), protocol))
    assert (type(ordered), list(ordered.items())) == (dict, [("b", 1), ("a", [2])])


def test_arrays_of_numpy_before_2_come_through(load):
    new = pickle.dumps([np.arange(4), np.float64(2)], 2)
    old = new.replace(b"numpy._core.", b"numpy.core.")
    assert old != new
    a, b = load(old)
    np.testing.assert_array_equal(a, np.arange(4))
    assert b == 2


def test_arrays_and_bytes_of_python_2_come_through(load):
    """As Python 2.7 with NumPy 1.16 writes an array, a number and bytes."""
    dtype = b"cnumpy\ndtype\n(S'%s'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nt"
        + dtype % b"f4"
        + b"I00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00@'\ntb"
    )
    scalar = b"cnumpy.core.multiarray\nscalar\n(" + dtype % b"f8"
    scalar += b"S'\\x00\\x00\\x00\\x00\\x00\\x00\\x00@'\ntR"
    found = load(b"(dS'S001'\n" + array + b"sS'n'\n" + scalar + b"sS'b'\nU\x02\xff\x00s.")
    np.testing.assert_array_equal(found["S001"], np.array([1, 2], "f4"))
    assert (found["n"], found["b"]) == (2.0, "\xff\x00")


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
        "OBJ opcode": b"(cos\nsystem\nS'" + command.encode() + b"'\no.",
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
    parts = Call(make, np.ndarray, (0,), b"b", state=(1, shape, kind, False, data))
    return pickle.dumps(parts, 3)  # without frames, so that a test can change its length


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
        reconstruct("f8", "1234567\xff\xff"),
        reconstruct("f8", b"12345678", state_of_dtype=(3, "<", (np.dtype("O"), (1,)), None, None)),
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
        forge("msg3d_lab.safe_pickle", "_NUMPY"),
        forge("builtins", "bytes", 10**12),
        forge("torch.storage", "_load_from_bytes", b""),
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


def test_a_pickle_cannot_change_an_array_that_is_made(load):
    """`numpy.ndarray.__setstate__` and item assignment are out of reach."""
    made = pickle.dumps(np.arange(3), 5)[:-1]
    state = pickle.dumps((1, (10**6,), np.dtype("f8"), False, b"x"), 5)[2:-1]
    for content in (made + state + b"b.", made + b"K\x00K\x01s."):
        with pytest.raises(ValueError, match=r"file\.pkl"):
            load(content)


@settings(max_examples=25)
@given(st.floats(0, 0.999))
def test_a_pickle_that_is_cut_short_says_so(folder, share):
    content = pickle.dumps({"split": {}, "annotations": [{"keypoint": np.zeros((2, 3, 4))}]})
    path = folder / "file.pkl"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"file\.pkl .* cut short or damaged"):
        load_pickle(path)


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_noise_never_gives_anything_but_data_or_a_value_error(folder, noise):
    path = folder / "file.pkl"
    path.write_bytes(b"\x80\x04" + noise)
    try:
        loaded = load_pickle(path)
    except ValueError:
        return
    assert isinstance(loaded, (type(None), bool, int, float, str, bytes, list, tuple, dict))


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_pickle(tmp_path / "none.pkl")


def test_arrays_are_in_memory_once(tmp_path):
    """Bytes of protocol 2, which are written as text, twice while they are read."""
    array = np.random.default_rng(0).integers(0, 128, 500_000, dtype=np.uint8)
    for protocol, most in ((4, 1.1), (2, 2.2)):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps([array ^ (i % 128) for i in range(50)], protocol))
        tracemalloc.start()
        found = load_pickle(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(found[49], array ^ 49)
        assert peak < most * 25e6


def test_a_list_in_itself_comes_through(load):
    found = load(b"\x80\x02]q\x00h\x00a.")
    assert found[0] is found


def test_what_is_shared_is_made_once(load):
    text = b"X" + struct.pack("<I", 10**6) + b"\x7f" * 10**6
    found = load(b"\x80\x02](" + text + b"q\x00" + b"h\x00" * 1000 + b"e.")
    assert len(found) == 1001
    assert len({id(one) for one in found}) == 1


@pytest.mark.parametrize("size", [12, 10**8, 2**63])
def test_a_bytearray_longer_than_the_file_is_refused_before_memory_is_taken(load, size):
    content = b"\x80\x05\x96" + struct.pack("<Q", size) + b"x" * 3 + b"."
    tracemalloc.start()
    with pytest.raises(ValueError, match="cut short or damaged"):
        load(content)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@settings(max_examples=40)
@given(st.data())
def test_one_wrong_byte_never_gives_anything_but_data_or_a_value_error(folder, data):
    document = {
        "split": {"a": ["x", "y"]},
        "annotations": [{"label": np.int64(3), "keypoint": np.zeros((2, 3, 50), np.float16)}],
    }
    content = bytearray(pickle.dumps(document, data.draw(st.sampled_from([2, 4, 5]))))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    path = folder / "file.pkl"
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


@settings(max_examples=40)
@given(plain, st.sampled_from(PROTOCOLS))
@example(["\ud800", b"", "", [[]], ({},)], 3)
def test_whatever_is_plain_comes_through_as_from_pickle(folder, value, protocol):
    path = folder / "file.pkl"
    for content in (pickle.dumps(value, protocol), slow_dumps(value, protocol)):
        path.write_bytes(content)
        assert load_pickle(path) == pickle.loads(content)
        assert repr(load_pickle(path)) == repr(value)


def slow_dumps(value, protocol):
    """By Python's other pickler, which writes some things in another way."""
    file = io.BytesIO()
    pickle._Pickler(file, protocol).dump(value)
    return file.getvalue()


# Torch's tensors inside pickles, and PyTorch files

BATCH = torch.arange(12, dtype=torch.float32).view(4, 3)


def saved(storage_type="FloatStorage", count=3, *, numbers=b"", **changes):
    """A storage as torch saves it, with something else in the place of one of its parts."""
    key = changes.get("key", "77")
    kind = changes.get("kind", b"ctorch\n" + storage_type.encode() + b"\n")
    view = changes.get("view", b"N")

    def text(word):
        return b"X" + struct.pack("<I", len(word)) + word.encode()

    def whole(number):
        return pickle.dumps(number, 2)[2:-1]

    point = b"(" + text("storage") + kind + text(key) + text("cpu") + whole(count) + view + b"tQ"
    facts = {"little_endian": changes.get("little_endian", True)}
    parts = [
        pickle.dumps(changes.get("magic", 0x1950A86A20F9469CFC6C), 2),
        pickle.dumps(1001, 2),
        pickle.dumps(facts, 2),
        b"\x80\x02" + changes.get("point", point) + b".",
        pickle.dumps([changes.get("listed", key)], 2),
        struct.pack("<q", changes.get("length", count)),
        numbers,
    ]
    return b"".join(parts)


def tensor(content, offset=0, shape=(3,), strides=(1,)):
    """A pickle of one tensor in a storage."""
    storage = Call(torch.storage._load_from_bytes, content)
    words = (storage, offset, shape, strides, False, collections.OrderedDict())
    return pickle.dumps(Call(torch._utils._rebuild_tensor_v2, *words), 2)


ABC = np.array([1, 2, 3], "<f4").tobytes()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        BATCH,
        BATCH[2],  # a row of a batch takes the whole batch along
        BATCH.t(),
        BATCH[:, ::2],
        BATCH.double(),
        BATCH.half(),
        torch.tensor([7]),
        torch.tensor(7),
        torch.tensor([[1, 2]], dtype=torch.int32),
        torch.tensor([1, 2], dtype=torch.int16),
        torch.tensor([1, 2], dtype=torch.int8),
        torch.tensor([1, 2], dtype=torch.uint8),
        torch.tensor([True, False]),
        torch.zeros(0, 3),
        torch.ones(1).expand(4),
        torch.ones(3, requires_grad=True).detach(),
        torch.randn(300, generator=torch.Generator().manual_seed(0)),
    ],
    ids=lambda value: f"{value.dtype}{tuple(value.shape)}",
)
def test_load_pickle_gives_tensors_as_arrays(load, protocol, value):
    found = load(pickle.dumps({"a": [value, value], "b": value}, protocol), tensors=True)
    for array in (*found["a"], found["b"]):
        assert array.dtype == value.numpy().dtype
        np.testing.assert_array_equal(array, value.numpy())


def test_load_pickle_reads_a_storage_that_tensors_share_once(load):
    rows = load(pickle.dumps(list(torch.eye(50)), 2), tensors=True)
    np.testing.assert_array_equal(np.stack(rows), np.eye(50))


def test_load_pickle_takes_tensors_only_when_told(load):
    with pytest.raises(ValueError, match=r"refused: the pickle asks for torch._utils._rebuild"):
        load(pickle.dumps({"a": BATCH}, 2))


def test_the_forged_storage_is_what_torch_takes_for_one(load):
    """What the attacks below are made of is right as it stands."""
    assert pickle.loads(tensor(saved(numbers=ABC))).tolist() == [1, 2, 3]
    assert load(tensor(saved(numbers=ABC)), tensors=True).tolist() == [1, 2, 3]


DAMAGED = "is not a readable pickle"
OTHER = "was refused: the pickle holds a tensor in another format"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tensor(saved(numbers=ABC), shape=(4,)), DAMAGED),
        (tensor(saved(numbers=ABC), offset=1), DAMAGED),
        (tensor(saved(numbers=ABC), shape=(2,), strides=(3,)), DAMAGED),
        (tensor(saved(numbers=ABC), shape=(2,), strides=(-1,)), DAMAGED),
        (tensor(saved(numbers=ABC), shape=(2, 2), strides=(1,)), DAMAGED),
        (tensor(saved(numbers=ABC), offset=-3), DAMAGED),
        (tensor(saved(numbers=ABC), shape=(2**50,), strides=(0,)), OTHER),
        (tensor(saved(numbers=ABC), shape=[3]), OTHER),
        (tensor(saved(numbers=ABC[:-1])), DAMAGED),
        (tensor(saved(numbers=ABC, length=2)), DAMAGED),
        (tensor(saved(numbers=ABC, length=-1)), DAMAGED),
        (tensor(saved(numbers=ABC, count=2**62)), DAMAGED),
        (tensor(saved(numbers=ABC, listed="78")), DAMAGED),
        (tensor(saved(numbers=ABC, magic=7)), DAMAGED),
        (tensor(saved(numbers=ABC, view=b"(tt")), f"refused|{DAMAGED}"),
        (tensor(saved(numbers=ABC, kind=b"cos\nsystem\n")), "refused: .* os.system"),
        (tensor(saved(numbers=ABC, kind=b"ctorch\nQInt8Storage\n")), "a tensor of torch.qint8"),
        (tensor(saved(numbers=ABC, point=b"cos\nsystem\n(U\x02lstR")), "refused: .* os.system"),
        (tensor(saved(numbers=ABC, point=b"ctorch\nFloatStorage\n(tR")), f"refused|{DAMAGED}"),
        (tensor(saved(numbers=ABC, point=b"K\x01Q")), DAMAGED),
        (tensor(saved(numbers=ABC)[:60]), DAMAGED),
        (tensor(b""), DAMAGED),
        (pickle.dumps(Call(torch.storage._load_from_bytes, ABC), 4), f"refused|{DAMAGED}"),
        (pickle.dumps(Call(torch.storage._load_from_bytes, "text"), 4), DAMAGED),
        (pickle.dumps(Call(torch._utils._rebuild_tensor_v2, 1, 0, (1,), (1,)), 4), OTHER),
        (pickle.dumps(BATCH.bfloat16(), 2), "a tensor of torch.bfloat16"),
        (pickle.dumps(torch.nn.Parameter(BATCH), 2), "asks for torch._utils._rebuild_parameter"),
        (pickle.dumps(BATCH.to_sparse(), 2), "asks for torch._utils._rebuild_sparse_tensor"),
        (pickle.dumps([Call(os.system, "true"), BATCH], 2), r"asks for \w+.system"),
        (pickle.dumps([torch.float32], 2), "asks for torch.float32"),
    ],
)
def test_load_pickle_refuses_tensors_that_torch_does_not_write(load, content, message):
    with pytest.raises(ValueError, match=message) as error:
        load(content, tensors=True)
    assert len(str(error.value)) < 600


def test_a_file_hidden_in_a_tensor_runs_nothing(load, tmp_path):
    """Torch's own function reads it with a full unpickler."""
    for new_format in (True, False):
        hidden = io.BytesIO()
        torch.save(
            Call(os.mkdir, str(tmp_path / "ran")),
            hidden,
            _use_new_zipfile_serialization=new_format,
        )
        content = pickle.dumps(Call(torch.storage._load_from_bytes, hidden.getvalue()), 2)
        pickle.loads(content)
        (tmp_path / "ran").rmdir()
        with pytest.raises(ValueError, match=r"file\.pkl was refused: it holds more than tensors"):
            load(content, tensors=True)
        assert not (tmp_path / "ran").exists()


@settings(max_examples=40)
@given(st.data())
def test_damaged_tensors_give_a_value_error_or_an_array(folder, data):
    content = bytearray(pickle.dumps({"a": BATCH, "b": [BATCH[1].double()]}, 2))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "file.pkl"
    path.write_bytes(bytes(content))
    with contextlib.suppress(ValueError):
        load_pickle(path, tensors=True)


@pytest.mark.parametrize("attack", ["O", "V8"])
def test_load_torch_builds_no_arrays_of_made_up_types(tmp_path, attack):
    """NumPy's own functions, which torch offers to allow, would take any state for a dtype."""
    content = {"weight": torch.ones(1), "log": Forged(attack)}
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(ValueError, match="the file was refused: the pickle asks for an array of"):
        load_torch(tmp_path / "file.pth")


class Forged:
    """Pickles as an array of a dtype that does not exist."""

    def __init__(self, code):
        self.code = code

    def __reduce__(self):
        dtype = Call(np.dtype, self.code, False, True, state=RECORD)
        make = np.arange(1).__reduce__()[0]
        return make, (np.ndarray, (0,), b"b"), (1, (1,), dtype, False, b"12345678")
