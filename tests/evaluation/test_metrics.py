import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msg3d_lab import evaluation
from msg3d_lab.evaluation import Scores, mcnemar


def scores_of(values, labels, *, kind="softmax", names=None):
    values = np.asarray(values, dtype=np.float32)
    names = names or tuple(f"class {i}" for i in range(values.shape[1]))
    ids = tuple(f"s{i}" for i in range(len(values)))
    return Scores(ids, np.asarray(labels, dtype=np.int64), values, names, {"kind": kind})


def drawn(seed, *, count=200, classes=4, skill=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), labels] += skill
    return logits, labels


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def slow_calibration_error(probabilities, labels, bins):
    total = 0.0
    for i in range(bins):
        inside = [
            (row.max(), row.argmax() == y)
            for row, y in zip(probabilities, labels, strict=True)
            if i / bins < row.max() <= (i + 1) / bins
        ]
        if inside:
            sure, right = np.mean(inside, axis=0)
            total += len(inside) / len(labels) * abs(sure - right)
    return total


@given(st.integers(0, 2**32 - 1))
def test_calibration_error_equals_a_slow_loop_and_the_table(seed):
    logits, labels = drawn(seed, count=40)
    scores = scores_of(softmax(logits), labels)
    expected = slow_calibration_error(scores.probabilities, labels, 15)
    assert evaluation.calibration_error(scores) == pytest.approx(expected, abs=1e-5)
    table = evaluation.reliability(scores)
    gap = (table["confidence"] - table["accuracy"]).abs()
    assert (table["samples"] * gap).sum() / 40 == pytest.approx(expected, abs=1e-5)
    assert table["samples"].sum() == 40
    assert ((table["low"] <= table["confidence"]) & (table["confidence"] <= table["high"])).all()


def test_calibration_error_in_closed_form():
    """Always 0.9 sure and right in half of the cases; sure and right."""
    half = scores_of([[0.9, 0.1]] * 8, [0, 1] * 4)
    assert evaluation.calibration_error(half) == pytest.approx(0.4)
    sure = scores_of(np.eye(3), [0, 1, 2])
    assert evaluation.calibration_error(sure) == pytest.approx(0, abs=1e-6)


def test_calibration_error_has_no_bin_of_its_own_for_certainty():
    """Three surely right and one 0.95 sure and wrong are in the last bin together."""
    scores = scores_of([[1, 0], [1, 0], [0, 1], [0.95, 0.05]], [0, 0, 1, 1])
    assert evaluation.calibration_error(scores) == pytest.approx(abs(3 / 4 - 3.95 / 4))
    table = evaluation.reliability(scores)
    assert table.to_dict("list") == {
        "low": [pytest.approx(14 / 15)],
        "high": [1],
        "samples": [4],
        "confidence": [pytest.approx(3.95 / 4)],
        "accuracy": [0.75],
    }


def test_calibration_error_of_probabilities_that_rounding_left_above_one():
    values = np.full((50, 3), [1 + 2e-7, 0, 0], dtype=np.float32)
    scores = scores_of(values, np.arange(50) % 2)
    assert evaluation.calibration_error(scores) == pytest.approx(0.5, abs=1e-5)


def test_logits_and_their_softmax_are_worth_the_same():
    logits, labels = drawn(0)
    one, other = scores_of(logits, labels, kind="logits"), scores_of(softmax(logits), labels)
    assert evaluation.accuracies(one) == evaluation.accuracies(other)
    assert evaluation.calibration_error(one) == pytest.approx(evaluation.calibration_error(other))
    for table in (evaluation.reliability, evaluation.hardest):
        pd.testing.assert_frame_equal(table(one), table(other), atol=1e-5)
    # Logits that lie between 0 and 1 are not taken for probabilities.
    small = scores_of(logits / 20 + 0.5, labels, kind="logits")
    assert evaluation.reliability(small)["confidence"].max() < 0.35


