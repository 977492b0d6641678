"""Scores of several networks on the same samples, joined by sample id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from msg3d_lab.evaluation.scores import Scores

__all__ = ["aligned"]

_SHOWN = 5


def aligned(scores: Sequence[Scores]) -> list[Scores]:
    """Return the scores with their samples in the first one's order.

    Scores are joined by id, never by position: what does not belong together is refused, since a
    fusion or a comparison of different samples gives a number all the same.

    Args:
        scores: of the same samples, in whatever order.

    Raises:
        ValueError: none given; class names differ; an id that not all have; a sample whose true
            class differs. Up to five are named.
    """
    if not scores:
        raise ValueError("expected at least one set of scores, found none")
    first = scores[0]
    return [first, *(_joined(first, other, place) for place, other in enumerate(scores[1:], 2))]


def _joined(first: Scores, other: Scores, place: int) -> Scores:
    """Return the other in the first one's order."""
    if other.label_names != first.label_names:
        raise ValueError(_names_differ(first.label_names, other.label_names, place))
    if other.ids == first.ids:
        order = np.arange(len(first.ids))
    else:
        where = {name: row for row, name in enumerate(other.ids)}
        here = set(first.ids)
        missing = [name for name in first.ids if name not in where]
        added = [name for name in other.ids if name not in here]
        if missing or added:
            parts = [
                f"{len(names)} missing from scores {lacking} ({_some(names)})"
                for names, lacking in ((missing, place), (added, 1))
                if names
            ]
            raise ValueError(
                f"expected the same sample ids in scores 1 and scores {place}, found "
                f"{', '.join(parts)}: test both on the same split of the same data"
            )
        order = np.array([where[name] for name in first.ids], dtype=np.int64)
    labels = other.labels[order]
    wrong = np.flatnonzero(labels != first.labels)
    if len(wrong):
        named = _some(f"{first.ids[i]}: {first.labels[i]} and {labels[i]}" for i in wrong)
        raise ValueError(
            f"expected the same true class for each id, found {len(wrong)} that differ between "
            f"scores 1 and scores {place} ({named}): they are not of the same data"
        )
    return Scores(
        ids=first.ids,
        labels=labels,
        values=other.values[order],
        label_names=other.label_names,
        facts=other.facts,
    )


def _names_differ(first: tuple[str, ...], other: tuple[str, ...], place: int) -> str:
    """Say how the class names differ."""
    if len(first) != len(other):
        return (
            f"expected the same classes, found {len(first)} in scores 1 and {len(other)} in scores "
            f"{place}: they are not of the same data"
        )
    pairs = [(i, *names) for i, names in enumerate(zip(first, other, strict=True))]
    named = _some(f"{i}: {one!r} and {two!r}" for i, one, two in pairs if one != two)
    return (
        f"expected the same class names, found other ones in scores {place} ({named}): give both "
        "the names of one store"
    )


def _some(names: Iterable[str]) -> str:
    """Name the first few."""
    listed = list(names)
    return ", ".join(listed[:_SHOWN]) + (", ..." if len(listed) > _SHOWN else "")
