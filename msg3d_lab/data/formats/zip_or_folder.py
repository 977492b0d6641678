"""List and read the files of folders and zips; zips are not unpacked."""

from __future__ import annotations

import hashlib
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

# What is raised when damaged content is unpacked or parsed (encrypted content: RuntimeError). Not
# OSError: that means that the disk or network failed, not that the content is damaged.
DAMAGE: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


class Member(NamedTuple):
    """One file of a folder or zip."""

    source: Path  # the folder or zip
    name: str  # its path inside the source, with slashes
    size: int  # its unpacked size in bytes
    crc: int | None  # its CRC-32; None in a folder

    @property
    def id(self) -> str:
        """The name of its recording: the file's name without folders and suffix."""
        return PurePosixPath(self.name).stem


class NamedFile(NamedTuple):
    """A file whose name says what it is."""

    id: str  # the clip's name
    numbers: tuple[int, ...]  # the numbers in it
    member: Member


def list_members(sources: Sequence[Path], *, suffix: str) -> list[Member]:
    """List the files with a suffix in folders and zips, sorted by their names without folders.

    Files that macOS adds to zips (`__MACOSX/`, `._NAME`) are skipped.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: a file that is no zip, or a zip that is cut short.
    """
    members = [m for source in sources for m in _listing(Path(source)) if _wanted(m.name, suffix)]
    return sorted(members, key=lambda member: (member.id, member.name, str(member.source)))


def has_members(source: Path, wanted: Callable[[str], bool]) -> bool:
    """Whether a folder or zip has a file whose name is `wanted`; stops at the first."""
    if source.is_dir():
        names = (path.relative_to(source).as_posix() for path in source.rglob("*"))
        return any(map(wanted, names))
    if not source.is_file() or not zipfile.is_zipfile(source):
        return False
    try:
        with zipfile.ZipFile(source) as archive:
            return any(map(wanted, archive.namelist()))
    except DAMAGE:
        return False


def list_named(
    sources: Sequence[Path], pattern: re.Pattern[str], *, title: str, example: str
) -> tuple[list[NamedFile], str]:
    """List the files whose names say what they are, such as those of NW-UCLA and UTD-MHAD.

    Args:
        sources: folders and zips.
        pattern: of a file's name; its groups are the clip's name and the numbers in it.
        title: of the data set, for messages.
        example: the name of a file.

    Returns:
        The files, and a hash of them, see `digest_members`.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: not a zip, or no such file in it.
    """
    found = []
    for member in list_members(sources, suffix=PurePosixPath(example).suffix):
        match = pattern.fullmatch(PurePosixPath(member.name).name)
        if match is not None:
            name, *numbers = match.groups()
            found.append(NamedFile(name, tuple(map(int, numbers)), member))
    if not found:
        raise ValueError(f"{sources[0]} has no {title} clips: expected files such as {example}")
    return found, digest_members([file.member for file in found])


def has_named(source: Path, pattern: re.Pattern[str]) -> bool:
    """Whether a folder or zip has a file for `list_named`."""
    return has_members(source, lambda name: pattern.fullmatch(PurePosixPath(name).name) is not None)


def read_member(member: Member, *, limit: int = 64 << 20) -> bytes:
    """Read a file of a folder or zip.

    Args:
        member: the file.
        limit: the size of the largest file that is read, in bytes.

    Raises:
        ValueError: the file is larger.
        BadZipFile, zlib.error: it is damaged; one of `DAMAGE`.
        OSError: the disk or network failed.
    """
    if member.size > limit:
        raise ValueError(f"{member.size} bytes, more than any such recording has")
    if member.crc is None:
        return (member.source / member.name).read_bytes()
    return _open_zip(member.source, member.source.stat().st_mtime_ns).read(member.name)


def digest_members(members: Sequence[Member]) -> str:
    """Return a sha256 of the files' names and sizes and, in zips, their CRC-32s.

    In a folder, a change that keeps a file's size is not seen.
    """
    whole = hashlib.sha256()
    for member in members:
        whole.update(f"{member.name}\0{member.size}\0{member.crc}\n".encode())
    return whole.hexdigest()


def _wanted(name: str, suffix: str) -> bool:
    path = PurePosixPath(name)
    return name.endswith(suffix) and "__MACOSX" not in path.parts and path.name[:2] != "._"


def _listing(source: Path) -> list[Member]:
    if source.is_dir():
        return [
            Member(source, path.relative_to(source).as_posix(), path.stat().st_size, None)
            for path in source.rglob("*")
            if path.is_file()
        ]
    if not source.exists():
        raise FileNotFoundError(f"no file or folder {source} to import")
    try:
        with zipfile.ZipFile(source) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except DAMAGE as error:
        raise ValueError(
            f"{source} is not a zip, or it is damaged or cut short: {error}"
        ) from error
    return [Member(source, e.filename, e.file_size, e.CRC) for e in entries]


@lru_cache(maxsize=4)
def _open_zip(path: Path, _modified: int) -> zipfile.ZipFile:
    """Keep zips open: reading the table of contents of NTU60 takes a second."""
    return zipfile.ZipFile(path)
