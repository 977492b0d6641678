"""The command line: `msg3d-lab COMMAND ...`. Every command calls library functions and prints.

A user's mistake ends in one line on stderr and exit code 2, without a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import tyro

from msg3d_lab.cli import (
    data,
    evaluate,
    experiments,
    importance,
    predict,
    tables,
    train,
    weights,
)

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        arguments: the words after `msg3d-lab`. Default: those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not sys.stderr.isatty():  # in a log file a progress bar is a line every ten seconds
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    commands, program, description = COMMANDS, "msg3d-lab", DESCRIPTION
    if words[:1] == ["data"]:
        commands, program, words = DATA_COMMANDS, "msg3d-lab data", words[1:]
        description = str(data.data_help.__doc__)
    try:
        tyro.extras.subcommand_cli_from_dict(
            commands, prog=program, description=description, args=words or ["--help"]
        )
    except (ValueError, OSError, ModuleNotFoundError) as error:  # the last: a missing extra
        words = str(error).split()
        if words[:1] == ["[Errno"]:  # of the system, with its number
            words = words[2:]
        sys.stderr.write(f"msg3d-lab: {' '.join(words)}\n")
        sys.exit(2)
    except KeyboardInterrupt as stop:  # `training.signals.Stopped` says how to go on
        sys.stderr.write(f"\nmsg3d-lab: {str(stop) or 'stopped'}\n")
        sys.exit(130)
    except SystemExit as stop:
        if message := getattr(stop, "message", ""):  # `training.signals.Requeue`
            sys.stderr.write(f"\nmsg3d-lab: {message}\n")
        raise


DESCRIPTION = (
    "MS-G3D Lab: train, test and look into MS-G3D on skeleton sequences. "
    "`msg3d-lab COMMAND --help` lists the options of a command; `msg3d-lab demo` trains and tests "
    "on embedded synthetic data."
)


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": train.demo,
    "info": train.info,
    "recipes": train.recipes,
    "train": train.train,
    "data": data.data_help,
    "test": evaluate.test,
    "report": evaluate.report,
    "scores": evaluate.scores,
    "record": evaluate.record,
    "convert": evaluate.convert,
    "predict": predict.predict,
    "export": predict.export,
    "weights": weights.weights,
    "reproduce": weights.reproduce,
    "fuse": tables.fuse,
    "results": tables.results,
    "ablate": experiments.ablate,
    "importance": importance.importance,
}
DATA_COMMANDS: dict[str, Callable[..., None]] = {
    "import": data.import_,
    "info": data.info,
    "check": data.check,
    "download": data.download,
}
