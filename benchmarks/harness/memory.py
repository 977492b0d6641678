"""Memory of tensors, counted by PyTorch's profiler, and memory of the process."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True)
class TensorMemory:
    """Bytes that were requested from PyTorch's allocator, beyond those allocated before.

    Attributes:
        kept: bytes that are still allocated at the end, the result included.
        peak: the most bytes allocated at a time.
    """

    kept: int
    peak: int


def tensor_memory(work: Callable[[], object]) -> TensorMemory:
    """Run once and count the memory of its tensors.

    Of a forward pass in training, `kept` is what backward needs: the activations. On the CPU every
    allocation is counted as the profiler records it: the number does not depend on the C library's
    allocator. Scratch memory of oneDNN is not included. On a GPU the number is that of PyTorch's
    caching allocator.

    Args:
        work: returns what is to be kept.
    """
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = work()
        torch.cuda.synchronize()
        kept, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
        del result
        return TensorMemory(kept - before, peak - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    del result
    changes = [(e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]"]
    allocated = peak = 0
    for _, change in sorted(changes, key=lambda each: each[0]):
        allocated += change
        peak = max(peak, allocated)
    return TensorMemory(allocated, peak)


def peak_memory(work: Callable[[], object]) -> int | None:
    """Run once and return by how many bytes the process grew at most; None if not on Linux.

    Meaningful in a fresh process only: an allocator reuses memory that it kept from earlier work.
    """
    status = Path("/proc/self/status")

    def read(key: str) -> int:
        lines = status.read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith(key)))

    reset = False
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
        reset = True
    if not reset:
        work()
        return None
    before = read("VmRSS:")
    work()
    return max(0, read("VmHWM:") - before)
