"""The shell: `msg3d-lab COMMAND ...`. Every command is a library function with a line of text.

What a user can get wrong ends in one line on stderr and exit code 2, without a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import tyro

from msg3d_lab.cli.data import DATA_COMMANDS, data_help
from msg3d_lab.cli.evaluate import EVALUATE_COMMANDS
from msg3d_lab.cli.experiments import EXPERIMENT_COMMANDS
from msg3d_lab.cli.importance import IMPORTANCE_COMMANDS
from msg3d_lab.cli.tables import TABLE_COMMANDS
from msg3d_lab.cli.train import TRAIN_COMMANDS

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        arguments: the shell's words; the process's own if left out.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands, program, description = COMMANDS, "msg3d-lab", DESCRIPTION
    if words[:1] == ["data"]:
        commands, program, words = DATA_COMMANDS, "msg3d-lab data", words[1:]
        description = str(data_help.__doc__)
    try:
        tyro.extras.subcommand_cli_from_dict(
            commands, prog=program, description=description, args=words or ["--help"]
        )
    except (ValueError, OSError, ModuleNotFoundError) as error:  # the last: a missing extra
        # str(OSError) of the system itself has no file name; its own text does.
        sys.exit(_fail(f"msg3d-lab: {' '.join(str(error).split())}"))
    except KeyboardInterrupt:
        sys.stderr.write("\nmsg3d-lab: stopped\n")
        sys.exit(130)


DESCRIPTION = (
    "MS-G3D Lab: train, test and look into MS-G3D on skeleton sequences. "
    "`msg3d-lab COMMAND --help` tells the options of a command; `msg3d-lab demo` shows everything "
    "at work on embedded synthetic data."
)


def _fail(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 2


COMMANDS: dict[str, Callable[..., None]] = {
    **TRAIN_COMMANDS,
    "data": data_help,
    **EVALUATE_COMMANDS,
    **TABLE_COMMANDS,
    **EXPERIMENT_COMMANDS,
    **IMPORTANCE_COMMANDS,
}
