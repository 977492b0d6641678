import math
import multiprocessing
import os
import time
from functools import partial

import pytest

from msg3d_lab.experiments.workers import in_processes


def test_in_processes_no_task_takes_another_with_it():
    """One raises, one's process is killed: both say so, and the others are done."""
    ticks = []
    tasks = {
        "raises": partial(int, "x\ny"),
        "killed": partial(os._exit, 9),
        "fine": partial(math.sqrt, 4),
    }
    found = list(in_processes(tasks, jobs=1, threads=1, tick=ticks.append, seconds=0.1))
    assert [key for key, _ in found] == list(tasks)
    failures = dict(found)
    assert failures["fine"] is None
    assert failures["raises"].message.startswith("ValueError: invalid literal for int()")
    assert "\n" not in failures["raises"].message
    assert "Traceback" in failures["raises"].details
    assert failures["killed"].message.startswith("its process was killed")
    assert ["raises"] in ticks


def test_in_processes_stops_when_the_caller_does():
    """A tick that raises ends the workers in the middle of what they do."""
    ticks = []

    def tick(running):
        ticks.append(running)
        if len(ticks) == 8:
            raise KeyboardInterrupt

    tasks = {"long": partial(time.sleep, 300), "never": partial(os._exit, 0)}
    with pytest.raises(KeyboardInterrupt):
        list(in_processes(tasks, jobs=1, threads=1, tick=tick, seconds=0.1))
    assert ticks == [["long"]] * 8
    assert multiprocessing.active_children() == []


def test_in_processes_without_tasks_starts_nothing():
    assert list(in_processes({}, jobs=4, threads=1)) == []


@pytest.mark.parametrize("wrong", [{"jobs": 0, "threads": 1}, {"jobs": 1, "threads": 0}])
def test_in_processes_needs_a_job_and_a_thread(wrong):
    with pytest.raises(ValueError, match="jobs and threads of at least 1"):
        list(in_processes({"a": math.sqrt}, **wrong))
