import os
import subprocess
import sys

import pyarrow as pa
import pytest

from msg3d_lab.files import locked, read_parquet, write_aside, write_parquet


def test_write_aside_leaves_the_file_and_nothing_else(tmp_path):
    with write_aside(tmp_path / "new" / "file.txt") as aside:
        aside.write_text("whole")
        assert not (tmp_path / "new" / "file.txt").exists()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["file.txt"]


def test_write_aside_moves_folders(tmp_path):
    with write_aside(tmp_path / "folder") as aside:
        aside.mkdir()
        (aside / "a").write_text("1")
    assert (tmp_path / "folder" / "a").read_text() == "1"


@pytest.mark.parametrize("folder", [True, False])
def test_write_aside_cleans_up_after_an_error(folder, tmp_path):
    (tmp_path / "out").write_text("old")

    def stop_halfway():
        with write_aside(tmp_path / "out", overwrite=True) as aside:
            if folder:
                aside.mkdir()
                (aside / "half").write_text("half")
            else:
                aside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "old"


def test_write_aside_never_overwrites_silently(tmp_path):
    (tmp_path / "out").write_text("old")
    with pytest.raises(FileExistsError, match="out exists already"), write_aside(tmp_path / "out"):
        pytest.fail("the block must not run")
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(FileExistsError),
        write_aside(tmp_path / "folder", overwrite=True),
    ):
        pytest.fail("the block must not run")


def test_write_aside_leaves_a_folder_that_another_made_meanwhile(tmp_path):
    with (  # noqa: PT012
        pytest.raises(FileExistsError, match="folder exists already"),
        write_aside(tmp_path / "folder") as aside,
    ):
        aside.mkdir()
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "theirs").write_text("")
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "theirs"]


def test_write_aside_durable_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    seen = []
    synchronise = os.fsync

    def fsync(descriptor):
        seen.append((tmp_path / "file").exists())
        synchronise(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with write_aside(tmp_path / "file", durable=True) as aside:
        aside.write_text("whole")
    assert seen == [False, True]  # the content, then the name


def test_locked_leaves_nothing_and_keeps_others_out(tmp_path):
    path = tmp_path / ".lock"
    with locked(path):
        with (
            pytest.raises(BlockingIOError, match=f"in use by process {os.getpid()} on"),
            locked(path),
        ):
            pytest.fail("the block must not run")
        assert path.exists()
    assert list(tmp_path.iterdir()) == []
    with locked(path):
        pass


def test_locked_ends_with_its_process(tmp_path):
    """A killed one leaves the file, which locks nobody out."""
    code = (
        "import os, sys\nfrom msg3d_lab.files import locked\n"
        "with locked(sys.argv[1]): os.kill(os.getpid(), 9)"
    )
    path = tmp_path / ".lock"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert path.read_text().startswith("process ")
    with locked(path):
        assert path.read_text().startswith(f"process {os.getpid()} ")


def test_parquet_tables_keep_their_notes_and_their_kind(tmp_path):
    path, notes = tmp_path / "t.parquet", {"facts": {"seed": 1}, "names": ["a", "b"]}
    table = pa.table({"id": ["x", "y"], "value": [0.5, 1.0]})
    write_parquet(table, notes, path, kind="scores")
    read, found = read_parquet(path, kind="scores", made_by="`test`")
    assert read.to_pydict() == table.to_pydict()
    assert found == notes
    with pytest.raises(ValueError, match="holds no importance of MS-G3D Lab: make it with `test`"):
        read_parquet(path, kind="importance", made_by="`test`")
    with pytest.raises(FileExistsError):
        write_parquet(table, notes, path, kind="scores")


def test_a_damaged_parquet_table_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    write_parquet(pa.table({"value": [0.123456789] * 50}), {}, path, kind="scores")
    content = path.read_bytes()
    for damaged in (content[:-9], b"no table"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a whole Parquet file"):
            read_parquet(path, kind="scores", made_by="`test`")
    with pytest.raises(FileNotFoundError):
        read_parquet(tmp_path / "none.parquet", kind="scores", made_by="`test`")


_READ = """
import sys
from pathlib import Path
from msg3d_lab.files import read_parquet
read_parquet(sys.argv[1], kind="numbers", made_by="this test")
tasks = Path("/proc/self/task")
if tasks.is_dir():
    print(*(task.joinpath("comm").read_text().strip() for task in tasks.iterdir()))
sys.exit(2)
"""


def test_a_process_that_ends_after_reading_parquet_has_its_own_code(tmp_path):
    """A thread of Arrow's that frees a Python file while the interpreter ends aborts the process.

    That happened in one of three runs; without such threads it cannot happen.
    """
    write_parquet(pa.table({"a": [1, 2, 3]}), {}, tmp_path / "t.parquet", kind="numbers")
    words = [sys.executable, "-c", _READ, str(tmp_path / "t.parquet")]
    runs = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    shown = [run.communicate()[0].split() for run in runs]
    assert [run.returncode for run in runs] == [2] * 4
    own = {name for names in shown for name in names if not name.startswith("jemalloc")}
    assert len(own) <= 1, f"threads that are alive: {own}"
