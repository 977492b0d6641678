"""Training on a Slurm cluster: submitted with submitit, requeued and resumed until it is finished.

Slurm warns a job shortly before its time is over, or before another job takes its place. Training
then finishes its step and writes a checkpoint; the job puts itself back into the queue, and resumes
from the checkpoint when it starts again. docs/clusters.md has examples.
"""

from __future__ import annotations

import difflib
import math
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Unpack

from pydantic import Field, field_validator

from msg3d_lab.training import recipes
from msg3d_lab.training.loop import FitOptions, JobOptions, fit
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.runs import Run
from msg3d_lab.training.settings import Section
from msg3d_lab.training.setup import build_model, open_store_for
from msg3d_lab.training.signals import Requeue
from msg3d_lab.training.weights.initial import read_initial_weights

# Before the end: much longer than a step of the largest recipe and a checkpoint.
_WARN_SECONDS = 180


class Slurm(Section):
    """What to ask Slurm for.

    Args:
        partition: Slurm's queue.
        gpus: of each machine, with a process each; 0: one process per machine, on its CPU.
        hours: until Slurm ends the job, which then requeues itself.
        nodes: machines.
        cpus_per_gpu: cores of each process; one prepares batches.
        memory_gb: of each machine. Default: the partition's.
        account: whose hours are used.
        qos: Slurm's quality of service.
        constraint: what machines must have: "a100".
        requeues: how often the job may run out of time; preemption does not count.
    """

    partition: str = Field(min_length=1)
    gpus: int = Field(ge=0)
    hours: float
    nodes: int = Field(default=1, ge=1)
    cpus_per_gpu: int = Field(default=4, ge=1)
    memory_gb: int | None = Field(default=None, ge=1)
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    requeues: int = Field(default=20, ge=0)

    @field_validator("hours")
    @classmethod
    def _has_time_to_train(cls, hours: float) -> float:
        if math.ceil(hours * 60) * 60 <= 2 * _WARN_SECONDS:
            raise ValueError(
                f"expected hours above {2 * _WARN_SECONDS / 3600:g} (the last {_WARN_SECONDS} s "
                f"are for the checkpoint), found {hours:g}"
            )
        return hours

    def sbatch_options(self, name: str) -> dict[str, Any]:
        """Return the parameters of submitit's `SlurmExecutor`, for a job of this name."""
        options = {
            "mem": None if self.memory_gb is None else f"{self.memory_gb}GB",
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            # Of the machine, not bound to tasks: every process must see all GPUs to take its own.
            "gpus_per_node": self.gpus or None,
            "job_name": name,
            "partition": self.partition,
            "time": math.ceil(self.hours * 60),
            "nodes": self.nodes,
            "ntasks_per_node": max(1, self.gpus),
            "cpus_per_task": self.cpus_per_gpu,
            # Since Slurm 22.05 srun does not take this over from sbatch.
            "srun_args": [f"--cpus-per-task={self.cpus_per_gpu}"],
            "signal_delay_s": _WARN_SECONDS,
            "additional_parameters": {"requeue": True},
        }
        return {key: value for key, value in options.items() if value is not None}


def parse_slurm(text: str) -> Slurm:
    """Read "partition=gpu,gpus=8,hours=4", as in the shell.

    Raises:
        ValueError: no key=value, an unknown or repeated key, a value out of range, a missing key.

    Example:
        >>> parse_slurm("partition=gpu,gpus=8,hours=4").gpus
        8
    """
    found: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, _, value = (word.strip() for word in part.partition("="))
        if not value:
            raise ValueError(
                f"expected key=value between the commas of --slurm, found {part!r}; for example "
                "partition=gpu,gpus=8,hours=4"
            )
        if key not in Slurm.model_fields:
            near = difflib.get_close_matches(key, Slurm.model_fields, n=1)
            known = ", ".join(Slurm.model_fields)
            hint = f"did you mean {near[0]}?" if near else f"expected {known}"
            raise ValueError(f"--slurm has no {key!r}: {hint}")
        if key in found:
            raise ValueError(f"--slurm has {key} twice: {found[key]} and {value}")
        found[key] = value
    return Slurm.parse(found, wrong="--slurm")


