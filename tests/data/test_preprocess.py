from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from msg3d_lab import skeletons
from msg3d_lab.data.batches.sampling import replay
from msg3d_lab.data.formats.ntu.bodies import select_bodies
from msg3d_lab.data.formats.ntu.skeleton_file import parse_skeleton
from msg3d_lab.data.preprocess import (
    center_on,
    longest_first,
    prepare_2d,
    prepare_3d,
    prepare_paper,
    zero_unseen,
)

NTU = skeletons.get("ntu25")
GOLDENS = Path(__file__).parents[1] / "goldens"


def clip(persons=2, frames=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((persons, frames, 25, 3)) + np.array([0.5, 0.2, 3])
    return x.astype(np.float32)


def turned_by_scipy(x, source, target):
    """The smallest rotation, as an angle about an axis."""
    axis = np.cross(source, target)
    angle = np.arctan2(np.linalg.norm(axis), source @ target)
    return Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).apply(x.reshape(-1, 3))


def test_prepare_3d_agrees_with_scipys_rotations():
    x = clip().astype(np.float64)
    x -= x[0, 0, 1]
    x = turned_by_scipy(x, x[0, 0, 1] - x[0, 0, 0], np.array([0, 0, 1])).reshape(x.shape)
    x = turned_by_scipy(x, x[0, 0, 8] - x[0, 0, 4], np.array([1, 0, 0])).reshape(x.shape)
    np.testing.assert_allclose(prepare_3d(clip(), NTU), x, atol=2e-6)


def test_prepare_3d_puts_the_spine_at_the_origin_and_the_shoulders_along_x():
    x = prepare_3d(clip(), NTU)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[0, 0, 1], 0)
    across = x[0, 0, 8] - x[0, 0, 4]
    np.testing.assert_allclose(across, [np.linalg.norm(across), 0, 0], atol=1e-6)


@pytest.mark.parametrize("unseen", [[1], [0, 1], [4], [8], [0, 1, 4, 8]])
def test_prepare_3d_starts_where_its_joints_are_seen(unseen):
    """Frames after those in which a joint is not seen come out as without them."""
    still = np.repeat(clip(frames=1), 6, axis=1)
    expected = prepare_3d(still, NTU)
    blank = still.copy()
    blank[0, :2, unseen] = 0
    found = prepare_3d(blank, NTU)
    np.testing.assert_array_equal(found[:, 2:], expected[:, 2:])
    assert not found[0, :2, unseen].any()
    rest = np.delete(np.arange(25), unseen)
    np.testing.assert_array_equal(found[0, :2, rest], expected[0, :2, rest])


def test_prepare_3d_leaves_out_what_is_never_seen():
    x = clip()
    x[0, :, [1, 4]] = 0
    found = prepare_3d(x, NTU)
    np.testing.assert_array_equal(found, x)


def test_longest_first_keeps_the_order_of_equals():
    x = clip(persons=4)
    x[0, 1:] = x[2, :4] = x[3, :5] = 0
    assert longest_first(x) == [1, 2, 0, 3]


