import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msg3d_lab.evaluation import (
    Scores,
    accuracies,
    align,
    confusion_counts,
    read_scores,
    write_scores,
)


def scores_of(values, labels):
    values = np.asarray(values, dtype=np.float32)
    names = tuple(f"class {i}" for i in range(values.shape[1]))
    ids = tuple(f"s{i}" for i in range(len(values)))
    return Scores(ids, np.asarray(labels, dtype=np.int64), values, names, {"split": "xsub_val"})


def test_read_scores_gives_back_what_was_written(tmp_path):
    rng = np.random.default_rng(0)
    scores = scores_of(rng.random((7, 4)), rng.integers(0, 4, 7))
    write_scores(scores, tmp_path / "scores.parquet")
    back = read_scores(tmp_path / "scores.parquet")
    assert (back.ids, back.label_names, back.facts) == (
        scores.ids,
        scores.label_names,
        scores.facts,
    )
    np.testing.assert_array_equal(back.labels, scores.labels)
    np.testing.assert_array_equal(back.values, scores.values)
    with pytest.raises(FileExistsError):
        write_scores(scores, tmp_path / "scores.parquet")


def test_write_scores_is_readable_without_us(tmp_path):
    write_scores(scores_of([[0.1, 0.9]], [1]), tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet").to_pydict()
    assert table == {
        "id": ["s0"],
        "label": [1],
        "prediction": [1],
        "scores": [[np.float32(0.1), np.float32(0.9)]],
    }


def test_read_scores_refuses_other_files(tmp_path):
    (tmp_path / "text").write_text("no table")
    with pytest.raises(ValueError, match="not a whole Parquet file"):
        read_scores(tmp_path / "text")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="holds no scores"):
        read_scores(tmp_path / "other.parquet")


def test_scores_refuse_ids_that_occur_twice():
    with pytest.raises(ValueError, match="must be unique"):
        Scores(("a", "a"), np.zeros(2, np.int64), np.zeros((2, 2), np.float32), ("x", "y"))
    with pytest.raises(ValueError, match=r"scores \(1, 2\)"):
        Scores(("a",), np.zeros(1, np.int64), np.zeros((2, 2), np.float32), ("x", "y"))


@given(st.integers(6, 9), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_accuracies_equal_a_slow_loop(num_classes, count, seed):
    rng = np.random.default_rng(seed)
    values = rng.permutation(count * num_classes).reshape(count, num_classes) / 1000
    labels = rng.integers(0, num_classes, count)
    found = accuracies(scores_of(values, labels))
    ranks = [int((v > v[y]).sum()) for v, y in zip(values, labels, strict=True)]
    assert found["top1"] == pytest.approx(np.mean([r < 1 for r in ranks]))
    assert found["top5"] == pytest.approx(np.mean([r < 5 for r in ranks]))
    by_class = [
        np.mean([r < 1 for r, y in zip(ranks, labels, strict=True) if y == k]) for k in set(labels)
    ]
    assert found["mean_class"] == pytest.approx(np.mean(by_class))


def test_accuracies_leave_out_top5_where_it_says_nothing():
    assert "top5" not in accuracies(scores_of(np.eye(5), range(5)))
    assert accuracies(scores_of(np.eye(6), range(6)))["top5"] == 1


def test_confusion_counts_by_hand():
    scores = scores_of([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [0, 0, 1])
    np.testing.assert_array_equal(confusion_counts(scores), [[1, 1], [1, 0]])


def test_read_scores_gives_back_nothing_of_nothing(tmp_path):
    write_scores(scores_of(np.zeros((0, 4)), []), tmp_path / "scores.parquet")
    back = read_scores(tmp_path / "scores.parquet")
    assert (back.ids, back.values.shape, len(back.label_names)) == ((), (0, 4), 4)


def test_read_scores_takes_no_damaged_number(tmp_path):
    """Whatever byte is changed: it is noticed, or the scores are as they were."""
    path = tmp_path / "scores.parquet"
    rng = np.random.default_rng(0)
    scores = scores_of(rng.random((7, 4)), rng.integers(0, 4, 7))
    write_scores(scores, path)
    content, noticed = path.read_bytes(), 0
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 0x5A
        path.write_bytes(changed)
        try:
            back = read_scores(path)
        except ValueError:
            noticed += 1
        else:
            np.testing.assert_array_equal(back.values, scores.values)
            np.testing.assert_array_equal(back.labels, scores.labels)
    assert noticed > 100


def test_scores_are_numbers():
    values = np.full((3, 2), 0.5)
    values[1, 0] = np.nan
    with pytest.raises(ValueError, match=r"scores of 1 of 3 samples .* \(NaN\), the first is s1"):
        scores_of(values, [0, 1, 1])


NAMES = ("sit", "stand", "wave")


def made_of(ids, labels, *, names=NAMES, seed=0):
    values = np.random.default_rng(seed).random((len(ids), len(names)), dtype=np.float32)
    return Scores(tuple(ids), np.array(labels, dtype=np.int64), values, names, {"seed": seed})


def test_align_joins_on_ids():
    first = made_of("abcdefg", [0, 1, 2, 0, 1, 2, 0])
    order = np.random.default_rng(1).permutation(7)
    other = made_of([first.ids[i] for i in order], first.labels[order], seed=2)
    one, two = align([first, other])
    assert one is first
    assert (two.ids, two.facts) == (first.ids, other.facts)
    np.testing.assert_array_equal(two.labels, first.labels)
    for row, name in enumerate(first.ids):
        np.testing.assert_array_equal(two.values[row], other.values[other.ids.index(name)])
    assert align([other])[0] is other


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (made_of("abx", [0, 1, 2]), r"1 missing from scores 2 \(c\), 1 missing .* 1 \(x\)"),
        (made_of("ab", [0, 1]), r"1 missing from scores 2 \(c\): test both"),
        (made_of("abcd", [0, 1, 2, 0]), r"1 missing from scores 1 \(d\)"),
        (made_of("cab", [2, 0, 0]), r"found 1 that differ .* \(b: 1 and 0\)"),
        (made_of("abc", [0, 1, 1], names=("sit", "stand")), r"\(2: 'wave' and None\)"),
        (made_of("abc", [0, 1, 2], names=("sit", "up", "wave")), r"\(1: 'stand' and 'up'\)"),
    ],
)
def test_align_refuses_what_does_not_belong_together(other, message):
    first = made_of("abc", [0, 1, 2])
    with pytest.raises(ValueError, match=message):
        align([first, other])
    with pytest.raises(ValueError, match="scores 3"):
        align([first, first, other])


def test_align_names_five_at_most():
    first, other = made_of("abcdefgh", [0] * 8), made_of("ijklmnop", [0] * 8)
    with pytest.raises(ValueError, match=r"8 missing from scores 2 \(a, b, c, d, e and 3 more\)"):
        align([first, other])
