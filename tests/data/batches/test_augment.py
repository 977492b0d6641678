from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msg3d_lab import skeletons
from msg3d_lab.data.batches.augment import Augment, Draws, rotations
from msg3d_lab.data.batches.streams import bones

NTU, COCO = skeletons.get("ntu25"), skeletons.get("coco17")
EVERYTHING = {
    "rotation": (60.0, 60.0, 30.0),
    "scale": (0.5, 1.5),
    "shear": 0.5,
    "flip": 0.5,
    "joint_masking": 0.2,
    "frame_masking": 0.3,
    "crop": (0.5, 1.0),
    "mixup": 0.4,
}


def draw(count=200, seed=0, *, skeleton=NTU, clip_len=20, channels=3, dimensions=3, **options):
    return Augment(**options).draw(
        count,
        np.random.default_rng(seed),
        skeleton=skeleton,
        clip_len=clip_len,
        channels=channels,
        dimensions=dimensions,
    )


def moved(points, drawn, skeleton=NTU, *, scored=False):
    """Frames, each a clip of its own, after the move."""
    out = points.copy()
    drawn.transform(out, np.arange(len(points)), skeleton, scored=scored)
    return out


def points(count, skeleton=NTU, channels=3, seed=1):
    shape = (count, skeleton.num_joints, channels)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def test_augment_is_off_by_default():
    assert draw() == Draws()
    lengths = np.array([1, 5, 300])
    starts, kept = Augment().window(lengths, np.random.default_rng(0))
    np.testing.assert_array_equal(starts, 0)
    np.testing.assert_array_equal(kept, lengths)
    x = points(3)
    np.testing.assert_array_equal(moved(x, Draws()), x)


def test_draw_is_seeded():
    a, b, other = (draw(seed=s, **EVERYTHING) for s in (7, 7, 8))
    for x, y, z in zip(a, b, other, strict=True):
        np.testing.assert_array_equal(x, y)
        assert not np.array_equal(x, z)


@pytest.mark.parametrize("name", [name for name in EVERYTHING if name != "crop"])
def test_draw_gives_each_augmentation_the_same_alone_and_with_others(name):
    alone, together = draw(**{name: EVERYTHING[name]}), draw(**EVERYTHING)
    if name in ("joint_masking", "frame_masking"):
        field = name.partition("_")[0] + "s"
        np.testing.assert_array_equal(getattr(alone, field), getattr(together, field))
    elif name == "flip":
        np.testing.assert_array_equal(alone.flipped, together.flipped)
    elif name == "mixup":
        np.testing.assert_array_equal(alone.own, together.own)
    else:
        rest = {k: EVERYTHING[k] for k in ("rotation", "scale", "shear") if k != name}
        geometry = draw(**rest, **{name: EVERYTHING[name]}).matrices
        parts = [draw(**{k: EVERYTHING[k]}).matrices for k in ("rotation", "scale", "shear")]
        np.testing.assert_allclose(geometry, parts[0] @ parts[1] @ parts[2], atol=1e-6)


@given(st.lists(st.floats(-np.pi, np.pi), min_size=3, max_size=3))
def test_rotations_are_rotations(angles):
    matrix = rotations(np.array([angles]))[0]
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


@pytest.mark.parametrize(
    ("angles", "point", "image"),
    [
        ((90, 0, 0), (0, 1, 0), (0, 0, 1)),
        ((0, 90, 0), (0, 0, 1), (1, 0, 0)),
        ((0, 0, 90), (1, 0, 0), (0, 1, 0)),
        ((90, 90, 0), (0, 0, 1), (1, 0, 0)),  # about y first
        ((0, 90, 90), (0, 0, 1), (0, 1, 0)),
    ],
)
def test_rotations_turn_points_as_rows_by_the_right_hand_rule(angles, point, image):
    matrix = rotations(np.radians([angles]))[0]
    np.testing.assert_allclose(np.array(point) @ matrix, image, atol=1e-12)


def test_draw_rotation_stays_within_its_angles():
    linear = draw(2000, rotation=(0.0, 0.0, 30.0)).matrices
    angles = np.degrees(np.arctan2(linear[:, 0, 1], linear[:, 0, 0]))
    assert -30 <= angles.min() < -29 < 29 < angles.max() <= 30
    np.testing.assert_allclose(linear @ linear.swapaxes(1, 2), np.eye(3) + 0 * linear, atol=1e-6)


