"""Checkpoints that a stopped run is resumed from: `resume.pt` and the one before it.

A checkpoint is a file of `torch.save`, a zip archive that `torch.load(weights_only=True)` reads.
The comment at the end of the archive is the SHA-256 of everything before it, which is checked
before anything is unpickled. A checkpoint is written under another name, flushed to the disk, and
renamed; the one it replaces is kept. So one of the two is complete, even after a power failure.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from msg3d_lab.files import sync, write_aside
from msg3d_lab.training.recipes import Recipe, differing_settings
from msg3d_lab.training.runs import NEWEST, PREVIOUS, Run

_HEX = 64  # characters of a SHA-256


def write_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the newest checkpoint into a run folder and keep the one before it.

    Raises:
        OSError: it cannot be written (a full disk, say); the old ones are unchanged.
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
    """Read the newest checkpoint that is complete.

    Returns:
        The state, or None if there is no checkpoint; and what is wrong with the newest checkpoint,
        if the state is from the one before it.

    Raises:
        ValueError: there are checkpoints, but none is complete.
    """
    problems: list[str] = []
    for name in (NEWEST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue  # if only the newest is missing, a run was killed between two renames
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
    except Exception as error:  # it is complete, so another version of torch wrote it
        raise ValueError(f"{path} cannot be read ({error})") from error
    return state


def drop_newest(folder: Path) -> None:
    """Replace the newest checkpoint, which is damaged, by the one before it."""
    (folder / PREVIOUS).replace(folder / NEWEST)


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a finished run, the newest last."""
    for name in (PREVIOUS, NEWEST):
        (folder / name).unlink(missing_ok=True)


def check_resumable(run: Run, recipe: Recipe, environment: Mapping[str, Any]) -> list[str]:
    """Check that a run is resumed with the recipe and environment that it was started with.

    Returns:
        Differences that may change the results' last digits: threads, versions.

    Raises:
        ValueError: another recipe, store, kind of device, precision or number of processes; the
            message names each. A run that was made of a checkpoint.
    """
    if not run.is_trained_here:
        raise ValueError(
            f"{run.path} was made of a checkpoint, there is no training to go on with: start a "
            f"new run with --init {run.path}"
        )
    wrong = [
        f"{name} is {before!r} in the run and {now!r} now"
        for name, before, now in differing_settings(run.recipe, recipe)
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
    minor = [("threads", old.get("threads"), environment["threads"])]
    packages = old.get("packages", {})
    minor += [(name, packages.get(name), v) for name, v in environment["packages"].items()]
    return [f"{name} {a} before, {b} now" for name, a, b in minor if a != b]
