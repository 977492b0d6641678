"""How fast the network is and what memory it takes, measured so that others can believe it.

Times are compared in one process, in turns, and reported as medians with their spread; memory is
that of tensors, which no allocator blurs, and that of the process. The machine and its allocator
are part of every result. `msg3d-lab bench` is the shell's way in.
"""

from harness.bench import BenchResult, bench
from harness.machine import gemm_peak, machine_facts
from harness.memory import TensorMemory, tensor_memory
from harness.timing import Comparison, Sample, Timing, clocked, compare, take_turns
from harness.workloads import Case, yardstick

__all__ = [
    "BenchResult",
    "Case",
    "Comparison",
    "Sample",
    "TensorMemory",
    "Timing",
    "bench",
    "clocked",
    "compare",
    "gemm_peak",
    "machine_facts",
    "take_turns",
    "tensor_memory",
    "yardstick",
]