def test_draw_scale_stays_within_its_range():
    linear = draw(2000, scale=(0.5, 1.5)).matrices
    factors = linear[:, 0, 0]
    np.testing.assert_array_equal(linear, np.eye(3, dtype=np.float32) * factors[:, None, None])
    assert 0.5 <= factors.min() < 0.51 < 1.49 < factors.max() <= 1.5


def test_draw_shear_has_the_volume_of_its_closed_form():
    linear = draw(2000, shear=0.5).matrices.astype(np.float64)
    np.testing.assert_array_equal(linear[:, range(3), range(3)], 1)
    beside = linear[:, ~np.eye(3, dtype=bool)]
    assert -0.5 <= beside.min() < -0.49 < 0.49 < beside.max() <= 0.5
    xy, xz, yx, yz, zx, zy = beside.T
    volume = 1 + xy * yz * zx + xz * yx * zy - xy * yx - xz * zx - yz * zy
    np.testing.assert_allclose(np.linalg.det(linear), volume, atol=1e-12)


def test_flip_twice_is_the_clip_again():
    x, drawn = points(50), draw(50, flip=1)
    once = moved(x, drawn)
    assert not np.isclose(once, x).all(axis=(1, 2)).any()
    np.testing.assert_array_equal(moved(once, drawn), x)


def test_flip_leaves_a_symmetric_body_as_it_was_and_exchanges_its_hands():
    x = points(1)
    for left, right in NTU.mirror:
        x[0, right] = x[0, left] * (-1, 1, 1)
    paired = {joint for pair in NTU.mirror for joint in pair}
    x[0, [v for v in range(25) if v not in paired], 0] = 0
    np.testing.assert_array_equal(moved(x, draw(1, flip=1)), x)
    waving = x.copy()
    waving[0, NTU.joints.index("left hand")] = (0.5, 2, 0)
    there = moved(waving, draw(1, flip=1))[0]
    np.testing.assert_array_equal(there[NTU.joints.index("right hand")], (-0.5, 2, 0))
    np.testing.assert_array_equal(
        there[NTU.joints.index("left hand")], x[0, NTU.joints.index("left hand")]
    )


@pytest.mark.parametrize("layout", skeletons.names())
def test_flip_of_the_bones_is_the_bones_of_the_flip(layout):
    skeleton = skeletons.get(layout)
    x, drawn = points(20, skeleton), draw(20, flip=0.5, skeleton=skeleton)
    np.testing.assert_allclose(
        bones(moved(x, drawn, skeleton), skeleton, scored=False),
        moved(bones(x, skeleton, scored=False), drawn, skeleton),
        atol=1e-6,
    )


def test_flip_is_as_probable_as_asked():
    assert draw(4000, flip=0.25).flipped.mean() == pytest.approx(0.25, abs=0.03)
    assert draw(100, flip=1).flipped.all()


def test_flip_comes_before_the_rotation():
    x = points(30)
    both = draw(30, flip=1, rotation=(50.0, 50.0, 50.0))
    flipped = moved(x, draw(30, flip=1))
    expected = moved(flipped, draw(30, rotation=(50.0, 50.0, 50.0)))
    np.testing.assert_allclose(moved(x, both), expected, atol=1e-6)


def test_move_turns_each_frame_by_its_own_clips_matrix():
    drawn, x = draw(3, **EVERYTHING), points(7)
    clip = np.array([0, 0, 2, 1, 1, 1, 2])
    rows = x.copy()
    drawn.transform(rows, clip, NTU, scored=False)
    images = np.arange(25)
    for left, right in NTU.mirror:
        images[left], images[right] = right, left
    for row, before, n in zip(rows, x, clip, strict=True):
        expected = before @ drawn.matrices[n]
        np.testing.assert_allclose(
            row, expected[images] if drawn.flipped[n] else expected, atol=1e-6
        )


def test_move_leaves_absent_persons_and_joints_at_zero():
    x = points(40)
    x[::2], x[1, 4] = 0, 0
    out = moved(x, draw(40, **{**EVERYTHING, "flip": 0}))
    assert not out[::2].any()
    assert not out[1, 4].any()
    assert out[3].all()


