"""The beginning of a file, growing until it is whole.

`FILE.part` grows in the order of the bytes, so it is the beginning of FILE whenever it stops to;
`FILE.part.json` names the address it comes from and the server's mark of that version, its
validator.
"""

from __future__ import annotations

import hashlib
import json
import os
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from msg3d_lab.files import write_aside

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Part", "progress_bar", "sha256_of"]


def progress_bar(title: str, *, total: int | None, done: int = 0, show: bool = True) -> tqdm:
    """A bar that counts bytes, `done` of which are there already."""
    from tqdm.auto import tqdm

    return tqdm(
        desc=title,
        total=total,
        initial=done,
        unit="B",
        unit_scale=True,
        mininterval=0.5,
        disable=not show,
    )


def sha256_of(path: Path, *, progress: bool) -> hashlib._Hash:
    """The checksum of a file, which can be updated with what follows."""
    digest = hashlib.sha256()
    with (
        path.open("rb") as file,
        progress_bar(f"checking {path.name}", total=path.stat().st_size, show=progress) as bar,
    ):
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest


class Part:
    """The bytes of a file so far, their hash, and where they come from; held by one process.

    A process can be killed at any time: the part is emptied before its origin is rewritten, and the
    origin is written before the first byte, so bytes never stand beside another origin.

    Args:
        path: of the part; its folder is made. Taken away again if no byte came.
        progress: whether to show a bar while bytes from before are read.

    Raises:
        OSError: the folder cannot be written to, or (BlockingIOError) another process holds it.
    """

    def __init__(self, path: Path, *, progress: bool) -> None:
        self.path, self._origin = path, path.with_name(path.name + ".json")
        self.address: str | None = None
        self.validator: str | None = None
        self.total: int | None = None
        self.size, self.sha256 = 0, hashlib.sha256()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _open_locked(path)
        except BlockingIOError:
            raise BlockingIOError(
                f"another process is downloading to {path}: wait for it, or stop it"
            ) from None
        except OSError as error:
            raise OSError(
                error.errno, f"cannot write to {path} ({error.strerror}): choose another folder"
            ) from error
        size, origin = self._on_disk(), _read_origin(self._origin)
        if size and origin and size <= (origin[2] or size):
            self.address, self.validator, self.total = origin
            try:
                self.sha256, self.size = sha256_of(path, progress=progress), size
            except BaseException:  # a traceback kept in a notebook would keep the lock too
                self._file.close()
                raise

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._file.closed and not self._on_disk():
            self._origin.unlink(missing_ok=True)
            if os.name != "nt":  # where an open file cannot be removed
                self.path.unlink(missing_ok=True)
        self._file.close()

    def _on_disk(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    @property
    def kept(self) -> str:
        """What is there, as the end of a message."""
        if not self.size:
            return ""
        total = f"{self.total:,}" if self.total else "an unknown number of"
        then = "goes on from there" if self.validator else "has to start again"
        return f". {self.path} keeps {self.size:,} of {total} bytes; the same command {then}"

    def begin(self, address: str, validator: str | None, total: int | None) -> None:
        """Forget everything, for bytes of another origin."""
        self.size, self.sha256 = 0, hashlib.sha256()
        self._file.truncate(0)
        os.fsync(self._file.fileno())
        self.address, self.validator, self.total = address, validator, total
        with write_aside(self._origin, overwrite=True) as aside:
            origin = {"address": address, "validator": validator, "total": total}
            aside.write_text(json.dumps(origin) + "\n", encoding="utf-8")

    def append(self, chunk: bytes) -> None:
        """Add bytes; what fits on the disk is kept.

        Raises:
            OSError: the disk is full or broken.
        """
        rest = memoryview(chunk)
        try:
            while rest:  # unbuffered: the disk may take some of them only
                written = self._file.write(rest)
                self.sha256.update(rest[:written])
                self.size += written
                rest = rest[written:]
        except OSError as error:
            raise OSError(error.errno, f"cannot write: {error.strerror}{self.kept}") from error

    def last_byte(self) -> bytes:
        """The last of them."""
        self._file.seek(-1, os.SEEK_END)
        return self._file.read(1)

    def rename(self, path: Path) -> None:
        """Make the whole part the file `path`."""
        os.fsync(self._file.fileno())
        if os.name == "nt":  # where an open file cannot be renamed; elsewhere the lock is kept
            self._file.close()
        self.path.replace(path)
        self._origin.unlink(missing_ok=True)
        self._file.close()


def _open_locked(path: Path) -> FileIO:
    """Open for appending, unbuffered, for this process alone.

    The lock belongs to the open file, so it ends with the process, however that ends. Windows and
    some network file systems have none; there, two downloads of one file are the user's to avoid.
    """
    while True:
        file = path.open("a+b", buffering=0)
        try:
            _lock(file.fileno())
            # Its last holder may have renamed or removed it between the two calls.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(descriptor: int) -> None:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):
        return


def _read_origin(path: Path) -> tuple[str, str | None, int | None] | None:
    """Address, validator and total, if the file holds just that; a header must take the texts."""
    try:
        origin = json.loads(path.read_text(encoding="utf-8"))
        address, validator, total = (origin[k] for k in ("address", "validator", "total"))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    texts = [address] if validator is None else [address, validator]
    if not all(isinstance(text, str) and text.isascii() and text.isprintable() for text in texts):
        return None
    if not (total is None or (type(total) is int and total > 0)):
        return None
    return address, validator, total
