"""Test clips that are also trained on, under another name."""

from __future__ import annotations

import numpy as np

from msg3d_lab.evaluation.scores import Scores
from msg3d_lab.training.matching.tested_store import MatchedStore


def describe_copies(scores: Scores, tested: MatchedStore, *, trained: str) -> str:
    """Say how many tested clips are in the training split as well, and how the others did.

    Args:
        scores: of clips of the tested store.
        trained: the run's training split.

    Returns:
        A sentence; nothing if there are no such clips, or the store does not have the training
        clips of the run.
    """
    store = tested.store
    if not tested.is_own or trained not in store.splits:
        return ""
    places = {name: place for place, name in enumerate(store.ids)}
    indices = np.array([places[name] for name in scores.ids])
    copied = store.copies(indices, of=store.indices(trained))
    if not copied.any():
        return ""
    text = f"{copied.sum()} of the {len(copied)} clips are in {trained} too"
    others = scores.correct[~copied]
    return f"{text}; top-1 of the others: {100 * others.mean():.2f} %" if others.size else text