def test_probabilities_of_large_logits_are_finite():
    scores = scores_of([[1e4, 0, -1e4]], [0], kind="logits")
    np.testing.assert_allclose(scores.probabilities, [[1, 0, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (softmax(np.random.default_rng(0).normal(size=(5, 60))), "softmax"),
        (softmax(np.random.default_rng(0).normal(size=(5, 60))).astype(np.float16), "softmax"),
        (np.random.default_rng(0).normal(size=(5, 60)), "logits"),
        (np.random.default_rng(0).random((5, 60)), "logits"),
        ([[0.5, 0.5], [-0.5, 1.5]], "logits"),
    ],
)
def test_kind_is_found_out_where_it_is_not_recorded(values, kind):
    values = np.asarray(values)
    names = tuple(map(str, range(values.shape[1])))
    scores = Scores(tuple(map(str, range(len(values)))), np.zeros(len(values), int), values, names)
    assert scores.kind == kind


def test_per_class_by_hand():
    names = ("sit", "stand", "never", "only called")
    said, true = [0, 0, 1, 1, 1, 3], [0, 0, 0, 1, 1, 1]
    table = evaluation.per_class(scores_of(np.eye(4)[said], true, names=names))
    assert table.index.tolist() == list(names)
    assert table.index.name == "class"
    assert table["samples"].tolist() == [3, 3, 0, 0]
    np.testing.assert_allclose(table["recall"], [2 / 3, 2 / 3, np.nan, np.nan])
    np.testing.assert_allclose(table["precision"], [1, 2 / 3, np.nan, 0])
    np.testing.assert_allclose(table["f1"], [0.8, 2 / 3, np.nan, 0])
    assert table["taken_for"].tolist() == ["stand", "only called", "", ""]
    assert table["times"].tolist() == [1, 1, 0, 0]


def test_per_class_agrees_with_the_accuracies():
    logits, labels = drawn(1, classes=7)
    scores = scores_of(logits, labels, kind="logits")
    table = evaluation.per_class(scores)
    assert table["recall"].mean() == pytest.approx(evaluation.accuracies(scores)["mean_class"])


def test_confused_pairs_by_hand():
    said, true = [1, 1, 2, 0, 0, 2], [0, 0, 0, 0, 1, 2]
    table = evaluation.confused_pairs(scores_of(np.eye(3)[said], true))
    assert table.to_dict("list") == {
        "true": ["class 0", "class 0", "class 1"],
        "predicted": ["class 1", "class 2", "class 0"],
        "times": [2, 1, 1],
        "fraction": [0.5, 0.25, 1],
    }
    assert len(evaluation.confused_pairs(scores_of(np.eye(3)[said], true), top=1)) == 1
    assert evaluation.confused_pairs(scores_of(np.eye(3), [0, 1, 2])).empty


def test_confusions_of_several_seeds_are_added_up():
    one = scores_of(np.eye(3)[[1, 1, 2]], [0, 0, 2])
    two = scores_of(np.eye(3)[[1, 0, 0]], [0, 0, 2])
    both = evaluation.confusion_counts([one, two])
    assert both.tolist() == [[1, 3, 0], [0, 0, 0], [1, 0, 1]]
    pairs = evaluation.confused_pairs([one, two])
    assert pairs["times"].tolist() == [3, 1]
    assert pairs["fraction"].tolist() == [0.75, 0.5]
    other = scores_of(np.eye(3), [0, 1, 2], names=("a", "b", "c"))
    with pytest.raises(ValueError, match="expected scores of the same classes"):
        evaluation.confusion_counts([one, other])


def test_hardest_by_hand():
    values = [[0.7, 0.2, 0.1], [0.05, 0.05, 0.9], [0.3, 0.3, 0.4]]
    table = evaluation.hardest(scores_of(values, [0, 1, 2]), top=2)
    assert table["id"].tolist() == ["s1", "s2"]
    assert table["true"].tolist() == ["class 1", "class 2"]
    assert table["predicted"].tolist() == ["class 2", "class 2"]
    np.testing.assert_allclose(table["probability"], [0.05, 0.4], rtol=1e-6)
    np.testing.assert_allclose(table["predicted_probability"], [0.9, 0.4], rtol=1e-6)


def test_class_delta_compares_class_by_class():
    logits, labels = drawn(2, count=300, classes=5)
    logits[labels == 4] *= 0  # of this class a is right by no more than luck
    a = scores_of(softmax(logits), np.where(labels == 3, 2, labels))
    b = scores_of(softmax(4 * np.eye(5)[a.labels]), a.labels)  # always right
    shuffled = np.random.default_rng(0).permutation(300)
    b_shuffled = Scores(
        tuple(b.ids[i] for i in shuffled), b.labels[shuffled], b.values[shuffled], b.label_names
    )
    table = evaluation.class_delta(b_shuffled, a)
    assert "class 3" not in table.index
    assert table["difference"].is_monotonic_decreasing
    assert table["samples"].sum() == 300
    for name, row in table.iterrows():
        chosen = a.labels == a.label_names.index(name)
        right_a, right_b = b.correct[chosen], a.correct[chosen]
        assert row["difference"] == pytest.approx(right_a.mean() - right_b.mean())
        assert row["p_value"] == mcnemar(right_a, right_b).p_value
        assert (row["only_a"], row["only_b"]) == (np.sum(right_a > right_b), 0)
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["p_holm"] >= row["p_value"]
    assert table["p_holm"].min() == pytest.approx(4 * table["p_value"].min())
    pd.testing.assert_series_equal(
        evaluation.class_delta(a, a)["difference"],
        0 * table["a"],
        check_names=False,
        check_index=False,
    )
