"""What is measured: the sides, and what each of them does."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from msg3d_lab.model import MSG3D

__all__ = [
    "Case",
    "Kind",
    "Precision",
    "Side",
    "arithmetic",
    "clips_for",
    "difference",
    "make_side",
    "make_work",
    "yardstick",
]

Kind = Literal["train", "eval"]
Precision = Literal["fp32", "tf32", "bf16"]
Side = Literal["yardstick", "ours", "fused", "compiled"]
ONE_PERSON = 0.82  # of NTU60's recordings, about; the rest have two


@dataclass(frozen=True)
class Case:
    """A piece of work.

    Attributes:
        kind: "train", a whole step with SGD, or "eval".
        batch: clips at a time.
        one_person: the share of clips with one person; the others have two.
    """

    kind: Kind
    batch: int
    one_person: float = 0.0

    @property
    def batches(self) -> int:
        """Batches that make one run: as many as it takes for a fair share of single persons."""
        wanted = self.one_person * self.batch
        fair = (
            n for n in (1, 2, 4) if abs(round(n * wanted) - n * wanted) <= 0.02 * n * self.batch
        )
        return next(fair, 8)

    @property
    def clips(self) -> int:
        """Clips of one run."""
        return self.batches * self.batch

    @property
    def singles(self) -> int:
        """Clips of one run with one person."""
        return round(self.one_person * self.clips)

    @property
    def label(self) -> str:
        """For a table."""
        if self.kind == "eval" and self.batch == 1:
            what = "latency, one clip"
        else:
            what = (
                f"{'training step' if self.kind == 'train' else 'evaluation'}, batch {self.batch}"
            )
        persons = f"{self.singles} of {self.clips} clips with one person"
        return f"{what}, {persons if self.singles else 'two persons'}"


def yardstick() -> Any:
    """The class of the plain formulation, from the checkout's benchmarks folder.

    Raises:
        FileNotFoundError: the library was installed without it.
    """
    path = Path(__file__).parents[2] / "benchmarks" / "plain_msg3d.py"
    if not path.is_file():
        raise FileNotFoundError(
            "the yardstick is benchmarks/plain_msg3d.py of a checkout, and this installation is "
            "none: clone the repository and install it with pip install -e . , or measure without "
            "--against"
        )
    spec = importlib.util.spec_from_file_location("plain_msg3d", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PlainMSG3D


def make_side(side: Side, model: MSG3D, *, training: bool) -> Callable[[Tensor], Tensor]:
    """A copy of the network in one of its forms; with `parameters()`.

    Args:
        side: "yardstick", "ours"; for evaluation "fused", or "compiled" from that.
        model: on the device to measure on.
        training: whether it is to be trained.

    Raises:
        ValueError: the inference form is asked to train.
    """
    if training and side in ("fused", "compiled"):
        raise ValueError(f"{side!r} is a form for evaluation: it has no training step")
    if side == "yardstick":
        plain: Callable[[Tensor], Tensor] = yardstick().of(model, training=training)
        return plain
    network = copy.deepcopy(model).train(training)
    if side == "ours":
        return network
    from msg3d_lab.model.fuse import fuse

    fused = fuse(network)
    if side == "fused":
        return fused
    mode = "reduce-overhead" if next(model.parameters()).is_cuda else None  # CUDA graphs
    fused.compile(mode=mode)
    return fused


def clips_for(
    case: Case, *, clip_len: int, model: MSG3D, device: str = "cpu"
) -> list[tuple[Tensor, Tensor]]:
    """A run's batches of noise, (clips, labels); the second body of single persons is empty."""
    generator = torch.Generator().manual_seed(0)
    M, V, C = model.num_persons, model.skeleton.num_joints, model.in_channels
    x = torch.randn(case.clips, M, clip_len, V, C, generator=generator)
    # Spread evenly, so that every batch gets its share.
    count = torch.arange(case.clips + 1) * case.singles // case.clips
    single = count[1:] > count[:-1]
    x[single, 1:] = 0
    labels = torch.randint(model.num_classes, (case.clips,), generator=generator)
    batches = zip(torch.split(x, case.batch), torch.split(labels, case.batch), strict=True)
    return [(clips.to(device), targets.to(device)) for clips, targets in batches]


def make_work(
    case: Case,
    network: Callable[[Tensor], Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    precision: Precision,
) -> Callable[[], object]:
    """One run: a training step with SGD on every batch, or their logits.

    fp32 and tf32 differ on CUDA only; bf16 is autocast on either side.
    """
    device = batches[0][0].device.type
    settings = partial(arithmetic, precision, device=device)
    if case.kind == "eval":

        def evaluate() -> list[Tensor]:
            with torch.inference_mode(), settings():
                return [network(x) for x, _ in batches]

        return evaluate
    parameters = list(network.parameters())  # type: ignore[attr-defined]
    optimizer = torch.optim.SGD(parameters, 1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def train() -> None:
        for x, labels in batches:
            optimizer.zero_grad(set_to_none=True)
            with settings():
                loss = F.cross_entropy(network(x), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return train


def arithmetic(precision: Precision, *, device: str) -> AbstractContextManager[object]:
    """A context for a forward pass in this precision; TF32 is switched for the whole process."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()


def difference(
    model: MSG3D, sides: Mapping[Side, Callable[[Tensor], Tensor]], x: Tensor
) -> dict[Side, float]:
    """How far each side's logits are from the model's own, relative to their size."""
    with torch.inference_mode():
        own = model(x)
        return {name: ((net(x) - own).norm() / own.norm()).item() for name, net in sides.items()}
