"""The validation part: the training clips of some subjects, held back so that they may decide."""

from __future__ import annotations

import numpy as np

from msg3d_lab.data.store import Store
from msg3d_lab.training.recipes import Recipe

__all__ = ["split_validation"]


def split_validation(store: Store, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Divide a recipe's training split into clips to train on and clips to validate on.

    By subject, because clips of one person resemble each other: a part drawn at random would be
    easier than the test split. Best epochs and early stops are chosen on it, never on test data.

    Args:
        store: an open store.
        recipe: names the split and the subjects; without subjects there is no validation part.

    Returns:
        Positions in the store, ascending: int64. Together they are the training split.

    Raises:
        ValueError: no such split; a subject that is not in it; clips whose subject is unknown; no
            clips left to train on.
    """
    split, wanted = recipe.data.train_split, recipe.data.validation_subjects
    indices = store.indices(split)
    if not wanted:
        return indices, indices[:0]
    subjects = store.samples["subject"].iloc[indices]
    unknown = int(subjects.isna().sum())
    if unknown:
        some = "none" if unknown == len(indices) else f"only {len(indices) - unknown}"
        raise ValueError(
            f"validation_subjects={list(wanted)} needs the subject of every training clip, but "
            f"{some} of the {len(indices)} clips in {split} of {store.path.name} have one: import "
            "the data set with subjects, or set validation_subjects=[]"
        )
    numbers = subjects.to_numpy(dtype=np.int64)
    present = np.unique(numbers).tolist()
    missing = sorted(set(wanted) - set(present))
    if missing:
        raise ValueError(
            f"validation_subjects={list(wanted)}: {split} of {store.path.name} has no clips of "
            f"{', '.join(map(str, missing))}; expected some of {', '.join(map(str, present))}"
        )
    held_back = np.isin(numbers, wanted)
    if held_back.all():
        raise ValueError(
            f"validation_subjects={list(wanted)} are all subjects of {split} of {store.path.name}: "
            "leave some to train on"
        )
    return indices[~held_back], indices[held_back]
