"""SHA-256 checksums of files, and the records beside them, as `sha256sum` writes them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path


def digest(path: Path) -> str:
    """Return the sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_of(path: Path) -> Path:
    """Return where the checksum of a file is recorded: `FILE.sha256`."""
    return path.with_name(path.name + ".sha256")


def recorded_digest(path: Path) -> str | None:
    """Return the checksum recorded for a file; None if there is no record.

    Raises:
        ValueError: the record does not start with a sha256.
    """
    record = record_of(path)
    if not record.exists():
        return None
    match = re.match(r"[0-9a-fA-F]{64}(?!\S)", record.read_text(encoding="utf-8", errors="replace"))
    if match is None:
        raise ValueError(
            f"{record} does not start with a sha256: expected a line as sha256sum writes it. "
            "Remove it, and the checksum is recorded again"
        )
    return match[0].lower()


def checked_digest(path: Path) -> str:
    """Return the sha256 of a file, after comparing it with the record beside it, if there is one.

    Raises:
        ValueError: they differ, or the record does not start with a sha256.
    """
    found, expected = digest(path), recorded_digest(path)
    if expected not in (None, found):
        record = record_of(path)
        raise ValueError(
            f"{path} has another checksum than {record} (expected {expected}, found {found}): it "
            "was damaged or replaced. Remove it and download it again; or, if you replaced it, "
            f"remove {record.name}"
        )
    return found
