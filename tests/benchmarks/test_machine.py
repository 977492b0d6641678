import sys

import pytest
import torch
from harness.machine import busy_seconds, describe_machine, machine_facts, matmul_rate, num_cores


def test_machine_facts_name_what_times_depend_on(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    facts = machine_facts()
    assert {"date", "processor", "cores", "threads", "c_library", "packages", "commit"} <= set(
        facts
    )
    assert facts["threads"] == torch.get_num_threads()
    assert facts["MALLOC_ARENA_MAX"] == "1"  # somebody has changed the allocator
    assert "LD_PRELOAD" not in facts
    assert "MALLOC_ARENA_MAX=1" in describe_machine(facts)


def test_matmul_rate_is_a_rate():
    small = matmul_rate(seconds=0, size=256)
    assert 1e8 < small < 1e15


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_busy_seconds_never_go_back():
    before = busy_seconds()
    assert 0 < before <= busy_seconds()
    assert num_cores() >= 1
