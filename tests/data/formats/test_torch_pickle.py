"""Torch's tensors inside pickles of plain data: what is written is read, and nothing is run."""

import collections
import contextlib
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msg3d_lab.data.formats import torch_pickle
from msg3d_lab.data.formats.pickle_machine import RefusedError
from msg3d_lab.safe_pickle import load_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
BATCH = torch.arange(12, dtype=torch.float32).view(4, 3)


@pytest.fixture
def load(tmp_path):
    def _load(content, *, tensors=True):
        path = tmp_path / "file.pkl"
        path.write_bytes(content)
        return load_pickle(path, tensors=tensors)

    return _load


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.parts = function, args

    def __reduce__(self):
        return self.parts


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
    found = load(pickle.dumps({"a": [value, value], "b": value}, protocol))
    for array in (*found["a"], found["b"]):
        assert array.dtype == value.numpy().dtype
        np.testing.assert_array_equal(array, value.numpy())


def test_load_pickle_reads_a_storage_that_tensors_share_once(load):
    rows = load(pickle.dumps(list(torch.eye(50)), 2))
    np.testing.assert_array_equal(np.stack(rows), np.eye(50))


def test_load_pickle_takes_tensors_only_when_told(load):
    content = pickle.dumps({"a": BATCH}, 2)
    with pytest.raises(ValueError, match=r"refused: the pickle asks for torch._utils._rebuild"):
        load(content, tensors=False)


def test_the_forged_storage_is_what_torch_takes_for_one():
    """What the attacks below are made of is right as it stands."""
    found = pickle.loads(tensor(saved(numbers=ABC)))
    assert found.tolist() == [1, 2, 3]
    assert torch_pickle.read_storage(saved(numbers=ABC)).dtype == np.float32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tensor(saved(numbers=ABC), shape=(4,)), "not a readable pickle"),
        (tensor(saved(numbers=ABC), offset=1), "not a readable pickle"),
        (tensor(saved(numbers=ABC), shape=(2,), strides=(3,)), "not a readable pickle"),
        (tensor(saved(numbers=ABC), shape=(2,), strides=(-1,)), "calls _rebuild_tensor_v2 in an"),
        (tensor(saved(numbers=ABC), shape=(2, 2), strides=(1,)), "calls _rebuild_tensor_v2 in an"),
        (tensor(saved(numbers=ABC), offset=-3), "calls _rebuild_tensor_v2 in another way"),
        (tensor(saved(numbers=ABC), shape=(2**50,), strides=(0,)), "_rebuild_tensor_v2 in an"),
        (tensor(saved(numbers=ABC[:-1])), "another length than it says"),
        (tensor(saved(numbers=ABC + b"x")), "another length than it says"),
        (tensor(saved(numbers=ABC, length=2)), "another length than it says"),
        (tensor(saved(numbers=ABC, length=-1)), "another length than it says"),
        (tensor(saved(numbers=ABC, count=2**62)), "another length than it says"),
        (tensor(saved(numbers=ABC, listed="78")), "another length than it says"),
        (tensor(saved(numbers=ABC, magic=7)), "another format than torch writes"),
        (tensor(saved(numbers=ABC, little_endian=False)), "another order of bytes"),
        (tensor(saved(numbers=ABC, view=b"(tt")), "refused|not a readable"),
        (tensor(saved(numbers=ABC, kind=b"cos\nsystem\n")), "refused: .* a tensor of os.system"),
        (tensor(saved(numbers=ABC, kind=b"ctorch\nQInt8Storage\n")), "tensor of torch.QInt8Stor"),
        (tensor(saved(numbers=ABC, point=b"cos\nsystem\n(U\x02lstR")), "a tensor of os.system"),
        (tensor(saved(numbers=ABC, point=b"ctorch\nFloatStorage\n(tR")), "not plain data"),
        (tensor(saved(numbers=ABC, point=b"K\x01Q")), "another format than torch writes"),
        (tensor(saved(numbers=ABC)[:60]), "not a readable pickle"),
        (tensor(b""), "refused|not a readable pickle"),
        (tensor(b"\x80\x02" + b"N0" * 990 + b"."), "another format|not a readable|more than"),
        (pickle.dumps(Call(torch.storage._load_from_bytes, ABC), 4), "something else than data"),
        (pickle.dumps(Call(torch.storage._load_from_bytes, "text"), 4), "in another way"),
        (pickle.dumps(Call(torch._utils._rebuild_tensor_v2, 1, 0, (1,), (1,)), 4), "another way"),
        (pickle.dumps(Call(collections.OrderedDict, [(1, 2)]), 4), "calls OrderedDict in another"),
        (pickle.dumps(BATCH.bfloat16(), 2), "a tensor of torch.BFloat16Storage"),
        (pickle.dumps(torch.nn.Parameter(BATCH), 2), "asks for torch._utils._rebuild_parameter"),
        (pickle.dumps(BATCH.to_sparse(), 2), "asks for torch._utils._rebuild_sparse_tensor"),
        (pickle.dumps([Call(os.system, "true"), BATCH], 2), r"asks for \w+.system"),
        (pickle.dumps([torch.float32], 2), "asks for torch.float32"),
    ],
)
def test_load_pickle_refuses_what_torch_does_not_write(load, content, message):
    with pytest.raises(ValueError, match=message):
        load(content)


def test_a_storage_is_looked_at_for_a_bounded_time():
    """Whatever is in the bytes, no more of them are carried out than a real header has."""
    endless = b"\x80\x02" + b"N0" * 5_000_000 + b"."
    with pytest.raises((RefusedError, IndexError)):
        torch_pickle.read_storage(endless)


def test_a_tensor_repeated_without_end_takes_no_memory(load):
    found = load(tensor(saved(numbers=ABC), shape=(2**36,), strides=(0,)))
    assert found.shape == (2**36,)
    assert found[-1] == 1


@settings(max_examples=300)
@given(st.data())
def test_damaged_files_give_a_value_error_or_an_array(tmp_path_factory, data):
    content = bytearray(pickle.dumps({"a": BATCH, "b": [BATCH[1].double()]}, 2))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(bytes(content))
    with contextlib.suppress(ValueError):
        load_pickle(path, tensors=True)
