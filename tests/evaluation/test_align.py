import numpy as np
import pytest

from msg3d_lab.evaluation import Scores, aligned

NAMES = ("sit", "stand", "wave")


def scores_of(ids, labels, *, names=NAMES, seed=0):
    values = np.random.default_rng(seed).random((len(ids), len(names)), dtype=np.float32)
    return Scores(tuple(ids), np.array(labels, dtype=np.int64), values, names, {"seed": seed})


def test_aligned_joins_on_ids():
    first = scores_of("abcdefg", [0, 1, 2, 0, 1, 2, 0])
    order = np.random.default_rng(1).permutation(7)
    other = scores_of([first.ids[i] for i in order], first.labels[order], seed=2)
    one, two = aligned([first, other])
    assert one is first
    assert (two.ids, two.facts) == (first.ids, other.facts)
    np.testing.assert_array_equal(two.labels, first.labels)
    for row, name in enumerate(first.ids):
        np.testing.assert_array_equal(two.values[row], other.values[other.ids.index(name)])
    assert aligned([other])[0] is other


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (scores_of("abx", [0, 1, 2]), r"1 missing from scores 2 \(c\), 1 missing .* 1 \(x\)"),
        (scores_of("ab", [0, 1]), r"1 missing from scores 2 \(c\): test both"),
        (scores_of("abcd", [0, 1, 2, 0]), r"1 missing from scores 1 \(d\)"),
        (scores_of("cab", [2, 0, 0]), r"found 1 that differ .* \(b: 1 and 0\)"),
        (scores_of("abc", [0, 1, 1], names=("sit", "stand")), "found 3 in scores 1 and 2 in"),
        (scores_of("abc", [0, 1, 2], names=("sit", "up", "wave")), r"\(1: 'stand' and 'up'\)"),
    ],
)
def test_aligned_refuses_what_does_not_belong_together(other, message):
    first = scores_of("abc", [0, 1, 2])
    with pytest.raises(ValueError, match=message):
        aligned([first, other])
    with pytest.raises(ValueError, match="scores 3"):
        aligned([first, first, other])


def test_aligned_names_five_at_most():
    first, other = scores_of("abcdefgh", [0] * 8), scores_of("ijklmnop", [0] * 8)
    with pytest.raises(ValueError, match=r"8 missing from scores 2 \(a, b, c, d, e, \.\.\.\)"):
        aligned([first, other])
    with pytest.raises(ValueError, match="at least one set of scores"):
        aligned([])