def test_move_in_2d_acts_on_found_joints_only_and_never_on_scores():
    x = points(60, COCO)
    x[..., 2] = np.abs(x[..., 2])
    x[::3, 5] = (-1, -1, 0)  # not found
    options = {"rotation": (0.0, 0.0, 90.0), "scale": (2.0, 2.0), "shear": 0.3}
    drawn = draw(60, skeleton=COCO, dimensions=2, **options)
    out = moved(x, drawn, COCO, scored=True)
    np.testing.assert_array_equal(out[..., 2], x[..., 2])
    np.testing.assert_array_equal(out[::3, 5], x[::3, 5])
    assert not np.isclose(out[1::3], x[1::3])[..., :2].all(axis=(1, 2)).any()

    left, right = COCO.joints.index("left shoulder"), COCO.joints.index("right shoulder")
    assert left == 5
    flipped = moved(x, draw(60, skeleton=COCO, dimensions=2, flip=1), COCO, scored=True)
    np.testing.assert_array_equal(flipped[::3, right], x[::3, left])
    np.testing.assert_array_equal(flipped[1::3, right], x[1::3, left] * (-1, 1, 1))


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.1, 2), (0.2, 5), (0.5, 12), (0.99, 24)])
def test_draw_hides_an_exact_number_of_joints(share, count):
    joints = draw(2000, joint_masking=share).joints
    np.testing.assert_array_equal(joints.sum(axis=1), count)
    np.testing.assert_allclose(joints.mean(axis=0), count / 25, atol=0.06)


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.25, 5), (0.5, 10), (0.99, 19)])
def test_draw_hides_one_stretch_of_an_exact_number_of_frames(share, count):
    frames = draw(2000, frame_masking=share, clip_len=20).frames
    np.testing.assert_array_equal(frames.sum(axis=1), count)
    starts = frames.argmax(axis=1)
    stretch = starts[:, None] + np.arange(count)
    assert np.take_along_axis(frames, stretch, axis=1).all()
    assert set(starts) == set(range(20 - count + 1))


@pytest.mark.parametrize(
    ("share", "clip_len", "count"),
    [(0.2, 1, 0), (0.99, 1, 0), (0.01, 2, 1), (0.99, 2, 1), (0.94, 10, 9), (0.99, 10, 9)],
)
def test_draw_hides_never_all_frames(share, clip_len, count):
    frames = draw(200, frame_masking=share, clip_len=clip_len).frames
    np.testing.assert_array_equal(frames.sum(axis=1), count)


def test_draw_hides_never_the_whole_clip():
    drawn = draw(200, joint_masking=0.99, frame_masking=0.99, clip_len=10)
    x = np.ones((200, 1, 10, 25, 3))
    drawn.mask(x)
    np.testing.assert_array_equal(x.sum(axis=(1, 2, 3, 4)), 3)  # one joint in one frame


def test_draw_leaves_the_only_joint_of_a_layout():
    point = skeletons.from_dict({"name": "point", "joints": ["a"], "edges": [], "center": "a"})
    assert not draw(joint_masking=0.99, skeleton=point).joints.any()


def test_hide_sets_all_persons_and_channels_to_zero_and_nothing_else():
    drawn = draw(30, joint_masking=0.2, frame_masking=0.2, clip_len=10)
    x = np.random.default_rng(2).standard_normal((30, 2, 10, 25, 3))
    before = x.copy()
    drawn.mask(x)
    hidden = drawn.frames[:, None, :, None, None] | drawn.joints[:, None, None, :, None]
    np.testing.assert_array_equal(x, np.where(hidden, 0, before))


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=20),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
    st.integers(0, 99),
)
def test_window_lies_within_the_recording_and_has_its_share(lengths, a, b, seed):
    smallest, largest = sorted((a, b))
    lengths = np.array(lengths)
    starts, kept = Augment(crop=(smallest, largest)).window(lengths, np.random.default_rng(seed))
    assert (starts >= 0).all()
    assert (kept >= 1).all()
    assert (starts + kept <= lengths).all()
    assert (kept >= np.floor(smallest * lengths)).all()
    assert (kept <= np.maximum(1, largest * lengths)).all()


