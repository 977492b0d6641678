"""Fusion: one answer from the scores of several networks, joined by sample id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from msg3d_lab.evaluation.align import aligned
from msg3d_lab.evaluation.scores import Kind, Scores
from msg3d_lab.evaluation.statistics import difference, interval, mcnemar

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "STREAM_WEIGHTS",
    "Gain",
    "fuse",
    "fusion_table",
    "gain",
    "parts_of",
    "stream_weights",
    "values_on",
]

# pyskl's four-stream fusion, of softmax scores (configs/msg3d/README.md).
STREAM_WEIGHTS = {"joint": 2.0, "bone": 2.0, "joint_motion": 1.0, "bone_motion": 1.0}

# Softmax scores are float32: what is smaller than its smallest normal number may have become 0.
_SMALLEST = float(np.finfo(np.float32).tiny)
# Of facts, those that a fusion has if all of its parts agree on them.
_SHARED = ("dataset", "split", "num_clips", "average", "trained_on", "data_fingerprint")


@dataclass(frozen=True)
class Gain:
    """What fusing was worth. Shares of 1.

    Args:
        fused, single: accuracies.
        difference: the first minus the second.
        low, high: bootstrap interval of the difference, over samples.
        only_fused: samples the fusion has right and the single network has wrong.
        only_single: the reverse.
        p_value: of the exact McNemar test.
    """

    fused: float
    single: float
    difference: float
    low: float
    high: float
    only_fused: int
    only_single: int
    p_value: float


def fuse(
    scores: Sequence[Scores], *, weights: Sequence[float] | None = None, on: Kind = "softmax"
) -> Scores:
    """Return the weighted mean of several scores of the same samples.

    For streams (joint, bone, ...) as for seeds of one network, an ensemble. The parts are joined by
    sample id, see `aligned`.

    On "softmax", as pyskl does, every part is a distribution over the classes, and so is the
    fusion. On "logits", as the author of MS-G3D does (his alpha for bones is the weight 1 : alpha),
    sure networks count for more. The logits of a network tested with one clip are the logarithm of
    its softmax scores up to a constant per sample, which changes no prediction: that is exact.
    Of scores averaged over several clips it is the logarithm of the average, not the average of the
    clips' logits; test with `average="logits"` to have those.

    Args:
        scores: two or more; see `Scores.kind`.
        weights: one per part, 0 or more; equal if left out. Only their ratios count.
        on: what is averaged.

    Returns:
        Scores in the first part's order, with what is known of each part in `facts["parts"]`.

    Raises:
        ValueError: fewer than two parts; parts that do not belong together, see `aligned`; weights
            that are none, or all 0.

    Source: pyskl, configs/msg3d/README.md; kenziyuliu/MS-G3D, ensemble.py.
    """
    parts = parts_of(scores)
    shares = _shares(weights, len(parts))
    values = sum(share * values_on(part, on) for share, part in zip(shares, parts, strict=True))
    first = parts[0]
    return Scores(
        ids=first.ids,
        labels=first.labels,
        values=np.asarray(values, dtype=np.float32),
        label_names=first.label_names,
        facts=_facts(parts, shares if weights is None else np.asarray(weights, float), on),
    )


def stream_weights(scores: Sequence[Scores]) -> list[float]:
    """Return pyskl's weight of each part's stream: joint 2, bone 2, joint motion 1, bone motion 1.

    Raises:
        ValueError: a part is of no known stream.
    """
    streams = [part.facts.get("stream") for part in scores]
    unknown = [stream for stream in streams if stream not in STREAM_WEIGHTS]
    if unknown:
        raise ValueError(
            f"expected scores of the streams {', '.join(STREAM_WEIGHTS)}, found {unknown[0]!r}: "
            "give the weights as numbers"
        )
    return [STREAM_WEIGHTS[str(stream)] for stream in streams]


def gain(fused: Scores, single: Scores) -> Gain:
    """Compare a fusion with one network, usually the best of its parts, on the same samples.

    Picking the best part by its test accuracy favours that part, so the gain is rather understated.

    Raises:
        ValueError: they are not of the same samples, see `aligned`.
    """
    fused, single = aligned([fused, single])
    a, b = fused.correct, single.correct
    found, pairs = difference(a, b), mcnemar(a, b)
    return Gain(
        fused=float(a.mean()),
        single=float(b.mean()),
        difference=found.mean,
        low=found.low,
        high=found.high,
        only_fused=pairs.only_a,
        only_single=pairs.only_b,
        p_value=pairs.p_value,
    )


def fusion_table(
    scores: Sequence[Scores],
    fused: Scores,
    *,
    names: Sequence[str],
    weights: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Return a row per part and one for their fusion: accuracy in percent with its 95 % interval.

    Args:
        scores: the parts.
        fused: what `fuse` made of them.
        names: one per part.
        weights: those they were fused with; equal if left out.

    Raises:
        ValueError: not one name per part; otherwise as `fuse`.
    """
    import pandas as pd

    parts = parts_of(scores)
    shares = _shares(weights, len(parts))
    if len(names) != len(parts):
        raise ValueError(f"expected a name for each of {len(parts)} parts, found {len(names)}")
    rows = []
    for part, share in zip([*parts, fused], [*shares.tolist(), 1.0], strict=True):
        right = part.correct
        low, high = interval(right)
        rows.append(
            {
                "weight": round(share, 3),
                "clips": part.facts.get("num_clips", ""),
                "samples": len(right),
                "top-1 %": round(100 * float(right.mean()), 2),
                "low": round(100 * low, 2),
                "high": round(100 * high, 2),
            }
        )
    return pd.DataFrame(rows, index=pd.Index([*names, "fused"], name="scores"))


