import numpy as np
import pandas as pd
import pytest

from msg3d_lab import skeletons
from msg3d_lab.explain.features import make_features
from msg3d_lab.explain.patterns import (
    against_motion,
    class_matrix,
    compare,
    joint_time,
    shares,
    symmetry,
    to_parts,
)

BODY = skeletons.get("ntu25")


def test_shares_are_of_absolute_values():
    found = shares(np.array([[3.0, -1, 0], [0, 0, 0]]))
    np.testing.assert_allclose(found, [[0.75, -0.25, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match="expected finite importance"):
        shares(np.array([[np.inf, 1]]))


def test_against_motion_by_hand():
    important = pd.DataFrame(
        [[0.6, 0.3, 0.1], [0.2, 0.1, 0.7]],
        index=["throw", "walk"],
        columns=["arms", "torso", "legs"],
    )
    moving = pd.DataFrame(
        [[0.8, 0.0, 0.2], [0.5, 0.1, 0.4]], index=["throw", "walk"], columns=important.columns
    )
    table = against_motion(important, moving)
    assert table["important"].tolist() == ["arms", "legs"]
    assert table["moves most"].tolist() == ["arms", "arms"]
    assert table["same"].tolist() == [True, False]
    assert table["share"].tolist() == [0.6, 0.7]
    assert table["share of motion"].tolist() == [0.8, 0.5]
    # Spearman: 1 - 6 sum(d^2) / (n (n^2 - 1)), d the differences of the ranks.
    np.testing.assert_allclose(table["correlation"], [1 - 6 * 2 / 24, 1 - 6 * 2 / 24])
    pd.testing.assert_frame_equal(against_motion(important, moving.iloc[::-1]), table)


def test_class_matrix_weighs_confident_clips_like_others():
    values = np.array([[1.0, 1], [100, 0], [0, 5]])
    table = class_matrix(
        values, np.array([2, 2, 0]), names=["hand", "foot"], label_names=["a", "b", "c"]
    )
    assert table.index.tolist() == ["a", "c"]
    np.testing.assert_allclose(table.to_numpy(), [[0, 1], [0.75, 0.25]])


def test_class_matrix_takes_shares_as_they_are():
    share = shares(np.random.default_rng(0).normal(size=(6, 25)))
    parts, names = to_parts(share, BODY)
    classes = np.arange(6) % 2
    given = {"label_names": ["a", "b"], "normalised": True}
    by_part = class_matrix(parts, classes, names=names, **given)
    by_joint = class_matrix(share, classes, names=BODY.joints, **given)
    arm = [BODY.joints[v] for v in BODY.parts["left arm"]]
    np.testing.assert_allclose(by_part["left arm"], by_joint[arm].sum(axis=1))
    again = class_matrix(parts, classes, names=names, label_names=["a", "b"])
    assert (again.abs().sum(axis=1) > by_part.abs().sum(axis=1)).all()


def test_to_parts_keeps_the_sum():
    values = np.random.default_rng(0).normal(size=(3, 25))
    found, names = to_parts(values, BODY)
    assert names == tuple(BODY.parts)
    np.testing.assert_allclose(found.sum(1), values.sum(1))
    arm = list(BODY.parts["left arm"])
    np.testing.assert_allclose(found[:, names.index("left arm")], values[:, arm].sum(1))


def test_joint_time_has_joints_in_rows_and_time_in_columns():
    features = make_features("joint_x_segment", BODY, num_frames=9, num_segments=3)
    values = np.zeros((1, len(features)))
    values[0, features.index[4, 7]] = 2
    table = joint_time(values, features, BODY)
    assert table.shape == (25, 3)
    assert table.loc["left hand", "frames 3 to 5"] == 1
    assert table.to_numpy().sum() == 1


def test_symmetry_of_a_one_sided_pattern():
    values = np.zeros((40, 25))
    values[:, BODY.joints.index("left hand")] = 3
    values[:, BODY.joints.index("right hand")] = 1
    table = symmetry(values, BODY)
    assert len(table) == len(BODY.mirror)
    np.testing.assert_allclose(
        table.loc["hand", ["left", "right", "difference", "low", "high"]].to_numpy(dtype=float),
        [0.75, 0.25, 0.5, 0.5, 0.5],
    )
    np.testing.assert_allclose(table.loc["knee"].to_numpy(dtype=float), 0)


def test_compare_finds_what_differs_and_nothing_else():
    rng = np.random.default_rng(0)
    a, b = rng.random((200, 6)), rng.random((150, 6))
    a[:, 2] += 1
    table = compare(a, b, names=list("abcdef"))
    assert table.loc["c", "low"] > 0.05
    inside = (table.low <= table.difference) & (table.difference <= table.high)
    assert inside.all()


def test_interval_agrees_with_the_normal_one():
    rng = np.random.default_rng(1)
    a, b = rng.random((400, 3)), rng.random((400, 3))
    table = compare(a, b, names=list("abc"))
    paired = compare(a, b, names=list("abc"), paired=True)
    x, y = shares(a), shares(b)
    unpaired_error = np.sqrt(x.var(0) / 400 + y.var(0) / 400)
    paired_error = (x - y).std(0) / 20
    for found, error in ((table, unpaired_error), (paired, paired_error)):
        half = (found.high - found.low).to_numpy() / 2
        np.testing.assert_allclose(half, 1.96 * error, rtol=0.09)


def test_pairs_that_differ_by_a_constant_have_no_spread():
    rng = np.random.default_rng(2)
    a = rng.random((50, 4))
    table = compare(a, a, names=list("abcd"), paired=True)
    np.testing.assert_array_equal(table[["difference", "low", "high"]], 0)


def test_one_clip_has_no_interval():
    table = compare(np.eye(3)[:1], np.eye(3), names=list("abc"))
    assert table[["low", "high"]].isna().all(axis=None)
    np.testing.assert_allclose(table["difference"], [2 / 3, -1 / 3, -1 / 3])


def test_compare_refuses():
    with pytest.raises(ValueError, match="shape"):
        compare(np.ones((2, 3)), np.ones((3, 3)), names=list("abc"), paired=True)
    two = np.eye(3)[:2]
    with pytest.raises(ValueError, match="a group that both have, found none"):
        compare(two, two, names=list("abc"), groups=(np.zeros(2), np.ones(2)))


def by_class_alone(rng, classes):
    """Importance that depends on the class and on nothing else, with noise."""
    return 1 + 5 * np.eye(5)[classes] + rng.random((len(classes), 5)) / 2


def test_compare_within_groups_is_not_about_groups():
    """Wrong answers of one class differ from right ones of all, but not from its right ones."""
    rng = np.random.default_rng(3)
    of_a, of_b = rng.integers(0, 5, 300), np.full(60, 2)
    a, b = by_class_alone(rng, of_a), by_class_alone(rng, of_b)
    plain = compare(a, b, names=list("abcde"))
    assert (plain["difference"].abs() > 0.05).all()
    table = compare(a, b, names=list("abcde"), groups=(of_a, of_b))
    assert (table["difference"].abs() < 0.01).all()
    np.testing.assert_allclose(table["a"], shares(a)[of_a == 2].mean(0))
    np.testing.assert_allclose(table["b"], shares(b).mean(0))
    only = compare(a[of_a == 2], b, names=list("abcde"))
    alike = compare(a, b, names=list("abcde"), groups=(of_a, of_b))
    np.testing.assert_allclose(alike["high"] - alike["low"], only["high"] - only["low"], rtol=0.1)


def test_compare_within_groups_weighs_and_leaves_out():
    rng = np.random.default_rng(4)
    of_a = np.array(["sit"] * 30 + ["wave"] * 10 + ["drop"] * 5)
    of_b = np.array(["wave"] * 6 + ["sit"] * 2 + ["fall"] * 4)
    a, b = rng.random((45, 3)), rng.random((12, 3))
    table = compare(a, b, names=list("abc"), groups=(of_a, of_b))
    x, y = shares(a), shares(b)
    expected = 0.75 * x[of_a == "wave"].mean(0) + 0.25 * x[of_a == "sit"].mean(0)
    np.testing.assert_allclose(table["a"], expected)
    np.testing.assert_allclose(table["b"], y[:8].mean(0))
    assert ((table["low"] <= table["difference"]) & (table["difference"] <= table["high"])).all()


def test_intervals_within_groups_cover_as_often_as_they_say():
    rng, outside = np.random.default_rng(5), 0
    for _ in range(40):
        of_a, of_b = rng.integers(0, 3, 120), rng.integers(1, 4, 80)
        a, b = by_class_alone(rng, of_a), by_class_alone(rng, of_b)
        table = compare(a, b, names=list("abcde"), groups=(of_a, of_b))
        outside += ((table["low"] > 0) | (table["high"] < 0)).sum()
    assert 0.02 < outside / 200 < 0.10