def test_window_is_anywhere_and_of_any_share_in_between():
    rng = np.random.default_rng(0)
    starts, kept = Augment(crop=(0.5, 1.0)).window(np.full(5000, 20), rng)
    assert set(kept) == set(range(10, 20))  # the whole recording only if 1 itself were drawn
    for length in (10, 15):
        assert set(starts[kept == length]) == set(range(20 - length + 1))
    starts, kept = Augment(crop=(0.5, 0.5)).window(np.array([1, 2, 5, 100]), rng)
    np.testing.assert_array_equal(kept, [1, 1, 2, 50])


def test_mix_by_hand():
    x = np.array([[0, 4], [1, 8], [2, 16]], dtype=np.float32)
    mixed = Draws(own=np.array([1, 0.75, 0.5], dtype=np.float32)).mix(x)
    assert mixed.tolist() == [[0, 4], [0.75, 7], [1.5, 12]]
    assert mixed.dtype == np.float32


def test_draw_mixup_has_the_mean_of_the_larger_beta():
    """Of Beta(1, 1), the uniform distribution: uniform between a half and one."""
    own = draw(4000, mixup=1.0).own
    assert 0.5 <= own.min() < 0.501
    assert 0.999 < own.max() <= 1
    assert own.mean() == pytest.approx(0.75, abs=0.01)


@settings(max_examples=50)
@given(
    st.tuples(*[st.floats(0, 180)] * 3),
    st.tuples(st.floats(0.1, 1), st.floats(1, 3)),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 0.99),
    st.floats(0, 0.99),
    st.floats(0, 10),
    st.integers(1, 40),
)
def test_draw_is_finite_and_of_the_right_shapes(
    rotation, scale, shear, flip, joint_masking, frame_masking, mixup, clip_len
):
    drawn = draw(
        6,
        clip_len=clip_len,
        rotation=rotation,
        scale=scale,
        shear=shear,
        flip=flip,
        joint_masking=joint_masking,
        frame_masking=frame_masking,
        mixup=mixup,
    )
    shapes = ((6, 3, 3), (6,), (6, 25), (6, clip_len), (6,))
    for array, shape in zip(drawn, shapes, strict=True):
        assert array is None or array.shape == shape
    assert drawn.matrices is None or np.isfinite(drawn.matrices).all()
    for part in drawn.select(np.array([4, 1])):
        assert part is None or len(part) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": (0, 181, 0)}, r"three angles in 0\.\.180, found \(0, 181, 0\)"),
        ({"rotation": (0, 0, np.nan)}, "rotation"),
        ({"scale": (1.5, 0.5)}, r"scale: \(smallest, largest\) above 0, found \(1\.5, 0\.5\)"),
        ({"scale": (1, np.inf)}, "scale"),
        ({"shear": -0.1}, r"shear: 0 or more, found -0\.1"),
        ({"flip": 1.1}, r"flip: a probability in 0\.\.1, found 1\.1"),
        ({"joint_masking": 1}, "joint_masking: a fraction below 1, found 1"),
        ({"frame_masking": -0.1}, "frame_masking"),
        ({"crop": (0.9, 0.5)}, r"crop: \(smallest, largest\) in 0\.\.1"),
        ({"mixup": -0.1}, r"mixup: 0 or more, found -0\.1"),
    ],
)
def test_augment_refuses_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Augment(**options)


@pytest.mark.parametrize(
    ("rotation", "axis"),
    [((30, 180, 10), 1), ((0, 0, 180), 2), ((60, 60, 0), None), ((180, 180, 0), None)],
)
def test_turning_axis_is_the_one_of_all_angles(rotation, axis):
    assert Augment(rotation=rotation).turning_axis == axis


def test_check_refuses_what_the_clips_cannot_bear(toy_skeleton):
    with pytest.raises(ValueError, match=r"only the rotation about z.* \(10, 0, 5\)"):
        Augment(rotation=(10, 0, 5)).check(COCO, dimensions=2)
    Augment(rotation=(0, 0, 5), flip=1).check(COCO, dimensions=2)
    bare = skeletons.from_dict(
        {"name": "bare", "joints": ["a", "b"], "edges": [["a", "b"]], "center": "a"}
    )
    with pytest.raises(ValueError, match=r"layout bare has none: give it a `mirror` entry"):
        Augment(flip=0.5).check(bare, dimensions=3)
    Augment(rotation=(10, 10, 10)).check(bare, dimensions=3)
