"""Atomic writes and locks: no file is half-written, silently overwritten, or written by two.

Tables of the library are Parquet files with checksums, and notes (JSON) in their metadata.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, SoftFileLock, Timeout

if TYPE_CHECKING:
    import pyarrow as pa


@contextmanager
def write_aside(
    path: str | Path, *, overwrite: bool = False, durable: bool = False
) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write a file or folder to; rename it at the end.

    If the block raises, what was written is removed and `path` is unchanged.

    Args:
        path: the final path; its parent folders are made.
        overwrite: whether an existing file may be replaced. A folder never is.
        durable: whether to flush the file to the disk before renaming it, so that after a power
            failure either the old or the new one is there.

    Raises:
        FileExistsError: `path` exists, before anything is written.
    """
    path = Path(path)
    exists = f"{path} exists already: choose another path or remove it first"
    if path.is_dir() or (path.exists() and not overwrite):
        raise FileExistsError(exists)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield aside
        if durable:
            sync(aside)
        try:
            aside.replace(path)
        except OSError as error:
            if path.is_dir():  # made by another process meanwhile
                raise FileExistsError(exists) from error
            raise
        if durable:
            sync(path.parent)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink(missing_ok=True)


def sync(path: str | Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    if os.name == "nt" and Path(path).is_dir():
        return  # a folder cannot be opened there
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str, *, overwrite: bool = True) -> None:
    """Write a text file, or replace it as a whole.

    Raises:
        FileExistsError: the file exists and `overwrite` is False.
    """
    with write_aside(path, overwrite=overwrite) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, content: Any) -> None:
    """Write a JSON file, or replace it as a whole."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON file's content; None if there is no such file, or a damaged one."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def write_parquet(
    table: pa.Table, notes: dict[str, Any], path: str | Path, *, kind: str, overwrite: bool = False
) -> None:
    """Write a table with notes.

    Args:
        table: the table.
        notes: what JSON can hold.
        path: the file.
        kind: what the table holds, such as "scores"; `read_parquet` refuses another kind.
        overwrite: whether an existing file may be replaced.

    Raises:
        FileExistsError: the file exists.
    """
    import pyarrow.parquet as pq

    table = table.replace_schema_metadata({f"msg3d_lab.{kind}": json.dumps(notes)})
    with write_aside(path, overwrite=overwrite) as aside:
        pq.write_table(table, aside, write_page_checksum=True)


def read_parquet(path: str | Path, *, kind: str, made_by: str) -> tuple[pa.Table, dict[str, Any]]:
    """Read a table and its notes, written by `write_parquet`.

    Args:
        path: the file.
        kind: what the table holds.
        made_by: the command that makes such tables, for the message of the error.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole Parquet file, one of another kind, or damaged notes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with Path(path).open("rb"):
        pass  # the errors of Python if there is no such file
    try:
        # Arrow opens the file itself and reads in this thread: a thread of Arrow's that still holds
        # a Python file when the interpreter ends aborts the process (exit code 134).
        with pa.OSFile(str(path)) as file:
            read = pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False)
            table = read.read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a whole Parquet file: {error}") from error
    notes = (table.schema.metadata or {}).get(f"msg3d_lab.{kind}".encode())
    if notes is None:
        raise ValueError(f"{path} holds no {kind} of MS-G3D Lab: make it with {made_by}")
    try:
        return table, json.loads(notes)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold a lock file within a block, against other processes.

    The lock belongs to the process and ends with it, also if it is killed: the file that it leaves
    behind does not lock anybody out.

    Args:
        path: the lock file; made, and removed afterwards.

    Raises:
        BlockingIOError: another process holds it; the message says which, if that is known.
    """
    path = Path(path)
    lock = FileLock(path, timeout=0.1)
    try:
        lock.acquire()
    except Timeout:
        holder = ""
        with suppress(OSError):
            holder = path.read_text(encoding="utf-8", errors="replace")
        raise BlockingIOError(
            f"{path.parent} is in use by {holder or 'another process'}: wait for it, or stop it "
            "first"
        ) from None
    try:
        with suppress(OSError):  # a full disk: the error of what is written next says more
            if not isinstance(lock, SoftFileLock):  # whose file says who holds it already
                path.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        lock.release()


def lock_holder(path: str | Path) -> str | None:
    """Return who holds a lock file of `locked`, in words; None if nobody does.

    The file of a killed process holds nothing. Where the system cannot tell (Windows, a shared disk
    without locks), an existing file counts as held.
    """
    path = Path(path)
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except OSError:
        return None
    with file:
        try:
            import fcntl

            # Shared, for an instant: `locked` tries again for a tenth of a second.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (ModuleNotFoundError, OSError):  # BlockingIOError: it is held
            pass
        else:
            return None
        return file.read() or "another process"
