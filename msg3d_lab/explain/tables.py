"""Tables of importance by sample id, saved as Parquet with the facts they were computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from msg3d_lab.files import read_parquet, write_parquet


@dataclass(frozen=True)
class Importance:
    """The importance of every feature of many clips.

    Args:
        ids: sample ids, unique.
        labels: (N,) true classes.
        predictions: (N,) the network's.
        classes: (N,) the classes that were explained.
        values: (N, F) float32, in logits (or log probabilities: `facts["score"]`); positive speaks
            for the class.
        facts: what it was computed from: method, parameters, by, baseline, score, layout, split,
            stream, data set, weights and more.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    predictions: np.ndarray
    classes: np.ndarray
    values: np.ndarray
    names: tuple[str, ...]
    label_names: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shapes and ids."""
        N = len(self.ids)
        lengths = {len(self.labels), len(self.predictions), len(self.classes)}
        if self.values.shape != (N, len(self.names)) or lengths != {N}:
            raise ValueError(
                f"expected {N} labels, predictions and classes and values ({N}, "
                f"{len(self.names)}), found {sorted(lengths)} and {self.values.shape}"
            )
        if len(set(self.ids)) != N:
            raise ValueError(f"sample ids must be unique: {N - len(set(self.ids))} are repeated")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def right(self) -> np.ndarray:
        """(N,) whether the network was right."""
        return self.predictions == self.labels

    @property
    def table(self) -> pd.DataFrame:
        """A row per clip: label, prediction, class (their names), and a column per feature."""
        who = pd.Index(self.ids, name="id")
        names = np.array(self.label_names)
        first = {
            "label": names[self.labels],
            "prediction": names[self.predictions],
            "class": names[self.classes],
        }
        values = pd.DataFrame(self.values, index=who, columns=list(self.names))
        return pd.concat([pd.DataFrame(first, index=who), values], axis=1)

    def select(self, chosen: np.ndarray) -> Importance:
        """Return some of the clips: `chosen` as NumPy indexes an array."""
        return replace(
            self,
            ids=tuple(np.array(self.ids, dtype=object)[chosen]),
            labels=self.labels[chosen],
            predictions=self.predictions[chosen],
            classes=self.classes[chosen],
            values=self.values[chosen],
        )

    def select_ids(self, ids: Sequence[str]) -> Importance:
        """Return the clips of these ids, in this order, to compare two tables clip by clip.

        Raises:
            ValueError: a clip is not in the table; the message names up to five.
        """
        place = {name: i for i, name in enumerate(self.ids)}
        missing = [name for name in ids if name not in place]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(ids)} clips are not in the table: {', '.join(missing[:5])}"
            )
        return self.select(np.array([place[name] for name in ids], dtype=int))


def join_importance(parts: Sequence[Importance]) -> Importance:
    """Return the clips of all parts of a table, in their order."""
    return replace(
        parts[0],
        ids=tuple(name for part in parts for name in part.ids),
        labels=np.concatenate([part.labels for part in parts]),
        predictions=np.concatenate([part.predictions for part in parts]),
        classes=np.concatenate([part.classes for part in parts]),
        values=np.concatenate([part.values for part in parts]),
    )


def write_importance(importance: Importance, path: str | Path) -> None:
    """Write a Parquet table with columns id, label, prediction, class and importance.

    Raises:
        FileExistsError: the file exists.
    """
    table = pa.table(
        {
            "id": pa.array(importance.ids, pa.string()),
            "label": importance.labels,
            "prediction": importance.predictions,
            "class": importance.classes,
            "importance": list(importance.values.astype(np.float32)),
        }
    )
    notes = {
        "names": list(importance.names),
        "label_names": list(importance.label_names),
        "facts": importance.facts,
    }
    write_parquet(table, notes, path, kind="importance")


def read_importance(path: str | Path) -> Importance:
    """Read a table written by `write_importance`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a table of importance, or an incomplete file.
    """
    table, notes = read_parquet(path, kind="importance", made_by="`msg3d-lab importance`")
    return Importance(
        ids=tuple(table["id"].to_pylist()),
        labels=table["label"].to_numpy(),
        predictions=table["prediction"].to_numpy(),
        classes=table["class"].to_numpy(),
        values=np.array(table["importance"].to_pylist(), np.float32).reshape(
            len(table), len(notes["names"])
        ),
        names=tuple(notes["names"]),
        label_names=tuple(notes["label_names"]),
        facts=notes["facts"],
    )
