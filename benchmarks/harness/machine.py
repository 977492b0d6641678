"""The machine: what it is, what it can do at best, how busy others keep it."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

__all__ = ["busy_seconds", "cores", "gemm_peak", "machine_facts"]


def machine_facts(*, device: str = "cpu") -> dict[str, Any]:
    """What a reader has to know before believing a time: `training.runs.machine_facts` and more.

    Args:
        device: "cpu" or "cuda".
    """
    from msg3d_lab.training.runs import machine_facts as run_facts

    facts: dict[str, Any] = {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        **run_facts(),
        "cores": cores(),
        "c_library": " ".join(platform.libc_ver()).strip() or "unknown",
    }
    # Either changes the allocator behind our back.
    for name in ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_ARENA_MAX"):
        if os.environ.get(name):
            facts[name] = os.environ[name]
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts["gpu"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        facts["cuda"] = torch.version.cuda
    return facts


def gemm_peak(
    *, dtype: torch.dtype = torch.float32, device: str = "cpu", seconds: float = 1.0
) -> float:
    """The most FLOP per second of large matrix products, of which a network can have a share.

    Square products and 1 x 1 convolutions of channels-last activations, which go through another
    library; the quickest run of all counts. One multiplication with its addition is two FLOP.

    Args:
        dtype: of the arithmetic.
        device: where.
        seconds: to spend on each.
    """
    size = 2048 if device == "cpu" else 8192

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device).to(dtype)

    a, b = random(size, size), random(size, size)
    image = random(16, 384, 100, 25).contiguous(memory_format=torch.channels_last)
    weight = random(768, 384, 1, 1)
    candidates: list[tuple[float, Callable[[], torch.Tensor]]] = [
        (2 * size**3, lambda: a @ b),
        (2 * 16 * 100 * 25 * 384 * 768, lambda: F.conv2d(image, weight)),
    ]
    best = 0.0
    with torch.inference_mode():
        for flops, work in candidates:
            work()
            end = time.perf_counter() + seconds
            while True:
                if device == "cuda":
                    torch.cuda.synchronize()
                start = time.perf_counter()
                work()
                if device == "cuda":
                    torch.cuda.synchronize()
                stop = time.perf_counter()
                best = max(best, flops / (stop - start))
                if stop > end:
                    break
    return best


def cores() -> int:
    """How many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy_seconds() -> float | None:
    """Seconds all cores were busy since the system started, for all programs together."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq = map(int, first.split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
