from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pytest

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.parallel import Chunks
from msg3d_lab.data.store import store_document

DOCUMENT = store_document(
    dataset="test",
    skeleton=skeletons.get("ntu25"),
    label_names=["a", "b"],
    channels=3,
    preparation={"name": "none"},
)


class Recorded(Sequence):
    """Clips that note in a folder how often each was read; every fifth is left out."""

    def __init__(self, folder, numbers, *, dies=None):
        self.folder, self.numbers, self.dies = folder, numbers, dies

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return Recorded(self.folder, self.numbers[i], dies=self.dies)
        number = self.numbers[i]  # IndexError ends iteration
        with (self.folder / f"{number:04d}").open("a") as file:
            file.write("x")
        if number == self.dies:
            os._exit(1)
        if number % 5 == 0:
            return LeftOut(f"c{number}", "a fifth")
        keypoints = np.full((1, 1 + number % 3, 25, 3), number, np.float32)
        return Clip(f"c{number}", keypoints, number % 2, ("all",), subject=number % 4 or None)


@pytest.fixture
def clips(tmp_path):
    (tmp_path / "notes").mkdir()
    return Recorded(tmp_path / "notes", range(1, 30))


def reads(clips):
    return {path.name: len(path.read_text()) for path in clips.folder.iterdir()}


def assert_same(entries, expected):
    """The same clips in the same order, and the same left out."""
    for kind in (Clip, LeftOut):
        one, other = ([e for e in all_ if isinstance(e, kind)] for all_ in (entries, expected))
        assert [e.id for e in one] == [e.id for e in other]
    kept = [e for e in entries if isinstance(e, Clip)]
    for a, b in zip(kept, (e for e in expected if isinstance(e, Clip)), strict=True):
        np.testing.assert_array_equal(a.keypoints, b.keypoints)
        facts = ("label", "splits", "subject", "camera", "setup")
        assert [getattr(a, f) for f in facts] == [getattr(b, f) for f in facts]


def test_chunks_give_back_what_was_read(clips, tmp_path):
    chunks = Chunks(clips, DOCUMENT, out=tmp_path / "s.arrow", workers=1, chunk_size=4)
    assert chunks.num_read == 0
    assert sorted(chunks.read()) == sorted([4] * 7 + [1])
    assert set(reads(clips).values()) == {1}
    assert_same(list(chunks.entries()), list(clips))
    chunks.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_an_id_in_two_chunks_is_left_out_the_second_time(clips, tmp_path):
    clips.numbers = [1, 2, 1]
    chunks = Chunks(clips, DOCUMENT, out=tmp_path / "s.arrow", workers=1, chunk_size=1)
    list(chunks.read())
    first, second, third = chunks.entries()
    assert (first.id, second.id, third) == ("c1", "c2", LeftOut("c1", "occurs twice"))


def test_what_has_been_read_is_not_read_again(clips, tmp_path, capsys):
    def chunks():
        return Chunks(clips, DOCUMENT, out=tmp_path / "s.arrow", workers=1, chunk_size=4)

    first = chunks().read()
    assert [next(first), next(first)] == [4, 4]
    first.close()  # as an exception in the caller would
    assert "What has been read is kept in" in capsys.readouterr().err
    second = chunks()
    assert second.num_read == 8
    assert sum(second.read()) == 21
    assert set(reads(clips).values()) == {1}
    assert_same(list(second.entries()), list(clips))


def test_a_damaged_chunk_is_read_again(clips, tmp_path):
    def chunks():
        return Chunks(clips, DOCUMENT, out=tmp_path / "s.arrow", workers=1, chunk_size=4)

    list(chunks().read())
    parts = sorted(chunks().folder.iterdir())
    parts[1].write_bytes(parts[1].read_bytes()[:-5])
    damaged = bytearray(parts[2].read_bytes())
    damaged[damaged.index(np.full(75, 11, np.float32).tobytes()) + 2] ^= 1
    parts[2].write_bytes(damaged)
    again = chunks()
    assert again.num_read == len(clips) - 8
    list(again.read())
    assert_same(list(again.entries()), list(clips))


def test_another_import_does_not_take_these_chunks(clips, tmp_path):
    list(Chunks(clips, DOCUMENT, out=tmp_path / "s.arrow", workers=1).read())
    other = DOCUMENT | {"preparation": {"name": "other"}}
    assert Chunks(clips, other, out=tmp_path / "s.arrow").num_read == 0
    assert Chunks(clips[:-1], DOCUMENT, out=tmp_path / "s.arrow").num_read == 0
    assert Chunks(clips, DOCUMENT, out=tmp_path / "t.arrow").num_read == 0
    assert Chunks(clips, DOCUMENT, out=tmp_path / "s.arrow", stamp="x").num_read == 0
    assert Chunks(clips, DOCUMENT, out=tmp_path / "s.arrow").num_read == len(clips)


def test_several_processes_read_each_recording_once_although_one_dies(clips, tmp_path):
    clips.dies = 17
    chunks = Chunks(clips, DOCUMENT, out=tmp_path / "s.arrow", workers=2, chunk_size=4)
    with pytest.raises(ChildProcessError, match="a process that reads recordings died"):
        list(chunks.read())
    clips.dies = None
    chunks = Chunks(clips, DOCUMENT, out=tmp_path / "s.arrow", workers=2, chunk_size=4)
    finished = [int(path.stem) for path in chunks.folder.glob("*.arrow")]
    read_before = reads(clips)
    list(chunks.read())
    for number, count in reads(clips).items():
        again = (int(number) - 1) // 4 * 4 not in finished
        assert count == again + read_before.get(number, 0)
    assert_same(list(chunks.entries()), list(clips))
