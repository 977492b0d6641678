"""Peak memory of training, measured by training a few steps in a fresh process.

Memory is measured and not counted: allocators cannot use every gap again, and libraries have
buffers of their own. The process is a fresh one, because a used one keeps memory from before.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

import numpy as np
import torch

from msg3d_lab.allocator import tune_allocator
from msg3d_lab.data.batches.loader import Batch
from msg3d_lab.data.store import Store, open_store
from msg3d_lab.model.cost import noise
from msg3d_lab.training import recipes
from msg3d_lab.training.diagnostics.trial import new_state, with_batch_size
from msg3d_lab.training.distributed.processes import Precision
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.step import train_step

log = logging.getLogger(__name__)

_STEPS = 3  # the optimizer's state is there from the second one on
_STATUS = Path("/proc/self/status")


def peak_memory(
    recipe: Recipe,
    store: Store,
    *,
    batch_size: int,
    device: str = "cpu",
    precision: Precision = "32-true",
) -> int | None:
    """Train a few steps in a fresh process, on noise with all persons, and return its peak memory.

    Returns:
        Bytes. On a CPU the most memory that was resident, Python and PyTorch included, with the
        allocator tuned as in the shell; on a GPU the most that PyTorch reserved. None where the
        system does not tell (a CPU without Linux, "mps"), or if the process failed; that is logged.
    """
    if device not in ("cpu", "cuda") or (device == "cpu" and not _STATUS.exists()):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        recipes.save(with_batch_size(recipe, batch_size), path)
        code = f"from {__name__} import main; main()"
        words = [sys.executable, "-c", code, str(path), str(store.path), device, precision]
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    if done.returncode:  # most likely memory ran out
        why = done.stderr.strip().split("\n")[-1] or "no message"
        log.warning(
            "the peak memory of %d clips is not known: the process that trained them ended with "
            "code %d (%s)",
            batch_size, done.returncode, why,
        )  # fmt: skip
        return None
    return int(done.stdout.split()[-1])


def main() -> None:
    """Train a few steps and print the peak memory; the fresh process does this."""
    tune_allocator()
    recipe, store = recipes.load(sys.argv[1]), open_store(sys.argv[2])
    state = new_state(recipe, store, device=sys.argv[3], precision=cast(Precision, sys.argv[4]))
    clips = recipe.training.batch_size
    x, zeros = noise(state.net, clips, recipe.data.clip_len).numpy(), np.zeros(clips, np.int64)
    state.train()
    for _ in range(_STEPS):
        train_step(state, Batch(x, zeros, zeros), total_clips=clips, lr=0.0)
    print(_peak(state.fabric.device))


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    # getrusage does not help: its peak includes that of the parent process before the fork.
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return 1024 * int(kilobytes)
