"""Fine-tuning: the weights of another network that training starts from.

The network must be the recipe's in everything but its classes and its dropout: then every tensor
but the classifier's has the same shape and the same meaning, and is loaded. Nothing is resized. The
classifier is loaded if it has the same classes, else it is new.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from msg3d_lab.checksums import digest
from msg3d_lab.model import MSG3D, load_model
from msg3d_lab.model.checkpoints import find_checkpoint, read_notes
from msg3d_lab.model.weights import published_weights
from msg3d_lab.training import recipes
from msg3d_lab.training.runs import Run

if TYPE_CHECKING:
    import pandas as pd


_HEAD = ("fc.weight", "fc.bias")
UNTRACED = ("window_dilations", "tcn_dilations")  # leave no trace in the files of others


@dataclass(frozen=True)
class InitialWeights:
    """Weights that training starts from.

    Args:
        sha256: of the file.
        name: of published weights, or None.
        model: the file's network.
        label_names: its classes; None if the file does not say.
        own: whether the file is one of this library's, which know all arguments of the network.
    """

    path: Path
    sha256: str
    name: str | None
    model: MSG3D
    label_names: Sequence[str] | None
    own: bool

    @property
    def record(self) -> dict[str, Any]:
        """What environment.json says."""
        return {"path": str(self.path.resolve()), "sha256": self.sha256, "name": self.name}

    def check(self, net: MSG3D) -> None:
        """Check that a network can start from these weights.

        Raises:
            ValueError: other persons, channels or joints, or another network; the message says why
                that matters and what to do.
        """
        wants = net.arguments
        problems = [*self._other_input(net), *self._other_graph(net)]
        ignored = ["num_classes", "skeleton", "in_channels", "num_persons", "dropout"]
        ignored += [] if self.own else UNTRACED
        differs = differing_arguments(self.model, wants, ignored=ignored)
        if differs:
            text = recipes.setting_text
            listed = ", ".join(
                f"{n} {text(v)} and not {text(wants[n])}" for n, v in differs.items()
            )
            change = " ".join(f"{n}={text(v)}" for n, v in differs.items())
            problems.append(f"its network has {listed}: train with --set {change}")
        if problems:
            raise ValueError(f"cannot start from {self.path}: {'; '.join(problems)}")

    def keeps_head(self, label_names: Sequence[str]) -> bool:
        """Whether the classifier is loaded: as many classes, and no other ones as far as known."""
        if self.label_names is not None:
            return list(self.label_names) == list(label_names)
        return self.model.num_classes == len(label_names)

    def load_into(self, net: MSG3D, *, label_names: Sequence[str]) -> None:
        """Load the tensors into a network of the recipe, in place, after `check`."""
        self.check(net)
        head = self.keeps_head(label_names)
        theirs, own = self.model.state_dict(), net.state_dict()
        loaded = {name: theirs[name] for name in own if head or name not in _HEAD}
        net.load_state_dict({**own, **loaded})

    def tensors(self, net: MSG3D, *, label_names: Sequence[str]) -> pd.DataFrame:
        """Return a row per tensor of the network: its part, status, shapes and number of values.

        The status is "loaded", or "new" for a classifier of other classes.
        """
        import pandas as pd

        head = self.keeps_head(label_names)
        theirs = self.model.state_dict()
        return pd.DataFrame(
            {
                "tensor": name,
                "part": _part(name),
                "status": "loaded" if head or name not in _HEAD else "new",
                "shape": _shape(tensor),
                "shape_in_file": _shape(theirs[name]),
                "values": tensor.numel(),
            }
            for name, tensor in net.state_dict().items()
        )

    def describe(self, net: MSG3D, *, label_names: Sequence[str]) -> str:
        """Return what was loaded, as a line and a table of the network's parts."""
        tensors = self.tensors(net, label_names=label_names)
        parts = (
            tensors.groupby(["part", "status"], sort=False)
            .agg(tensors=("tensor", "size"), values=("values", "sum"))
            .reset_index()
        )
        new = int((tensors["status"] == "new").sum())
        lines = [
            f"starts from {self.name or self.path} (sha256 {self.sha256[:12]}): "
            f"{len(tensors) - new} tensors loaded, {new} new",
            parts.to_string(index=False),
        ]
        if new:
            lines.append(
                f"the classifier is new: {len(label_names)} classes of the store, "
                f"{self.model.num_classes} other ones in the file"
            )
        return "\n".join(lines)

    def _other_input(self, net: MSG3D) -> list[str]:
        problems = []
        has, wants = self.model, net
        if has.num_persons != wants.num_persons:
            problems.append(
                f"it takes {has.num_persons} persons and the recipe {wants.num_persons}, and "
                "data_bn has weights for each person, joint and channel: train with --set "
                f"num_persons={has.num_persons} (missing persons are zeros, surplus ones are cut)"
            )
        if has.in_channels != wants.in_channels:
            problems.append(
                f"it takes {has.in_channels} channels and the store has {wants.in_channels}, and "
                "data_bn and the first block have weights for each channel: import the data with "
                f"{has.in_channels} channels, or train without initial weights"
            )
        if has.skeleton.joints != wants.skeleton.joints:
            problems.append(
                f"it is for {has.skeleton.num_joints} joints of {has.skeleton.name} and the store "
                f"has {wants.skeleton.num_joints} of {wants.skeleton.name}, and data_bn and the "
                "masks of the graphs have weights for each joint: import the data with "
                f"{has.skeleton.name}, choose weights of {wants.skeleton.name}, or train without "
                "initial weights"
            )
        return problems

    def _other_graph(self, net: MSG3D) -> list[str]:
        has, wants = self.model.skeleton, net.skeleton
        if has.joints != wants.joints or (has.adjacency == wants.adjacency).all():
            return []
        cure = (
            f"train with --set edge_set={has.edge_set}"
            if has.edge_set not in (None, wants.edge_set)
            else "choose weights of the same layout, or train without initial weights"
        )
        return [
            f"its graph is {has.label} and the recipe's {wants.label}, and the weights are for the "
            f"neighbours in that graph: {cure}"
        ]


