"""Helpers of several commands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Settings", "first_process", "transposed"]

Settings = Annotated[tuple[str, ...], arg(name="set", metavar="KEY=VALUE ...")]


def first_process() -> bool:
    """Whether this is the first of the processes that torchrun or srun started, which prints."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def transposed(table: pd.DataFrame) -> str:
    """Return a data frame as text with its columns as rows, so that it fits any terminal."""
    return table.T.to_string(header=len(table) > 1)
