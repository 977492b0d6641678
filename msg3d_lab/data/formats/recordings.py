"""What an importer hands over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.skeletons import Skeleton

__all__ = ["Recordings", "digest", "record_of", "recorded_digest"]


@dataclass(frozen=True)
class Recordings:
    """Prepared clips, read as they are asked for, and what holds for all of them.

    Args:
        clips: a picklable sequence if clips can be read independently, such as `MemberClips`: then
            they are read by several processes, and an import that was stopped goes on where it was;
            else an iterator, gone through once.
        count: how many there are, for the progress bar.
        skeleton: their joint layout.
        channels: numbers per joint.
        preparation: what `write_store` records: name, options, source and its hash.
        label_names: class names, where the source has them; else those of the data set.
    """

    clips: Iterable[Clip | LeftOut]
    count: int
    skeleton: Skeleton
    channels: int
    preparation: dict[str, Any] = field(default_factory=dict)
    label_names: tuple[str, ...] | None = None


def digest(path: Path) -> str:
    """The sha256 of a file."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_of(path: Path) -> Path:
    """Where the checksum of a file is recorded: `FILE.sha256`, as sha256sum writes it."""
    return path.with_name(path.name + ".sha256")


def recorded_digest(path: Path) -> str | None:
    """Return the checksum recorded for a file; None if there is none.

    Raises:
        ValueError: the record does not start with a sha256.
    """
    import re

    record = record_of(path)
    if not record.exists():
        return None
    line = record.read_text(encoding="utf-8", errors="replace")
    match = re.match(r"[0-9a-fA-F]{64}(?!\S)", line)
    if match is None:
        raise ValueError(
            f"{record} does not start with a sha256: expected a line as sha256sum writes it. "
            "Remove it, and the checksum is recorded anew"
        )
    return match[0].lower()
