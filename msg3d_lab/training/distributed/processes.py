"""Several processes: what torchrun or srun started, and Lightning Fabric on top of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from msg3d_lab.data.batches.loader import TrainBatches

__all__ = ["Precision", "gather", "launch", "share_of_mean"]

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def launch(
    device: str,
    *,
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Precision = "32-true",
) -> Fabric:
    """Join the processes that torchrun or srun started; a single process without them.

    Args:
        device: "auto", "cpu", "cuda" or "mps".
        devices: processes per machine; what was started if left out.
        num_nodes: machines; what was started on if left out.
        precision: of the arithmetic.

    Raises:
        ValueError: another number of processes runs than was asked for, srun was not told how many
            run on each machine, a process does not see the GPUs of all, or there is no such device.
    """
    from lightning_fabric import Fabric

    started, machines = _started()
    devices, num_nodes = devices or started, num_nodes or machines
    _check_gpus(device, started)
    try:
        fabric = Fabric(
            accelerator=device, devices=devices, num_nodes=num_nodes, precision=precision
        )
    except RuntimeError as error:  # Fabric's word for a device that is not there
        raise ValueError(f"cannot compute on {device!r}: {error}") from error
    if started * machines != devices * num_nodes:
        raise ValueError(
            f"{devices} devices on {num_nodes} machines were asked for, but {started * machines} "
            "processes were started: start them with torchrun or srun and the same numbers"
        )
    fabric.launch()
    if fabric.world_size != devices * num_nodes:
        raise ValueError(f"expected {devices * num_nodes} processes, found {fabric.world_size}")
    return fabric


def gather(fabric: Fabric, mine: Any) -> list[Any]:
    """Return every process's object, in the order of their ranks, on every process."""
    if fabric.world_size == 1:
        return [mine]
    import torch.distributed

    everyone: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def share_of_mean(clips: int, *, batches: TrainBatches) -> float:
    """What to multiply this process's mean loss with, so that all clips of a step count the same.

    The gradients of the processes are averaged, which is the mean over clips only if each process
    has as many. They have, but for a training set that does not fill one batch: there it is this
    process's clips * processes / all clips.

    Args:
        clips: in this process's batch.
        batches: what the batch is from.
    """
    every = len(batches.indices) * batches.repeat
    return clips * batches.world_size / min(every, batches.batch_size * batches.world_size)


def _started() -> tuple[int, int]:
    """(processes per machine, machines) as torchrun or srun announce them; (1, 1) without."""
    environment = os.environ
    if "LOCAL_WORLD_SIZE" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        return local, int(environment["WORLD_SIZE"]) // local
    # Fabric takes srun's processes for its own under the same conditions.
    interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_NTASKS" not in environment or interactive:
        return 1, 1
    tasks, machines = (int(environment.get(f"SLURM_{n}", "1")) for n in ("NTASKS", "NNODES"))
    if tasks % machines:
        raise ValueError(
            f"srun started {tasks} tasks on {machines} machines: start as many on each, with "
            "--ntasks-per-node"
        )
    if tasks > 1 and "SLURM_STEP_ID" not in environment:
        # The batch script itself has the variables of its job, but is one process: it would wait
        # for the others for ever.
        raise ValueError(
            f"this Slurm job has {tasks} tasks, but was started without srun: put srun in front of "
            "the command"
        )
    if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in environment:
        raise ValueError(
            f"srun started {tasks} tasks on {machines} machines without saying how many on each: "
            f"start it with --ntasks-per-node={tasks // machines} instead of --ntasks"
        )
    return tasks // machines, machines


def _check_gpus(device: str, processes: int) -> None:
    """Refuse processes that do not see a GPU each; what Fabric says then does not help."""
    import torch

    if device not in ("auto", "cuda") or processes == 1 or not torch.cuda.is_available():
        return
    seen = torch.cuda.device_count()
    if seen < processes:
        raise ValueError(
            f"{processes} processes run on this machine, but this one sees {seen} GPUs of the "
            f"{processes} it needs to see, to take its own: start as many processes as GPUs; on "
            f"Slurm ask with --gpus-per-node={processes} and without --gpus-per-task or --gpu-bind"
        )
