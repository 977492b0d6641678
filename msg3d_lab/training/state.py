"""Everything that changes during training."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from msg3d_lab.model import MSG3D
from msg3d_lab.training.distributed.processes import gather
from msg3d_lab.training.optimization import Average

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["State", "advice"]


@dataclass
class State:
    """Everything that changes during training. What is in `capture` is all a run goes on from.

    Args:
        fabric: the processes and their devices.
        net: the bare network.
        model: the network as Fabric set it up.
        optimizer: likewise.
        average: of the weights, if the recipe asks for one.
        epoch: epochs finished.
        step: steps of the epoch that are done.
        rows: of metrics.csv.
        sums: (2,), this process's losses and right answers in the epoch so far.
        seen: this process's clips in the epoch so far.
        skipped: steps of the epoch left out because of numbers that are not finite.
        skipped_in_a_row: such steps since the last good one.
        lr: the last step's learning rate.
        best: top-1 at the best look; with the weights if they may be kept.
        looks: since the best one.
        epoch_clock: monotonic time at which the epoch would have begun without a break.
        run_clock: likewise for the run.
        saved: where the last checkpoint is, in words.
    """

    fabric: Fabric
    net: MSG3D
    model: Any
    optimizer: Any
    average: Average | None
    epoch: int = 0
    step: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    sums: torch.Tensor = field(init=False)
    seen: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    lr: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    looks: int = 0
    epoch_clock: float = field(default_factory=time.monotonic)
    run_clock: float = field(default_factory=time.monotonic)
    saved: str = "none yet"

    def __post_init__(self) -> None:
        self.sums = torch.zeros(2, device=self.fabric.device)

    @property
    def place(self) -> str:
        """Where training is, in words."""
        if self.step:
            return f"step {self.step} of epoch {self.epoch + 1}"
        return f"the end of epoch {self.epoch}" if self.epoch else "the start"

    def start_epoch(self) -> None:
        """Forget the sums of the epoch before."""
        self.step = self.seen = self.skipped = 0
        self.sums = torch.zeros_like(self.sums)
        self.epoch_clock = time.monotonic()

    def capture(self) -> dict[str, Any]:
        """All there is, for `restore`; every process must ask, the first one's is whole.

        Raises:
            ValueError: the weights are not finite, so nobody should go on from them.
        """
        device = self.fabric.device
        generators = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            generators["cuda"] = torch.cuda.get_rng_state(device)
        elif device.type == "mps":
            generators["mps"] = torch.mps.get_rng_state()
        own = {"generators": generators, "sums": self.sums.cpu(), "seen": self.seen}
        processes = gather(self.fabric, own)
        network = self.net.state_dict()
        if not all(bool(torch.isfinite(v).all()) for v in network.values()):
            raise ValueError(f"after {self.place} the weights are not finite; {advice(self.saved)}")
        now = time.monotonic()
        return {
            "version": 1,
            "epoch": self.epoch,
            "step": self.step,
            "rows": self.rows,
            "network": network,
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "precision": self.fabric.strategy.precision.state_dict(),  # fp16's loss scale
            "processes": processes,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "lr": self.lr,
            "best": self.best,
            "looks": self.looks,
            "epoch_seconds": now - self.epoch_clock,
            "run_seconds": now - self.run_clock,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a captured state."""
        for name in (
            "epoch", "step", "rows", "skipped", "skipped_in_a_row", "lr", "best", "looks"
        ):  # fmt: skip
            setattr(self, name, saved[name])
        self.net.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.average:
            self.average.load_state_dict(saved["average"])
        if saved["precision"]:
            self.fabric.strategy.precision.load_state_dict(saved["precision"])
        own = saved["processes"][self.fabric.global_rank]
        self.sums, self.seen = own["sums"].to(self.fabric.device), own["seen"]
        generators = own["generators"]
        torch.set_rng_state(generators["cpu"])
        if "cuda" in generators:
            torch.cuda.set_rng_state(generators["cuda"], self.fabric.device)
        if "mps" in generators:
            torch.mps.set_rng_state(generators["mps"])
        now = time.monotonic()
        self.epoch_clock, self.run_clock = now - saved["epoch_seconds"], now - saved["run_seconds"]
        self.saved = self.place


def advice(saved: str) -> str:
    """What to do about numbers that are not finite."""
    return (
        f"last good checkpoint: {saved}. A smaller learning_rate, a longer warmup_epochs or a "
        "clip_norm usually helps, in a new run; to resume this one without such steps: "
        "--on-nan skip (on_nan='skip')"
    )
