"""What a run is doing, read from its folder."""

import json
import os
import platform
import time

import pytest

from msg3d_lab.files import lock_holder, locked
from msg3d_lab.training import fit, open_run
from msg3d_lab.training.activity import Activity, last_lines, read_activity
from msg3d_lab.training.runs import create_run


@pytest.fixture
def run(toy_recipe, tmp_path):
    return create_run(tmp_path / "run", toy_recipe, {})


def test_the_states_of_a_run(run, tmp_path):
    assert read_activity(tmp_path / "none") == Activity("missing")
    assert read_activity(run.path) == Activity("stopped")
    run.checkpoint.write_bytes(b"")
    assert read_activity(run.path).state == "trained"
    run.scores_path.write_bytes(b"")
    assert read_activity(run.path).state == "tested"


@pytest.mark.skipif(os.name == "nt", reason="its locks cannot be asked; un-skip never")
def test_a_lock_says_who_trains_and_one_that_was_left_behind_does_not(run):
    lock = run.path / ".lock"
    with locked(lock):
        found = read_activity(run.path)
        assert (found.state, found.pid) == ("training", os.getpid())
        assert lock_holder(lock) == f"process {os.getpid()} on {platform.node()}"
        assert lock.read_text() == lock_holder(lock)  # asking changes nothing
    lock.write_text(f"process {os.getpid()} on {platform.node()}")
    assert lock_holder(lock) is None
    assert read_activity(run.path).state == "stopped"


def test_a_machine_whose_locks_are_not_seen_shows_progress(run):
    (run.path / ".lock").write_text("process 7 on far")
    progress = {"step": 30, "steps": 100, "first_step": 10, "started": 0.0, "time": 0.0}
    for age, state in ((5, "training"), (600, "stopped")):
        now = {**progress, "time": time.time() - age, "started": time.time() - age - 40}
        (run.path / "progress.json").write_text(json.dumps(now))
        found = read_activity(run.path)
        assert (found.state, found.pid) == (state, None)
        if state == "training":  # 20 steps took 40 s, 70 are left, 5 s have passed
            assert found.seconds_left == pytest.approx(135, abs=1)


def test_training_leaves_progress_and_a_log(toy_recipe, toy_store, tmp_path):
    seen = []

    def look(metrics):
        seen.append(read_activity(tmp_path / "run"))

    run = fit(toy_recipe, data=toy_store, run=tmp_path / "run", device="cpu", progress=False,
              callbacks=[look])  # fmt: skip
    assert [each.state for each in seen] == ["training"] * 2
    now = seen[0].progress
    assert now["steps"] == 8  # two epochs of four
    assert 1 <= now["step"] <= 4
    assert now["epoch"] == now["step"] / 4
    assert 0 <= now["train_top1"] <= 1
    assert not (run.path / "progress.json").exists()
    lines = last_lines(run.path / "training.log", 3)
    assert lines[0].split("  ", 1)[1].startswith("epoch   1: loss ")
    assert lines[2].endswith("finished: the weights of epoch 2 are kept")
    assert open_run(run.path).finished


def test_last_lines_takes_what_a_bar_showed_last(tmp_path):
    log = tmp_path / "log.txt"
    assert last_lines(log, 3) == []
    log.write_bytes(b"first\n 10%\r 20%\r\nlast\n\n")
    assert last_lines(log, 2) == [" 20%", "last"]
