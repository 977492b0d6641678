import math
import multiprocessing
import os
import time
from functools import partial

import pytest

from msg3d_lab.experiments.workers import in_processes


def test_in_processes_no_task_takes_another_with_it_and_all_stop_with_the_caller():
    """One raises, one's process is killed: both say so, and the next is done.

    Then a tick that raises ends the worker in the middle of what it does.
    """
    ticks = []

    def tick(running):
        ticks.append(running)
        if ticks.count(["long"]) == 8:
            raise KeyboardInterrupt

    tasks = {
        "raises": partial(int, "x\ny"),
        "killed": partial(os._exit, 9),
        "fine": partial(math.sqrt, 4),
        "long": partial(time.sleep, 300),
        "never": partial(os._exit, 0),
    }
    failures, ended = {}, in_processes(tasks, jobs=1, threads=1, tick=tick, seconds=0.1)
    with pytest.raises(KeyboardInterrupt):
        failures.update(ended)  # keeps what ended before
    assert list(failures) == ["raises", "killed", "fine"]
    assert failures["fine"] is None
    assert failures["raises"].message.startswith("ValueError: invalid literal for int()")
    assert "\n" not in failures["raises"].message
    assert "Traceback" in failures["raises"].details
    assert failures["killed"].message.startswith("its process was killed")
    assert ["raises"] in ticks
    assert ticks[-8:] == [["long"]] * 8
    assert multiprocessing.active_children() == []


def test_in_processes_without_tasks_starts_nothing():
    assert list(in_processes({}, jobs=4, threads=1)) == []


@pytest.mark.parametrize("wrong", [{"jobs": 0, "threads": 1}, {"jobs": 1, "threads": 0}])
def test_in_processes_needs_a_job_and_a_thread(wrong):
    with pytest.raises(ValueError, match="jobs and threads of at least 1"):
        list(in_processes({"a": math.sqrt}, **wrong))
