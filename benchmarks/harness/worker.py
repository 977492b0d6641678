"""A process of its own for measuring, with an allocator and a number of threads of its own."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Literal

__all__ = ["Allocator", "Worker"]

Allocator = Literal["tuned", "default"]
# PyTorch's profiler, which counts the memory, would talk about itself.
_QUIET = {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}


class Worker:
    """A fresh process that holds networks and runs them when told; use it as a context.

    Args:
        allocator: "tuned" as `tune_allocator` does, or the C library's "default".
        threads: of the arithmetic.
        device: "cpu" or "cuda".
        network: arguments of `MSG3D`.
        clip_len: frames of every clip.
    """

    def __init__(
        self,
        *,
        allocator: Allocator,
        threads: int,
        device: str,
        network: Mapping[str, Any],
        clip_len: int,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        setup = {"device": device, "network": dict(network), "clip_len": clip_len}
        self._process = context.Process(
            target=_serve, args=(theirs, allocator, threads, setup), daemon=True
        )
        with _environment(_QUIET):
            self._process.start()
        theirs.close()

    def call(self, name: str, **options: Any) -> Any:
        """Call a method of its `Held` and wait for the answer.

        Raises:
            RuntimeError: it failed; the message has its traceback.
            ChildProcessError: it was killed.
        """
        try:
            self._pipe.send((name, options))
            done, answer = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            raise ChildProcessError(
                f"the measuring process ended with exit code {self._process.exitcode} (-9: killed, "
                "most often for want of memory): try --quick, or close other programs"
            ) from None
        if not done:
            raise RuntimeError(f"the measuring process failed:\n{answer}")
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set what a process that is started meanwhile inherits."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection, allocator: Allocator, threads: int, setup: Mapping[str, Any]) -> None:
    import torch

    from harness.held import Held
    from msg3d_lab.allocator import tune_allocator

    if allocator == "tuned":
        tune_allocator()
    torch.set_num_threads(threads)
    held = Held(**setup)
    while True:
        try:
            name, options = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, getattr(held, name)(**options)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
