"""Run tasks in worker processes: a failing task leaves the others alone, all stop on request."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import NamedTuple, TypeVar

from msg3d_lab.training.signals import Requeue

Key = TypeVar("Key", bound=Hashable)
_KILLED = (
    "its process was killed, perhaps because memory ran out; its checkpoints are kept: call again "
    "to continue"
)
_TIMEOUT = 120  # seconds a stopped process has to finish its step and write its checkpoint


@dataclass(frozen=True)
class Failure:
    """Why a task failed: the error in one line, and the traceback if there is one."""

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

    A task that raises, or whose process is killed, leaves the others alone: a process that was
    killed is replaced. If the caller stops early (e.g. by Ctrl-C) or its process is killed,
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
    waiting = list(tasks.items())[::-1]
    running: dict[Key, _Worker] = {}
    idle: list[_Worker] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                key, task = waiting.pop()
                running[key] = idle.pop() if idle else _start(threads)
                running[key].pipe.send(task)
            ended = wait([worker.pipe for worker in running.values()], timeout=seconds)
            if tick is not None:
                tick(list(running))
            for key, worker in list(running.items()):
                if worker.pipe in ended:
                    del running[key]
                    try:
                        failure = worker.pipe.recv()
                        idle.append(worker)
                    except (EOFError, ConnectionResetError):
                        failure = Failure(_KILLED)
                    yield key, failure
    finally:
        for worker in running.values():
            worker.process.terminate()  # so that it writes its checkpoint and stops
        for worker in [*idle, *running.values()]:
            worker.pipe.close()  # so that it waits for no further task
        for worker in [*idle, *running.values()]:
            worker.process.join(_TIMEOUT)
            worker.process.kill()
            worker.process.join()


class _Worker(NamedTuple):
    process: SpawnProcess
    pipe: Connection


def _start(threads: int) -> _Worker:
    """Start a process that takes one task after the other."""
    context = multiprocessing.get_context("spawn")
    own, theirs = context.Pipe()
    process = context.Process(target=_work, args=(threads, theirs))
    process.start()
    theirs.close()  # so that the pipe ends with the process
    return _Worker(process, own)


def _work(threads: int, pipe: Connection) -> None:
    import torch

    from msg3d_lab.allocator import tune_allocator

    # Ctrl-C reaches all processes; the parent passes it on as SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    tune_allocator()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has closed it
        while True:
            pipe.send(_call(pipe.recv()))


def _end_with_parent() -> None:
    """Send SIGTERM to this process when its parent ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _call(task: Callable[[], object]) -> Failure | None:
    """Run a task in a worker; errors are returned as text, because some cannot be pickled."""
    try:
        task()
    except Requeue as stop:
        return Failure(stop.message)
    except BaseException as error:
        text = " ".join(str(error).split())
        return Failure(f"{type(error).__name__}: {text}", traceback.format_exc())
    return None
