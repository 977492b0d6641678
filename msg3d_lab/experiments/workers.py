"""Run tasks in worker processes: a failing task leaves the others alone, all stop on request."""

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
    "its process was killed, perhaps because memory ran out; its checkpoints are kept: call again "
    "to continue"
)
_TIMEOUT = 120  # seconds a stopped worker has to finish its step and write its checkpoint


@dataclass(frozen=True)
class Failure:
    """Why a task failed.

    Args:
        message: the error in one line.
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

    A task that raises, or whose process is killed, leaves the others alone: every worker is a
    process pool of its own. If the caller stops early (e.g. by Ctrl-C) or its process is killed,
    the workers get SIGTERM, so that a training writes its checkpoint.

    Args:
        tasks: picklable; started in this order.
        jobs: number of processes.
        threads: PyTorch threads in each process.
        tick: called regularly with the running tasks; an exception it raises stops everything.
        seconds: time between two calls of `tick`.

    Raises:
        ValueError: jobs or threads below 1.
    """
    if jobs < 1 or threads < 1:
        raise ValueError(f"expected jobs and threads of at least 1, found {jobs} and {threads}")
    waiting = list(tasks)[::-1]
    workers = [_Worker[Key](threads) for _ in range(min(jobs, len(waiting)))]
    try:
        while waiting or any(worker.future for worker in workers):
            for worker in workers:
                if waiting and worker.future is None:
                    worker.start(waiting[-1], tasks[waiting.pop()])
            futures = [worker.future for worker in workers if worker.future is not None]
            wait(futures, timeout=seconds, return_when=FIRST_COMPLETED)
            if tick is not None:
                tick([worker.key for worker in workers if worker.future is not None])
            for worker in workers:
                if worker.future is not None and worker.future.done():
                    yield worker.take()
    finally:
        for worker in workers:
            worker.ask_to_stop()
        for worker in workers:
            worker.close()


class _Worker(Generic[Key]):
    """A worker process, replaced when it dies, and its current task."""

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
                initializer=_initialize,
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
        """Send SIGTERM to a busy worker, so that it writes its checkpoint and stops."""
        if self.future is None or self.future.done() or self._process is None:
            return
        with suppress(BrokenProcessPool, ProcessLookupError, TimeoutError):
            os.kill(self._process.result(timeout=_TIMEOUT), signal.SIGTERM)

    def close(self) -> None:
        if self._pool is None:
            return
        late = self.future is not None and bool(wait([self.future], timeout=_TIMEOUT).not_done)
        if late and self._process is not None:
            with suppress(BrokenProcessPool, ProcessLookupError, TimeoutError):
                os.kill(self._process.result(timeout=1), signal.SIGKILL)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None


def _initialize(threads: int) -> None:
    """Prepare a worker process."""
    import torch

    from msg3d_lab.allocator import tune_allocator

    # Ctrl-C reaches all processes; the parent passes it on as SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    tune_allocator()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Send SIGTERM to this process when its parent ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _call(task: Callable[[], object]) -> Failure | None:
    """Run a task in a worker; errors are returned as text, because some cannot be pickled."""
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
        os._exit(0)  # without a parent the pool would wait forever for the next task
    return failure
