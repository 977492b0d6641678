"""Commands of `msg3d-lab` in processes of their own, which are found again by their folder."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from msg3d_lab.files import locked, read_json, write_json
from msg3d_lab.training.activity import last_lines


class Job:
    """A command that works on a folder, such as a run's.

    It is no part of the notebook: it goes on when the kernel is restarted, and any other kernel on
    this machine finds it by its folder. What is known about it is in `FOLDER.job`, beside the
    folder: job.json (process, command), log.txt (what it printed).

    Args:
        folder: what the command works on, whether it exists or not.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        self.files = self.folder.with_name(f"{self.folder.name}.job")
        self.log = self.files / "log.txt"
        self._record = self.files / "job.json"

    def start(self, words: Sequence[str]) -> None:
        """Start `msg3d-lab WORDS ...`.

        Raises:
            BlockingIOError: a command is running for this folder already.
        """
        self.files.mkdir(parents=True, exist_ok=True)
        with locked(self.files / ".lock"):
            if self.running:
                raise BlockingIOError(
                    f"process {self.pid} is at work on {self.folder}: wait for it, or stop it first"
                )
            with self.log.open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "msg3d_lab", *words],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # signals to the notebook's kernel do not reach it
                    # Its progress bar is a line of the log: not more than one in two seconds.
                    env={**os.environ, "TQDM_MININTERVAL": "2"},
                )
            facts = {
                "pid": process.pid,
                "started": process_start(process.pid),
                "host": platform.node(),
                "words": list(words),
            }
            write_json(self._record, facts)
        # An ended child stays a process until somebody waits for it.
        threading.Thread(target=process.wait, daemon=True).start()

    def stop(self) -> None:
        """Send SIGTERM to the process, if it is running: a training writes its checkpoint."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGTERM)

    @property
    def pid(self) -> int | None:
        """The number of the process while it runs; a later process of that number is not meant."""
        facts = read_json(self._record)
        if facts is None or facts["host"] != platform.node() or facts["started"] is None:
            return None
        pid: int = facts["pid"]
        return pid if process_start(pid) == facts["started"] else None

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self.pid is not None

    @property
    def command(self) -> str:
        """The first word of the command, e.g. "train"; "" if none was started."""
        facts = read_json(self._record)
        return str(facts["words"][0]) if facts else ""

    @property
    def error(self) -> str:
        """The last line of a command that has ended with an error; "" if it has not."""
        lines = [] if self.running else last_lines(self.log, 1)
        line = lines[0] if lines else ""
        told = line.removeprefix("msg3d-lab: ")
        failed = told != line or (line.partition(":")[0].isidentifier() and "Error: " in line)
        return told if failed and not told.startswith("stopped") else ""


def process_start(pid: int) -> str | None:
    """Return when a process started, which no later one of its number did; None: there is none.

    Source: /proc/PID/stat (proc(5)), of Linux; elsewhere `ps`.
    """
    if Path("/proc/self/stat").exists():
        try:
            # The name of the program, in brackets, may hold anything.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        return None if fields[0] in "ZX" else f"{boot} {fields[19]}"  # Z, X: it has ended
    try:
        ps = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        found = subprocess.run(ps, capture_output=True, text=True, check=False).stdout.split()
    except OSError:
        return None
    return None if not found or found[0].startswith("Z") else " ".join(found[1:])
