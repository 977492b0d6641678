"""Data sets of one file per clip, whose name says what it is: NW-UCLA, UTD-MHAD."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from msg3d_lab.data.formats.importer import source_record
from msg3d_lab.data.formats.zip_or_folder import (
    Member,
    digest_members,
    has_members,
    list_members,
)


class NamedFile(NamedTuple):
    """A clip's file: the clip's name, the numbers in it, the file."""

    id: str
    numbers: tuple[int, ...]
    member: Member


@dataclass(frozen=True, kw_only=True)
class NamedFiles:
    """The files of such a data set, in folders and zips."""

    title: str  # of the data set, for messages
    example: str  # the name of a file
    pattern: re.Pattern[str]  # of a name without suffix: the clip's name, then its numbers
    format: str  # as recorded in the store

    def is_source(self, path: Path) -> bool:
        """Whether a folder or zip has such a file."""
        return has_members(path, self._is_clip)

    def find(self, sources: Sequence[Path]) -> tuple[list[NamedFile], dict[str, str]]:
        """List the files of folders and zips; also return what a store records of them.

        Raises:
            FileNotFoundError: there is no such folder or file.
            ValueError: not a zip, or no such file in it.
        """
        suffix = PurePosixPath(self.example).suffix
        members = [m for m in list_members(sources, suffix=suffix) if self._is_clip(m.name)]
        if not members:
            raise ValueError(
                f"{sources[0]} has no {self.title} clips: expected files such as {self.example}"
            )
        files = []
        for member in members:
            name, *numbers = self.pattern.findall(member.id)[0]
            files.append(NamedFile(name, tuple(map(int, numbers)), member))
        return files, source_record(self.format, sources, digest_members(members))

    def _is_clip(self, name: str) -> bool:
        path, example = PurePosixPath(name), PurePosixPath(self.example)
        return path.suffix == example.suffix and self.pattern.fullmatch(path.stem) is not None
