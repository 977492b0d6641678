"""Start test programs in processes of their own, quickly: forked from one that has imported torch.

A new Python needs seconds to import torch and Fabric; a fork of the fork server needs none.
"""

import multiprocessing
import os
import runpy
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import matplotlib

PRELOADED = ["msg3d_lab.cli", "msg3d_lab.training", "msg3d_lab.evaluation", "lightning_fabric"]
PRELOADED += ["pandas", "scipy.stats", "msg3d_lab.viz", "msg3d_lab.explain"]


def fork_server():
    """A context of multiprocessing whose processes are forked from one that has imported torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def start(program, *words, environment=None, output=None, folder=None):
    """Start a program as `python program words...` would, and return its process.

    Args:
        program: a Python file, or the name of a module with a `__main__`.
        words: its arguments.
        environment: variables to set; None takes one away.
        output: a file for what it prints.
        folder: where it works.
    """
    arguments = (str(program), [str(word) for word in words], environment or {}, output, folder)
    process = fork_server().Process(target=_run, args=arguments)
    process.start()
    return process


def start_group(count, program, *words, launcher="torchrun", folder=None):
    """Start processes that find each other, with the variables that torchrun or srun would set.

    Args:
        count: processes.
        program: as for `start`.
        words: its arguments.
        launcher: "torchrun" or "srun".
        folder: for what they print: RANK.txt each.
    """
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    variables = {"torchrun": _torchrun, "srun": _srun}[launcher]
    return [
        start(
            program,
            *words,
            environment={"MASTER_PORT": port, **variables(rank, count)},
            output=None if folder is None else Path(folder) / f"{rank}.txt",
        )
        for rank in range(count)
    ]


def finish(processes, *, seconds=120):
    """Wait until processes have ended, and return their exit codes."""
    for process in processes:
        process.join(seconds)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def run_script(code, folder):
    """Run code as a script of a folder; return its exit code and what it printed."""
    script, said = Path(folder) / "script.py", Path(folder) / "said.txt"
    script.write_text(code)
    [ended] = finish([start(script, output=said)])
    return ended, said.read_text()


def run_group(count, program, *words, launcher="torchrun", folder):
    """Run a group to its end; return what it printed, the first process first."""
    codes = finish(start_group(count, program, *words, launcher=launcher, folder=folder))
    shown = [(Path(folder) / f"{rank}.txt").read_text() for rank in range(count)]
    assert codes == [0] * count, "\n".join(shown)
    return "".join(shown)


def _torchrun(rank, count):
    return {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }


def _srun(rank, count):
    return {
        "SLURM_JOB_ID": "4242",
        "SLURM_JOB_NAME": "train",
        "SLURM_STEP_ID": "0",
        "SLURM_NTASKS": str(count),
        "SLURM_NTASKS_PER_NODE": str(count),
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
    }


def _run(program, words, environment, output, folder):
    unwanted = [name for name in os.environ if name.startswith(("SLURM_", "MASTER_"))]
    for name in unwanted + [name for name, value in environment.items() if value is None]:
        os.environ.pop(name, None)
    os.environ.update({name: value for name, value in environment.items() if value is not None})
    # Tests that were started in the background, and with them the fork server, ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The fork server has read the variable of the tests.
    matplotlib.rcParams["backend"] = os.environ["MPLBACKEND"]
    if folder is not None:
        os.chdir(folder)
    if output is not None:
        shown = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(shown, 1)
        os.dup2(shown, 2)
    sys.argv = [program, *words]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
