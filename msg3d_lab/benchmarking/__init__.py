"""How fast the network is and what memory it takes, measured so that others can believe it.

Times are compared in one process, in turns, and reported as medians with their spread; memory is
that of tensors, which no allocator blurs, and that of the process. The machine and its allocator
are part of every result. `msg3d-lab bench` is the shell's way in.
"""

from msg3d_lab.benchmarking.bench import BenchResult, bench
from msg3d_lab.benchmarking.machine import gemm_peak, machine_facts
from msg3d_lab.benchmarking.memory import TensorMemory, tensor_memory
from msg3d_lab.benchmarking.timing import Comparison, Sample, Timing, clocked, compare, take_turns
from msg3d_lab.benchmarking.workloads import Case, yardstick

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
