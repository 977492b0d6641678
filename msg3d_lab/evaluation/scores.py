"""Scores by sample id: written to Parquet, read back, never paired by position."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from msg3d_lab.files import write_aside

__all__ = ["Scores", "read_scores", "write_scores"]

_KEY = b"msg3d_lab.scores"


@dataclass(frozen=True)
class Scores:
    """Class scores of test samples.

    Args:
        ids: sample ids, unique.
        labels: (N,) true classes.
        values: (N, classes) float32; what they are is in `facts["kind"]`.
        label_names: class names.
        facts: how they came about: split, clips, kind ("softmax"), data set, recipe, ...
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

    @property
    def predictions(self) -> np.ndarray:
        """(N,) the classes with the highest score."""
        return self.values.argmax(axis=1)


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
        pq.write_table(table.replace_schema_metadata({_KEY: notes}), aside)


def read_scores(path: str | Path) -> Scores:
    """Read what `write_scores` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a table of scores.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a whole Parquet file: {error}") from error
    metadata = table.schema.metadata or {}
    if _KEY not in metadata:
        raise ValueError(f"{path} holds no scores of MS-G3D Lab: make them with `msg3d-lab test`")
    notes = json.loads(metadata[_KEY])
    names: Sequence[str] = notes["label_names"]
    values = np.stack(table["scores"].to_numpy())
    return Scores(
        ids=tuple(table["id"].to_pylist()),
        labels=table["label"].to_numpy(),
        values=values,
        label_names=tuple(names),
        facts=notes["facts"],
    )
