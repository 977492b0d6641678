import numpy as np
import pytest

from msg3d_lab import skeletons, viz
from msg3d_lab.viz.motion.layout import VIEWS, to_view


@pytest.mark.parametrize("name", skeletons.names())
def test_body_layout_is_upright_and_mirrored(name):
    skeleton = skeletons.get(name)
    xy = viz.body_layout(skeleton)
    assert xy.shape == (skeleton.num_joints, 2)
    assert xy[:, 1].min() == 0
    assert 0.95 < xy[:, 1].max() <= 1
    for left, right in skeleton.mirror:
        assert xy[left, 0] > 0
        np.testing.assert_array_equal(xy[left] * [-1, 1], xy[right])
    apart = np.linalg.norm(xy[:, None] - xy, axis=-1) + np.eye(len(xy))
    assert apart.min() > 0.05


def test_body_layout_of_an_unknown_layout_has_left_on_the_right(toy_skeleton):
    xy = viz.body_layout(toy_skeleton)
    left, right = toy_skeleton.mirror[0]
    assert xy[left, 0] >= xy[right, 0]
    assert np.isfinite(xy).all()
    np.testing.assert_array_equal(xy, viz.body_layout(toy_skeleton))


def test_body_layout_turns_an_unknown_layout_upright():
    chain = skeletons.from_dict(
        {
            "name": "chain",
            "joints": ["foot", "hip", "head"],
            "edges": [["foot", "hip"], ["hip", "head"]],
            "center": "hip",
            "align": {"z": ["foot", "head"]},
        }
    )
    xy = viz.body_layout(chain)
    np.testing.assert_allclose(xy[:, 0], 0, atol=0.02)
    assert xy[0, 1] < xy[1, 1] < xy[2, 1]


def test_to_view_shows_a_prepared_and_a_recorded_body_alike(body, make_walk):
    prepared = make_walk()
    x, y, z = np.moveaxis(prepared, -1, 0)
    recorded = np.stack([x, z, -y], axis=-1)  # a Kinect's frame, facing the camera
    front, seen = to_view(prepared, body)
    np.testing.assert_allclose(front, to_view(recorded, body)[0], atol=1e-7)
    assert seen.all()
    left, right = body.joints.index("left hand"), body.joints.index("right hand")
    assert (front[..., left, 0] > front[..., right, 0]).all()


def test_to_view_looks_a_prepared_body_in_the_face(body):
    """Whatever way a body stood: its left is on the right and its feet point to the viewer."""
    from msg3d_lab.data import prepare_3d

    left_foot, left_ankle = body.joints.index("left foot"), body.joints.index("left ankle")
    xy = viz.body_layout(body)
    standing = np.stack([xy[:, 0], xy[:, 1], 0 * xy[:, 0]], axis=-1)
    standing[:, 2] += 3
    toes = [body.joints.index(joint) for joint in ("left foot", "right foot")]
    standing[toes, 2] += 0.1
    for degrees in (10, 50, 170, 290):
        a = np.radians(degrees)
        turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
        clip = prepare_3d((standing @ turn.T)[None, None].astype(np.float32), body)
        points, _ = to_view(clip, body)
        assert points[0, 0, left_foot, 2] > points[0, 0, left_ankle, 2] + 0.09
        assert points[0, 0, body.joints.index("left shoulder"), 0] > 0.1


@pytest.mark.parametrize("view", [*VIEWS, (200.0, -40.0)])
def test_to_view_only_rotates(body, make_walk, view):
    clip = make_walk()
    points, _ = to_view(clip, body, view=view)

    def volume(p):  # signed: a reflection would change its sign
        arms = [body.joints.index(j) for j in ("left elbow", "right wrist", "left foot")]
        base = body.joints.index("spine base")
        return np.linalg.det(p[..., arms, :] - p[..., base : base + 1, :])

    np.testing.assert_allclose(volume(points), volume(clip.astype(float)), atol=1e-9)


def test_to_view_of_two_dimensions_turns_y_up_and_hides_low_scores():
    coco = skeletons.get("coco17")
    keypoints = np.ones((2, 3, 17, 3))
    keypoints[0, :, 4, 2] = 0.05
    keypoints[1] = 0
    points, seen = to_view(keypoints, coco)
    assert (points[0, ..., 1] == -1).all()
    assert not seen[1].any()
    assert seen[0].sum() == 3 * 16


def test_to_view_draws_four_channels_without_the_score(body, toy_skeleton, make_walk):
    clip = make_walk()
    score = np.full((*clip.shape[:-1], 1), 0.05)
    points, seen = to_view(np.concatenate([clip, score], -1), body)
    np.testing.assert_array_equal(points, to_view(clip, body)[0])
    assert seen.all()
    low = np.ones((2, 3, 5, 4)) * (1, 1, -1, 0)  # z is no score either
    low[1] = 0, 0, 0, 1
    assert to_view(low, toy_skeleton)[1].all(axis=(1, 2)).tolist() == [True, False]
    assert "four channels" in viz.player_html(low, toy_skeleton, title="four channels")


@pytest.mark.parametrize(
    ("shape", "view", "message"),
    [
        ((25,), "front", "expected keypoints"),
        ((20, 3), "front", "expected keypoints"),
        ((25, 5), "front", "expected keypoints"),
        ((25, 3), "behind", "unknown view 'behind'"),
    ],
)
def test_to_view_refuses(body, shape, view, message):
    with pytest.raises(ValueError, match=message):
        to_view(np.ones(shape), body, view=view)
