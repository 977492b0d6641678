"""Read score files of MS-G3D, CTR-GCN, pyskl and mmaction2: pickles, of which nothing is run.

MS-G3D and CTR-GCN (`main.py`, `--save-score`) write a dict of sample name -> logits. MS-G3D's names
are those of the recordings (`S001C001P003R001A013.skeleton`); CTR-GCN's are positions: `test_0`,
`test_1`, ... for NTU, plain numbers for NW-UCLA.

pyskl (`tools/test.py --out`) writes a list of score arrays, mmaction2 (`tools/test.py --dump`) a
list of dicts with `pred_score` and `gt_label`, torch's tensors (in its first versions `pred_scores`
and `gt_labels`, each a dict with `item`). Both are in the order of the annotation file.

People also keep one array for all samples, as a pickle or as `.npy`, lists of numbers, and the
scores of every clip of a sample, (clips, classes), whose softmax scores are averaged here as in
mmaction2's `average_clips="prob"`.

Sources: `main.py` and the feeders of kenziyuliu/MS-G3D and Uason-Chen/CTR-GCN; `tools/test.py` of
kennymckormick/pyskl and open-mmlab/mmaction2, with mmengine's `DumpResults`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from msg3d_lab.evaluation.scores import guess_kind
from msg3d_lab.safe_pickle import load_npy, load_pickle

_POSITION = re.compile(r"(?:(?:test|train|val)_)?(\d+)")


class ScoreFile(NamedTuple):
    """The content of a score file: (N, classes) float32, finite; names and labels if it has them.

    `num_clips` is the number of clips per sample that were averaged here, if there were several.
    """

    format: str
    values: np.ndarray
    names: list[str] | None
    labels: np.ndarray | None
    num_clips: int | None


def read_score_file(path: Path, *, known: Collection[str] = ()) -> ScoreFile:
    """Read a pickle of scores, or an array of scores in an .npy file.

    Args:
        known: sample ids; keys that are all among them are names even if they look like positions.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no score file at {path}")
    with path.open("rb") as file:
        start = file.read(6)
    if start == b"\x93NUMPY":
        return _scores("an array", load_npy(path), path)
    if start[:4] in (b"PK\x03\x04", b"PAR1", b"\x89HDF") or start[:1] in (b"{", b"["):
        raise ValueError(
            f"{path}: expected a pickle or an .npy array of scores, found a zip, Parquet, HDF5 or "
            "JSON file: save the scores with pickle.dump or numpy.save (`fuse` reads the .parquet "
            "files of this library)"
        )
    content = load_pickle(path, tensors=True)
    if isinstance(content, dict) and content:
        return _read_dict(content, known, path)
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        return _read_samples(content, path)
    if isinstance(content, np.ndarray):
        return _scores("an array", content, path)
    if isinstance(content, list) and content:
        return _scores("pyskl scores", content, path)
    raise ValueError(
        f"{path} holds no scores: expected a dict of name -> scores (MS-G3D, CTR-GCN), a list of "
        "scores (pyskl) or of samples (mmaction2), or one array (samples, classes), found "
        f"{_describe(content)}"
    )


def _read_dict(content: dict[Any, Any], known: Collection[str], path: Path) -> ScoreFile:
    names = [str(key) for key in content]
    rows = list(content.values())
    positions = [int(match[1]) for match in map(_POSITION.fullmatch, names) if match]
    if sorted(positions) == list(range(len(names))) and not set(names) <= set(known):
        return _scores("CTR-GCN scores", [rows[i] for i in np.argsort(positions)], path)
    return _scores("MS-G3D scores", rows, path, names=names)


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
    return _scores("mmaction2 scores", rows, path, names=known, labels=labels)


def _field(sample: dict[Any, Any], name: str) -> Any:
    value = sample.get(name, sample.get(f"{name}s"))
    return value.get("item") if isinstance(value, dict) else value


def _scores(
    form: str,
    rows: Sequence[Any] | np.ndarray,
    path: Path,
    *,
    names: list[str] | None = None,
    labels: np.ndarray | None = None,
) -> ScoreFile:
    """Check the scores of all samples, (classes,) or (clips, classes) each, and average clips."""
    if isinstance(rows, np.ndarray) and rows.ndim not in (2, 3):
        raise ValueError(
            f"{path}: expected an array (samples, classes) or (samples, clips, classes), found "
            f"{_describe(rows)}"
        )
    values = [_as_numbers(row, i, names, path) for i, row in enumerate(rows)]
    if not values:
        raise ValueError(f"{path} holds no scores: its array is {_describe(rows)}")
    first = values[0].shape
    for i, row in enumerate(values):
        if row.shape != first:
            raise ValueError(
                f"{path}: expected scores (clips, classes) {first} for every sample, as for the "
                f"first, found {row.shape} at {_at(i, names)}"
            )
    with np.errstate(over="ignore"):  # values too large for float32 are found below
        found = np.stack(values).astype(np.float32)
    broken = np.flatnonzero(~np.isfinite(found).all(axis=(1, 2)))
    if len(broken):
        raise ValueError(
            f"{path}: {len(broken)} samples have scores that are no finite numbers, the first at "
            f"{_at(int(broken[0]), names)}: the network that gave them is broken"
        )
    num_clips = first[0] if first[0] > 1 else None
    if num_clips is not None and guess_kind(found.reshape(-1, first[1])) == "logits":
        found = softmax(found, axis=2)
    return ScoreFile(form, found.mean(axis=1), names, labels, num_clips)


def _as_numbers(row: Any, i: int, names: list[str] | None, path: Path) -> np.ndarray:
    """Return the scores of one sample as (clips, classes)."""
    found = row
    if isinstance(row, list | tuple):
        try:
            found = np.array(row)
        except ValueError:  # rows of unequal lengths
            found = None
    if (
        not isinstance(found, np.ndarray)
        or found.dtype.kind not in "fiu"
        or (found.ndim not in (1, 2) or found.shape[-1] < 2 or not len(found))
    ):
        raise ValueError(
            f"{path}: expected scores (classes,) or (clips, classes) for each sample, and two "
            f"classes or more, found {_describe(row)} at {_at(i, names)}"
        )
    if found.dtype.kind != "f":
        raise ValueError(
            f"{path}: expected scores with decimals, found whole numbers ({found.dtype}, shape "
            f"{found.shape}) at {_at(i, names)}: are they class numbers?"
        )
    return found[None] if found.ndim == 1 else found


def _at(i: int, names: list[str] | None) -> str:
    return f"position {i}" if names is None else names[i]


def _describe(content: Any) -> str:
    if isinstance(content, np.ndarray):
        return f"an array {content.shape} of {content.dtype}"
    if isinstance(content, list | tuple | dict):
        return f"a {type(content).__name__} of {len(content)} entries"
    return f"a value of type {type(content).__name__}"
