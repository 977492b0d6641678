"""Hold the labels of NTU recordings against the actions in their names."""

from __future__ import annotations

from collections.abc import Sequence

from msg3d_lab.data.datasets import Dataset, parse_ntu_name


def check_ntu_labels(labelled: Sequence[tuple[str, int]], *, where: str, dataset: Dataset) -> None:
    """Hold the labels of NTU recordings against the actions in their names."""
    numbers = [(name, label, parse_ntu_name(name)) for name, label in labelled]
    foreign = [name for name, _, n in numbers if n is not None and not n.is_of(dataset.name)]
    if foreign:
        other = next((d for d in ("ntu60", "ntu120") if d != dataset.name), "")
        raise ValueError(
            f"{where} has {len(foreign)} recordings that {dataset.name} does not have, for example "
            f"{foreign[0]}: is it {other}? Then import it as that"
        )
    wrong = [(name, label, n.action) for name, label, n in numbers if n and label != n.action - 1]
    if not wrong:
        return
    name, label, action = wrong[0]
    every = len(wrong) == sum(n is not None for _, _, n in numbers)
    cause = (
        "All labels are one too high: they start at 1. Subtract 1. "
        if every and all(label == action for _, label, action in wrong)
        else ""
    )
    raise ValueError(
        f"{where}: the labels of {len(wrong)} of {len(labelled)} recordings contradict their "
        f"names, for example {name}: its name says action {action}, which is label {action - 1} of "
        f"{dataset.name}, found label {label}. {cause}For labels of your own give a "
        "name of your own: --dataset NAME --layout ntu25 (or coco17)"
    )
