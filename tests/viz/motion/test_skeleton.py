import numpy as np
import pytest

from msg3d_lab import viz


def test_pose_leaves_absent_persons_out(body, make_walk):
    frame = np.concatenate([make_walk()[:, 0], np.zeros((1, 25, 3))])
    ax = viz.pose(frame, body)
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


def test_filmstrip_shows_the_values_of_its_frames(body, make_walk):
    clip = make_walk(num_frames=9, persons=2)
    values = np.arange(9 * 25.0).reshape(9, 25)
    figure = viz.filmstrip(clip, body, values=values, frames=3, title="walk")
    panels = figure.axes[:3]
    assert [ax.get_title(loc="center") for ax in panels] == ["frame 0", "frame 4", "frame 8"]
    for ax, frame in zip(panels, (0, 4, 8), strict=True):
        assert len(ax.collections) == 2
        np.testing.assert_allclose(ax.collections[0].get_array(), values[frame])
    assert "unitless" in figure.axes[-1].get_ylabel()
    with pytest.raises(ValueError, match=r"expected finite values \(2, 9, 25\) or \(9, 25\)"):
        viz.filmstrip(clip, body, values=values[:3])


def test_pose_writes_the_names_above_the_bodies(body, make_walk):
    persons = make_walk(persons=2)[:, 0]
    texts = viz.pose(persons, body, names=["first", "second"]).texts
    assert [text.get_text() for text in texts] == ["first", "second"]
    apart = np.diff(persons[..., 0].mean(axis=1)).item()
    assert abs(texts[0].xy[0] - texts[1].xy[0]) == pytest.approx(abs(apart))
    assert apart != 0
