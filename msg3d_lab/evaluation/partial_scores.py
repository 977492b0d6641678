"""Partial scores of an evaluation, saved in small files so that a killed evaluation continues."""

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

from msg3d_lab.checksums import digest
from msg3d_lab.files import write_aside

_LOG = logging.getLogger(__name__)


class PartialScores:
    """Rows of a table of scores, saved in a run's subfolder until the table is complete.

    The subfolder `testing-...` is named by a hash of everything the scores depend on, so that
    scores of other weights, clips or data are never mixed. Every process writes files of its own.

    Args:
        facts: what the scores depend on beside the file of weights, as plain values.
        seconds: between two saves; 0 saves every batch.
    """

    def __init__(
        self,
        folder: Path,
        *,
        weights: Path,
        facts: Iterable[object],
        shape: tuple[int, ...],
        seconds: float,
    ) -> None:
        self._weights = digest(weights)[:8]
        rest = hashlib.sha256(json.dumps([*facts, *shape]).encode()).hexdigest()[:8]
        self._run, self._seconds = folder, seconds
        self.folder = folder / f"testing-{self._weights}-{rest}"
        self._saved = time.monotonic()
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def read(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (rows, scores) of each intact file; damaged files are ignored."""
        for path in sorted(self.folder.glob("*.npz")):
            try:
                with path.open("rb") as file, np.load(file) as part:  # checks the zip's checksums
                    rows, scores = part["rows"], part["scores"]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                continue
            yield rows, scores

    def add(self, rows: np.ndarray, scores: np.ndarray) -> None:
        """Add some rows; they are saved at the first call `seconds` after the last save."""
        self._waiting.append((rows, scores))
        if time.monotonic() - self._saved >= self._seconds:
            self.save()

    def remove(self) -> None:
        """Delete the files, and those of weights that the run no longer has."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in self._run.glob("testing-????????-????????"):
            if not folder.name.startswith(f"testing-{self._weights}-"):
                shutil.rmtree(folder, ignore_errors=True)

    def save(self) -> None:
        """Save the rows that are waiting, if any."""
        if not self._waiting:
            return
        rows, scores = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
        try:
            path = self.folder / f"{uuid.uuid4().hex}.npz"
            with write_aside(path) as aside, aside.open("wb") as file:
                np.savez(file, rows=rows, scores=scores)
        except OSError as error:  # e.g. a full disk: the evaluation goes on without saving
            _LOG.warning(
                "partial scores cannot be saved, so a killed evaluation will start from the "
                "beginning: %s",
                error,
            )
            self._seconds = np.inf
        self._waiting.clear()
        self._saved = time.monotonic()
