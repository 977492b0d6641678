"""Scores by sample id: written to Parquet, read back, never paired by position."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from msg3d_lab.files import write_aside

__all__ = ["Kind", "Scores", "kind_of", "read_scores", "write_scores"]

Kind = Literal["softmax", "logits"]

_KEY = b"msg3d_lab.scores"


@dataclass(frozen=True)
class Scores:
    """Class scores of test samples.

    Args:
        ids: sample ids, unique.
        labels: (N,) true classes.
        values: (N, classes) float32, no NaN; what they are is in `facts["kind"]`.
        label_names: class names.
        facts: how they came about: split, clips, kind ("softmax" or "logits"), data set, ...
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    values: np.ndarray
    label_names: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shapes and ids."""
        N, K = len(self.ids), len(self.label_names)
        if self.labels.shape != (N,) or self.values.shape != (N, K):
            raise ValueError(
                f"expected {N} labels and scores ({N}, {K}), found {self.labels.shape} and "
                f"{self.values.shape}"
            )
        if len(set(self.ids)) != N:
            raise ValueError(f"sample ids must be unique: {N - len(set(self.ids))} occur again")
        broken = np.flatnonzero(np.isnan(self.values).any(axis=1))
        if len(broken):
            raise ValueError(
                f"{len(broken)} of {N} samples have scores that are no numbers (NaN), the first is "
                f"{self.ids[broken[0]]}: the network that gave them is broken"
            )

    @property
    def predictions(self) -> np.ndarray:
        """(N,) the classes with the highest score."""
        return self.values.argmax(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """(N,) bool, whether the highest score is that of the true class."""
        return self.predictions == self.labels

    @property
    def kind(self) -> Kind:
        """What the values are: as recorded, or what they look like."""
        recorded: Kind | None = self.facts.get("kind")
        return recorded or kind_of(self.values)

    @property
    def probabilities(self) -> np.ndarray:
        """(N, classes) float32, each row adding up to 1: the softmax of logits, or the values."""
        if self.kind == "logits":
            exponents = np.exp(self.values - self.values.max(axis=1, keepdims=True))
            return exponents / exponents.sum(axis=1, keepdims=True)
        return self.values / self.values.sum(axis=1, keepdims=True)


def kind_of(values: np.ndarray) -> Kind:
    """Tell softmax scores from logits: no score below 0, and each row adds up to 1.

    Logits that happen to do both are not told apart; nobody has seen any.

    Shapes:
        values: (N, classes)
    """
    sums = values.sum(axis=1, dtype=np.float64)
    softmax = (values >= 0).all() and np.allclose(sums, 1, rtol=0, atol=2e-3)
    return "softmax" if softmax else "logits"


def write_scores(scores: Scores, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a Parquet table with columns id, label, prediction and scores.

    Raises:
        FileExistsError: the file exists.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "id": pa.array(scores.ids, pa.string()),
            "label": pa.array(scores.labels, pa.int64()),
            "prediction": pa.array(scores.predictions, pa.int64()),
            "scores": pa.array(list(scores.values.astype(np.float32)), pa.list_(pa.float32())),
        }
    )
    notes = json.dumps({"label_names": list(scores.label_names), "facts": scores.facts})
    with write_aside(path, overwrite=overwrite) as aside:
        table = table.replace_schema_metadata({_KEY: notes})
        pq.write_table(table, aside, write_page_checksum=True)


def read_scores(path: str | Path) -> Scores:
    """Read what `write_scores` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a table of scores, or a damaged one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with Path(path).open("rb") as file:
        try:
            table = pq.read_table(file, page_checksum_verification=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ValueError(f"{path} is not a whole Parquet file: {error}") from error
    notes = (table.schema.metadata or {}).get(_KEY)
    if notes is None:
        raise ValueError(f"{path} holds no scores of MS-G3D Lab: make them with `msg3d-lab test`")
    try:
        known = json.loads(notes)
        names: Sequence[str] = known["label_names"]
        rows = table["scores"].to_numpy()
        return Scores(
            ids=tuple(table["id"].to_pylist()),
            labels=table["label"].to_numpy(),
            values=np.stack(rows) if len(rows) else np.zeros((0, len(names)), np.float32),
            label_names=tuple(names),
            facts=known["facts"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
