"""Published accuracies of MS-G3D and of others, with the checkpoints that were published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


PUBLISHED = Path(__file__).with_name("published.csv")


def read_published(path: str | Path | None = None) -> pd.DataFrame:
    """Read the published accuracies. What could not be verified is blank.

    Args:
        path: a CSV. Default: the one of this package.

    Returns:
        Text columns, but top1_percent and top5_percent are numbers (percent; nan where blank).

    Raises:
        FileNotFoundError: no such file.
        ValueError: other columns than expected; a top-1 outside 0 to 100.
    """
    import pandas as pd

    path = PUBLISHED if path is None else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table of published numbers at {path}")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    expected = pd.read_csv(PUBLISHED, nrows=0).columns
    if list(table.columns) != list(expected):
        raise ValueError(
            f"{path}: expected the columns {', '.join(expected)}, found {', '.join(table.columns)}"
        )
    for name in ("top1_percent", "top5_percent"):
        table[name] = pd.to_numeric(table[name].replace("", None))
    wrong = table.index[~table["top1_percent"].between(0, 100)]
    if len(wrong):
        raise ValueError(f"{path}, row {wrong[0] + 1}: expected a top-1 from 0 to 100 percent")
    return table
