"""Reading many recordings with several processes, so that nothing is read twice after a kill.

Recordings are read in chunks. Each finished chunk is a small store in a folder beside the new
store, and is found there when the same import is started again.
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
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib import metadata
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

from msg3d_lab.data.clips import Clip, LeftOut, checked_clips
from msg3d_lab.data.store import Store, store_document, write_arrow_file
from msg3d_lab.files import write_aside

__all__ = ["Chunks"]

_CHUNK = 64  # recordings: what a kill can cost each process, a second at most
_AHEAD = 4  # chunks asked for per process: enough to keep it busy


class Chunks:
    """Recordings read in chunks into a folder.

    Args:
        clips: what to read; picklable.
        facts: what holds for all of them: arguments of `write_store`. With the number of clips
            and the stamp they tell whether chunks that are there already are of this import.
        beside: the store they are for; the folder is beside it.
        stamp: changes whenever the source does.
        workers: processes; 1 reads in this one, None takes as many as there are cores.
        chunk: recordings per chunk.
    """

    def __init__(
        self,
        clips: Sequence[Clip | LeftOut],
        facts: Mapping[str, Any],
        *,
        beside: Path,
        stamp: str = "",
        workers: int | None = None,
        chunk: int = _CHUNK,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"expected at least one worker, found {workers}")
        self.clips, self.chunk, self.workers = clips, chunk, workers or min(16, _cores())
        self._document = store_document(**facts)
        library = metadata.version("msg3d-lab")  # another one may prepare clips differently
        content = json.dumps([self._document, len(clips), chunk, stamp, library], sort_keys=True)
        key = hashlib.sha256(content.encode()).hexdigest()[:8]
        self.folder = beside.with_name(f".{beside.name}.{key}.importing")
        starts = range(0, len(clips), chunk)
        self._missing = [start for start in starts if not self._is_there(start)]

    @property
    def num_read(self) -> int:
        """How many recordings need not be read again."""
        return len(self.clips) - sum(map(self._size, self._missing))

    def read(self) -> Iterator[int]:
        """Read what is missing; yield the number of recordings of each chunk as it is done.

        Raises:
            ChildProcessError: a process died.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            if self.workers == 1 or len(self._missing) <= 1:
                yield from (_read_chunk(*self._task(start)) for start in self._missing)
            else:
                yield from self._read_in_processes(self._missing)
        except BaseException:
            sys.stderr.write(
                f"\nWhat has been read is kept in {self.folder}: the same import goes on there\n"
            )
            raise

    def entries(self) -> Iterator[Clip | LeftOut]:
        """Yield every clip and left-out recording, when all has been read."""
        for start in range(0, len(self.clips), self.chunk):
            part = Store(self._path(start))
            yield from map(part.clip, range(len(part)))
            for row in part.left_out.to_dict("records"):
                yield LeftOut(**{str(key): value for key, value in row.items()})

    def remove(self) -> None:
        """Remove the folder: the store is written."""
        shutil.rmtree(self.folder)

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:07d}.arrow"

    def _size(self, start: int) -> int:
        return min(self.chunk, len(self.clips) - start)

    def _is_there(self, start: int) -> bool:
        try:
            return not Store(self._path(start)).verify()
        except (FileNotFoundError, ValueError):  # not read yet, or damaged since
            return False

    def _task(self, start: int) -> tuple[Sequence[Clip | LeftOut], dict[str, Any], Path]:
        return self.clips[start : start + self.chunk], self._document, self._path(start)

    def _read_in_processes(self, missing: Sequence[int]) -> Iterator[int]:
        workers = min(self.workers, len(missing))
        # spawn: torch and Arrow have threads by now, which a forked process would miss.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, context, initializer=_end_with_parent)
        waiting: set[Future[int]] = set()
        try:
            for start in missing:
                waiting.add(pool.submit(_read_chunk, *self._task(start)))
                if len(waiting) >= _AHEAD * workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            for future in waiting:
                yield future.result()
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a process that reads recordings died, perhaps for want of memory (then try "
                "workers=1). In a script of your own, imports belong under `if __name__ == "
                '"__main__":`, because each process begins by reading the script'
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _read_chunk(clips: Sequence[Clip | LeftOut], document: Mapping[str, Any], path: Path) -> int:
    entries = checked_clips(
        clips,
        num_joints=len(document["skeleton"]["joints"]),
        channels=document["channels"],
        num_classes=len(document["label_names"]),
        leave_out=True,
    )
    with write_aside(path, overwrite=True) as aside:
        write_arrow_file(aside, entries, document)
    return len(clips)


def _end_with_parent() -> None:
    """End this process when its parent is killed, which would leave it waiting for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)


def _cores() -> int:
    """The cores this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
