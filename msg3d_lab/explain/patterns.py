"""Patterns over many clips: per class, over time, left against right, group against group.

The importance of a single clip is in logits, and larger where the network is more confident. So
patterns use shares: each clip's values divided by the sum of their absolute values. Shares are
unitless; negative ones speak against the class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from msg3d_lab.explain.features import Features, joint_parts
from msg3d_lab.skeletons import Skeleton


def shares(values: np.ndarray) -> np.ndarray:
    """Divide each clip's importance by the sum of its absolute values.

    Shapes:
        (N, F) -> (N, F); a clip whose values are all 0 stays so.

    Raises:
        ValueError: not (clips, features), or not finite.

    Example:
        >>> shares(np.array([[3.0, -1.0]])).tolist()
        [[0.75, -0.25]]
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"expected finite importance (clips, features), found {values.shape}")
    total = np.abs(values).sum(axis=1, keepdims=True)
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0)


def class_matrix(
    values: np.ndarray,
    classes: np.ndarray,
    *,
    names: Sequence[str],
    label_names: Sequence[str],
    normalised: bool = False,
) -> pd.DataFrame:
    """Return the mean share of each feature in the clips of each class.

    Args:
        values: importance of clips, (N, F).
        classes: (N,) the class that each clip counts for.
        normalised: whether the values are already shares, or sums of shares (`to_parts`).

    Returns:
        Classes that occur x features; unitless.
    """
    share = values if normalised else shares(values)
    table = pd.DataFrame(share, columns=pd.Index(names, name="feature"))
    means = table.groupby(np.asarray(classes)).mean()
    means.index = pd.Index([label_names[i] for i in means.index], name="class")
    return means


