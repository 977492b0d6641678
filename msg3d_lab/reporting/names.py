"""The names that tables of results use for data and streams."""

from __future__ import annotations

from collections.abc import Mapping

from msg3d_lab.evaluation.fusion import STREAM_WEIGHTS

# Fused streams as named in published.csv, with their weights.
FUSIONS: Mapping[str, Mapping[str, float]] = {
    "joint+bone": {"joint": 1.0, "bone": 1.0},
    "2 joint+2 bone+joint_motion+bone_motion": STREAM_WEIGHTS,
}
# Streams and fusions as tables show them, in the order of the tables.
STREAM_NAMES = {
    "joint": "joint",
    "bone": "bone",
    "joint_motion": "joint motion",
    "bone_motion": "bone motion",
    **dict(zip(FUSIONS, ("two-stream", "four-stream"), strict=True)),
}
_DATASETS = {
    "ntu60": "NTU60",
    "ntu120": "NTU120",
    "nw-ucla": "NW-UCLA",
    "utd-mhad": "UTD-MHAD",
    "kinetics400": "Kinetics400",
}
_SPLITS = {"xsub": "X-Sub", "xview": "X-View", "xset": "X-Set", "kinetics": ""}
_INPUTS = {
    "ntu25": "3D (ntu25)",
    "nw-ucla20": "3D (nw-ucla20)",
    "utd-mhad20": "3D (utd-mhad20)",
    "coco17": "2D (HRNet, coco17)",
    "openpose18": "2D (OpenPose, openpose18)",
}


def input_name(layout: str) -> str:
    """Return the name of a joint layout as an input, as in published.csv."""
    return _INPUTS.get(layout, layout)


def data_name(dataset: str, split: str, input_: str, *, synthetic: bool = False) -> str:
    """Return the name of data, such as "NTU60 X-Sub 3D"; generated data are called synthetic.

    Example:
        >>> data_name("ntu60", "xsub", "2D (HRNet, coco17)")
        'NTU60 X-Sub 2D'
    """
    words = [_DATASETS.get(dataset, dataset), _SPLITS.get(split, split), input_.partition(" ")[0]]
    if synthetic and "synthetic" not in dataset:
        words.append("(synthetic)")
    return " ".join(word for word in words if word)
