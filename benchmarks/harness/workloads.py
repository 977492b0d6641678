"""What is measured: forms of the network, and training steps and evaluations of each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from reference import ReferenceMSG3D
from torch import Tensor

from msg3d_lab.model import MSG3D
from msg3d_lab.model.fused import fuse

Precision = Literal["fp32", "tf32", "bf16"]
Form = Literal["reference", "ours", "fused", "compiled"]
ONE_PERSON = 0.82  # the fraction of NTU60's recordings with one person, about; the rest have two


@dataclass(frozen=True)
class Case:
    """A workload.

    Attributes:
        kind: "train", a whole step with SGD, or "eval".
        batch: clips at a time.
        one_person: the fraction of clips with one person; the others have two.
    """

    kind: Literal["train", "eval"]
    batch: int
    one_person: float = 0.0

    @property
    def batches(self) -> int:
        """Batches of one run: 1, 2, 4 or 8, for a number of single persons near the fraction."""
        wanted = self.one_person * self.batch
        near = (
            n for n in (1, 2, 4) if abs(round(n * wanted) - n * wanted) <= 0.02 * n * self.batch
        )
        return next(near, 8)

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


def make_form(form: Form, model: MSG3D, *, training: bool) -> Callable[[Tensor], Tensor]:
    """Copy a network into one of its forms, which has `parameters()`.

    Args:
        form: "reference", "ours"; for evaluation "fused", or "compiled", which is fused as well.
        model: on the device to measure on.
        training: whether it is to be trained.

    Raises:
        ValueError: the inference form is asked to train.
    """
    if training and form in ("fused", "compiled"):
        raise ValueError(f"{form!r} is a form for evaluation: it has no training step")
    if form == "reference":
        return ReferenceMSG3D.from_model(model, training=training)
    network = copy.deepcopy(model).train(training)
    if form == "ours":
        return network
    fused = fuse(network)
    if form == "compiled":
        # On CUDA with CUDA graphs.
        fused.compile(mode="reduce-overhead" if next(model.parameters()).is_cuda else None)
    return fused


def make_clips(
    case: Case, *, clip_len: int, model: MSG3D, device: str = "cpu"
) -> list[tuple[Tensor, Tensor]]:
    """Return a run's batches of noise, (clips, labels); a missing second person is all zeros."""
    generator = torch.Generator().manual_seed(0)
    M, V, C = model.num_persons, model.skeleton.num_joints, model.in_channels
    x = torch.randn(case.clips, M, clip_len, V, C, generator=generator)
    # Spread evenly over the batches.
    count = torch.arange(case.clips + 1) * case.singles // case.clips
    x[count[1:] > count[:-1], 1:] = 0
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
    """Return one run: a training step with SGD on every batch, or their logits.

    fp32 and tf32 differ on CUDA only; bf16 is autocast.
    """
    arithmetic = partial(in_precision, precision, device=batches[0][0].device.type)
    if case.kind == "eval":

        def evaluate() -> list[Tensor]:
            with torch.inference_mode(), arithmetic():
                return [network(x) for x, _ in batches]

        return evaluate
    optimizer = torch.optim.SGD(
        network.parameters(), 1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4
    )

    def train() -> None:
        for x, labels in batches:
            optimizer.zero_grad(set_to_none=True)
            with arithmetic():
                loss = F.cross_entropy(network(x), labels)
            loss.backward()
            optimizer.step()

    return train


def in_precision(precision: Precision, *, device: str) -> AbstractContextManager[object]:
    """Return a context for a forward pass; TF32 is switched for the whole process."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()
