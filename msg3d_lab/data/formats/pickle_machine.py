"""The stack machine that reads pickles for `safe_pickle`.

It carries out the opcodes that plain data and arrays need and no other. What may be named, called
and given a state is for its user to say. Its time and memory are bounded by the size of the file
and by `_MOST_STEPS`: long bytes and texts stay in the file, however often they are referred to,
nothing long or of several parts becomes a key of a dict (the hash of nested tuples may take
forever), and numbers are short.

Source: the opcodes as Python's `pickletools` describes them.
"""

from __future__ import annotations

import codecs
import mmap
import pickle
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Machine", "Place", "RefusedError"]

_SHORT = 255  # bytes and texts up to here are read at once
_LONGEST_LINE = 1000  # characters of a name or number; to convert one takes quadratic time
# NTU120 in 2D takes 10 million; 40 million of the costliest steps fill some 3 GB.
_MOST_STEPS = 40_000_000


class RefusedError(Exception):
    """The pickle asks for something that plain data does not need."""


class Place(NamedTuple):
    """Long bytes or a long text that lie in the file.

    Args:
        start: where.
        length: bytes there.
        coding: of a text; None for bytes that are there as they are.
        latin1: whether the text stands for bytes, one by each letter (protocol 2 and below).
    """

    start: int
    length: int
    coding: str | None = None
    latin1: bool = False

    @property
    def is_text(self) -> bool:
        """Whether it is a text rather than bytes."""
        return self.coding is not None and not self.latin1

    @property
    def least(self) -> int:
        """The fewest bytes it can be: how many they are is known when they are read."""
        return -(-self.length // {"utf-8": 2, "raw-unicode-escape": 6}.get(self.coding or "", 1))

    def content(self, data: Any) -> Any:
        """Return the bytes or text, given the whole file."""
        return self.decode(data[self.start : self.start + self.length])

    def decode(self, raw: bytes) -> Any:
        """Return the bytes or text, given what lies there."""
        if self.coding is None:
            return raw
        text = raw.decode(self.coding, "surrogatepass" if self.coding == "utf-8" else "strict")
        return text.encode("latin1") if self.latin1 else text


class Machine:
    """Reads one pickle.

    Args:
        data: the file.
        find: answers a module and a name.
        call: answers the call of something that `find` answered with a tuple of arguments.
        build: sets the state of something that `call` answered.
        point: answers what the pickle says lies outside it; that is refused if left out.
        start: where the pickle begins; several may follow each other.
        most_steps: after how many to give up.
    """

    def __init__(
        self,
        data: mmap.mmap | bytes,
        *,
        find: Callable[[str, str], Any],
        call: Callable[[Any, Any], Any],
        build: Callable[[Any, Any], None],
        point: Callable[[Any], Any] | None = None,
        start: int = 0,
        most_steps: int | None = None,
    ) -> None:
        self._data, self._at, self._most_steps = data, start, most_steps or _MOST_STEPS
        self._find, self._call, self._build = find, call, build
        self._point = point or self._refuse
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under the marks
        self._memo: dict[int, Any] = {}

    @property
    def end(self) -> int:
        """Where the pickle ends, after it was run."""
        return self._at

    def run(self) -> Any:
        """Return what the pickle holds.

        Raises:
            RefusedError: it asks for something else than data.
            Exception: of any kind, if it is damaged.
        """
        data, stop = self._data, pickle.STOP[0]
        for _ in range(self._most_steps):
            code = data[self._at]
            self._at += 1
            if code == stop:
                return self._stack.pop()
            step = _STEPS[code]
            if step is None:
                raise ValueError(f"byte {self._at - 1} is no opcode")
            step(self)
        raise RefusedError(f"the pickle takes more than {self._most_steps} steps")

    # What the steps are made of.

    def _take(self, count: int) -> int:
        """Move on by `count` bytes, all of them inside the file; return where they start."""
        start = self._at
        if not 0 <= count <= len(self._data) - start:
            raise EOFError(f"{count} bytes from {start} on are outside the file")
        self._at = start + count
        return start

    def _number(self, width: int, *, signed: bool = False) -> int:
        start = self._take(width)
        return int.from_bytes(self._data[start : self._at], "little", signed=signed)

    def _line(self, longest: int = _LONGEST_LINE) -> tuple[int, int]:
        """Move on beyond the end of a line; return where it starts and how long it is."""
        start = self._at
        end = self._data.find(b"\n", start, start + longest)
        if end < 0:
            raise EOFError(f"a line from {start} on has no end")
        self._at = end + 1
        return start, end - start

    def _word(self) -> bytes:
        start, length = self._line()
        return self._data[start : start + length]

    def _pop_mark(self) -> list[Any]:
        """Return what has been pushed since the last mark."""
        items, self._stack = self._stack, self._below.pop()
        return items

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise RefusedError("the pickle changes something else than a list or dict")
        return self._stack[-1]

    # The steps, as far as they are more than one of these.

    def _text(self, start: int, length: int, coding: str = "utf-8") -> Any:
        place = Place(start, length, coding)
        return place.content(self._data) if length <= _SHORT else place

    def _bytes(self, start: int, length: int) -> Any:
        return self._data[start : self._at] if length <= _SHORT else Place(start, length)

    def _long(self, start: int, length: int) -> int:
        if length > _LONGEST_LINE:
            raise RefusedError(f"the pickle holds a number of {length} bytes")
        return int.from_bytes(self._data[start : self._at], "little", signed=True)

    def _quoted(self) -> str:
        line = self._word().strip()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            raise ValueError("a string without its quotes")
        return codecs.escape_decode(line[1:-1])[0].decode("ascii")

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise ValueError("a tuple without its items")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _append(self, items: list[Any]) -> None:
        self._top(list).extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def _new_dict(self) -> None:
        items = self._pop_mark()
        self._stack.append({})
        self._set_items(items)

    def _named(self) -> Any:
        module, name = self._word().decode(), self._word().decode()
        return self._find(module, name)

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise RefusedError("the pickle asks for something without a name")
        self._stack.append(self._find(module, name))

    def _instance(self) -> None:
        self._named()
        self._refuse()

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self._call(function, arguments))

    def _set_state(self) -> None:
        state = self._stack.pop()
        self._build(self._stack[-1], state)

    def _memoize(self, key: int) -> None:
        self._memo[key] = self._stack[-1]

    def _refuse(self, *_: Any) -> None:
        raise RefusedError("the pickle asks for an object that is not plain data")


