"""Tools of the benchmarks: timing in turns, memory, facts about the machine, worker processes.

Workloads that are compared run in turns in one process. Times are medians with their range. Memory
is counted in bytes of tensors, which do not depend on the allocator, and as growth of the process.
"""
