"""The machine: its versions and processor, its matmul rate, how busy other programs keep it."""

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

from msg3d_lab.training import runs

# Either of them changes the allocator.
ALLOCATOR_VARIABLES = ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_ARENA_MAX")


def machine_facts(*, device: str = "cpu") -> dict[str, Any]:
    """Return what times depend on: versions, processor, threads, allocator, commit."""
    facts: dict[str, Any] = {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        **runs.machine_facts(),
        "cores": num_cores(),
        "c_library": " ".join(platform.libc_ver()).strip() or "unknown",
    }
    facts |= {name: os.environ[name] for name in ALLOCATOR_VARIABLES if os.environ.get(name)}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts["gpu"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        facts["cuda"] = torch.version.cuda
    return facts


def describe_machine(facts: dict[str, Any]) -> str:
    """Write a line for a page of results."""
    where = f"{facts['processor']} ({facts['cores']} cores)"
    if "gpu" in facts:
        where = f"{facts['gpu']}, CUDA {facts['cuda']}; {where}"
    allocator = [f"{name}={facts[name]}" for name in ALLOCATOR_VARIABLES if name in facts]
    return ", ".join(
        [
            facts["date"],
            where,
            f"{facts['threads']} threads",
            f"Python {facts['python']}",
            f"torch {facts['packages']['torch']}",
            facts["c_library"],
            *allocator,
            f"commit {facts['commit'] or 'unknown'}",
        ]
    )


def matmul_rate(
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seconds: float = 1.0,
    size: int | None = None,
) -> float:
    """Measure the highest rate of large matrix products, in FLOP per second.

    Square products, and 1 x 1 convolutions of channels-last activations, which use another library;
    the fastest run of both counts. One multiplication with its addition is two FLOP.

    Args:
        dtype: of the arithmetic.
        device: "cpu" or "cuda".
        seconds: for each of the two.
        size: of the square matrices. Default: 2048, on CUDA 8192.
    """
    size = size or (2048 if device == "cpu" else 8192)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device).to(dtype)

    a, b = random(size, size), random(size, size)
    channels = min(384, 3 * size // 16)
    image = random(16, channels, 100, 25).contiguous(memory_format=torch.channels_last)
    weight = random(2 * channels, channels, 1, 1)
    candidates: list[tuple[float, Callable[[], torch.Tensor]]] = [
        (2 * size**3, lambda: a @ b),
        (2 * 16 * 100 * 25 * channels * 2 * channels, lambda: F.conv2d(image, weight)),
    ]
    best = 0.0
    with torch.inference_mode():
        for flop, work in candidates:
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
                best = max(best, flop / (stop - start))
                if stop > end:
                    break
    return best


def num_cores() -> int:
    """Return how many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy_seconds() -> float | None:
    """Return the seconds all cores were busy since the system started; None if not on Linux."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq = map(int, first.split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
