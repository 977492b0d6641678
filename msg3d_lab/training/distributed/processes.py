"""Join the processes that torchrun or srun started, with Lightning Fabric."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def launch(
    device: str,
    *,
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Precision = "32-true",
    broadcast_buffers: bool = True,
) -> Fabric:
    """Join the processes that torchrun or srun started; without them this is a single process.

    Args:
        device: "auto", "cpu", "cuda" or "mps".
        devices: processes per machine. Default: as many as were started.
        num_nodes: machines. Default: as many as processes were started on.
        precision: of the arithmetic.
        broadcast_buffers: whether the first process's running statistics replace those of the
            others before every forward pass in training, as in DDP.

    Raises:
        ValueError: another number of processes runs than was asked for, srun was not told how many
            run on each machine, a process does not see the GPUs of all, or there is no such device.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    started, machines = _started()
    devices, num_nodes = devices or started, num_nodes or machines
    _check_gpus(device, started)
    apart = not broadcast_buffers and devices * num_nodes > 1
    try:
        _announce(started)
        with warnings.catch_warnings():  # on a cluster, also where one process is what is wanted
            warnings.filterwarnings("ignore", "The `srun` command is available")
            fabric = Fabric(
                accelerator=device,
                devices=devices,
                num_nodes=num_nodes,
                precision=precision,
                strategy=DDPStrategy(broadcast_buffers=False) if apart else "auto",
            )
    except RuntimeError as error:  # what Fabric raises if there is no such device
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


def resolve_device(device: str) -> torch.device:
    """Return the device that "auto" and the other names stand for on this machine.

    Raises:
        ValueError: there is no such device.
    """
    there = torch.accelerator.current_accelerator(check_available=True)
    known = {"cpu": torch.device("cpu")} | ({there.type: there} if there else {})
    found = {**known, "auto": there or known["cpu"]}.get(device)
    if found is None:
        raise ValueError(
            f"cannot compute on {device!r}: PyTorch finds {' and '.join(known)} on this machine"
        )
    return found


def _started() -> tuple[int, int]:
    """(processes per machine, machines) from torchrun's or srun's environment; else (1, 1)."""
    environment = os.environ
    if "LOCAL_WORLD_SIZE" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        return local, int(environment["WORLD_SIZE"]) // local
    tasks, machines = (int(environment.get(f"SLURM_{n}", "1")) for n in ("NTASKS", "NNODES"))
    if tasks == 1 or _is_shell():
        return 1, 1
    if "SLURM_STEP_ID" not in environment:
        # The batch script itself has its job's variables, but is one process: it would wait for
        # the others for ever.
        raise ValueError(
            f"this Slurm job has {tasks} tasks, but was started without srun: put srun in front of "
            "the command"
        )
    # "2(x3)" are two on each of three machines, "2,1" two on one and one on another.
    if tasks % machines or "," in environment.get("SLURM_STEP_TASKS_PER_NODE", ""):
        raise ValueError(
            f"srun started {tasks} tasks on {machines} machines, not as many on each: start as "
            "many on each, with --ntasks-per-node"
        )
    return tasks // machines, machines


def _is_shell() -> bool:
    """Whether this is one process of a shell inside an allocation, which has its variables."""
    environment = os.environ
    alone = int(environment.get("SLURM_STEP_NUM_TASKS", "1")) == 1
    named = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return named and (alone or "SLURM_PTY_PORT" in environment)


def _announce(started: int) -> None:
    """Say how many processes srun started on each machine, and that it did, as Fabric expects it.

    srun says the first only if it was given --ntasks-per-node, and Fabric takes the name of jobs of
    salloc, and of `srun bash SCRIPT`, for that of a shell.
    """
    environment = os.environ
    if "SLURM_NTASKS" in environment and "LOCAL_WORLD_SIZE" not in environment and not _is_shell():
        environment["SLURM_NTASKS_PER_NODE"] = str(started)
        environment["SLURM_JOB_NAME"] = "msg3d-lab"


def _check_gpus(device: str, processes: int) -> None:
    """Refuse processes that do not see a GPU each; Fabric's own message does not help."""
    if device not in ("auto", "cuda") or processes == 1 or not torch.cuda.is_available():
        return
    seen = torch.cuda.device_count()
    if seen < processes:
        raise ValueError(
            f"{processes} processes run on this machine, but this one sees {seen} GPUs of the "
            f"{processes} it needs to see, to take its own: start as many processes as GPUs; on "
            f"Slurm ask with --gpus-per-node={processes} and without --gpus-per-task or --gpu-bind"
        )
