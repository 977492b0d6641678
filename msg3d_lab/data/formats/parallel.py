"""Read many recordings with several processes; after a kill, read only what is missing.

Recordings are read in chunks. Each chunk is written as a small store to a folder beside the new
store. When the same import is started again, finished chunks are found there.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from msg3d_lab.data.clips import Clip, LeftOut, checked_clips
from msg3d_lab.data.store import Store, write_entries

_CHUNK_SIZE = 64  # recordings: a kill costs each process a second of work at most
_Task = tuple[Sequence[Clip | LeftOut], Mapping[str, Any], Path]  # of `_read_chunk`


class Chunks:
    """Recordings that are read in chunks into a folder beside the new store.

    Args:
        clips: what to read; picklable.
        document: of the new store, `out`; see `store_document`. Chunks that are found are used if
            the document, the number of clips and `stamp` are those they were read with.
        stamp: changes whenever the source or the importer does.
        workers: processes; 1 reads in this process. Default: one per core, at most 16.
    """

    def __init__(
        self,
        clips: Sequence[Clip | LeftOut],
        document: Mapping[str, Any],
        *,
        out: Path,
        stamp: str = "",
        workers: int | None = None,
        chunk_size: int = _CHUNK_SIZE,
    ) -> None:
        self.clips, self.document, self.chunk_size = clips, document, chunk_size
        self.workers = workers or min(16, _num_cores())
        content = json.dumps([document, len(clips), chunk_size, stamp], sort_keys=True)
        key = hashlib.sha256(content.encode()).hexdigest()[:8]
        self.folder = out.with_name(f".{out.name}.{key}.importing")
        self._starts = range(0, len(clips), chunk_size)
        self._missing = [start for start in self._starts if not self._is_finished(start)]

    @property
    def num_read(self) -> int:
        """How many recordings need not be read again."""
        return len(self.clips) - sum(len(self._chunk(start)) for start in self._missing)

    def read(self) -> Iterator[int]:
        """Read what is missing; yield the number of recordings of each chunk when finished."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            tasks = [(self._chunk(s), self.document, self._path(s)) for s in self._missing]
            if self.workers == 1 or len(tasks) <= 1:
                yield from (_read_chunk(*task) for task in tasks)
            else:
                yield from _read_in_processes(tasks, min(self.workers, len(tasks)))
        except BaseException:
            sys.stderr.write(
                f"\nWhat has been read is kept in {self.folder}: the same import continues there\n"
            )
            raise

    def entries(self) -> Iterator[Clip | LeftOut]:
        """Yield every clip and every left-out recording, when all has been read.

        Each clip was checked when its chunk was read; only ids that occur in two chunks are left.
        """
        seen: set[str] = set()
        for start in self._starts:
            chunk = Store(self._path(start))
            for clip in map(chunk.clip, range(len(chunk))):
                yield LeftOut(clip.id, "occurs twice") if clip.id in seen else clip
                seen.add(clip.id)
            for row in chunk.left_out.itertuples(index=False):
                yield LeftOut(*map(str, row))

    def remove(self) -> None:
        """Remove the folder; call it when the store is written."""
        shutil.rmtree(self.folder)

    def _chunk(self, start: int) -> Sequence[Clip | LeftOut]:
        return self.clips[start : start + self.chunk_size]

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:07d}.arrow"

    def _is_finished(self, start: int) -> bool:
        try:
            return not Store(self._path(start)).verify()
        except (FileNotFoundError, ValueError):  # not read yet, or damaged since
            return False


def _read_in_processes(tasks: Sequence[_Task], workers: int) -> Iterator[int]:
    # spawn: threads of torch and Arrow, which run by now, would be missing in a forked process.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_end_with_parent)
    try:
        chunks = [pool.submit(_read_chunk, *task) for task in tasks]
        yield from (chunk.result() for chunk in as_completed(chunks))
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a process that reads recordings died, perhaps because memory ran out (then try "
            "workers=1). In a script of your own, call imports under `if __name__ == "
            '"__main__":`, because each process begins by reading the script'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _read_chunk(clips: Sequence[Clip | LeftOut], document: Mapping[str, Any], path: Path) -> int:
    path.unlink(missing_ok=True)  # a damaged one
    write_entries(path, checked_clips(clips, document, leave_out=True), document, may_be_empty=True)
    return len(clips)


def _end_with_parent() -> None:
    """End this process when its parent is killed; without this it would wait forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _num_cores() -> int:
    """The number of cores this process may use, if the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
