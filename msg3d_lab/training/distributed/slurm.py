"""Training on a Slurm cluster: submitted with submitit, requeued and resumed until it is done.

Slurm warns a job shortly before its time is over or somebody more important takes its place. Then
the step that is being done is finished, a checkpoint is written, the job puts itself back into the
queue, and when it starts again it goes on from the checkpoint. docs/clusters.md shows it.
"""

from __future__ import annotations

import difflib
import inspect
import math
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from msg3d_lab.training import recipes
from msg3d_lab.training.recipes import Recipe

__all__ = ["TrainingJob", "parse_slurm", "sbatch_options", "submit"]

_REQUEUE = 75  # fit's exit code when it was told to stop and has written a checkpoint
_WARN_SECONDS = 180  # before the end: a step of the largest recipe and its checkpoint, many times
_KINDS: dict[str, type] = {
    "partition": str,
    "gpus": int,
    "hours": float,
    "nodes": int,
    "cpus_per_gpu": int,
    "memory_gb": int,
    "account": str,
    "qos": str,
    "constraint": str,
    "requeues": int,
}
_NEEDED = ("partition", "gpus", "hours")


def submit(
    recipe: Recipe | str,
    *,
    partition: str,
    gpus: int,
    hours: float,
    nodes: int = 1,
    cpus_per_gpu: int = 4,
    memory_gb: int | None = None,
    account: str | None = None,
    qos: str | None = None,
    constraint: str | None = None,
    requeues: int = 20,
    data: str | Path | None = None,
    run: str | Path | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    name: str | None = None,
    **training: Any,
) -> Any:
    """Submit a training to Slurm and return submitit's job, without waiting for it.

    What would fail on the cluster hours later is looked at now: the recipe, the store, the run's
    folder. All paths must be on a file system that the cluster's machines share.

    Args:
        recipe: a recipe, the name of one, or the path of its YAML.
        partition: Slurm's queue.
        gpus: on each machine, with a process each; 0 trains one process per machine on its CPU.
        hours: until Slurm ends the job; it then requeues itself, `requeues` times at most.
        nodes: machines.
        cpus_per_gpu: cores of each process; one prepares batches, the others help the network.
        memory_gb: of each machine; the partition's default if left out.
        account: whose hours are used.
        qos: Slurm's quality of service.
        constraint: what machines must have, e.g. "a100".
        requeues: how often the job may run out of time; being preempted does not count.
        data: the store; the recipe's default place if left out.
        run: the run's folder; `runs/<recipe's name>` if left out.
        folder: of the job's script and logs; the run's with ".slurm" added if left out.
        resume: go on with a run that is there.
        name: of the job, as `squeue` shows it; the recipe's if left out.
        training: further arguments of `fit`.

    Raises:
        FileExistsError: the run's folder exists, and `resume` is not set.
        FileNotFoundError: no store.
        ModuleNotFoundError: submitit is not installed.
        TypeError: an argument that `fit` does not take, or that Slurm decides.
        ValueError: a number out of range; the store does not fit the recipe; there is no Slurm.
    """
    from msg3d_lab.training.setup import open_store_of

    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    run = Path(run if run is not None else Path("runs") / recipe.name).resolve()
    folder = Path(folder).resolve() if folder is not None else run.with_name(run.name + ".slurm")
    _check_arguments(training)
    options = sbatch_options(
        name=name or recipe.name,
        partition=partition,
        gpus=gpus,
        hours=hours,
        nodes=nodes,
        cpus_per_gpu=cpus_per_gpu,
        memory_gb=memory_gb,
        account=account,
        qos=qos,
        constraint=constraint,
    )
    if requeues < 0:
        raise ValueError(f"expected requeues of 0 or more, found {requeues}")
    if run.exists() and not resume:
        raise FileExistsError(
            f"{run} exists already: name another run folder with --run, or go on with --resume"
        )
    store = open_store_of(recipe, data)
    submitit = _submitit()
    missing = [program for program in ("sbatch", "srun") if shutil.which(program) is None]
    if missing:
        raise ValueError(
            f"there is no {' and no '.join(missing)} on the PATH: submit on a machine of the "
            "cluster, or train here without --slurm"
        )
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=requeues)
    executor.update_parameters(**options)
    arguments = {
        **training,
        "data": str(store.path.resolve()),
        "device": "cuda" if gpus else "cpu",
        "devices": max(1, gpus),
        "num_nodes": nodes,
    }
    return executor.submit(TrainingJob(recipe, run, arguments, resume=resume))


