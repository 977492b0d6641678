"""Writing files so that nothing is ever half-written, overwritten silently or written by two."""

from __future__ import annotations

import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["locked", "sync", "write_aside"]


@contextmanager
def write_aside(
    path: str | Path, *, overwrite: bool = False, durable: bool = False
) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or a folder to; rename it when all went well.

    If the block raises, what was written is removed and `path` is as it was.

    Args:
        path: the final path; its parent folders are made.
        overwrite: whether an existing file may be replaced. A folder never is.
        durable: whether a file must be on the disk before it gets its name, so that a power cut
            leaves the old one or the new one.

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
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and Path(path).is_dir():
        return  # a folder cannot be opened there
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold a lock file within a block, against other processes.

    The lock is the system's and ends with its process, however that ends: a file left behind by a
    killed one locks nobody out. File systems without locks give none.

    Args:
        path: the lock file; made, and removed afterwards.

    Raises:
        BlockingIOError: another process holds it; the message says which, if it can be known.
    """
    path = Path(path)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor, path)
            # Its last holder may have removed it between the two calls.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    try:
        with suppress(OSError):  # a full disk: what is written next can say so better
            os.truncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = path.read_text(encoding="utf-8", errors="replace") or "another process"
        raise BlockingIOError(
            f"{path.parent} is in use by {holder}: wait for it, or stop it first"
        ) from None
    except (ImportError, OSError):
        return