def to_parts(values: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the sum of the importance of the joints of each body part.

    A part of many joints tends to have a larger sum. The sum of the occlusions of single joints is
    not the occlusion of the part: for that, explain by "part". Sums of shares are shares: pass them
    to `class_matrix(..., normalised=True)`.

    Shapes:
        (N, V) -> (N, parts), and the parts' names.

    Raises:
        ValueError: a layout without parts.
    """
    names, part = joint_parts(skeleton)
    found = np.stack([values[:, part == p].sum(axis=1) for p in range(len(names))], axis=1)
    return found, names


def against_motion(importance: pd.DataFrame, motion: pd.DataFrame) -> pd.DataFrame:
    """Compare, class by class, what a network answers by with what moves.

    A class whose most important feature is not the one that moves most is no mistake of the
    network: what stays where it is can tell classes apart too.

    Args:
        importance: classes x features, see `class_matrix`.
        motion: the same of the control `Motion`, of the same clips.

    Returns:
        A row per class: important (the feature with the largest share) and its share; moves most
        (the feature with the largest share of the motion) and its share; same, whether these are
        the same; correlation (Spearman's) of the two rows, nan where one is constant.
    """
    ranks, moves = importance.rank(axis=1), motion.rank(axis=1)
    table = pd.DataFrame(
        {
            "important": importance.idxmax(axis=1),
            "share": importance.max(axis=1),
            "moves most": motion.idxmax(axis=1),
            "share of motion": motion.max(axis=1),
        }
    )
    table["same"] = table["important"] == table["moves most"]
    return table.assign(correlation=ranks.corrwith(moves, axis=1))


def joint_time(values: np.ndarray, features: Features, skeleton: Skeleton) -> pd.DataFrame:
    """Return the mean share of every joint in every time segment.

    Args:
        values: importance by "joint_x_segment", (N, F).
        features: those it was computed for.

    Returns:
        Joints x time segments; unitless.
    """
    mean = shares(values).mean(axis=0).reshape(skeleton.num_joints, -1)
    spans = [name.partition(", ")[2] for name in features.names[: mean.shape[1]]]
    return pd.DataFrame(mean, index=pd.Index(skeleton.joints, name="joint"), columns=spans)


def symmetry(values: np.ndarray, skeleton: Skeleton) -> pd.DataFrame:
    """Compare the left and the right of the body.

    Args:
        values: importance by joint, (N, V).
        skeleton: a layout with `mirror`.

    Returns:
        A row per pair of joints: mean shares `left` and `right`, their `difference`, its 95 %
        interval `low` to `high` over clips, as in `compare`.

    Raises:
        ValueError: a layout without mirrored joints.
    """
    share = shares(values)
    if not skeleton.mirror:
        raise ValueError(f"{skeleton.label} has no mirrored joints: add `mirror` to its layout")
    left, right = np.array(skeleton.mirror).T
    names = [_without_side(skeleton.joints[v]) for v in left]
    table = _compared(share[:, left], share[:, right], names, paired=True)
    return table.rename(columns={"a": "left", "b": "right"}).rename_axis("joint")


def compare(
    a: np.ndarray,
    b: np.ndarray,
    *,
    names: Sequence[str],
    paired: bool = False,
    groups: tuple[np.ndarray, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Compare two groups of clips (such as right and wrong answers), or two networks or streams.

    Wrong answers concentrate on a few classes, so that a plain comparison with right answers mostly
    shows the difference of those classes; `groups` compares within each class.

    Args:
        a: importance of the first, (N, F).
        b: importance of the second, (L, F).
        paired: whether row i of both is the same clip, seen by two networks.
        groups: the group of each clip of both, (N,) and (L,), such as the class explained. Clips of
            `a` are then weighted so that its groups are as frequent as those of `b`; groups that
            only one of the two has are left out.

    Returns:
        A row per feature: mean shares `a` and `b`, their `difference` a - b and its 95 %
        bootstrap interval `low` to `high`. Each interval is for its own feature: of 20 features
        that do not differ, one is expected outside. Intervals are too narrow for groups of few
        clips, and NaN for one clip. They treat clips as independent; NTU RGB+D films each
        performance with three cameras, and people perform several times, which makes them too
        narrow as well.

    Raises:
        ValueError: different numbers of features or, in pairs, of clips; or no common group.
    """
    a, b = shares(a), shares(b)
    if groups is not None:
        a, b = _match_groups(a, b, *(np.asarray(group) for group in groups))
    return _compared(a, b, names, paired=paired).rename_axis("feature")


def _match_groups(
    a: np.ndarray, b: np.ndarray, of_a: np.ndarray, of_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The clips of common groups, those of `a` weighted to the group frequencies of `b`.

    The means over clips are that of `a` with the groups of `b`, and that of `b`. Each group's mean
    is subtracted and one common mean added, so that resampling clips, which changes the frequencies
    of the groups, does not widen the interval by the differences between groups.
    """
    kept, others = np.isin(of_a, of_b), np.isin(of_b, of_a)
    if not kept.any():
        raise ValueError("expected a group that both have, found none")
    a, b = a[kept], b[others]
    group, place, count = np.unique(of_b[others], return_inverse=True, return_counts=True)
    mine = np.searchsorted(group, of_a[kept])
    own = np.bincount(mine, minlength=len(group))
    means = np.zeros((len(group), a.shape[1]))
    np.add.at(means, mine, a / own[mine, None])
    weight = (count / len(b)) / (own / len(a))
    like = means[place].mean(axis=0)
    return (a - means[mine]) * weight[mine, None] + like, b - means[place] + like


def _compared(a: np.ndarray, b: np.ndarray, names: Sequence[str], *, paired: bool) -> pd.DataFrame:
    """Means, difference and its 95 % percentile bootstrap interval over clips."""
    rng = np.random.default_rng(0)
    drawn = _resampled(a - b, rng) if paired else _resampled(a, rng) - _resampled(b, rng)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    if min(len(a), len(b)) < 2:  # one clip has no spread
        low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
    first, second = a.mean(axis=0), b.mean(axis=0)
    columns = {"a": first, "b": second, "difference": first - second, "low": low, "high": high}
    return pd.DataFrame(columns, index=list(names))


def _resampled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of bootstrap samples: (N, F) -> (2000, F)."""
    N = len(values)
    counts = rng.multinomial(N, np.full(N, 1 / N), size=2000)
    return counts @ values / N


def _without_side(joint: str) -> str:
    return " ".join(word for word in joint.split() if word != "left") or joint
