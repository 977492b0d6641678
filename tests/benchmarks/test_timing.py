import itertools
import subprocess
import sys
import time

import pytest
from harness.timing import Sample, compare, take_turns, time_once


def counting(times, order, name):
    """A run that pretends to take the next of these seconds."""
    values = iter(times)

    def run():
        order.append(name)
        return Sample(next(values), 0.0)

    return run


def test_take_turns_measures_medians_after_the_warm_up():
    order = []
    runs = {
        "a": counting([100.0, 1.0, 3.0, 2.0], order, "a"),
        "b": counting([100.0, 4.0, 40.0, 4.0], order, "b"),
    }
    result = take_turns(runs, rounds=3, warmup=1)
    assert [s.seconds for s in result.timings["a"].samples] == [1.0, 3.0, 2.0]
    a, b = result.timings["a"], result.timings["b"]
    assert (a.median, a.low, a.high) == (2.0, 1.0, 3.0)
    assert b.median == 4.0  # one slow run does not matter
    # Rounds begin with another one each.
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"


def test_take_turns_gives_everyone_every_place():
    order = []
    names = "abc"
    runs = {name: counting(itertools.repeat(1.0), order, name) for name in names}
    take_turns(runs, rounds=3)
    rounds = ["".join(order[i : i + 3]) for i in range(0, 9, 3)]
    assert rounds == ["abc", "bca", "cab"]


@pytest.mark.parametrize(
    ("runs", "options"),
    [({}, {"rounds": 1}), ({"a": None}, {"rounds": 0}), ({"a": None}, {"rounds": 1, "warmup": -1})],
)
def test_take_turns_wants_something_to_do(runs, options):
    with pytest.raises(ValueError, match="expected something to run, rounds >= 1"):
        take_turns(runs, **options)


def test_compare_runs_the_work_itself():
    calls = []
    result = compare({"x": lambda: calls.append(1)}, rounds=3, warmup=2)
    assert len(calls) == 5
    assert len(result.timings["x"].samples) == 3
    assert result.other_load is None  # too short to tell


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_take_turns_sees_what_others_do():
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        runs = {"idle": lambda: time_once(lambda: time.sleep(0.4))}
        load = take_turns(runs, rounds=2).other_load
    finally:
        other.kill()
        other.wait()
    assert load > 0.1


def test_time_once_counts_the_work_and_nothing_else():
    sample = time_once(lambda: sum(range(200_000)))
    assert sample.cpu_seconds > 0
    assert sample.seconds > 0
