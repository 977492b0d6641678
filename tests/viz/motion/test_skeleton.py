import base64
import json
import re

import numpy as np
import pytest

from msg3d_lab import skeletons, viz
from msg3d_lab.viz.motion.skeleton import VIEWS, to_view


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


@pytest.mark.parametrize(
    ("shape", "view", "message"),
    [
        ((25,), "front", "expected keypoints"),
        ((20, 3), "front", "expected keypoints"),
        ((25, 4), "front", "expected keypoints"),
        ((25, 3), "behind", "unknown view 'behind'"),
    ],
)
def test_to_view_refuses(body, shape, view, message):
    with pytest.raises(ValueError, match=message):
        to_view(np.ones(shape), body, view=view)


def test_pose_leaves_absent_persons_out(body, make_walk):
    frame = np.concatenate([make_walk()[:, 0], np.zeros((1, 25, 3))])
    ax = viz.pose(frame, body, legend=True)
    assert len(ax.lines) == len(body.edges)
    assert len(viz.pose(make_walk(persons=2)[:, 0], body).lines) == 2 * len(body.edges)


def test_filmstrip_shows_the_first_and_last_frame_at_one_scale(body, make_walk):
    figure = viz.filmstrip(make_walk(num_frames=20), body, frames=4, title="walk")
    assert [ax.get_title() for ax in figure.axes] == [f"frame {t}" for t in (0, 6, 13, 19)]
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes}) == 1
    assert len(viz.filmstrip(make_walk(num_frames=2), body, frames=6).axes) == 2


@pytest.mark.parametrize("frames", [0, -1])
def test_filmstrip_wants_a_frame_to_show(body, make_walk, frames):
    with pytest.raises(ValueError, match="1 or more"):
        viz.filmstrip(make_walk(), body, frames=frames)


@pytest.mark.parametrize("clip", [np.ones((5, 25, 3)), np.ones((1, 0, 25, 3))])
def test_clips_have_four_axes_and_frames(body, clip):
    with pytest.raises(ValueError, match=r"expected a clip \(M, T, V, C\)"):
        viz.filmstrip(clip, body)
    with pytest.raises(ValueError, match=r"expected a clip \(M, T, V, C\)"):
        viz.player_html(clip, body, title="x")


def player_record(html):
    found = re.search(r'<script type="application/json" class="clip">(.*?)</script>', html, re.S)
    return json.loads(found[1])


def test_player_html_holds_the_clip(body, make_walk):
    clip = np.concatenate([make_walk(num_frames=7), np.zeros((1, 7, 25, 3))])
    record = player_record(viz.player_html(clip, body, title="walk"))
    assert record["shape"] == [2, 7, 25]
    assert not record["flat"]
    units = np.frombuffer(base64.b64decode(record["coordinates"]), "<i2").reshape(2, 7, 25, 3)
    assert (units[1] == -32768).all()
    points = to_view(clip, body)[0][0]
    scale = np.ptp(points, axis=(0, 1)).max() / np.ptp(units[0].astype(float), axis=(0, 1)).max()
    differences = units[0, :, 1:].astype(float) - units[0, :, :1]
    np.testing.assert_allclose(differences * scale, points[:, 1:] - points[:, :1], atol=2e-4)


def test_player_html_escapes_its_title_and_fetches_nothing(body, make_walk):
    html = viz.player_html(make_walk(), body, title='</figure><script>alert("x")</script>')
    assert "alert(" not in html.replace("alert(&#34;", "")
    assert html.count("<script") == html.count("</script>") == 2
    assert not re.search(r"https?://|src=|import ", html)


def test_player_html_of_an_empty_clip_is_no_error(body):
    record = player_record(viz.player_html(np.zeros((1, 2, 25, 3)), body, title="nobody"))
    assert record["shape"] == [1, 2, 25]


def test_player_html_wants_a_frame_rate(body, make_walk):
    with pytest.raises(ValueError, match="fps must be above 0"):
        viz.player_html(make_walk(), body, title="walk", fps=0)


def levels_of(record):
    return np.frombuffer(base64.b64decode(record["levels"]), np.uint8).reshape(record["shape"])


def test_player_html_with_values_has_0_in_the_middle_of_the_colours(body, make_walk):
    clip = make_walk(num_frames=3, persons=2)
    values = np.linspace(-0.5, 1, 2 * 3 * 25).reshape(2, 3, 25)
    values[1, 2, 7] = 0
    html = viz.player_html(clip, body, title="walk", values=values, label="share <unitless>")
    record = player_record(html)
    levels = levels_of(record)
    assert record["signed"]
    assert (levels[0, 0, 0], levels[1, 2, 7], levels[1, 2, 24]) == (64, 127, 254)
    np.testing.assert_allclose(levels, 127 + 127 * values, atol=0.51)
    assert len(record["colors"]) == 255
    red, _, blue = (int(record["colors"][254][i : i + 2], 16) for i in (1, 3, 5))
    assert red > blue + 50
    text = re.sub(r"<(script|style).*?</\1>", "", html, flags=re.S)
    assert "share &lt;unitless&gt;" in text
    assert re.findall(r"<span>(-?[\d.]+)</span>", text) == ["-1", "0", "1"]
    assert "levels" not in player_record(viz.player_html(clip, body, title="walk"))


def test_player_html_without_negative_values_goes_from_0_up(body, make_walk):
    values = np.arange(3 * 25.0).reshape(3, 25)  # the same for both persons
    html = viz.player_html(make_walk(num_frames=3, persons=2), body, title="walk", values=values)
    record = player_record(html)
    assert not record["signed"]
    np.testing.assert_allclose(levels_of(record)[1], values / 74 * 254, atol=0.51)
    assert "share of importance (unitless)" in html
    zeros = viz.player_html(make_walk(num_frames=3), body, title="walk", values=values * 0)
    assert not levels_of(player_record(zeros)).any()


@pytest.mark.parametrize("values", [np.ones((1, 3, 24)), np.ones(25), np.full((1, 3, 25), np.nan)])
def test_player_html_refuses_values_that_are_not_the_clips(body, make_walk, values):
    with pytest.raises(ValueError, match=r"expected finite values \(1, 3, 25\) or \(3, 25\)"):
        viz.player_html(make_walk(num_frames=3), body, title="walk", values=values)
