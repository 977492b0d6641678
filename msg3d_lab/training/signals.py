"""Stopping long work from outside: SIGTERM (a cluster), SIGINT (Ctrl-C, a stop button)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


class Requeue(SystemExit):
    """Work was stopped by SIGTERM; what is done is kept, and the same call goes on.

    It is a `SystemExit` with code 75, so a script ends with the code that batch systems take for
    "start me again". `message` says where the work stopped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_TRY_AGAIN)
        self.message = message


class Stopped(KeyboardInterrupt):
    """Work was stopped by SIGINT; the message says what is kept and how to go on.

    A notebook shows the message in place of a traceback, and so does `msg3d-lab`.
    """

    def _render_traceback_(self) -> list[str]:  # IPython's way to ask an exception
        return [str(self)]


@contextmanager
def say_when_interrupted(message: str) -> Iterator[None]:
    """Raise `Stopped` with a message at SIGINT, and `Requeue` with it at SIGTERM, at once.

    For work that is saved in parts and needs no time to stop. Only the main thread hears SIGTERM.
    """

    def requeue(number: int, frame: FrameType | None) -> None:
        raise Requeue(message)

    listens = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if listens:
        signal.signal(signal.SIGTERM, requeue)
    try:
        yield
    except Stopped:
        raise
    except KeyboardInterrupt:
        raise Stopped(message) from None
    finally:
        if listens:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class StopSignal:
    """Whether the process was told to stop.

    Attributes:
        number: of the first signal that came; None before.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def is_set(self) -> bool:
        """Whether a signal came."""
        return self.number is not None

    def error(self, message: str) -> BaseException:
        """The exception that ends the process as the signal would, with a message."""
        return Stopped(message) if self.number == signal.SIGINT else Requeue(message)


@contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """Note SIGTERM and SIGINT within the block instead of ending the process.

    A second SIGINT interrupts at once. Signals that are ignored stay ignored. Only the main thread
    can listen to signals; in another one nothing is noted.
    """
    stop = StopSignal()
    before = {}

    def note(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.number = stop.number or number

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            # None: the handler was not set from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
