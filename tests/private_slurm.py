"""A Slurm of the tests' own: two machines of two processors each, all on this one.

The programs are Slurm's (Debian and Ubuntu: slurm-wlm); nothing has to be running or configured.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager

PROGRAMS = ("slurmctld", "slurmd", "srun", "sbatch", "scontrol", "squeue")

# No accounting, no authentication, no cgroups. A process that outlasts the end of its job is killed
# after two seconds.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
AuthInfo=cred_expire=1
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SchedulerParameters=bf_interval=1,sched_interval=1
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES State=UP MaxTime=INFINITE
"""


def missing():
    """What is missing to start it; empty if nothing is."""
    paths = os.pathsep.join((os.environ["PATH"], "/usr/sbin"))
    return [name for name in PROGRAMS if shutil.which(name, path=paths) is None]


@contextmanager
def running(folder):
    """Start it, and end it and its jobs afterwards; gives the variables its programs need."""
    configuration = folder / "slurm.conf"
    for name in ("state", "spool-one", "spool-two"):
        (folder / name).mkdir()
    configuration.write_text(
        CONFIGURATION.format(
            folder=folder,
            host=socket.gethostname().partition(".")[0],
            user=_user(),
            ports=_free_ports(3),
        )
    )
    variables = {
        "MASTER_ADDR": "127.0.0.1",  # the made-up names of the machines are nowhere known
        "SLURM_CONF": str(configuration),
        "PATH": os.pathsep.join((os.environ["PATH"], "/usr/sbin")),
    }
    environment = {**os.environ, **variables}

    def ask(*words):
        return subprocess.run(words, env=environment, text=True, capture_output=True, check=False)

    with ExitStack() as stack:
        for words in (["slurmctld"], ["slurmd", "-N", "one"], ["slurmd", "-N", "two"]):
            program = subprocess.Popen(
                [*words, "-D"],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(_end, program)
        for _ in range(300):
            if ask("sinfo", "--noheader", "--format=%t %D").stdout.strip() == "idle 2":
                break
            time.sleep(0.1)
        else:
            logs = "".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
            raise TimeoutError(f"Slurm did not start: {logs}")
        yield variables
        ask("scancel", "--user", _user(), "--signal=KILL", "--full")
        ask("scancel", "--user", _user())


def _end(program):
    program.send_signal(signal.SIGTERM)
    program.wait(30)


def _user():
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
