"""How much memory a training process really holds: more than its tensors need.

The C library cuts tensors of many sizes out of one heap and cannot use every gap again, and oneDNN
has buffers of its own. How much that is can only be measured, in a fresh process: one that has run
before holds what it held then.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from msg3d_lab.data.store import Store, open_store
from msg3d_lab.training import recipes
from msg3d_lab.training.diagnostics.trial import new_state
from msg3d_lab.training.distributed.processes import Precision
from msg3d_lab.training.recipes import Recipe

__all__ = ["held_bytes", "main"]

log = logging.getLogger(__name__)

_STEPS = 3
_STATUS = Path("/proc/self/status")
# What `msg3d_lab.tune_allocator` sets, as glibc reads it at a process's start.
_TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_ARENA_MAX": "1",
}


def held_bytes(
    recipe: Recipe, store: Store, *, batch: int, precision: Precision = "32-true"
) -> int | None:
    """The most that a fresh process holds that trains a few steps on `batch` clips of noise.

    With the allocator tuned as in the shell; Python and PyTorch themselves are included.

    Args:
        recipe: whose network and optimizer.
        store: decides classes, joints and channels.
        batch: clips at a time.
        precision: of the arithmetic.

    Returns:
        Resident memory at its highest; None where the system does not tell (only Linux does), or
        where the process failed, which is logged.
    """
    if not _STATUS.exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        recipes.save(recipe, path)
        code = f"from {__name__} import main; main()"
        words = [sys.executable, "-c", code, path, store.path, batch, precision]
        done = subprocess.run(
            [str(word) for word in words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **_TUNED, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    if done.returncode:  # not enough memory, most likely; it is no reason to tell nothing else
        why = done.stderr.strip().split("\n")[-1] or "no message"
        log.warning(
            "what a process holds at %d clips is not known: it ended with code %d (%s)",
            batch, done.returncode, why,
        )  # fmt: skip
        return None
    return int(done.stdout.split()[-1])


def main() -> None:
    """What the fresh process does."""
    path, store, batch, precision = sys.argv[1:]
    recipe = recipes.load(path)
    state = new_state(recipe, open_store(store), device="cpu", precision=precision)  # type: ignore[arg-type]
    state.model.train()
    net = state.net
    shape = (net.num_persons, recipe.data.clip_len, net.skeleton.num_joints, net.in_channels)
    x, labels = torch.randn(int(batch), *shape), torch.zeros(int(batch), dtype=torch.int64)
    for _ in range(_STEPS):
        state.optimizer.zero_grad(set_to_none=True)
        state.fabric.backward(F.cross_entropy(state.model(x), labels))
        state.optimizer.step()
    print(_highest())


def _highest() -> int:
    # Not getrusage: its peak is that of the process before, which this one was forked from.
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return 1024 * int(kilobytes)
