from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from msg3d_lab import skeletons
from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.formats.parallel import Chunks
from msg3d_lab.data.store import open_store, write_store

FACTS = {
    "dataset": "test",
    "skeleton": skeletons.get("ntu25"),
    "label_names": ["a", "b"],
    "channels": 3,
    "preparation": {"name": "none"},
}


class Recorded(Sequence):
    """Clips that note in a folder how often each was read; every fifth is left out."""

    def __init__(self, folder, numbers, *, seconds=0.0, dies=None):
        self.folder, self.numbers, self.seconds, self.dies = folder, numbers, seconds, dies

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return Recorded(self.folder, self.numbers[i], seconds=self.seconds, dies=self.dies)
        number = self.numbers[i]  # IndexError ends iteration
        with (self.folder / f"{number:04d}").open("a") as file:
            file.write("x")
        time.sleep(self.seconds)
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


@pytest.mark.parametrize("workers", [1, 2])
def test_chunks_give_back_what_was_read(clips, tmp_path, workers):
    chunks = Chunks(clips, FACTS, beside=tmp_path / "s.arrow", workers=workers, chunk=4)
    assert chunks.num_read == 0
    assert sorted(chunks.read()) == sorted([4] * 7 + [1])
    assert set(reads(clips).values()) == {1}
    assert_same(list(chunks.entries()), list(clips))
    chunks.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_what_has_been_read_is_not_read_again(clips, tmp_path, capsys):
    def chunks():
        return Chunks(clips, FACTS, beside=tmp_path / "s.arrow", workers=1, chunk=4)

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
        return Chunks(clips, FACTS, beside=tmp_path / "s.arrow", workers=1, chunk=4)

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


def test_another_import_does_not_take_these_chunks(clips, tmp_path, monkeypatch):
    list(Chunks(clips, FACTS, beside=tmp_path / "s.arrow", workers=1).read())
    other = FACTS | {"preparation": {"name": "other"}}
    assert Chunks(clips, other, beside=tmp_path / "s.arrow").num_read == 0
    assert Chunks(clips[:-1], FACTS, beside=tmp_path / "s.arrow").num_read == 0
    assert Chunks(clips, FACTS, beside=tmp_path / "t.arrow").num_read == 0
    assert Chunks(clips, FACTS, beside=tmp_path / "s.arrow", stamp="x").num_read == 0
    assert Chunks(clips, FACTS, beside=tmp_path / "s.arrow").num_read == len(clips)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99")
    assert Chunks(clips, FACTS, beside=tmp_path / "s.arrow").num_read == 0


def test_workers_are_at_least_one(clips, tmp_path):
    with pytest.raises(ValueError, match="at least one worker, found 0"):
        Chunks(clips, FACTS, beside=tmp_path / "s.arrow", workers=0)


def test_a_process_that_dies_is_an_error_that_says_what_to_do(clips, tmp_path):
    clips.dies = 17
    chunks = Chunks(clips, FACTS, beside=tmp_path / "s.arrow", workers=2, chunk=4)
    with pytest.raises(ChildProcessError, match="a process that reads recordings died"):
        list(chunks.read())


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_parallel import FACTS, Chunks, Recorded

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    clips = Recorded(folder / "notes", range(1, 61), seconds=0.02)
    for _ in Chunks(clips, FACTS, beside=folder / "s.arrow", workers=2, chunk=3).read():
        print("chunk", flush=True)
"""


@pytest.mark.slow
def test_a_killed_import_goes_on_where_it_was(tmp_path):
    (tmp_path / "notes").mkdir()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    command = [sys.executable, str(script), str(tmp_path)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    for _ in range(3):
        assert running.stdout.readline() == "chunk\n"
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdout.close()
    deadline = time.monotonic() + 20  # the processes it had started end by themselves
    while os.system(f"pgrep -g {running.pid} > /dev/null") == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    finished = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob(".s.arrow.*/*.arrow")}
    assert 3 <= len(finished) < 20
    before = reads(Recorded(tmp_path / "notes", range(0)))
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout.count("chunk") == 20 - len(finished)
    clips = Recorded(tmp_path / "notes", range(1, 61))
    counts = reads(clips)
    for name in finished:
        first = int(name.split(".")[0])
        for number in range(first + 1, first + 4):
            assert counts[f"{number:04d}"] == before[f"{number:04d}"] == 1
    for path in tmp_path.glob(".s.arrow.*/*.arrow"):
        assert path.name not in finished or path.stat().st_mtime_ns == finished[path.name]
    chunks = Chunks(clips, FACTS, beside=tmp_path / "s.arrow", chunk=3)
    assert chunks.num_read == 60
    entries = list(chunks.entries())
    assert_same(entries, list(clips))
    store = open_store(write_store(tmp_path / "s.arrow", entries, **FACTS))
    assert (len(store), len(store.left_out)) == (48, 12)