def test_zero_unseen_keeps_joints_of_which_only_the_score_is_missing():
    x = np.ones((3, 4))
    x[0, 1] = x[1, 3] = np.nan
    np.testing.assert_array_equal(zero_unseen(x, 3), [[0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    y = np.ones((2, 3))
    assert zero_unseen(y, 3) is y


def test_prepare_3d_is_a_rigid_motion():
    before, after = clip().reshape(-1, 3), prepare_3d(clip(), NTU).reshape(-1, 3)
    np.testing.assert_allclose(pdist(after), pdist(before), rtol=1e-5)
    # Four points keep their handedness: nothing is mirrored.
    volumes = [np.linalg.det((p[1:4] - p[0]).astype(np.float64)) for p in (before, after)]
    assert volumes[0] == pytest.approx(volumes[1], rel=1e-4)


def test_prepare_3d_does_not_depend_on_where_the_camera_stands():
    np.testing.assert_allclose(
        prepare_3d(clip() + np.float32([1, -2, 0.5]), NTU), prepare_3d(clip(), NTU), atol=5e-6
    )


def test_prepare_3d_drops_frames_without_the_main_person():
    x = clip()
    x[0, [0, 3]] = 0
    x[1, [0, 1, 2]] = 0
    prepared = prepare_3d(x, NTU)
    assert prepared.shape == (2, 4, 25, 3)
    np.testing.assert_array_equal(prepared, prepare_3d(x[:, [1, 2, 4, 5]], NTU))
    assert not prepared[1, :2].any()


def test_prepare_3d_puts_the_fuller_person_first_and_keeps_a_tie():
    x = clip()
    x[0, 4] = 0
    np.testing.assert_array_equal(prepare_3d(x, NTU), prepare_3d(x[::-1], NTU))
    x[1, 2] = 0
    assert not np.array_equal(prepare_3d(x, NTU), prepare_3d(x[::-1], NTU))
    np.testing.assert_array_equal(prepare_3d(x, NTU)[0, 0, 1], 0)


def test_prepare_3d_takes_more_than_two_persons():
    x = clip(persons=3)
    x[:2, 0] = 0
    np.testing.assert_array_equal(prepare_3d(x, NTU), prepare_3d(x[[2, 0, 1]], NTU))


def test_prepare_3d_leaves_joints_that_were_not_seen_at_zero():
    x = clip()
    x[0, 2, 11] = x[1, 3, 7] = 0
    prepared = prepare_3d(x, NTU)
    zero = ~prepared.any(axis=-1)
    assert {tuple(where) for where in np.argwhere(zero)} == {(0, 0, 1), (0, 2, 11), (1, 3, 7)}


def test_prepare_3d_without_anybody_has_no_frames():
    assert prepare_3d(np.zeros((2, 5, 25, 3)), NTU).shape == (2, 0, 25, 3)


@pytest.mark.parametrize("spine", [(0, 0, -1), (0, 0, 1), (0, 0, 0)])
def test_prepare_3d_is_finite_where_no_rotation_is_defined(spine):
    x = clip()
    x[0, 0, 1] = x[0, 0, 0] + np.float32(spine)
    x[0, 0, 4] = x[0, 0, 8] + np.float32([1, 0, 0])
    prepared = prepare_3d(x, NTU)
    assert np.isfinite(prepared).all()
    np.testing.assert_allclose(prepared[0, 0, 1] - prepared[0, 0, 0], spine, atol=1e-6)


def test_prepare_3d_stays_a_rotation_close_to_the_opposite_direction():
    x = clip()
    x[0, 0, 1] = x[0, 0, 0] + np.float32([3e-4, 0, -1])
    before, after = x.reshape(-1, 3), prepare_3d(x, NTU).reshape(-1, 3)
    np.testing.assert_allclose(pdist(after), pdist(before), rtol=2e-5)


@pytest.mark.parametrize("shape", [(5, 25, 3), (1, 5, 17, 3), (1, 5, 25, 2), (0, 5, 25, 3)])
def test_prepare_3d_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"expected keypoints \(M, T, 25, 3\)"):
        prepare_3d(np.ones(shape), NTU)


def test_prepare_3d_refuses_a_layout_without_directions():
    with pytest.raises(ValueError, match="coco17 has no `align`"):
        prepare_3d(np.ones((1, 2, 17, 3)), skeletons.get("coco17"))


def test_prepare_3d_golden():
    golden = json.loads((GOLDENS / "prepare_3d.json").read_text())
    x = clip(persons=2, frames=3, seed=golden["seed"])
    x[0, 1] = 0
    x[1, 2, :20] = 0
    np.testing.assert_allclose(prepare_3d(x, NTU), golden["prepared"], atol=2e-6)


def test_prepare_paper_subtracts_the_first_persons_spine_in_every_frame():
    """By hand: a body that stands upright and faces along x needs no rotation."""
    body = np.zeros((25, 3))
    body[1], body[8] = (0, 0, 1), (2, 0, 3)  # the middle of the spine, the right shoulder
    body[4], body[11] = (1, 0, 3), (5, 5, 5)  # the left shoulder, an elbow
    way = np.array([[1.0, 0, 0], [2, 1, 0], [4, 9, 2]])
    x = (body + way[:, None])[None]
    x[0, 1, 11] = 0  # not seen
    expected = np.tile(body - (0, 0, 1), (1, 3, 1, 1))
    expected[0, 1, 11] = 0
    np.testing.assert_allclose(prepare_paper(x, NTU), expected, atol=1e-6)
    other = x + np.array((0, 0, 1))  # a second person above the first, who is not rotated either
    both = prepare_paper(np.concatenate([x, other]), NTU)
    np.testing.assert_allclose(both[1, [0, 2]], expected[0, [0, 2]] + (0, 0, 1), atol=1e-6)


def test_prepare_paper_repeats_each_person_separately():
    x = clip(persons=2, frames=5)
    x[1, 3:] = 0  # the second person leaves after 3 frames
    found = prepare_paper(x, NTU, clip_len=12)
    first, second = np.arange(12) % 5, np.arange(12) % 3
    padded = np.stack([x[0, first], x[1, second]])
    np.testing.assert_allclose(found, prepare_paper(padded, NTU), atol=1e-6)
    assert found.shape[1] == 12
    x[1] = 0
    x[1, 1], x[1, 3] = 1, 2  # not there in frame 0: only two frames are left of it
    found = prepare_paper(x, NTU, clip_len=12)
    padded = np.stack([x[0, first], x[1, np.arange(12) % 2 * 2 + 1]])
    np.testing.assert_allclose(found, prepare_paper(padded, NTU), atol=1e-6)


def test_prepare_paper_keeps_the_length_of_persons_who_stay():
    assert prepare_paper(clip(persons=2, frames=5), NTU).shape == (2, 5, 25, 3)
    x = clip(persons=2, frames=5)
    x[1] = 0
    assert prepare_paper(x, NTU).shape == (2, 5, 25, 3)
    assert prepare_paper(np.zeros((2, 5, 25, 3)), NTU).shape == (2, 0, 25, 3)
    with pytest.raises(ValueError, match="coco17 has no `align`"):
        prepare_paper(np.ones((1, 2, 17, 3)), skeletons.get("coco17"))


@pytest.mark.shared
def test_prepare_paper_makes_the_authors_arrays(shared_dir):
    """14 recordings; in one the second person is there in 32 of 111 frames, and is repeated."""
    expected = np.load(shared_dir / "golden" / "ntu_author_arrays.npz")
    source = shared_dir / "data" / "ntu-raw" / "nturgbd_skeletons_sample.zip"
    assert len(expected.files) == 14
    repeated = []
    with zipfile.ZipFile(source) as archive:
        for name in expected.files:
            content = archive.read(f"nturgb+d_skeletons/{name}.skeleton")
            persons = select_bodies(*parse_skeleton(content), bodies="energy").keypoints
            found, wanted = prepare_paper(persons, NTU), expected[name]
            if found.shape[1] != persons.shape[1]:
                repeated.append((name, found.shape[1]))
            assert not wanted[len(found) :].any()
            seen = found[:, replay(np.array([found.shape[1]]), 300)[0, : wanted.shape[1]]]
            np.testing.assert_allclose(seen, wanted[: len(found)], atol=3e-6)
    assert repeated == [("S017C003P020R002A059", 300)]


def test_prepare_2d_as_pyskl_puts_uncertain_joints_into_the_middle():
    pixels = np.array([[[[0, 0], [1920, 1080], [480, 810]]]])
    scores = np.array([[[0.0, 0.01, 0.02]]])
    np.testing.assert_allclose(
        prepare_2d(pixels, scores, (1080, 1920), min_score=0.01)[0, 0],
        [[0, 0, 0], [0, 0, 0.01], [-0.5, 0.5, 0.02]],
        atol=1e-7,
    )


def test_prepare_2d_maps_the_image_to_the_unit_square():
    corners = np.array([[[[0, 0], [1920, 1080], [960, 540], [480, 810]]]], dtype=np.float16)
    scores = np.array([[[0, 1, 0.5, 0.25]]])
    prepared = prepare_2d(corners, scores, (1080, 1920))
    assert prepared.dtype == np.float32
    np.testing.assert_array_equal(
        prepared[0, 0], [[-1, -1, 0], [1, 1, 1], [0, 0, 0.5], [-0.5, 0.5, 0.25]]
    )


def test_prepare_2d_does_not_calculate_in_half_precision():
    pixels = np.random.default_rng(0).uniform(0, 1080, (1, 3, 17, 2)).astype(np.float16)
    expected = pixels.astype(np.float64) / [960, 540] - 1
    prepared = prepare_2d(pixels, np.ones((1, 3, 17), np.float16), (1080, 1920))
    np.testing.assert_allclose(prepared[..., :2], expected, atol=1e-6)


def test_prepare_2d_refuses_what_does_not_belong_together():
    keypoints, scores = np.ones((1, 4, 17, 2)), np.ones((1, 4, 17))
    with pytest.raises(ValueError, match="expected scores"):
        prepare_2d(keypoints, scores[:, :3], (1080, 1920))
    with pytest.raises(ValueError, match="image size"):
        prepare_2d(keypoints, scores, (1080, 0))
    with pytest.raises(ValueError, match="expected keypoints"):
        prepare_2d(keypoints[0], scores, (1080, 1920))


def test_center_on_subtracts_one_point_from_everybody_who_is_there():
    x = clip()
    x[1, 2] = 0
    centered = center_on(x, 1)
    expected = x - x[0, 0, 1]
    expected[1, 2] = 0
    np.testing.assert_allclose(centered, expected, atol=1e-6)
    np.testing.assert_array_equal(centered[0, 0, 1], 0)