def _key(key: Any) -> Any:
    """Check a key of a dict: short, of one part, and of few that share a hash."""
    if type(key) is int and not -(1 << 63) <= key < 1 << 63:
        raise RefusedError("the pickle has an enormous number as a key of a dict")
    if key is not None and type(key) not in (str, bytes, bool, int, float):
        raise RefusedError("the pickle has a key of a dict that is no short text or number")
    return key


def _int(line: bytes) -> int | bool:
    return line == b"01" if line in (b"00", b"01") else int(line)


_Step = Callable[[Machine], object]


def _push(value: Callable[[Machine], Any]) -> _Step:
    def step(m: Machine) -> None:
        pushed = value(m)  # first: it may return to the stack below
        m._stack.append(pushed)

    return step


def _sized(width: int, kind: Callable[[Machine, int, int], Any]) -> _Step:
    """Push what follows its own length of `width` bytes."""

    def step(m: Machine) -> None:
        length = m._number(width)
        m._stack.append(kind(m, m._take(length), length))

    return step


_TABLE: dict[bytes, _Step] = {
    pickle.PROTO: lambda m: m._take(1),
    pickle.FRAME: lambda m: m._take(8),  # how far to read ahead: nothing that binds
    pickle.NONE: _push(lambda m: None),
    pickle.NEWTRUE: _push(lambda m: True),
    pickle.NEWFALSE: _push(lambda m: False),
    pickle.INT: _push(lambda m: _int(m._word())),
    pickle.BININT: _push(lambda m: m._number(4, signed=True)),
    pickle.BININT1: _push(lambda m: m._number(1)),
    pickle.BININT2: _push(lambda m: m._number(2)),
    pickle.LONG: _push(lambda m: int(m._word().rstrip(b"L"))),
    pickle.LONG1: _sized(1, Machine._long),
    pickle.LONG4: _sized(4, Machine._long),
    pickle.FLOAT: _push(lambda m: float(m._word())),
    pickle.BINFLOAT: _push(lambda m: struct.unpack_from(">d", m._data, m._take(8))[0]),
    pickle.STRING: _push(Machine._quoted),
    pickle.UNICODE: _push(lambda m: m._text(*m._line(len(m._data)), coding="raw-unicode-escape")),
    **{
        code: _sized(width, Machine._text)
        for code, width in (
            (pickle.SHORT_BINSTRING, 1),
            (pickle.BINSTRING, 4),
            (pickle.SHORT_BINUNICODE, 1),
            (pickle.BINUNICODE, 4),
            (pickle.BINUNICODE8, 8),
        )
    },
    **{
        code: _sized(width, Machine._bytes)
        for code, width in (
            (pickle.SHORT_BINBYTES, 1),
            (pickle.BINBYTES, 4),
            (pickle.BINBYTES8, 8),
            (pickle.BYTEARRAY8, 8),
        )
    },
    pickle.EMPTY_TUPLE: _push(lambda m: ()),
    pickle.TUPLE: _push(lambda m: tuple(m._pop_mark())),
    pickle.TUPLE1: lambda m: m._tuple(1),
    pickle.TUPLE2: lambda m: m._tuple(2),
    pickle.TUPLE3: lambda m: m._tuple(3),
    pickle.EMPTY_LIST: _push(lambda m: []),
    pickle.LIST: _push(Machine._pop_mark),
    pickle.APPEND: lambda m: m._append([m._stack.pop()]),
    pickle.APPENDS: lambda m: m._append(m._pop_mark()),
    pickle.EMPTY_DICT: _push(lambda m: {}),
    pickle.DICT: Machine._new_dict,
    pickle.SETITEM: lambda m: m._set_items([m._stack.pop(), m._stack.pop()][::-1]),
    pickle.SETITEMS: lambda m: m._set_items(m._pop_mark()),
    pickle.MARK: Machine._mark,
    pickle.POP: Machine._pop,
    pickle.POP_MARK: Machine._pop_mark,
    pickle.DUP: _push(lambda m: m._stack[-1]),
    pickle.PUT: lambda m: m._memoize(int(m._word())),
    pickle.BINPUT: lambda m: m._memoize(m._number(1)),
    pickle.LONG_BINPUT: lambda m: m._memoize(m._number(4)),
    pickle.MEMOIZE: lambda m: m._memoize(len(m._memo)),
    pickle.GET: _push(lambda m: m._memo[int(m._word())]),
    pickle.BINGET: _push(lambda m: m._memo[m._number(1)]),
    pickle.LONG_BINGET: _push(lambda m: m._memo[m._number(4)]),
    pickle.GLOBAL: _push(Machine._named),
    pickle.INST: Machine._instance,
    pickle.STACK_GLOBAL: Machine._stack_global,
    pickle.REDUCE: Machine._reduce,
    pickle.BUILD: Machine._set_state,
    pickle.BINPERSID: _push(lambda m: m._point(m._stack.pop())),
    **dict.fromkeys(
        (
            *(pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4),
            *(pickle.PERSID, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
            *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),
        ),
        Machine._refuse,
    ),
}
_STEPS = [_TABLE.get(bytes([code])) for code in range(256)]
