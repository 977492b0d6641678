"""Everything that changes during training, and what a checkpoint holds of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.optim.swa_utils import AveragedModel

from msg3d_lab.data.store import Store
from msg3d_lab.model import MSG3D
from msg3d_lab.training.distributed.collectives import gather, sum_over_processes
from msg3d_lab.training.distributed.sync_norm import synchronise
from msg3d_lab.training.ema import build_ema
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.schedule import peak_lr
from msg3d_lab.training.settings import Training
from msg3d_lab.training.setup import (
    balanced_class_weights,
    build_model,
    build_optimizer,
    freeze,
)
from msg3d_lab.training.validation import split_validation
from msg3d_lab.training.weights.initial import InitialWeights

if TYPE_CHECKING:
    from lightning_fabric import Fabric


_VERSION = 2  # of a checkpoint's content
# What a checkpoint holds as it is.
_PLAIN = ("epoch", "step", "rows", "skipped", "skipped_in_a_row", "lr", "best", "without_best")


@dataclass
class TrainState:
    """Everything that changes during training. `capture` has all that a run is resumed from.

    Args:
        net: the bare network.
        model: the network as Fabric set it up.
        optimizer: likewise.
        ema: the average of the weights, if the recipe asks for one.
        initial: the weights that training started from, if any.
        frozen: parts of the network that are not trained.
        class_weights: of the loss, by class, if the recipe asks for them.
        epoch: epochs finished.
        step: steps done of the running epoch.
        rows: of metrics.csv.
        sums: (2,), the losses and the right answers of this process in the running epoch.
        seen: clips of this process in the running epoch.
        skipped: steps of the running epoch that were skipped because they were not finite.
        skipped_in_a_row: such steps since the last good one.
        lr: the learning rate of the last step.
        best: epoch and top-1 of the best validation; and its weights, if they may be kept.
        without_best: validations since the best one.
        epoch_clock: monotonic time of the running epoch's start, pauses taken out.
        run_clock: likewise of the run.
        saved: what the last checkpoint is of, in words.
    """

    fabric: Fabric
    settings: Training
    net: MSG3D
    model: Any
    optimizer: Any
    ema: AveragedModel | None
    initial: InitialWeights | None = None
    frozen: Sequence[torch.nn.Module] = ()
    class_weights: torch.Tensor | None = None
    epoch: int = 0
    step: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    sums: torch.Tensor = field(init=False)
    seen: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    lr: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    without_best: int = 0
    epoch_clock: float = field(default_factory=time.monotonic)
    run_clock: float = field(default_factory=time.monotonic)
    saved: str = "none yet"

    def __post_init__(self) -> None:
        self.sums = torch.zeros(2, device=self.fabric.device)

    @property
    def evaluated(self) -> torch.nn.Module:
        """The network that is evaluated and kept: the average of the weights, if there is one."""
        return self.ema.module if self.ema else self.net

    def train(self) -> None:
        """Put the network into training mode, and its frozen parts into evaluation mode."""
        self.model.train()
        for part in self.frozen:
            part.eval()

    @torch.no_grad()
    def average_statistics(self) -> None:
        """Replace the running statistics by their mean over the processes."""
        for buffer in self._statistics():
            mean = self.fabric.all_reduce(buffer, reduce_op="mean")
            buffer.copy_(cast(torch.Tensor, mean))

    def _statistics(self) -> list[torch.Tensor]:
        """The buffers that training changes, also those of the average of the weights."""
        nets = [self.net, self.ema.module] if self.ema else [self.net]
        return [b for net in nets for name, b in net.named_buffers() if "running_" in name]

    @property
    def place(self) -> str:
        """Where training is, in words."""
        if self.step:
            return f"step {self.step} of epoch {self.epoch + 1}"
        return f"the end of epoch {self.epoch}" if self.epoch else "the start"

    def so_far(self, steps_per_epoch: int) -> dict[str, float]:
        """Return the running epoch's row so far, of this process's clips; 2.5 is within the third.

        Reading the sums waits for a GPU.
        """
        loss, correct = (self.sums / self.seen).tolist()
        return {
            "epoch": self.epoch + self.step / steps_per_epoch,
            "lr": self.lr,
            "train_loss": loss,
            "train_top1": correct,
            "clips_per_s": self.seen / max(time.monotonic() - self.epoch_clock, 1e-9),
        }

    def epoch_metrics(self) -> dict[str, Any]:
        """The row of metrics.csv on training in the running epoch, over all processes."""
        loss, correct, seen = sum_over_processes(self.fabric, [*self.sums.tolist(), self.seen])
        seconds = time.monotonic() - self.epoch_clock
        return {
            "epoch": self.epoch + 1,
            "lr": self.lr,
            "train_loss": loss / seen if seen else float("nan"),
            "train_top1": correct / seen if seen else float("nan"),
            "skipped": self.skipped,
            "seconds": round(seconds, 2),
            "clips_per_s": round(seen / seconds, 1),
        }

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Keep the epoch's row and begin the next epoch."""
        self.rows.append(row)
        self.epoch += 1
        self.step = self.seen = self.skipped = 0
        self.sums = torch.zeros_like(self.sums)
        self.epoch_clock = time.monotonic()

    def capture(self) -> dict[str, Any]:
        """Return all that `restore` needs; called on every process, the first one's is complete.

        Raises:
            ValueError: the weights are not finite.
        """
        device = self.fabric.device
        generators = {"cpu": torch.get_rng_state()}
        if device.type != "cpu":
            generators[device.type] = torch.get_device_module(device).get_rng_state()
        own: dict[str, Any] = {"generators": generators, "sums": self.sums.cpu(), "seen": self.seen}
        if self.settings.average_statistics:  # until the end of the epoch each process has its own
            own["statistics"] = [buffer.cpu() for buffer in self._statistics()]
        processes = gather(self.fabric, own)
        network = self.net.state_dict()
        if not all(bool(torch.isfinite(v).all()) for v in network.values()):
            raise ValueError(f"after {self.place} the weights are not finite; {self.advice()}")
        now = time.monotonic()
        return {
            "version": _VERSION,
            **{name: getattr(self, name) for name in _PLAIN},
            "network": network,
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "precision": self.fabric.strategy.precision.state_dict(),  # fp16's loss scale
            "processes": processes,
            "epoch_seconds": now - self.epoch_clock,
            "run_seconds": now - self.run_clock,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a captured state.

        Raises:
            ValueError: another version of the library wrote it.
        """
        if saved["version"] != _VERSION:
            raise ValueError(
                "the checkpoint is of another version of msg3d-lab: finish the run with that one, "
                "or start a new run"
            )
        for name in _PLAIN:
            setattr(self, name, saved[name])
        self.net.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.ema:
            self.ema.load_state_dict(saved["ema"])
        if saved["precision"]:
            self.fabric.strategy.precision.load_state_dict(saved["precision"])
        own = saved["processes"][self.fabric.global_rank]
        self.sums, self.seen = own["sums"].to(self.fabric.device), own["seen"]
        for kind, generator in own["generators"].items():
            (torch if kind == "cpu" else torch.get_device_module(kind)).set_rng_state(generator)
        for buffer, value in zip(self._statistics(), own.get("statistics", ()), strict=False):
            buffer.copy_(value)
        now = time.monotonic()
        self.epoch_clock, self.run_clock = now - saved["epoch_seconds"], now - saved["run_seconds"]
        self.saved = self.place

    def advice(self) -> str:
        """What to do about numbers that are not finite, in words."""
        return (
            f"last good checkpoint: {self.saved}. A smaller learning_rate, a longer warmup_epochs "
            "or a clip_norm usually helps, in a new run; to resume this one without such steps: "
            "--on-nan skip (on_nan='skip')"
        )


def build_state(
    recipe: Recipe, store: Store, fabric: Fabric, *, initial: InitialWeights | None = None
) -> TrainState:
    """Build a recipe's network, optimizer and EMA, at their start, as Fabric needs them."""
    settings = recipe.training
    net = build_model(recipe, store)
    if initial is not None:
        initial.load_into(net, label_names=store.label_names)
        if "fc" in settings.freeze and not initial.keeps_head(store.label_names):
            raise ValueError(
                f"freeze={list(settings.freeze)}, but the classifier is new, because "
                f"{initial.path} has other classes: leave fc out"
            )
    frozen = freeze(net, settings.freeze)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(trained, settings, lr=peak_lr(settings, fabric.world_size))
    prepared = synchronise(net, fabric) if settings.sync_norm else net
    model, fabric_optimizer = fabric.setup(prepared, optimizer)
    ema = build_ema(net, settings.ema_decay) if settings.ema_decay else None
    weights = None
    if settings.class_weights == "balanced":
        labels = store.labels[split_validation(store, recipe)[0]]
        weights = balanced_class_weights(labels, num_classes=store.num_classes).to(fabric.device)
    return TrainState(
        fabric,
        settings,
        net,
        model,
        fabric_optimizer,
        ema,
        initial=initial,
        frozen=frozen,
        class_weights=weights,
    )
