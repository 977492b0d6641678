import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import NAMES, made_scores

from msg3d_lab.evaluation import (
    Scores,
    fuse,
    fusion_table,
    gain,
    mcnemar,
    stream_weights,
    weight_curve,
)

SUBJECTS = {"split": "xsub_train", "validation_subjects": [3]}


def shuffled(scores, seed=1):
    order = np.random.default_rng(seed).permutation(len(scores.ids))
    return Scores(
        tuple(scores.ids[i] for i in order),
        scores.labels[order],
        scores.values[order],
        scores.label_names,
        scores.facts,
    )


def in_logits(scores):
    """The same network's logits: the softmax's logarithm, moved by a constant per sample."""
    moved = np.random.default_rng(5).normal(size=(len(scores.ids), 1))
    values = (np.log(scores.values) + moved).astype(np.float32)
    facts = {**scores.facts, "kind": "logits"}
    return Scores(scores.ids, scores.labels, values, scores.label_names, facts)


@given(st.lists(st.floats(0.1, 5), min_size=2, max_size=4))
def test_fuse_joins_on_ids_and_equals_a_slow_loop(weights):
    parts = [made_scores(seed=i) for i in range(len(weights))]
    fused = fuse([parts[0], *map(shuffled, parts[1:])], weights=weights)
    assert fused.ids == parts[0].ids
    for row, name in enumerate(fused.ids):
        expected = sum(
            w * part.values[part.ids.index(name)].astype(float)
            for w, part in zip(weights, parts, strict=True)
        ) / sum(weights)
        np.testing.assert_allclose(fused.values[row], expected, atol=1e-6)
    np.testing.assert_allclose(fused.values.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(fused.labels, parts[0].labels)


def test_fuse_on_logits_of_one_clip_is_exact_from_softmax_scores():
    parts = [made_scores(seed=i, num_clips=1) for i in range(3)]
    from_softmax = fuse(parts, on="logits", weights=[1, 2, 0.5])
    from_logits = fuse([in_logits(part) for part in parts], on="logits", weights=[1, 2, 0.5])
    np.testing.assert_allclose(from_softmax.probabilities, from_logits.probabilities, atol=1e-5)
    # A weighted mean of logits is a weighted geometric mean of probabilities.
    p, q, r = (part.values.astype(float) for part in parts)
    expected = (p * q**2 * r**0.5) ** (1 / 3.5)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(from_softmax.probabilities, expected, atol=1e-5)
    assert from_softmax.facts["kind"] == "logits"


def test_fuse_on_softmax_takes_logits_too():
    parts = [made_scores(seed=i) for i in range(2)]
    mixed = fuse([parts[0], in_logits(parts[1])])
    np.testing.assert_allclose(mixed.values, fuse(parts).values, atol=1e-6)
    assert mixed.kind == "softmax"


def test_fuse_softmax_and_logits_differ_where_one_network_is_sure():
    def of(*rows):
        values = np.array(rows, np.float32)
        return Scores(("a",), np.array([0]), values, ("x", "y"), {"kind": "softmax"})

    sure, unsure = of([1e-6, 1 - 1e-6]), of([0.999, 0.001])
    weights = [1, 1.1]
    assert fuse([sure, unsure], weights=weights).predictions[0] == 0
    assert fuse([sure, unsure], weights=weights, on="logits").predictions[0] == 1


def test_fuse_survives_a_softmax_that_became_zero():
    values = np.array([[1, 0], [0, 1]], np.float32)
    part = Scores(("a", "b"), np.array([0, 1]), values, ("x", "y"), {"kind": "softmax"})
    fused = fuse([part, part], on="logits")
    assert np.isfinite(fused.values).all()
    np.testing.assert_array_equal(fused.predictions, [0, 1])


@pytest.mark.parametrize(
    ("streams", "weights", "name"),
    [
        (["joint", "bone"], None, "joint+bone"),
        (["joint", "bone"], [3, 3], "joint+bone"),
        (["joint", "joint", "joint"], None, "3 x joint"),
        (["joint", "bone"], [1, 0.7], "1.43 joint+bone"),
        (
            ["joint", "bone", "joint_motion", "bone_motion"],
            [2, 2, 1, 1],
            "2 joint+2 bone+joint_motion+bone_motion",
        ),
    ],
)
def test_fuse_says_what_it_is_made_of(streams, weights, name):
    parts = [made_scores(seed=i, stream=s, recipe=f"r{i}") for i, s in enumerate(streams)]
    fused = fuse(parts, weights=weights)
    assert fused.facts["stream"] == name
    assert [part["recipe"] for part in fused.facts["parts"]] == [f"r{i}" for i in range(len(parts))]
    assert [part["weight"] for part in fused.facts["parts"]] == pytest.approx(
        weights or [1 / len(parts)] * len(parts)
    )
    assert (fused.facts["split"], fused.facts["num_clips"]) == ("xsub_val", 10)


def test_fuse_keeps_only_facts_that_all_parts_share():
    parts = [made_scores(num_clips=1), made_scores(seed=1, num_clips=10, synthetic=True)]
    facts = fuse(parts).facts
    assert "num_clips" not in facts
    assert facts["synthetic"] is True  # a fusion with made-up scores is made up


def test_fuse_refuses_what_does_not_belong_together():
    whole, part = made_scores(), made_scores(count=49)
    with pytest.raises(ValueError, match=r"missing from scores 2 \(S049\)"):
        fuse([whole, part])
    labels = whole.labels.copy()
    labels[3] = 0
    other = Scores(whole.ids, labels, whole.values, NAMES, whole.facts)
    with pytest.raises(ValueError, match="S003: 3 and 0"):
        fuse([whole, other])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], "expected 2 weights"),
        ([1, -1], "weights of 0 or more"),
        ([0, 0], "one above 0"),
        ([1, float("nan")], "weights of 0 or more"),
    ],
)
def test_fuse_refuses_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        fuse([made_scores(), made_scores(seed=1)], weights=weights)


