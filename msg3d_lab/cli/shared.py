"""What the commands share."""

from __future__ import annotations

import os
from typing import Annotated, Any

from tyro.conf import arg

__all__ = ["Settings", "first_process", "sideways"]

Settings = Annotated[tuple[str, ...], arg(name="set", metavar="KEY=VALUE ...")]


def first_process() -> bool:
    """Whether this is the process that talks, of those that torchrun or srun started."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def sideways(table: Any) -> str:
    """A data frame on its side, so that it fits any terminal."""
    return table.T.to_string(header=len(table) > 1 or None)
