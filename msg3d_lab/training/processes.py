"""Several processes: what torchrun or srun started, and Lightning Fabric on top of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Precision", "gather", "launch"]

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
        ValueError: another number of processes runs than was asked for, or there is no such device.
    """
    from lightning_fabric import Fabric

    started, machines = _started()
    devices, num_nodes = devices or started, num_nodes or machines
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


def _started() -> tuple[int, int]:
    """(processes per machine, machines) as torchrun or srun announce them; (1, 1) without."""
    environment = os.environ
    if "LOCAL_WORLD_SIZE" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        return local, int(environment["WORLD_SIZE"]) // local
    # Fabric takes srun's processes for its own under the same conditions.
    interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_NTASKS" in environment and not interactive:
        tasks, machines = (int(environment.get(f"SLURM_{n}", "1")) for n in ("NTASKS", "NNODES"))
        if tasks % machines:
            raise ValueError(
                f"srun started {tasks} tasks on {machines} machines: start as many on each, with "
                "--ntasks-per-node"
            )
        return tasks // machines, machines
    return 1, 1