def test_fuse_refuses_a_single_part_and_unknown_scales():
    with pytest.raises(ValueError, match="two scores or more to fuse, found 1"):
        fuse([made_scores()])
    with pytest.raises(ValueError, match="softmax or logits, found 'votes'"):
        fuse([made_scores(), made_scores(seed=1)], on="votes")


def test_stream_weights_are_those_of_pyskl():
    streams = ["bone_motion", "joint", "joint_motion", "bone"]
    assert stream_weights([made_scores(stream=s) for s in streams]) == [1, 2, 1, 2]
    with pytest.raises(ValueError, match="found 'angle'"):
        stream_weights([made_scores(stream="angle")])


def test_gain_equals_counting_by_hand():
    single, other = made_scores(right=0.6), made_scores(right=0.9, seed=1)
    fused = fuse([single, other])
    found = gain(shuffled(fused), single)
    a, b = fused.correct, single.correct
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert (found.only_a, found.only_b) == ((a & ~b).sum(), (b & ~a).sum())
    assert found.p_value == mcnemar(a, b).p_value
    assert found.low < found.difference < found.high


def test_fusion_table_has_a_row_each_and_the_fusion_last():
    parts = [made_scores(right=0.6), made_scores(right=0.9, seed=1)]
    fused = fuse(parts, weights=[1, 3])
    table = fusion_table(parts, fused, names=["joint", "bone"])
    assert table.index.tolist() == ["joint", "bone", "fused"]
    assert table["weight"].tolist() == [0.25, 0.75, 1]
    tops = [100 * scores.correct.mean() for scores in (*parts, fused)]
    assert table["top-1 %"].tolist() == pytest.approx(tops, abs=0.005)
    assert (table["low"] < table["top-1 %"]).all()
    same = fusion_table(parts, fused, names=["a", "a"])
    assert same.index.tolist() == ["a", "a", "fused"]
    with pytest.raises(ValueError, match="does not match length of index"):
        fusion_table(parts, fused, names=["joint"])


def test_weight_curve_goes_from_the_one_to_the_other():
    first, second = made_scores(right=0.6), made_scores(right=0.9, seed=1)
    curve = weight_curve(first, second)
    np.testing.assert_allclose(curve["weight"], np.arange(41) / 40)
    assert curve["top1"].iloc[0] == first.correct.mean()
    assert curve["top1"].iloc[-1] == second.correct.mean()
    fused = fuse([first, second], weights=[1, 3])
    assert curve["top1"].iloc[30] == fused.correct.mean()
    assert (curve["low"] <= curve["top1"]).all()
    assert (curve["high"] >= curve["top1"]).all()
