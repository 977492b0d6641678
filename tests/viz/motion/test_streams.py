import numpy as np
import pytest

from msg3d_lab import skeletons, viz
from msg3d_lab.data import make_stream
from msg3d_lab.data.batches.streams import STREAMS


@pytest.fixture
def streams(body, make_walk):
    clip = make_walk(num_frames=40, persons=2)
    return {name: make_stream(clip, name, body) for name in STREAMS}


def images(figure):
    return [ax.images[0] for ax in figure.axes if ax.images]


def test_streams_figure_shows_one_coordinate_of_each_stream(streams, body):
    figure = viz.streams_figure(streams, body, title="Walk")
    panels = images(figure)
    assert len(panels) == 4
    order = [joint for joints in body.parts.values() for joint in joints]
    for image, stream in zip(panels, streams.values(), strict=True):
        np.testing.assert_allclose(image.get_array(), stream[0, :, order, 2])
        low, high = image.get_clim()
        assert low == -high < 0
    units = [ax.get_xlabel() for ax in figure.axes if ax.get_xlabel().startswith("z")]
    assert units == ["z (m)", "z (m)", "z (m per frame)", "z (m per frame)"]
    parts = [label.get_text() for label in panels[0].axes.get_yticklabels()]
    assert parts == list(body.parts)


def test_streams_figure_draws_bones_from_parent_to_joint(streams, body):
    figure = viz.streams_figure(streams, body)
    (arrows,) = [c for c in figure.axes[1].collections if hasattr(c, "U")]
    frame = int(images(figure)[0].axes.lines[-1].get_xdata()[0])
    clip = streams["joint"][0, frame]
    start = clip[list(body.parents)]
    np.testing.assert_allclose(arrows.get_offsets(), start[:, [0, 2]] * [-1, 1], atol=1e-6)
    np.testing.assert_allclose(arrows.V, (clip - start)[:, 2], atol=1e-6)


def test_streams_figure_says_how_much_longer_motion_is_drawn(streams, body):
    figure = viz.streams_figure(streams, body)
    (arrows,) = [c for c in figure.axes[2].collections if hasattr(c, "U")]
    (note,) = figure.axes[2].texts
    times = float(note.get_text().split("arrows ")[1].split()[0])
    frame = int(images(figure)[0].axes.lines[-1].get_xdata()[0])
    motion = streams["joint_motion"][0, frame, :, 2]
    np.testing.assert_allclose(arrows.V, times * motion, atol=1e-6)
    assert times > 1


def test_streams_figure_of_a_still_2d_body():
    coco = skeletons.get("coco17")
    clip = np.ones((1, 6, 17, 3))
    clip[..., :2] = viz.body_layout(coco)
    streams = {name: make_stream(clip, name, coco, scored=True) for name in STREAMS}
    figure = viz.streams_figure(streams, coco)
    np.testing.assert_array_equal(images(figure)[2].get_array(), 0)
    figure.canvas.draw()
    (arrows,) = [c for c in figure.axes[1].collections if hasattr(c, "U")]
    bones = streams["bone"][0, 0]
    np.testing.assert_allclose([arrows.U, -arrows.V], bones[:, :2].T)
