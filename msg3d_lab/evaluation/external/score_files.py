"""Read score files of MS-G3D, CTR-GCN, pyskl and mmaction2: pickles, of which nothing is run.

MS-G3D and CTR-GCN (`main.py`, `--save-score`) write a dict of sample name -> logits. MS-G3D's names
are those of the recordings (`S001C001P003R001A013.skeleton`); CTR-GCN's are positions: `test_0`,
`test_1`, ... for NTU, plain numbers for NW-UCLA.

pyskl (`tools/test.py --out`) writes a list of score arrays, mmaction2 (`tools/test.py --dump`) a
list of dicts with `pred_score` and `gt_label`, torch's tensors (in its first versions `pred_scores`
and `gt_labels`, each a dict with `item`). Both are in the order of the annotation file.

Sources: `main.py` and the feeders of kenziyuliu/MS-G3D and Uason-Chen/CTR-GCN; `tools/test.py` of
kennymckormick/pyskl and open-mmlab/mmaction2, with mmengine's `DumpResults`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from msg3d_lab.safe_pickle import load_pickle

__all__ = ["ScoreFile", "read_names", "read_score_file"]

_POSITION = re.compile(r"(?:(?:test|train|val)_)?(\d+)")
_MAX_SHARING = 8  # bytes of scores per byte of the file: rows can share their numbers


class ScoreFile(NamedTuple):
    """The content of a score file.

    Args:
        format: whose format, e.g. "pyskl scores".
        values: (N, classes) float32, finite.
        names: of the samples; None if the rows are known by position only.
        labels: true classes, if they are in the file.
    """

    format: str
    values: np.ndarray
    names: list[str] | None
    labels: np.ndarray | None


def read_score_file(path: Path, *, known: Collection[str] = ()) -> ScoreFile:
    """Read a pickle of scores.

    Args:
        path: the file.
        known: sample ids; keys that are all among them are names even if they look like positions.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the pickle is refused, damaged or in none of the four formats; or the scores
            are not one finite number for each class and sample.
    """
    content = load_pickle(path, tensors=True)
    if isinstance(content, dict) and content:
        return _read_dict(content, known, path)
    if isinstance(content, list) and content:
        if all(isinstance(sample, dict) for sample in content):
            return _read_samples(content, path)
        return ScoreFile("pyskl scores", _stack(content, path), None, None)
    raise ValueError(
        f"{path} holds no scores: expected a dict of name -> scores (MS-G3D, CTR-GCN), or a list "
        "of scores (pyskl) or of samples (mmaction2)"
    )


def read_names(path: Path) -> list[str]:
    """Read sample names: one a line, or a pickle of labels of MS-G3D or of CTR-GCN on NW-UCLA.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is neither.
    """
    with path.open("rb") as file:
        pickled = file.read(1) in (b"\x80", b"(")
    if not pickled:
        return path.read_text(encoding="utf-8").split()
    content = load_pickle(path)
    if isinstance(content, tuple | list) and len(content) == 2 and isinstance(content[0], list):
        content = content[0]
    if isinstance(content, list):
        names = [entry.get("file_name") if isinstance(entry, dict) else entry for entry in content]
        texts = [name for name in names if isinstance(name, str)]
        if len(texts) == len(names):
            return texts
    raise ValueError(
        f"{path}: expected sample names: one a line, a pickle of names and labels (MS-G3D), or one "
        "of dicts with 'file_name' (CTR-GCN)"
    )


def _read_dict(content: dict[Any, Any], known: Collection[str], path: Path) -> ScoreFile:
    names = [str(key) for key in content]
    rows = list(content.values())
    positions = [int(match[1]) for match in map(_POSITION.fullmatch, names) if match]
    if sorted(positions) == list(range(len(names))) and not set(names) <= set(known):
        ordered = [rows[i] for i in np.argsort(positions)]
        return ScoreFile("CTR-GCN scores", _stack(ordered, path), None, None)
    return ScoreFile("MS-G3D scores", _stack(rows, path), names, None)


def _read_samples(samples: list[dict[Any, Any]], path: Path) -> ScoreFile:
    rows, truths = ([_field(sample, n) for sample in samples] for n in ("pred_score", "gt_label"))
    if any(row is None for row in rows):
        raise ValueError(
            f"{path}: expected 'pred_score' in every sample of a file of mmaction2's --dump"
        )
    labels = None
    if all(truth is not None for truth in truths):
        if any(np.size(truth) != 1 or np.asarray(truth).dtype.kind not in "iu" for truth in truths):
            raise ValueError(f"{path}: expected one true class for each sample ('gt_label')")
        labels = np.array([np.asarray(truth).item() for truth in truths], dtype=np.int64)
    names = [sample.get("frame_dir") for sample in samples]
    named = [name for name in names if isinstance(name, str)]
    known = named if len(named) == len(samples) else None
    return ScoreFile("mmaction2 scores", _stack(rows, path), known, labels)


def _field(sample: dict[Any, Any], name: str) -> Any:
    value = sample.get(name, sample.get(f"{name}s"))
    return value.get("item") if isinstance(value, dict) else value


def _stack(rows: list[Any], path: Path) -> np.ndarray:
    """Check the scores of all samples and return them as (N, classes) float32."""
    # pyskl writes batches of one sample.
    rows = [r[0] if isinstance(r, np.ndarray) and r.ndim == 2 and len(r) == 1 else r for r in rows]
    first: tuple[int, ...] = rows[0].shape if isinstance(rows[0], np.ndarray) else ()
    if len(first) != 1 or first[0] < 2:
        raise ValueError(
            f"{path}: expected scores (classes,) for each sample, found "
            f"{first or type(rows[0]).__name__}: average the clips of a sample first"
        )
    for i, row in enumerate(rows):
        if not isinstance(row, np.ndarray) or row.dtype.kind != "f" or row.shape != first:
            found = type(row).__name__
            if isinstance(row, np.ndarray):
                found = f"{row.dtype} {row.shape}"
            raise ValueError(
                f"{path}: expected {first[0]} scores for every sample, found {found} at {i}"
            )
    size = 4 * first[0] * len(rows)
    if size > _MAX_SHARING * path.stat().st_size:
        raise ValueError(
            f"{path}: its scores take {size} bytes, the file has {path.stat().st_size}: too many "
            "samples share their scores"
        )
    with np.errstate(over="ignore"):  # values too large for float32 are found below
        values = np.stack(rows).astype(np.float32)
    broken = ~np.isfinite(values).all(axis=1)
    if broken.any():
        raise ValueError(f"{path}: {broken.sum()} samples have scores that are no finite numbers")
    return values