def read_initial_weights(
    init: str | Path | None, *, run: Path, resume: bool
) -> InitialWeights | None:
    """Read the weights that a run starts from; None if there are none, or they are not needed.

    Args:
        init: a file that `load_model` reads, a run's folder, or the name of published weights,
            which are downloaded if they are not there.
        resume: whether the run of that folder goes on. From a checkpoint it needs no other weights,
            and these are not read; stopped before its first one it starts again, from the weights
            that it was started with.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not a checkpoint, or has changed since the run began; other
            weights than the run began with.
    """
    begun = resume and (run / "environment.json").is_file()
    record: dict[str, Any] | None = Run(run).environment.get("init") if begun else None
    if begun and (Run(run).has_checkpoint or Run(run).checkpoint.is_file()):
        _check_same(init, record, run)
        return None
    if init is None and record is not None:
        init = record["path"]
    if init is None:
        return None
    try:
        path = find_checkpoint(init)
    except FileNotFoundError as error:
        if record is None:
            raise
        raise FileNotFoundError(
            f"{run} was stopped before its first checkpoint and starts again from {init}, which is "
            "not there any more: put it back, or name a copy of it with --init (init=)"
        ) from error
    sha256 = digest(path)
    if begun and (record is None or record["sha256"] != sha256):
        found = "no initial weights" if record is None else record["path"]
        raise ValueError(
            f"{run} was stopped before its first checkpoint and starts again from {found}, and the "
            f"weights now in {path} are others: resume with what it was started with, or start a "
            "new run"
        )
    model = load_model(path)
    published = next((w for w in published_weights().values() if w.file == path.name), None)
    notes, own = read_known_notes(path)
    names = notes.get("label_names")
    if published is not None:
        names = recipes.get(published.recipe).label_names
    if names is not None and len(names) != model.num_classes:
        names = None
    return InitialWeights(
        path, sha256, None if published is None else published.name, model, names, own
    )


def _check_same(init: str | Path | None, record: dict[str, Any] | None, run: Path) -> None:
    """Refuse to resume a run with other weights; a file that is gone is as good as none."""
    if init is None or (record is not None and str(init) == record["name"]):
        return
    try:
        path = find_checkpoint(init).resolve()
    except FileNotFoundError:
        return
    if record is None or (str(path) != record["path"] and digest(path) != record["sha256"]):
        found = "none" if record is None else record["path"]
        raise ValueError(
            f"{run} cannot be resumed: the initial weights were {found} and are {path} now. Resume "
            "with what it was started with, or start a new run"
        )


def differing_arguments(
    model: MSG3D, wants: Mapping[str, Any], *, ignored: Collection[str]
) -> dict[str, Any]:
    """Return the arguments of a model that are not as wanted; pathways have no order."""
    return {
        name: model.arguments[name]
        for name, value in wants.items()
        if name not in ignored
        and model.arguments[name] != value
        and (name != "pathways" or set(model.arguments[name]) != set(value))
    }


def read_known_notes(path: Path) -> tuple[dict[str, Any], bool]:
    """Return the notes of a file, with what its run knows, and whether it is one of ours."""
    try:
        notes = read_notes(path)
    except ValueError:
        return {}, False
    environment = path.parent / "environment.json"
    if environment.is_file():
        facts = Run(path.parent).environment.get("data", {})
        known = {n: facts[n] for n in ("label_names", "preparation") if n in facts}
        notes = known | notes
    return notes, True


def _part(name: str) -> str:
    words = name.split(".")
    return f"block{int(words[1]) + 1}" if words[0] == "blocks" else words[0]


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
