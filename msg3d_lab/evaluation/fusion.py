"""Fusion: one prediction from the scores of several networks, joined by sample id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from msg3d_lab.evaluation.scores import Kind, Scores, align
from msg3d_lab.evaluation.statistics import Comparison, accuracy_interval, compare

if TYPE_CHECKING:
    import pandas as pd


# pyskl's four-stream fusion of softmax scores (configs/msg3d/README.md).
STREAM_WEIGHTS = {"joint": 2.0, "bone": 2.0, "joint_motion": 1.0, "bone_motion": 1.0}

# The smallest normal float32. Smaller softmax scores may have been rounded to 0, whose logarithm
# would outweigh all others.
_SMALLEST = float(np.finfo(np.float32).tiny)
# The facts that a fusion keeps if all of its parts have the same.
_COMMON_FACTS = ("dataset", "split", "num_clips", "trained_on", "data_fingerprint")


def fuse(
    scores: Sequence[Scores], *, weights: Sequence[float] | None = None, on: Kind = "softmax"
) -> Scores:
    """Return the weighted mean of several scores of the same samples.

    For streams (joint, bone, ...) and for an ensemble of seeds. The parts are joined by sample id,
    see `align`.

    On "softmax" (as pyskl), every part is a distribution over the classes, and so is the fusion. On
    "logits" (as the author of MS-G3D; his alpha for bones is the weight 1 : alpha), confident
    networks count more. The logits of a network tested with one clip are the logarithm of its
    softmax scores up to a constant per sample, which changes no prediction, so the result is exact.
    For softmax scores averaged over several clips the logarithm of the average is used, which is
    not the average of the clips' logits: test with `average="logits"` to get those.

    Args:
        scores: two or more; see `Scores.kind`.
        weights: one per part, 0 or more; only their ratios count. Default: equal.
        on: what is averaged.

    Returns:
        Scores in the first part's order; `facts["parts"]` has the weight and facts of each part.

    Raises:
        ValueError: fewer than two parts; parts of different samples, see `align`; wrong weights.

    Source: pyskl, configs/msg3d/README.md; kenziyuliu/MS-G3D, ensemble.py.
    """
    if len(scores) < 2:
        raise ValueError(f"expected two scores or more to fuse, found {len(scores)}")
    parts = align(scores)
    fractions = _normalize(weights, len(parts))
    values = sum(w * _values(part, on) for w, part in zip(fractions, parts, strict=True))
    given = fractions if weights is None else np.asarray(weights, dtype=np.float64)
    return Scores(
        ids=parts[0].ids,
        labels=parts[0].labels,
        values=np.asarray(values, dtype=np.float32),
        label_names=parts[0].label_names,
        facts=_fused_facts(parts, given, on),
    )


def stream_weights(scores: Sequence[Scores]) -> list[float]:
    """Return pyskl's weight of each part's stream: joint 2, bone 2, joint motion 1, bone motion 1.

    Raises:
        ValueError: a part of another stream.
    """
    streams = [part.facts.get("stream") for part in scores]
    unknown = [stream for stream in streams if stream not in STREAM_WEIGHTS]
    if unknown:
        raise ValueError(
            f"expected scores of the streams {', '.join(STREAM_WEIGHTS)}, found {unknown[0]!r}: "
            "give the weights as numbers"
        )
    return [STREAM_WEIGHTS[str(stream)] for stream in streams]


def gain(fused: Scores, single: Scores) -> Comparison:
    """Compare a fusion (a) with one network (b), usually its best part, on the same samples.

    The best part is chosen by its test accuracy, which favours it: the gain is underestimated.

    Raises:
        ValueError: they are not of the same samples, see `align`.
    """
    fused, single = align([fused, single])
    return compare(fused.correct, single.correct)


def fusion_table(scores: Sequence[Scores], fused: Scores, *, names: Sequence[str]) -> pd.DataFrame:
    """Return a row per part, by name, and one for their fusion: top-1 with its 95 % interval.

    Raises:
        ValueError: another number of names or scores than parts.
    """
    import pandas as pd

    weights = [part["weight"] for part in fused.facts["parts"]]
    fractions = _normalize(weights, len(weights))
    rows = []
    for part, weight in zip([*scores, fused], [*fractions.tolist(), 1.0], strict=True):
        low, high = accuracy_interval(part.correct)
        rows.append(
            {
                "weight": round(weight, 3),
                "clips": part.facts.get("num_clips") or "",
                "samples": len(part.ids),
                "top-1 %": round(100 * float(part.correct.mean()), 2),
                "low": round(100 * low, 2),
                "high": round(100 * high, 2),
            }
        )
    return pd.DataFrame(rows, index=pd.Index([*names, "fused"], name="scores"))


def weight_curve(first: Scores, second: Scores) -> pd.DataFrame:
    """Return the accuracy of two parts fused on softmax scores, for 41 weights of the second one.

    It shows how much the weight matters. Choosing a weight by test accuracy would be choosing by
    test data.

    Returns:
        Columns weight (of the second, 0 to 1), top1, low, high (fractions of 1; the 95 % interval).

    Raises:
        ValueError: as `fuse`.
    """
    import pandas as pd

    parts = align([first, second])
    a, b = (_values(part, "softmax") for part in parts)
    rows = []
    for weight in np.linspace(0, 1, 41):
        values = ((1 - weight) * a + weight * b).astype(np.float32)
        correct = values.argmax(axis=1) == parts[0].labels
        rows.append((float(weight), float(correct.mean()), *accuracy_interval(correct)))
    return pd.DataFrame(rows, columns=["weight", "top1", "low", "high"])


def _normalize(weights: Sequence[float] | None, count: int) -> np.ndarray:
    """Return the weights, adding up to 1."""
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


def _values(scores: Scores, on: Kind) -> np.ndarray:
    """Return what is averaged, as (N, classes) float64."""
    if on not in ("softmax", "logits"):
        raise ValueError(f"expected on softmax or logits, found {on!r}")
    if on == "softmax":
        return scores.probabilities.astype(np.float64)
    values = scores.values.astype(np.float64)
    return values if scores.kind == "logits" else np.log(np.maximum(values, _SMALLEST))


def _fused_facts(parts: Sequence[Scores], weights: np.ndarray, on: Kind) -> dict[str, Any]:
    each = [part.facts for part in parts]
    common = {
        key: each[0][key]
        for key in _COMMON_FACTS
        if key in each[0] and all(facts.get(key) == each[0][key] for facts in each)
    }
    return {
        **common,
        "synthetic": any(facts.get("synthetic", False) for facts in each),
        "stream": _fusion_name(
            [str(facts.get("stream") or "unknown stream") for facts in each], weights
        ),
        "kind": on,
        "parts": [{"weight": w, **f} for w, f in zip(weights.tolist(), each, strict=True)],
    }


def _fusion_name(streams: Sequence[str], weights: np.ndarray) -> str:
    """The fusion's name, such as "joint+bone", "2 joint+2 bone+joint_motion" or "3 x joint"."""
    counts = Counter(streams)
    if len(set(weights.tolist())) == 1:
        return "+".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items())
    relative = weights / weights[weights > 0].min()
    return "+".join(
        stream if weight == 1 else f"{weight:.3g} {stream}"
        for stream, weight in zip(streams, relative, strict=True)
    )
