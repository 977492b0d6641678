"""Writing files so that nothing is ever half-written or overwritten silently."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["write_aside"]


@contextmanager
def write_aside(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or a folder to; rename it when all went well.

    If the block raises, what was written is removed and `path` is as it was.

    Args:
        path: the final path; its parent folders are made.
        overwrite: whether an existing file may be replaced. A folder never is.

    Raises:
        FileExistsError: `path` exists, before anything is written.
    """
    path = Path(path)
    if path.is_dir() or (path.exists() and not overwrite):
        raise FileExistsError(f"{path} exists already: choose another path or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield aside
        aside.replace(path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink(missing_ok=True)
