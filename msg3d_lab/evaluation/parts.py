"""Scores of a test that is not done yet, in small files, so that a killed test goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from msg3d_lab.files import write_aside

__all__ = ["Parts"]

_LOG = logging.getLogger(__name__)


class Parts:
    """Rows of a table of scores, kept in a folder `testing-...` of a run until the table is whole.

    The folder's name tells what the scores depend on, so parts of other weights, clips or data are
    never mixed in. Every process of every attempt writes files of its own; which samples are in
    them, and not how many processes there were, says what is left to do.

    Args:
        folder: the run's.
        weights: the file of the weights.
        facts: what else the scores depend on, in plain types.
        shape: of the whole table, (samples, classes).
        seconds: what a kill may cost; 0 writes every batch.
    """

    def __init__(
        self,
        folder: Path,
        *,
        weights: Path,
        facts: Iterable[object],
        shape: tuple[int, int],
        seconds: float,
    ) -> None:
        with weights.open("rb") as file:
            self._weights = hashlib.file_digest(file, "sha256").hexdigest()[:8]
        rest = hashlib.sha256(json.dumps([*facts, *shape]).encode()).hexdigest()[:8]
        self._run, self._shape, self._seconds = folder, shape, seconds
        self._every = np.arange(shape[0])
        self._folder = folder / f"testing-{self._weights}-{rest}"
        self._written = time.monotonic()
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def read(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (rows, scores) of each part that is whole; what is not is left out."""
        for path in sorted(self._folder.glob("*.npz")):
            try:
                # A zip archive: its checksums are looked at.
                with path.open("rb") as file, np.load(file) as part:
                    rows, scores = part["rows"], part["scores"]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                continue
            if (rows.dtype, scores.dtype, rows.ndim) != (np.int64, np.float32, 1):
                continue
            if scores.shape == (len(rows), self._shape[1]) and np.isin(rows, self._every).all():
                yield rows, scores

    def add(self, rows: np.ndarray, scores: np.ndarray) -> None:
        """Keep some rows; they are on the disk `seconds` later at the latest, or when told."""
        self._waiting.append((rows, scores))
        if time.monotonic() - self._written >= self._seconds:
            self._write()

    def remove(self) -> None:
        """Remove the parts: the table is whole. Those of weights that are gone go with them."""
        shutil.rmtree(self._folder, ignore_errors=True)
        for folder in self._run.glob("testing-????????-????????"):
            if not folder.name.startswith(f"testing-{self._weights}-"):
                shutil.rmtree(folder, ignore_errors=True)

    def _write(self) -> None:
        rows, scores = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
        try:
            path = self._folder / f"{uuid.uuid4().hex}.npz"
            with write_aside(path) as aside, aside.open("wb") as file:
                np.savez(file, rows=rows, scores=scores)
        except OSError as error:  # a full disk, a folder of somebody else's: the test goes on
            if np.isfinite(self._seconds):
                _LOG.warning("a test that is killed will start anew, its parts fail: %s", error)
            self._seconds = np.inf
        self._waiting.clear()
        self._written = time.monotonic()