def submit(
    recipe: Recipe | str,
    *,
    slurm: Slurm,
    data: str | Path | None = None,
    run: str | Path | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    name: str | None = None,
    **options: Unpack[JobOptions],
) -> Any:
    """Submit a training to Slurm and return submitit's job, without waiting for it.

    What would fail on the cluster hours later is checked now: the recipe, the store, the run's
    folder. All paths must be on a file system that the cluster's machines share.

    Args:
        recipe: a recipe, the name of one, or the path of its YAML.
        slurm: what to ask for.
        data: the store's path. Default: where `msg3d-lab data import` puts it.
        run: the run's folder. Default: `runs/<recipe's name>`.
        folder: for the job's script and logs. Default: the run's, with ".slurm" added.
        resume: whether to resume a run that exists.
        name: of the job, as `squeue` shows it. Default: the recipe's.
        **options: of `fit`: init, precision, on_nan, checkpoint_minutes, and callbacks, which must
            be picklable.

    Raises:
        FileExistsError: the run's folder exists, and `resume` is not set.
        FileNotFoundError: no store, or no initial weights.
        ModuleNotFoundError: submitit is not installed.
        ValueError: the store or the initial weights do not fit the recipe; Slurm is not installed.
    """
    recipe = recipes.get(recipe)
    run = Path(run if run is not None else Path("runs") / recipe.name).resolve()
    folder = Path(folder).resolve() if folder is not None else run.with_name(run.name + ".slurm")
    if run.exists() and not resume:
        raise FileExistsError(
            f"{run} exists already: name another run folder with --run, or go on with --resume"
        )
    store = open_store_for(recipe, data)
    initial = read_initial_weights(options.get("init"), run=run, resume=resume)
    if initial is not None:
        initial.check(build_model(recipe, store))
        options["init"] = initial.path.resolve()
    submitit = _submitit()
    missing = [program for program in ("sbatch", "srun") if shutil.which(program) is None]
    if missing:
        raise ValueError(
            f"there is no {' and no '.join(missing)} on the PATH: submit on a machine of the "
            "cluster, or train here without --slurm"
        )
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=slurm.requeues)
    executor.update_parameters(**slurm.sbatch_options(name or recipe.name))
    arguments: FitOptions = {
        **options,
        "data": str(store.path.resolve()),
        "device": "cuda" if slurm.gpus else "cpu",
        "devices": max(1, slurm.gpus),
        "num_nodes": slurm.nodes,
        "progress": False,
    }
    return executor.submit(TrainingJob(recipe, run, arguments, resume=resume))


@dataclass(frozen=True)
class TrainingJob:
    """Arguments of `fit`, as submitit runs it on every process and requeues it (its protocol)."""

    recipe: Recipe
    run: Path
    arguments: FitOptions = field(default_factory=FitOptions)
    resume: bool = False

    def __call__(self) -> str:
        """Train, or resume the training; return the run's folder.

        Raises:
            SystemExit: Slurm stopped the job; a checkpoint is written.
        """
        # After a machine's failure Slurm requeues by itself, without calling `checkpoint`.
        resume = self.resume or int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0

        train = partial(fit, self.recipe, run=self.run, resume=resume, **self.arguments)
        return str(_until_warned(train).path)

    def checkpoint(self) -> Any:
        """Return what submitit puts into the queue after a warning."""
        return _submitit().helpers.DelayedSubmission(replace(self, resume=True))


def _until_warned(train: Callable[[], Run]) -> Run:
    """Train; after Slurm's warning write a checkpoint first, then let submitit requeue.

    submitit's own handler requeues the job and exits at once, in the middle of a step: what was
    computed since the last checkpoint would be lost.
    """
    warning = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
    requeue, idle = signal.getsignal(warning), signal.getsignal(signal.SIGTERM)
    warned = False

    def on_warning(number: int, frame: FrameType | None) -> None:
        nonlocal warned
        if signal.getsignal(signal.SIGTERM) is not idle:  # fit listens, and will end with code 75
            warned = True
            signal.raise_signal(signal.SIGTERM)
        elif callable(requeue):  # nothing is computed yet, or everything is written
            requeue(number, frame)

    signal.signal(warning, on_warning)
    try:
        return train()
    except Requeue:
        # SIGTERM without a warning is scancel, which wants no requeue, or a preemption after which
        # Slurm requeues by itself.
        if warned and callable(requeue):
            requeue(warning, None)  # ends the first process, and with it the job
            # The other processes wait for that: on some clusters the first one to exit ends all.
            time.sleep(_WARN_SECONDS)
        raise
    finally:
        signal.signal(warning, requeue)


def _submitit() -> Any:
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "submitit, which talks to Slurm, is not installed: pip install msg3d-lab[cluster]"
        ) from error
    return submitit
