"""The memory of tensors, counted; the memory of the process, read off the system."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["TensorMemory", "process_peak", "tensor_memory"]


@dataclass(frozen=True)
class TensorMemory:
    """What a piece of work asked of PyTorch's allocator.

    Attributes:
        kept: bytes that are still held when it is done, its result included.
        peak: the most bytes held at a time meanwhile.
    """

    kept: int
    peak: int


def tensor_memory(work: Callable[[], object]) -> TensorMemory:
    """Run once and count the memory of its tensors, beyond what was held before.

    Of a forward pass in training, `kept` is what backward needs: the activations. On the CPU every
    allocation is counted as PyTorch's profiler saw it, so the count does not depend on the C
    library's allocator, nor on what other programs do; scratch memory of oneDNN's is not in it. On
    a GPU it is what PyTorch's own allocator counts.

    Args:
        work: returns whatever is to be held; nothing else of it is.
    """
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = work()
        torch.cuda.synchronize()
        kept, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
        del result
        return TensorMemory(kept - before, peak - before)
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    del result
    changes = [(e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda each: each[0]):
        held += change
        peak = max(peak, held)
    return TensorMemory(held, peak)


def process_peak(work: Callable[[], object]) -> int | None:
    """Run once; by how many bytes the process's memory grew at most, or None if nobody tells.

    Only a fresh process gives a fair number: what an allocator kept from earlier work is not asked
    for again.
    """
    status = Path("/proc/self/status")

    def read(key: str) -> int:
        lines = status.read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith(key)))

    reset = False
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
        reset = True
    if not reset:
        work()
        return None
    before = read("VmRSS:")
    work()
    return max(0, read("VmHWM:") - before)
