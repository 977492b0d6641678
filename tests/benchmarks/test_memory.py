import mmap
import sys

import pytest
import torch
from harness.memory import peak_memory, tensor_memory

MEGABYTE = 1_000_000


def test_tensor_memory_counts_what_is_kept_and_what_was_needed():
    def work():
        a = torch.ones(MEGABYTE)  # 4 MB each
        b = a + 1
        del a
        return b.exp_()

    found = tensor_memory(work)
    assert found.kept == 4 * MEGABYTE
    assert 8 * MEGABYTE <= found.peak < 8 * MEGABYTE + 1000  # and the number 1


def test_tensor_memory_of_a_forward_pass_is_what_backward_needs():
    x = torch.ones(MEGABYTE, requires_grad=True)
    # exp keeps its result and sin its argument, which is the same memory; then the sum.
    found = tensor_memory(lambda: x.exp().sin().sum())
    assert found.kept == 4 * MEGABYTE + 4
    with torch.no_grad():
        assert tensor_memory(lambda: x.exp().sin().sum()).kept == 4


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak")
def test_peak_memory_sees_memory_that_is_given_back():
    def work():
        # Not from the heap, which may have as much to spare from what ran before.
        with mmap.mmap(-1, 64 * MEGABYTE) as pages:
            pages[:: mmap.PAGESIZE] = b"x" * len(range(0, 64 * MEGABYTE, mmap.PAGESIZE))

    grown = peak_memory(work)
    if grown is None:
        pytest.skip("this system does not let a process reset its peak")
    assert 60 * MEGABYTE < grown < 90 * MEGABYTE
    assert peak_memory(lambda: None) < 8 * MEGABYTE
