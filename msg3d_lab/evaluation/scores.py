"""Class scores by sample id: reading, writing and joining them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.special import softmax

from msg3d_lab.files import read_parquet, write_parquet
from msg3d_lab.training.matching.recipe import name_some

if TYPE_CHECKING:
    from msg3d_lab.training.runs import Run


Kind = Literal["softmax", "logits"]


@dataclass(frozen=True)
class Scores:
    """Class scores of samples.

    Args:
        ids: sample ids, unique.
        labels: (N,) true classes.
        values: (N, classes) float32 without NaN; `facts["kind"]` says what they are.
        label_names: class names.
        facts: where they come from: split, clips, kind ("softmax" or "logits"), data set, ...
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
            raise ValueError(f"sample ids must be unique, found {N - len(set(self.ids))} repeated")
        broken = np.flatnonzero(np.isnan(self.values).any(axis=1))
        if len(broken):
            raise ValueError(
                f"the scores of {len(broken)} of {N} samples are not numbers (NaN), the first is "
                f"{self.ids[broken[0]]}: the network that gave them is broken"
            )

    @property
    def predictions(self) -> np.ndarray:
        """(N,) the class with the highest score."""
        return self.values.argmax(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """(N,) bool, whether the highest score is that of the true class."""
        return self.predictions == self.labels

    @property
    def dataset(self) -> str:
        """The data set's name; generated data are called synthetic."""
        name = str(self.facts.get("dataset") or "data set unknown")
        generated = self.facts.get("synthetic") and "synthetic" not in name
        return f"{name} (synthetic)" if generated else name

    @property
    def kind(self) -> Kind:
        """What the values are: as recorded, else guessed from them."""
        recorded: Kind | None = self.facts.get("kind")
        return recorded or guess_kind(self.values)

    @property
    def probabilities(self) -> np.ndarray:
        """(N, classes) float32, each row adding up to 1: the softmax of logits, or the values."""
        if self.kind == "logits":
            return softmax(self.values, axis=1)
        return self.values / self.values.sum(axis=1, keepdims=True)

    def select(self, rows: np.ndarray) -> Scores:
        """Return the scores of some samples, in the order of `rows`."""
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            labels=self.labels[rows],
            values=self.values[rows],
        )


def guess_kind(values: np.ndarray) -> Kind:
    """Tell softmax scores from logits: no score is below 0, and each row adds up to 1.

    Shapes:
        values: (N, classes)
    """
    sums = values.sum(axis=1, dtype=np.float64)
    softmax = (values >= 0).all() and np.allclose(sums, 1, rtol=0, atol=2e-3)
    return "softmax" if softmax else "logits"


def write_scores(scores: Scores, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a Parquet table with the columns id, label, prediction and scores.

    Raises:
        FileExistsError: the file exists.
    """
    import pyarrow as pa

    table = pa.table(
        {
            "id": pa.array(scores.ids, pa.string()),
            "label": pa.array(scores.labels, pa.int64()),
            "prediction": pa.array(scores.predictions, pa.int64()),
            "scores": pa.array(list(scores.values.astype(np.float32)), pa.list_(pa.float32())),
        }
    )
    notes = {"label_names": list(scores.label_names), "facts": scores.facts}
    write_parquet(table, notes, path, kind="scores", overwrite=overwrite)


def read_scores(path: str | Path) -> Scores:
    """Read what `write_scores` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a table of scores, or a damaged one.
    """
    table, known = read_parquet(
        path, kind="scores", made_by="`msg3d-lab test` and `msg3d-lab scores`"
    )
    try:
        names, rows = known["label_names"], table["scores"].to_numpy()
        return Scores(
            ids=tuple(table["id"].to_pylist()),
            labels=table["label"].to_numpy(),
            values=np.stack(rows) if len(rows) else np.zeros((0, len(names)), np.float32),
            label_names=tuple(names),
            facts=known["facts"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def read_run_scores(run: Run, *, suffix: str = "") -> Scores:
    """Read a run's test scores.

    Args:
        run: a tested run.
        suffix: of the scores on another store than the run's own (`MatchedStore.suffix`).

    Raises:
        FileNotFoundError: the run has not been tested.
        ValueError: a damaged file.
    """
    path = run.scores_path.with_stem(run.scores_path.stem + suffix)
    if not path.is_file():
        raise FileNotFoundError(
            f"{run.path} has no test scores ({path.name}): run `msg3d-lab test {run.path}`"
        )
    return read_scores(path)


def align(scores: Sequence[Scores]) -> list[Scores]:
    """Return several networks' scores with their samples in the order of the first.

    Scores are joined by sample id, never by position. Different samples or labels are refused,
    because a fusion or comparison of them would still give a number.

    Raises:
        ValueError: class names differ; an id is missing from some; the true class of a sample
            differs. Up to five are named.
    """
    first = scores[0]
    return [first, *(_align_with(first, other, n) for n, other in enumerate(scores[1:], 2))]


def _align_with(first: Scores, other: Scores, number: int) -> Scores:
    """Return `other`, the scores of that number, with its samples in the order of `first`."""
    pairs = enumerate(zip_longest(first.label_names, other.label_names))
    names = [f"{i}: {one!r} and {two!r}" for i, (one, two) in pairs if one != two]
    if names:
        raise ValueError(
            f"expected the same {len(first.label_names)} class names, found other ones in scores "
            f"{number} ({name_some(names)}): give both the names of one store"
        )
    row_of = {name: row for row, name in enumerate(other.ids)}
    wanted = set(first.ids)
    missing = [name for name in first.ids if name not in row_of]
    added = [name for name in other.ids if name not in wanted]
    if missing or added:
        differences = [
            f"{len(names)} missing from scores {lacking} ({name_some(names)})"
            for names, lacking in ((missing, number), (added, 1))
            if names
        ]
        raise ValueError(
            f"expected the same sample ids in scores 1 and scores {number}, found "
            f"{', '.join(differences)}: test both on the same split of the same data"
        )
    found = other.select(np.array([row_of[name] for name in first.ids], dtype=np.int64))
    wrong = np.flatnonzero(found.labels != first.labels)
    if len(wrong):
        named = name_some(f"{first.ids[i]}: {first.labels[i]} and {found.labels[i]}" for i in wrong)
        raise ValueError(
            f"expected the same true class for each id, found {len(wrong)} that differ between "
            f"scores 1 and scores {number} ({named}): they are not of the same data"
        )
    return found
