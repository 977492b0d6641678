"""The data sets of the field: joint layouts, class names, protocols and their splits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

_XSUB60_TRAIN = frozenset(
    (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
)  # fmt: skip
_XSUB120_TRAIN = _XSUB60_TRAIN | frozenset(
    (45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86,
     89, 91, 92, 93, 94, 95, 97, 98, 100, 103)
)  # fmt: skip
_XVIEW_TRAIN = frozenset((2, 3))
_NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")


@dataclass(frozen=True)
class Dataset:
    """A data set that can be imported."""

    name: str  # the name in `--dataset`
    title: str  # its full name
    layouts: tuple[str, ...]  # the joint layouts in which it is distributed
    # class names in the order of the labels; empty if the source has them
    label_names: tuple[str, ...]
    protocols: tuple[str, ...]  # its evaluation protocols; each has a `_train` and a `_val` split


def _read_list(name: str) -> tuple[str, ...]:
    text = (Path(__file__).with_name("lists") / name).read_text(encoding="ascii")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


_NTU120 = _read_list("ntu120-classes.txt")
_NW_UCLA, _UTD_MHAD = _read_list("nw-ucla-classes.txt"), _read_list("utd-mhad-classes.txt")
DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("ntu60", "NTU RGB+D 60", ("ntu25", "coco17"), _NTU120[:60], ("xsub", "xview")),
        Dataset("ntu120", "NTU RGB+D 120", ("ntu25", "coco17"), _NTU120, ("xsub", "xset")),
        Dataset(
            "nw-ucla",
            "Northwestern-UCLA",
            ("nw-ucla20",),
            _NW_UCLA,
            ("xview", "view1to2", "view2to1"),
        ),
        Dataset("utd-mhad", "UTD-MHAD", ("utd-mhad20",), _UTD_MHAD, ("xsub",)),
        Dataset("kinetics400", "Kinetics-Skeleton 400", ("openpose18",), (), ("kinetics",)),
    )
}


def default_store(dataset: str, layout: str, *, preparation: str | None = None) -> Path:
    """Return the default path of a data set's store.

    That of NTU says whether it is 2D or 3D, and whether it was prepared as in the paper or pyskl,
    that of NW-UCLA whether clips were turned to the body.

    Example:
        >>> default_store("ntu60", "ntu25", preparation="prepare_paper").name
        'ntu60-3d-paper.arrow'
    """
    if not dataset.startswith("ntu"):
        aligned = "-aligned" * (dataset == "nw-ucla" and preparation == "prepare_3d")
        return Path("data") / f"{dataset}{aligned}.arrow"
    dimensions = {"coco17": "-2d", "ntu25": "-3d"}.get(layout, "")
    kind = {"prepare_paper": "-paper", "prepare_2d_pyskl": "-pyskl"}.get(preparation or "", "")
    return Path("data") / f"{dataset}{dimensions}{kind}.arrow"


class NTUName(NamedTuple):
    """The numbers in the name of an NTU recording, `SsssCcccPpppRrrrAaaa`, all 1-based."""

    setup: int
    camera: int
    subject: int
    repetition: int
    action: int

    def is_of(self, dataset: str) -> bool:
        """Whether "ntu60" or "ntu120" has such a recording."""
        if dataset == "ntu60":
            return 1 <= self.setup <= 17 and 1 <= self.action <= 60
        return 1 <= self.setup <= 32 and 1 <= self.action <= 120


def parse_ntu_name(name: str) -> NTUName | None:
    """Read the numbers in an NTU name; None if it is not one.

    Example:
        >>> parse_ntu_name("S001C002P003R002A013").action
        13
    """
    match = _NTU_NAME.fullmatch(name)
    return NTUName(*map(int, match.groups())) if match else None


def ntu_facts(name: str) -> dict[str, int]:
    """Return subject, camera and setup from an NTU name; an empty dict if it is not one."""
    numbers = parse_ntu_name(name)
    if numbers is None:
        return {}
    return {"subject": numbers.subject, "camera": numbers.camera, "setup": numbers.setup}


def ntu_splits(name: str, *, dataset: str = "ntu60") -> tuple[str, ...]:
    """Return the splits of an NTU recording, by the rules of the data set's authors.

    X-Sub (both data sets): by subject. X-View (NTU60): cameras 2 and 3 are the training part. X-Set
    (NTU120): even setups are the training part.

    Raises:
        ValueError: not an NTU name, or a data set without these rules.

    Source: Shahroudy et al., CVPR 2016, section 3.2; Liu et al., TPAMI 2019, section 3.2.

    Example:
        >>> ntu_splits("S001C001P001R001A001")
        ('xsub_train', 'xview_val')
    """
    numbers = parse_ntu_name(name)
    if numbers is None:
        raise ValueError(f"expected a name such as S001C002P003R002A013, found {name!r}")
    if dataset == "ntu60":
        rules = {"xsub": numbers.subject in _XSUB60_TRAIN, "xview": numbers.camera in _XVIEW_TRAIN}
    elif dataset == "ntu120":
        rules = {"xsub": numbers.subject in _XSUB120_TRAIN, "xset": numbers.setup % 2 == 0}
    else:
        raise ValueError(f"expected ntu60 or ntu120, found {dataset!r}")
    return tuple(f"{rule}_{'train' if train else 'val'}" for rule, train in rules.items())


def check_ntu_labels(labelled: Sequence[tuple[str, int]], *, where: str, dataset: Dataset) -> None:
    """Raise ValueError if labels of NTU recordings contradict the actions in their names."""
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


@cache
def missing_skeletons(dataset: str) -> frozenset[str]:
    """Return the recordings of NTU without whole skeletons, by the data set's authors."""
    names = _read_list("ntu120-missing-skeletons.txt")
    return frozenset(name for name in names if dataset == "ntu120" or name < "S018")
