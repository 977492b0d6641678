"""Named YAML files in a folder: joint layouts, recipes, grids."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from pydantic import ValidationError


T = TypeVar("T")


class YamlLibrary(Generic[T]):
    """The YAML files of a folder, read at first use, each entry under its name.

    Args:
        folder: with files `*.yaml`.
        kind: what an entry is, for messages: "recipe".
        entries: reads a file; returns what it stands for, by name.
    """

    def __init__(
        self, folder: Path, *, kind: str, entries: Callable[[Path], Mapping[str, T]]
    ) -> None:
        self._folder, self._kind, self._entries = folder, kind, entries

    @cached_property
    def _all(self) -> dict[str, T]:
        found: dict[str, T] = {}
        for path in sorted(self._folder.glob("*.yaml")):
            found.update(self._entries(path))
        return found

    def names(self) -> list[str]:
        """The names of all entries, sorted."""
        return sorted(self._all)

    def get(self, name: str) -> T:
        """Return an entry.

        Raises:
            ValueError: no such entry; the message lists near names, or all.
        """
        if name not in self._all:
            near = difflib.get_close_matches(name, self.names(), n=3, cutoff=0.75)
            hint = f"expected one of {', '.join(self.names())}, or your own YAML file"
            if near:
                hint = f"did you mean {', '.join(near)}?"
            raise ValueError(f"unknown {self._kind} {name!r}: {hint}")
        return self._all[name]


def read_mapping(path: str | Path, *, kind: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; messages call it a `kind`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, or not a mapping.
    """
    import yaml

    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path} is not a {kind}: expected a mapping, found {document!r:.60}")
    return document


def explain_errors(error: ValidationError) -> str:
    """Return pydantic's errors in one line: each setting, what is wrong, and what was found."""
    problems = []
    for e in error.errors():
        where = ".".join(str(part) for part in e["loc"])
        complete = e["type"] in ("missing", "value_error")  # the latter are our own messages
        found = "" if complete else f" (found {e['input']!r:.60})"
        message = e["msg"].removeprefix("Value error, ") + found
        problems.append(f"{where}: {message}" if where else message)
    return "; ".join(problems)
