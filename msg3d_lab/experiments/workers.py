"""Tasks in processes of their own: none takes the others with it, and all stop when told to."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from msg3d_lab.training.signals import Requeue

__all__ = ["Failure", "in_processes"]

Key = TypeVar("Key", bound=Hashable)
_KILLED = (
    "its process was killed, perhaps because memory ran out; what it had done is kept: call again "
    "to go on"
)
_PATIENCE = 120  # seconds for a step and its checkpoint, before a worker is not waited for any more


@dataclass(frozen=True)
class Failure:
    """Why a task did not end well.

    Args:
        message: in a line.
        details: the traceback, if there is one.
    """

    message: str
    details: str = ""


def in_processes(
    tasks: Mapping[Key, Callable[[], object]],
    *,
    jobs: int,
    threads: int,
    tick: Callable[[list[Key]], None] | None = None,
    seconds: float = 1.0,
) -> Iterator[tuple[Key, Failure | None]]:
    """Run tasks, `jobs` at a time, and yield each with its failure, or None, as it ends.

    A task that raises, or whose process is killed, leaves the others alone: every worker has a pool
    of its own. Where the caller stops, by Ctrl-C say, workers get SIGTERM: a training writes its
    checkpoint. They get it as well if this process is killed.

    Args:
        tasks: picklable; run in this order.
        jobs: processes.
        threads: of PyTorch, in each.
        tick: called with the tasks that run, every so often; what it raises stops everything.
        seconds: between two ticks.

    Raises:
        ValueError: jobs or threads below 1.
    """
    if jobs < 1 or threads < 1:
        raise ValueError(f"expected jobs and threads of at least 1, found {jobs} and {threads}")
    waiting = list(tasks)[::-1]
    slots = [_Slot[Key](threads) for _ in range(min(jobs, len(waiting)))]
    try:
        while waiting or any(slot.future for slot in slots):
            for slot in slots:
                if waiting and slot.future is None:
                    slot.start(waiting[-1], tasks[waiting.pop()])
            futures = [slot.future for slot in slots if slot.future is not None]
            wait(futures, timeout=seconds, return_when=FIRST_COMPLETED)
            if tick is not None:
                tick([slot.key for slot in slots if slot.future is not None])
            for slot in slots:
                if slot.future is not None and slot.future.done():
                    yield slot.take()
    finally:
        for slot in slots:
            slot.ask_to_stop()
        for slot in slots:
            slot.close()


class _Slot(Generic[Key]):
    """A worker, replaced when it dies, and what it does."""

    key: Key

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ProcessPoolExecutor | None = None
        self._process: Future[int] | None = None
        self.future: Future[Failure | None] | None = None

    def start(self, key: Key, task: Callable[[], object]) -> None:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(self._threads,),
            )
            self._process = self._pool.submit(os.getpid)
        self.key, self.future = key, self._pool.submit(_call, task)

    def take(self) -> tuple[Key, Failure | None]:
        future, self.future = self.future, None
        assert future is not None
        try:
            return self.key, future.result()
        except BrokenProcessPool:
            self.close()
            return self.key, Failure(_KILLED)

    def ask_to_stop(self) -> None:
        """Tell a worker that is at work to write its checkpoint and stop."""
        if self.future is None or self.future.done() or self._process is None:
            return
        with suppress(BrokenProcessPool, ProcessLookupError, TimeoutError):
            os.kill(self._process.result(timeout=_PATIENCE), signal.SIGTERM)

    def close(self) -> None:
        if self._pool is None:
            return
        late = self.future is not None and bool(wait([self.future], timeout=_PATIENCE).not_done)
        if late and self._process is not None:
            with suppress(BrokenProcessPool, ProcessLookupError, TimeoutError):
                os.kill(self._process.result(timeout=1), signal.SIGKILL)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None


def _begin(threads: int) -> None:
    """Set a worker up."""
    import torch

    from msg3d_lab.allocator import tune_allocator

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent passes it on
    torch.set_num_threads(threads)
    tune_allocator()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Stop as for SIGTERM when the parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _call(task: Callable[[], object]) -> Failure | None:
    """Run a task in a worker; errors come back as text, since not all of them can be pickled."""
    failure = None
    try:
        task()
    except Requeue as stop:
        failure = Failure(stop.message)
    except BaseException as error:
        text = " ".join(str(error).split())
        failure = Failure(f"{type(error).__name__}: {text}", traceback.format_exc())
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(0)  # nobody takes the result; the pool would wait for the next task for ever
    return failure
