"""Many small files in folders and zips, read one by one without unpacking anything.

An archive from elsewhere is not trusted: entries that point outside are refused, what an entry
unpacks to is bounded, and its CRC-32 is checked by the reader.
"""

from __future__ import annotations

import errno
import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

__all__ = [
    "DAMAGE",
    "DamagedError",
    "Member",
    "digest_members",
    "has_members",
    "list_members",
    "read_member",
]

# What unpacking or parsing damaged content raises. No OSError: a disk or network that fails for a
# moment says nothing about the content. (Encryption is a RuntimeError.)
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
_FAILURES: tuple[type[Exception], ...] = (*DAMAGE, OSError)
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # unpacked no further than asked for


class DamagedError(ValueError):
    """A file of an archive cannot be had whole."""


class Member(NamedTuple):
    """One file of a folder or zip.

    Args:
        source: the folder or zip.
        name: the path inside it, with slashes.
        size: bytes, unpacked.
        crc: its CRC-32, in a zip.
        modified: when the file, or the zip, was changed last: nanoseconds, as the system has it.
    """

    source: Path
    name: str
    size: int
    crc: int | None
    modified: int

    @property
    def id(self) -> str:
        """The file's name without folders and suffix: what its recording is called."""
        return PurePosixPath(self.name).stem


def list_members(sources: Sequence[Path], *, suffix: str) -> list[Member]:
    """List the files with a suffix in folders and zips, ordered by their names without folders.

    What macOS adds to zips (`__MACOSX/`, `._NAME`) is passed over.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: not a zip, or one that is cut short, or one with an entry that is absolute or
            leads upwards.
    """
    members = [m for source in sources for m in _listing(Path(source)) if _wanted(m.name, suffix)]
    return sorted(members, key=lambda member: (member.id, member.name, str(member.source)))


def has_members(source: Path, wanted: Callable[[str], bool]) -> bool:
    """Whether a folder or zip has a file of a wanted name; stops at the first."""
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


def read_member(member: Member, *, limit: int = 64 << 20) -> bytes:
    """Read a file of a folder or zip.

    Args:
        member: which.
        limit: the largest that is read, bytes.

    Raises:
        DamagedError: it is larger, or the zip's entry is damaged, of two files of one name, or
            packed in a way that zips of the field are not.
        OSError: the disk, or what it is reached through, failed.
    """
    if member.size > limit:
        raise DamagedError(f"{member.size} bytes, more than any such recording has")
    if member.crc is None:
        return (member.source / member.name).read_bytes()
    archive = _archive(member.source, member.source.stat().st_mtime_ns)
    try:
        entry = archive.getinfo(member.name)
        if (entry.file_size, entry.CRC) != (member.size, member.crc):
            raise DamagedError("the archive has two files of this name")
        if entry.compress_type not in _BOUNDED:
            raise DamagedError(f"compressed by method {entry.compress_type}; repack it as usual")
        # ZipFile.read would unpack everything before it cuts it to the size that is claimed.
        with archive.open(entry) as file:
            content = file.read(member.size)
            if file.read(1) or len(content) != member.size:
                raise DamagedError(f"not of the {member.size} bytes that the archive claims")
            return content
    except DamagedError:
        raise
    except _FAILURES as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # EINVAL: a place outside the file
        raise DamagedError(" ".join(str(error).split())) from error


def digest_members(members: Sequence[Member]) -> str:
    """Return a sha256 of a listing: names, sizes and, of zips, CRC-32s.

    Of a folder it does not see a file that was changed without changing its size.
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
        members = []
        for path in source.rglob("*"):
            if path.is_file():
                facts, name = path.stat(), path.relative_to(source).as_posix()
                members.append(Member(source, name, facts.st_size, None, facts.st_mtime_ns))
        return members
    if not source.exists():
        raise FileNotFoundError(f"no file or folder {source} to import")
    try:
        with zipfile.ZipFile(source) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except DAMAGE as error:
        raise ValueError(
            f"{source} is not a zip, or it is damaged or cut short: {error}"
        ) from error
    for entry in entries:
        place = PurePosixPath(entry.filename.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in "".join(place.parts[:1]):
            raise ValueError(
                f"{source} was refused: its entry {entry.filename!r} points outside the archive; "
                "no data set of the field has such names, so get it from its origin again"
            )
    modified = source.stat().st_mtime_ns
    return [Member(source, e.filename, e.file_size, e.CRC, modified) for e in entries]


@lru_cache(maxsize=4)
def _archive(path: Path, _changed: int) -> zipfile.ZipFile:
    """Keep archives open: reading the table of contents of NTU60 anew takes a second."""
    return zipfile.ZipFile(path)
