"""What an importer is: it recognises sources of one format and reads their clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, overload

from msg3d_lab.data.clips import Clip, LeftOut
from msg3d_lab.data.datasets import Dataset
from msg3d_lab.data.formats.zip_or_folder import DAMAGE
from msg3d_lab.skeletons import Skeleton


@dataclass(frozen=True, kw_only=True)
class Importer:
    """An importer. A new one is a module with an `IMPORTER`, and a line in `registry.IMPORTERS`.

    `docs/extending/importer.md` has an example.

    Args:
        title: what messages call the format, e.g. "an OpenMMLab annotation pickle".
        datasets: the data sets that are distributed in this format.
        is_source: whether a file or folder is of this format; should look at little of it.
        read: `read(sources, dataset=...)` -> `Recordings`, with one of `datasets`; if the user gave
            options, with them as `own`, an `OwnData`.
        options: the names of the options of `import_dataset` that `read` takes.
        several_sources: whether a data set can come in several files or folders.
        own: whether recordings of any data set's name may be in this format: `read` then gets a
            `Dataset` without class names and protocols.
        version: raise it whenever the same files give other clips than before. What an interrupted
            import of another version has kept is not used.
    """

    title: str
    datasets: tuple[Dataset, ...]
    is_source: Callable[[Path], bool]
    read: Callable[..., Recordings]
    options: tuple[str, ...] = ()
    several_sources: bool = False
    own: bool = False
    version: int = 1


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """What an importer returns: prepared clips, and what holds for all of them.

    Args:
        clips: `LazyClips` if clips can be read independently of each other: then several processes
            read them, and an interrupted import continues where it was. Otherwise an iterator.
        skeleton: their joint layout.
        preparation: recorded in the store: what was done to the coordinates ("name" and options),
            and `source_record`.
        channels: numbers per joint.
        count: how many there are, for the progress bar. Default: the length of `clips`.
        label_names: class names, if the source has them. Default: those of the data set.
        notes: what had to be assumed or should be known of the source, in whole phrases; shown by
            `data import`, `info` and `check`.
    """

    clips: Iterable[Clip | LeftOut]
    skeleton: Skeleton
    preparation: dict[str, Any]
    channels: int = 3
    count: int | None = None
    label_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def source_record(kind: str, sources: Sequence[Path], sha256: str) -> dict[str, str]:
    """Return what is recorded of a source: the name of its format, its file names, its hash."""
    return {"format": kind, "source": ", ".join(s.name for s in sources), "sha256": sha256}


class _Named(Protocol):
    @property
    def id(self) -> str: ...


Entry = TypeVar("Entry", bound=_Named)


class LazyClips(Sequence[Clip | LeftOut], Generic[Entry]):
    """Clips that are read when they are asked for. A slice is again `LazyClips`.

    Args:
        entries: for each recording, what `read` needs to read it; has an `id`. A `LeftOut` is
            passed on.
        read: makes a clip of an entry. If it raises one of `DAMAGE`, the recording is left out with
            that message. Both `entries` and `read` are pickled and sent to other processes.

    Raises:
        OSError: from `clips[i]`: the disk or network failed. This is not the recording's fault, so
            the import stops.
    """

    def __init__(
        self, entries: Sequence[Entry | LeftOut], read: Callable[[Entry], Clip | LeftOut]
    ) -> None:
        self.entries, self.read = entries, read

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, i: int) -> Clip | LeftOut: ...
    @overload
    def __getitem__(self, i: slice) -> LazyClips[Entry]: ...
    def __getitem__(self, i: int | slice) -> Clip | LeftOut | LazyClips[Entry]:
        if isinstance(i, slice):
            return LazyClips(self.entries[i], self.read)
        entry = self.entries[i]
        if isinstance(entry, LeftOut):
            return entry
        try:
            return self.read(entry)
        except DAMAGE as error:
            return LeftOut(entry.id, "cannot be read", " ".join(str(error).split()))
