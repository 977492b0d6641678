from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from msg3d_lab import skeletons
from msg3d_lab.data.synthetic.kinematics import (
    Body,
    Contact,
    Motion,
    bump,
    drift,
    joint_positions,
    minimum_jerk,
    rotation,
    swing,
)

NTU = skeletons.get("ntu25")
BODY = Body.from_height(1.75)


def moved(seed=0, frames=40):
    """A motion with everything in it."""
    rng = np.random.default_rng(seed)
    motion = Motion(frames)
    motion.hands += 0.5 * drift(rng, frames, 6).reshape(2, frames, 3)
    motion.feet += 0.2 * drift(rng, frames, 6).reshape(2, frames, 3)
    motion.pelvis += 0.1 * drift(rng, frames, 3)
    motion.lean += 0.4 * drift(rng, frames, 3)
    motion.contacts.append(Contact(0, bump(np.linspace(0, 1, frames), 0.2, 0.8), 1))
    return motion


@pytest.mark.parametrize("seed", range(5))
def test_joint_positions_keeps_every_bone_as_long_as_it_is(seed):
    x = joint_positions(BODY, moved(seed))
    joints, parents = np.array(NTU.bones).T
    lengths = np.linalg.norm(x[:, joints] - x[:, parents], axis=-1)
    assert np.ptp(lengths, axis=0).max() < 1e-9
    assert lengths.min() > 0.02
    assert lengths.max() < 0.5


def test_joint_positions_of_someone_standing_still_is_a_person_of_that_height():
    x = joint_positions(BODY, Motion(1))[0]
    top_to_floor = x[3, 1] + 0.05  # the head joint is in the middle of the head
    assert 1.6 < top_to_floor < 1.8
    assert abs(x[[15, 19], 1]).max() < 0.06  # feet on the floor
    left, right = np.array(NTU.mirror).T
    np.testing.assert_allclose(x[left], x[right] * [-1, 1, 1], atol=1e-12)
    assert (x[left, 0] > 0).all()
    assert x[15, 2] > x[14, 2]


def test_joint_positions_mirrors_a_mirrored_motion():
    motion, mirrored = moved(), Motion(40)
    motion.contacts.clear()
    mirrored.hands[:], mirrored.feet[:] = motion.hands[::-1], motion.feet[::-1]
    mirrored.pelvis[:] = motion.pelvis * [-1, 1, 1]
    mirrored.lean[:] = motion.lean * [1, -1, -1]
    order = np.arange(25)
    for i, j in NTU.mirror:
        order[[i, j]] = j, i
    expected = joint_positions(BODY, motion)[:, order] * [-1, 1, 1]
    np.testing.assert_allclose(joint_positions(BODY, mirrored), expected, atol=1e-9)


def test_joint_positions_brings_a_hand_to_its_contact():
    motion = Motion(3)
    point = np.array([0.1, 1.2, 0.35])
    weight = np.array([0.0, 0.5, 1.0])
    motion.contacts.append(Contact(1, weight, np.tile(point, (3, 1))))
    distance = np.linalg.norm(joint_positions(BODY, motion)[:, 10] - point, axis=-1)
    assert distance[2] < 1e-9
    assert distance[0] > distance[1] > 0.1


def test_joint_positions_stretches_a_limb_towards_what_is_out_of_reach():
    motion = Motion(1)
    motion.hands[0, :] = (0.0, 0.0, 3.0)
    x = joint_positions(BODY, motion)[0]
    assert np.linalg.norm(x[6] - x[4]) == pytest.approx(0.999 * BODY.arm)
    np.testing.assert_allclose((x[6] - x[4])[:2], 0, atol=1e-9)


def test_minimum_jerk_starts_and_stops_at_rest():
    u = np.linspace(-0.5, 1.5, 2001)
    s = minimum_jerk(u)
    assert s[0] == 0
    assert s[-1] == 1
    assert (np.diff(s) >= 0).all()
    speed = np.gradient(s, u)
    assert speed.max() == pytest.approx(1.875, abs=1e-3)  # 15/8, the closed form
    assert abs(np.gradient(speed, u)[[500, 1500]]).max() < 0.1  # no jump in acceleration


def test_bump_rises_and_comes_back():
    s = bump(np.array([-1.0, 0.2, 0.5, 0.8, 2.0]), 0.2, 0.8)
    np.testing.assert_allclose(s, [0, 0, 1, 0, 0], atol=1e-12)


def test_swing_goes_from_start_to_target_at_arms_length():
    start, target = np.array([[0.1, -0.95, 0.1]]), np.array([0.2, 0.9, 0.2])
    path = swing(start, target, np.linspace(0, 1, 21))
    np.testing.assert_allclose(path[[0, -1]], [start[0], target], atol=1e-12)
    assert np.linalg.norm(path, axis=-1).min() > 0.9


def test_rotation_agrees_with_scipy():
    angles = np.random.default_rng(0).uniform(-3, 3, (20, 3))
    expected = Rotation.from_euler("xyz", angles).as_matrix()
    np.testing.assert_allclose(rotation(angles), expected, atol=1e-12)
