import platform
import subprocess
import sys

import pytest

from msg3d_lab.allocator import tune_allocator

GLIBC = platform.libc_ver()[0] == "glibc"


def test_tune_allocator_takes_effect_on_glibc_and_can_be_undone():
    assert tune_allocator() is GLIBC
    assert tune_allocator(enabled=False) is GLIBC


@pytest.mark.skipif(not GLIBC, reason="the setting exists in glibc only")
def test_tune_allocator_keeps_freed_memory():
    """A large tensor that is freed and made again costs no new pages.

    But for a few times: what is small may come to lie where it was, and the heap grows once more.
    """
    code = """
import resource, sys, torch, msg3d_lab.training  # a heap as in use: small pieces are free
from msg3d_lab.allocator import tune_allocator
if sys.argv[1] == "tuned":
    tune_allocator()
for _ in range(2):
    torch.ones(16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        kind: int(
            subprocess.run(
                [sys.executable, "-c", code, kind], capture_output=True, text=True, check=True
            ).stdout
        )
        for kind in ("default", "tuned")
    }
    assert faults["tuned"] * 5 < faults["default"]


@pytest.mark.skipif(not GLIBC, reason="the setting exists in glibc only")
def test_tune_allocator_gives_the_memory_back_when_undone():
    code = """
import resource, torch
from msg3d_lab.allocator import tune_allocator

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

before = resident()
tune_allocator()
torch.ones(64 << 20)
kept = resident() - before
tune_allocator(enabled=False)
print(kept, resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert kept > 200 << 20
    assert left < kept / 4


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_tune_allocator_does_nothing_elsewhere(monkeypatch, error):
    def missing(name):
        raise error(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert tune_allocator() is False