def sbatch_options(
    *,
    name: str,
    partition: str,
    gpus: int,
    hours: float,
    nodes: int = 1,
    cpus_per_gpu: int = 4,
    memory_gb: int | None = None,
    account: str | None = None,
    qos: str | None = None,
    constraint: str | None = None,
) -> dict[str, Any]:
    """What submitit's `SlurmExecutor` is told; the arguments are `submit`'s.

    Raises:
        ValueError: a number out of range.
    """
    least = {"gpus": 0, "nodes": 1, "cpus_per_gpu": 1, "memory_gb": 1}
    given = {"gpus": gpus, "nodes": nodes, "cpus_per_gpu": cpus_per_gpu, "memory_gb": memory_gb}
    for key, value in given.items():
        if value is not None and value < least[key]:
            raise ValueError(f"expected {key} of at least {least[key]}, found {value}")
    minutes = math.ceil(hours * 60) if math.isfinite(hours) else 0
    if minutes * 60 <= 2 * _WARN_SECONDS:
        raise ValueError(
            f"expected hours above {2 * _WARN_SECONDS / 3600:g} (the last {_WARN_SECONDS} s are "
            f"for the checkpoint), found {hours:g}"
        )
    optional = {
        "mem": None if memory_gb is None else f"{memory_gb}GB",
        "account": account,
        "qos": qos,
        "constraint": constraint,
        # On the machine, not bound to tasks: every process must see all of them to take its own.
        "gpus_per_node": gpus or None,
    }
    return {
        "job_name": name,
        "partition": partition,
        "time": minutes,
        "nodes": nodes,
        "ntasks_per_node": max(1, gpus),
        "cpus_per_task": cpus_per_gpu,
        # srun does not take this over from sbatch since Slurm 22.05.
        "srun_args": [f"--cpus-per-task={cpus_per_gpu}"],
        "signal_delay_s": _WARN_SECONDS,
        "additional_parameters": {"requeue": True},
        **{key: value for key, value in optional.items() if value is not None},
    }


def parse_slurm(text: str) -> dict[str, Any]:
    """Read "partition=gpu,gpus=8,hours=4" of the shell into arguments of `submit`.

    Raises:
        ValueError: no key=value, an unknown or repeated key, no number, or a key is missing.

    Example:
        >>> parse_slurm("partition=gpu,gpus=8,hours=4")
        {'partition': 'gpu', 'gpus': 8, 'hours': 4.0}
    """
    found: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not value:
            raise ValueError(
                f"expected key=value between the commas of --slurm, found {part!r}; for example "
                "partition=gpu,gpus=8,hours=4"
            )
        if key not in _KINDS:
            near = difflib.get_close_matches(key, _KINDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected {', '.join(_KINDS)}"
            raise ValueError(f"--slurm has no {key!r}: {hint}")
        if key in found:
            raise ValueError(f"--slurm says {key} twice: {found[key]} and {value}")
        try:
            found[key] = _KINDS[key](value)
        except ValueError:
            kind = "a whole number" if _KINDS[key] is int else "a number"
            raise ValueError(f"expected {kind} for {key} of --slurm, found {value!r}") from None
    missing = [key for key in _NEEDED if key not in found]
    if missing:
        raise ValueError(f"--slurm needs {', '.join(_NEEDED)}; {', '.join(missing)} missing")
    return found


@dataclass(frozen=True)
class TrainingJob:
    """The training as submitit runs it on every process, and starts it again (its protocol).

    Args:
        recipe: the recipe.
        run: the run's folder.
        arguments: further ones of `fit`.
        resume: go on with the run if it is there.
    """

    recipe: Recipe
    run: Path
    arguments: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False

    def __call__(self) -> str:
        """Train, or go on training, if there is something to go on with; the run's folder.

        Raises:
            SystemExit: Slurm wanted the place, and a checkpoint is written.
        """
        from msg3d_lab.training.loop import fit

        # Slurm itself requeues after a machine fails; nobody asks `checkpoint` then.
        resume = self.resume or int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0

        def train() -> Any:
            return fit(self.recipe, run=self.run, resume=resume, progress=False, **self.arguments)

        return str(_until_warned(train).path)

    def checkpoint(self) -> Any:
        """What submitit puts into the queue after a warning."""
        return _submitit().helpers.DelayedSubmission(replace(self, resume=True))


def _until_warned(train: Any) -> Any:
    """Train; at Slurm's warning let it write its checkpoint first, then let submitit requeue.

    submitit answers the warning at once, in the middle of a step: it requeues the job and exits,
    and what was computed since the last checkpoint would be lost.
    """
    warning = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
    requeue, idle = signal.getsignal(warning), signal.getsignal(signal.SIGTERM)
    warned = False

    def on_warning(number: int, frame: FrameType | None) -> None:
        nonlocal warned
        if signal.getsignal(signal.SIGTERM) is not idle:  # fit listens: it will end with code 75
            warned = True
            signal.raise_signal(signal.SIGTERM)
        elif callable(requeue):  # nothing is computed yet, or all is written
            requeue(number, frame)

    signal.signal(warning, on_warning)
    try:
        return train()
    except SystemExit as stop:
        # SIGTERM without the warning is scancel, which wants no requeue, or a preemption after
        # which Slurm requeues by itself.
        if stop.code == _REQUEUE and warned and callable(requeue):
            requeue(warning, None)  # ends the first process, and with it the job
            time.sleep(_WARN_SECONDS)  # the others wait for that: on some clusters one that exits
            # ends all, and would end the first before it has requeued
        raise
    finally:
        signal.signal(warning, requeue)


def _check_arguments(training: Mapping[str, Any]) -> None:
    """Refuse now what would end the job when it starts."""
    from msg3d_lab.training.loop import fit

    ours = {"recipe", "data", "run", "resume", "device", "devices", "num_nodes", "progress"}
    wrong = sorted(set(training) - (set(inspect.signature(fit).parameters) - ours))
    if wrong:
        raise TypeError(
            f"submit() takes no {', '.join(wrong)}: fit() does not, or Slurm's request decides it"
        )


def _submitit() -> Any:
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "submitit, which talks to Slurm, is not installed: pip install msg3d-lab[cluster]"
        ) from error
    return submitit