def parts_of(scores: Sequence[Scores]) -> list[Scores]:
    """Return the parts of a fusion, joined by id: two or more."""
    if len(scores) < 2:
        raise ValueError(f"expected two scores or more to fuse, found {len(scores)}")
    return aligned(scores)


def _shares(weights: Sequence[float] | None, count: int) -> np.ndarray:
    """The weights, adding up to 1."""
    if weights is None:
        return np.full(count, 1 / count)
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (count,):
        raise ValueError(f"expected {count} weights, one per part, found {len(given)}")
    if not np.isfinite(given).all() or (given < 0).any() or not given.any():
        raise ValueError(
            f"expected weights of 0 or more, one above 0, found {', '.join(map(str, weights))}"
        )
    return given / given.sum()


def values_on(scores: Scores, on: Kind) -> np.ndarray:
    """Return what is averaged, as (N, classes) float64."""
    if on not in ("softmax", "logits"):
        raise ValueError(f"expected on softmax or logits, found {on!r}")
    if on == "softmax":
        return scores.probabilities.astype(np.float64)
    values = scores.values.astype(np.float64)
    return values if scores.kind == "logits" else np.log(np.maximum(values, _SMALLEST))


def _facts(parts: Sequence[Scores], weights: np.ndarray, on: Kind) -> dict[str, Any]:
    each = [part.facts for part in parts]
    shared = {
        key: each[0][key]
        for key in _SHARED
        if key in each[0] and all(facts.get(key) == each[0][key] for facts in each)
    }
    return {
        **shared,
        "synthetic": any(facts.get("synthetic", False) for facts in each),
        "stream": _named([str(facts.get("stream") or "?") for facts in each], weights),
        "kind": on,
        "parts": [{"weight": w, **f} for w, f in zip(weights.tolist(), each, strict=True)],
    }


def _named(streams: Sequence[str], weights: np.ndarray) -> str:
    """The fusion's name, such as "joint+bone", "2 joint+2 bone+joint_motion" or "3 x joint"."""
    counts = Counter(streams)
    if len(set(weights.tolist())) == 1:
        return "+".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items())
    smallest = weights[weights > 0].min()
    words = []
    for stream, weight in zip(streams, weights / smallest, strict=True):
        words.append(stream if weight == 1 else f"{weight:.3g} {stream}")
    return "+".join(words)
