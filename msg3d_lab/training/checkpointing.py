"""Checkpoints that a stopped run goes on from: `resume.pt` and the one before it.

A checkpoint is a file of `torch.save` that `torch.load(weights_only=True)` reads, a zip archive.
The archive's comment, which ends the file, is the SHA-256 of all that comes before it, and is
checked before anything is unpickled. A checkpoint is written aside, brought to the disk and
renamed, and the one it replaces is kept: whenever the power fails, one of the two is whole.
"""

from __future__ import annotations

import hashlib
import io
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from msg3d_lab.data.store import Store, open_store
from msg3d_lab.files import sync, write_aside
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import NEWEST, PREVIOUS, Run

__all__ = [
    "Requeue",
    "StoreWatch",
    "check_resumable",
    "drop_newest",
    "read_checkpoint",
    "remove_checkpoints",
    "stop_signal",
    "write_checkpoint",
]

_HEX = 64  # characters of a SHA-256
_REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong, try again


class Requeue(SystemExit):
    """Training was told to stop (SIGTERM), has written a checkpoint, and wants to be resumed.

    As a `SystemExit` with code 75 it ends a script with the code that batch systems take for "start
    me again"; `message` says where training stopped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_REQUEUE)
        self.message = message


def write_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the newest checkpoint and keep the one before it.

    Args:
        folder: the run's.
        state: dicts, lists, tuples, numbers, texts and tensors.

    Raises:
        OSError: it cannot be written (a full disk, say); the old ones are as they were.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getbuffer()
    content[-2:] = _HEX.to_bytes(2, "little")  # the length of the archive's comment, 0 until now
    newest, previous = folder / NEWEST, folder / PREVIOUS
    try:
        with write_aside(newest, overwrite=True, durable=True) as aside:
            with aside.open("wb") as file:
                file.write(content)
                file.write(hashlib.sha256(content).hexdigest().encode())
            sync(aside)  # before the old ones change places
            if newest.exists():
                newest.replace(previous)
    except OSError as error:
        raise OSError(
            f"cannot write the checkpoint {newest}: {error.strerror or error}. What was written "
            "before is as it was: make room, or let the folder be written to, then go on with "
            "--resume (resume=True)"
        ) from error


def read_checkpoint(folder: Path) -> tuple[dict[str, Any] | None, str | None]:
    """Read the newest checkpoint that is whole.

    Returns:
        The state, None if there never was a checkpoint; and what is wrong with the newest, if the
        state is the previous one's.

    Raises:
        ValueError: there are checkpoints, but none is whole.
    """
    problems: list[str] = []
    for name in (NEWEST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue  # without a newest one a run was killed between two renames
        try:
            return _read(path), problems[0] if problems else None
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError(
            f"{' and '.join(problems)}: no checkpoint is left to go on from; start a new run"
        )
    return None, None


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    body, digest = content[:-_HEX], content[-_HEX:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError(f"{path} is damaged or cut short (its checksum is wrong)")
    try:
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
    except Exception as error:  # whole, so it is of another version of torch
        raise ValueError(f"{path} cannot be read ({error})") from error
    return state


def drop_newest(folder: Path) -> None:
    """Put the previous checkpoint in the place of the newest, a damaged one."""
    (folder / PREVIOUS).replace(folder / NEWEST)


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a run that needs them no more, the newest last."""
    for name in (PREVIOUS, NEWEST):
        (folder / name).unlink(missing_ok=True)


def check_resumable(run: Run, recipe: Recipe, environment: Mapping[str, Any]) -> list[str]:
    """Check that a run goes on as it began.

    Args:
        run: the run to go on with.
        recipe: the recipe asked for.
        environment: the facts of the machine that is to go on.

    Returns:
        What is not as it was and may change the results' last digits: threads, versions.

    Raises:
        ValueError: another recipe, data, kind of device, precision or number of processes; the
            message names each.
    """
    wrong = [
        f"{name} is {before!r} in the run and {now!r} now"
        for name, before, now in _differences(
            run.recipe.model_dump(mode="json"), recipe.model_dump(mode="json")
        )
    ]
    old = run.environment
    kinds = (
        ("the store's fingerprint", old["data"]["fingerprint"], environment["data"]["fingerprint"]),
        ("the number of processes", old["world_size"], environment["world_size"]),
        ("the precision", old["precision"], environment["precision"]),
        ("the device", *(str(e["device"]).partition(":")[0] for e in (old, environment))),
    )
    wrong += [f"{name} was {a} and is {b} now" for name, a, b in kinds if a != b]
    if wrong:
        raise ValueError(
            f"{run.path} cannot be resumed: {'; '.join(wrong)}. Resume with what it was started "
            "with, or start a new run"
        )
    softer = [("threads", old.get("threads"), environment["threads"])]
    packages = old.get("packages", {})
    softer += [(name, packages.get(name), v) for name, v in environment["packages"].items()]
    return [f"{name} {a} before, {b} now" for name, a, b in softer if a != b]


def _differences(
    one: Mapping[str, Any], other: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    for name in one:
        if isinstance(one[name], dict):
            for key, a, b in _differences(one[name], other[name]):
                yield f"{name}.{key}", a, b
        elif one[name] != other[name]:
            yield name, one[name], other[name]


class StoreWatch:
    """Notices a store that is removed or replaced while a run reads it.

    The run itself would not: it goes on with the pages of the file it opened. But its run folder
    would name data that are no more.

    Args:
        store: the store in use.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stamp: Sequence[int] | None = None

    def check(self) -> None:
        """Look at the file's date and size, and at its fingerprint where they have changed.

        Raises:
            FileNotFoundError: the store is gone.
            ValueError: it is another one now.
        """
        path = self._store.path
        try:
            facts = path.stat()
        except FileNotFoundError:
            raise FileNotFoundError(
                f"the store {path} was removed while it was in use: put it back, then go on with "
                "--resume (resume=True)"
            ) from None
        stamp = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        if stamp == self._stamp:
            return
        found = open_store(path).fingerprint
        if found != self._store.fingerprint:
            raise ValueError(
                f"the store {path} was changed while it was in use: its fingerprint was "
                f"{self._store.fingerprint} and is {found} now. Put the old one back, then go on "
                "with --resume (resume=True), or start a new run"
            )
        self._stamp = stamp


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets within the block, instead of ending the process.

    Only the main thread can listen to signals; elsewhere the event stays unset.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    try:
        yield stop
    finally:
        # None: whoever listened before was no Python code, and cannot be put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
