"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from msg3d_lab.data.loader import TestBatches, TrainBatches, prefetch
from msg3d_lab.data.store import Store
from msg3d_lab.model import MSG3D, save_model
from msg3d_lab.model.predict import predict
from msg3d_lab.training import recipes
from msg3d_lab.training.processes import Precision, launch
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import Run, create_run, machine_facts
from msg3d_lab.training.setup import build_model_of, clip_settings, open_store_of, test_batches_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["fit", "learning_rate_factor"]

log = logging.getLogger(__name__)


def fit(
    recipe: Recipe | str,
    *,
    data: Store | str | Path | None = None,
    run: str | Path | None = None,
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Precision = "32-true",
    progress: bool = True,
) -> Run:
    """Train the recipe's network and return its run.

    The weights kept are those after the last epoch. The test split is only watched (column
    `val_*` of metrics.csv); it decides nothing.

    Args:
        recipe: a recipe, the name of one, or the path of its YAML.
        data: the store; the recipe's default place if left out.
        run: the run's folder, which must not exist; `runs/<recipe's name>` if left out.
        device: "auto", "cpu", "cuda" or "mps".
        devices: processes per machine; what torchrun or srun started if left out, else one.
        num_nodes: machines, likewise.
        precision: of the arithmetic, in Lightning Fabric's words.
        progress: whether to show a progress bar.

    Raises:
        FileExistsError: the run folder exists.
        FileNotFoundError: no store.
        ValueError: the store does not fit the recipe; another number of processes runs than was
            asked for; the loss is not finite.
    """
    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    path = Path(run) if run is not None else Path("runs") / recipe.name
    if path.exists():  # on every process, before any waits for another
        raise FileExistsError(
            f"{path} exists already: name another run folder with --run, or remove it"
        )
    store = open_store_of(recipe, data)
    fabric = launch(device, devices=devices, num_nodes=num_nodes, precision=precision)
    settings = recipe.training
    torch.manual_seed(settings.seed)
    batches = TrainBatches(
        store,
        store.indices(recipe.data.train_split),
        batch_size=settings.batch_size,
        repeat=settings.repeat,
        seed=settings.seed,
        rotation=recipe.data.rotation,
        scale=recipe.data.scale,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        **clip_settings(recipe),
    )
    watched = test_batches_of(
        recipe,
        store,
        batch_size=settings.batch_size,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    total_batch = settings.batch_size * fabric.world_size
    peak = settings.learning_rate * total_batch / settings.learning_rate_batch
    net = build_model_of(recipe, store)
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=peak,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay,
    )
    environment: dict[str, Any] = {
        **machine_facts(),
        "device": str(fabric.device),
        "world_size": fabric.world_size,
        "precision": precision,
        "data": {"path": str(store.path), "fingerprint": store.fingerprint},
        "synthetic": store.synthetic,
        "recipe_hash": recipe.hash,
        "learning_rate": peak,
        "parameters": sum(p.numel() for p in net.parameters()),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    result = Run(path)
    if fabric.is_global_zero:
        result = create_run(path, recipe, environment)
    model, optimizer = fabric.setup(net, optimizer)
    rows = []
    start = time.perf_counter()
    with _Progress(recipe, len(batches), enabled=progress and fabric.is_global_zero) as bar:
        bar.say(
            f"learning rate {peak:.4g} = {settings.learning_rate:.4g} * {total_batch} / "
            f"{settings.learning_rate_batch} (recipe's rate, this batch, recipe's batch)"
        )
        for epoch in range(settings.epochs):
            row = _train_epoch(fabric, model, optimizer, batches, epoch, recipe, peak, bar)
            row |= _watch(fabric, net, watched, epoch, settings)
            rows.append(row)
            bar.finish_epoch(row)
            if fabric.is_global_zero:
                result.write_metrics(rows)
    environment["seconds"] = round(time.perf_counter() - start, 1)
    if fabric.is_global_zero:
        notes = {"label_names": list(store.label_names), "synthetic": store.synthetic}
        save_model(net, result.checkpoint, notes=notes)
        result.write_environment(environment)
    fabric.barrier()
    return result


def learning_rate_factor(step: int, *, steps_per_epoch: int, settings: recipes.Training) -> float:
    """The learning rate at a step, as a share of its peak.

    Linear growth over the warm-up, then half a cosine to 0 per step, or a tenth at each milestone.

    Args:
        step: steps done so far.
        steps_per_epoch: steps in an epoch.
        settings: the recipe's training section.
    """
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.schedule == "steps":
        return float(0.1 ** sum(step >= m * steps_per_epoch for m in settings.milestones))
    share = (step - warmup) / (settings.epochs * steps_per_epoch - warmup)
    return 0.5 * (1 + math.cos(math.pi * share))


def _train_epoch(
    fabric: Fabric,
    model: Any,
    optimizer: Any,
    batches: TrainBatches,
    epoch: int,
    recipe: Recipe,
    peak: float,
    bar: _Progress,
) -> dict[str, Any]:
    """Train one epoch; its row of metrics."""
    settings = recipe.training
    model.train()
    start = time.perf_counter()
    loss_sum = torch.zeros((), device=fabric.device)
    correct = torch.zeros((), device=fabric.device)
    seen, lr = 0, peak
    for step, batch in enumerate(prefetch(batches.epoch(epoch))):
        lr = peak * learning_rate_factor(
            epoch * len(batches) + step, steps_per_epoch=len(batches), settings=settings
        )
        for group in optimizer.param_groups:
            group["lr"] = lr
        x = torch.from_numpy(batch.x).to(fabric.device)
        labels = torch.from_numpy(batch.labels).to(fabric.device)
        logits = model(x)
        loss = F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
        if not torch.isfinite(loss):
            ids = ", ".join(batches.store.ids[i] for i in batch.indices[:4])
            raise ValueError(
                f"the loss is {loss.item()} at epoch {epoch + 1}, step {step + 1} (clips {ids}, "
                "...): a smaller learning_rate or a longer warmup_epochs usually helps"
            )
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        optimizer.step()
        seen += len(labels)
        loss_sum += loss.detach() * len(labels)
        correct += (logits.detach().argmax(1) == labels).sum()
        bar.step(loss_sum, correct, seen, seconds=time.perf_counter() - start)
    totals = _sum_over_processes(fabric, [loss_sum.item(), correct.item(), seen])
    seconds = time.perf_counter() - start
    return {
        "epoch": epoch + 1,
        "lr": lr,
        "train_loss": totals[0] / totals[2],
        "train_top1": totals[1] / totals[2],
        "seconds": round(seconds, 2),
        "clips_per_s": round(totals[2] / seconds, 1),
    }


def _watch(
    fabric: Fabric, net: MSG3D, watched: TestBatches, epoch: int, settings: recipes.Training
) -> dict[str, float]:
    """Loss and accuracy on the test split with one clip per sample, if this epoch is a turn."""
    turn = settings.watch_every and (epoch + 1) % settings.watch_every == 0
    if not turn and epoch + 1 < settings.epochs:
        return {"val_loss": math.nan, "val_top1": math.nan}
    net.eval()

    def forward(x: torch.Tensor) -> torch.Tensor:
        # The bare network: DDP would wait for the other processes at every batch, and their
        # shares of the samples may be a batch longer or shorter.
        with fabric.autocast():
            return net(x)

    loss_sum = correct = seen = 0.0
    for logits, labels, _ in predict(forward, prefetch(watched), device=fabric.device):
        scores, targets = torch.from_numpy(logits[:, 0]), torch.from_numpy(labels)
        loss_sum += F.cross_entropy(scores, targets, reduction="sum").item()
        correct += (scores.argmax(1) == targets).sum().item()
        seen += len(labels)
    totals = _sum_over_processes(fabric, [loss_sum, correct, seen])
    return {"val_loss": totals[0] / totals[2], "val_top1": totals[1] / totals[2]}


def _sum_over_processes(fabric: Fabric, values: list[float]) -> np.ndarray:
    mine = torch.tensor(values, device=fabric.device)
    return cast(torch.Tensor, fabric.all_reduce(mine, reduce_op="sum")).cpu().numpy()


class _Progress:
    """One bar over all epochs, so that its ETA is the run's."""

    def __init__(self, recipe: Recipe, steps_per_epoch: int, *, enabled: bool) -> None:
        self._name, self._epochs = recipe.name, recipe.training.epochs
        self._epoch = 1
        self._bar = tqdm(
            total=self._epochs * steps_per_epoch,
            desc=f"{recipe.name} epoch 1/{self._epochs}",
            unit="step",
            disable=not enabled,
            dynamic_ncols=True,
            smoothing=0,  # the mean over the run, looks at the test split included
        )

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def say(self, line: str) -> None:
        """Leave a line above the bar, or in the log where no bar is shown."""
        if self._bar.disable:
            log.info(line)
        else:
            self._bar.write(line)

    def step(
        self, loss_sum: torch.Tensor, correct: torch.Tensor, seen: int, *, seconds: float
    ) -> None:
        """Count a step; numbers are read from the device only when the bar is drawn anyway."""
        if self._bar.update():
            self._bar.set_postfix_str(
                f"loss {loss_sum.item() / seen:.3f}, top-1 {100 * correct.item() / seen:.1f} %, "
                f"{seen / seconds:.0f} clips/s"
            )

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Leave a line about the epoch above the bar."""
        watched = "" if math.isnan(row["val_top1"]) else f", test {100 * row['val_top1']:.1f} %"
        self.say(
            f"epoch {row['epoch']:3d}: loss {row['train_loss']:.3f}, "
            f"train {100 * row['train_top1']:.1f} %{watched}, {row['clips_per_s']:.0f} clips/s"
        )
        self._epoch += 1
        if self._epoch <= self._epochs:
            self._bar.set_description(f"{self._name} epoch {self._epoch}/{self._epochs}")
