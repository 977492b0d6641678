"""Processes that outlive the notebook, and are told from later ones of the same number."""

import json
import os
import platform
import subprocess
import sys
import time

import pytest

from msg3d_lab.widgets.jobs import Job, process_start

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no signals; un-skip never")


def ended(job):
    end = time.monotonic() + 60
    while job.running:
        assert time.monotonic() < end
        time.sleep(0.05)
    return True


def test_a_job_is_found_again_and_its_error_is_kept(tmp_path):
    job = Job(tmp_path / "run")
    assert (job.running, job.command, job.error) == (False, "", "")
    job.start(["data", "download", "nothing"])
    assert Job(tmp_path / "run").pid == job.pid
    with pytest.raises(BlockingIOError, match="stop it first"):
        Job(tmp_path / "run").start(["--help"])
    assert ended(job)
    assert job.command == "data"
    assert job.error.startswith("unknown data set 'nothing'")
    job.start(["--help"])
    assert ended(job)
    assert job.error == ""
    assert not (tmp_path / "run").exists()


def test_another_process_of_the_same_number_is_not_the_job(tmp_path):
    sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        job = Job(tmp_path / "run")
        job.files.mkdir()
        facts = {"pid": sleeping.pid, "started": process_start(sleeping.pid), "words": ["train"]}
        facts["host"] = platform.node()
        (job.files / "job.json").write_text(json.dumps(facts))
        assert job.pid == sleeping.pid
        (job.files / "job.json").write_text(json.dumps({**facts, "started": "before"}))
        assert job.pid is None
        job.stop()  # nothing
        assert sleeping.poll() is None
        (job.files / "job.json").write_text(json.dumps({**facts, "host": "elsewhere"}))
        assert job.pid is None
    finally:
        sleeping.kill()
        sleeping.wait()
    assert process_start(sleeping.pid) is None
