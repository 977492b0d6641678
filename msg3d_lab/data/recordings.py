"""What an importer hands over, and what importers share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msg3d_lab.data.clips import Clip
from msg3d_lab.skeletons import Skeleton

__all__ = ["Recordings", "digest"]


@dataclass(frozen=True)
class Recordings:
    """Prepared clips, read as they are asked for, and what holds for all of them.

    Args:
        clips: may be a generator, so go through it once.
        count: how many clips there are, for the progress bar.
        skeleton: their joint layout.
        channels: numbers per joint.
        preparation: what `write_store` records: name, options, source and its hash.
    """

    clips: Iterable[Clip]
    count: int
    skeleton: Skeleton
    channels: int
    preparation: dict[str, Any] = field(default_factory=dict)


def digest(path: Path) -> str:
    """The sha256 of a file, or of the names and contents of the JSON files in a folder."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for member in sorted(path.rglob("*.json")):
        whole.update(member.relative_to(path).as_posix().encode() + b"\0")
        whole.update(hashlib.sha256(member.read_bytes()).digest())
    return whole.hexdigest()
