import numpy as np
import pytest

from msg3d_lab import skeletons, viz
from msg3d_lab.data import prepare_3d
from msg3d_lab.data.formats.ntu.bodies import Track, select_bodies
from msg3d_lab.data.synthetic import dataset as synthetic
from msg3d_lab.viz.motion.recordings import body_outcomes, heading, true_spans

FRAMES = {
    72057594037931101: np.arange(20),
    72057594037931202: np.arange(22, 50),
    72057594037931303: np.array([5, 6, 7, 8, 12, 13]),
    72057594037931404: np.arange(45, 50),
}
FIRST, SECOND, THIRD, FOURTH = FRAMES
FATES = {"kept": ((FIRST, SECOND), (FOURTH,)), "dropped": ((THIRD, "short: 6 frames"),)}
TEXTS = ["person 0, part 1 of 2", "person 0, part 2 of 2", "dropped, short: 6 frames", "person 1"]


def test_true_spans_are_starts_and_stops():
    assert true_spans([0, 1, 1, 0, 0, 1]) == [(1, 3), (5, 6)]
    assert true_spans(np.ones(3)) == [(0, 3)]
    assert true_spans(np.zeros(3)) == []


def test_body_outcomes_of_a_body_in_two_persons_and_of_a_forgotten_one():
    told = body_outcomes([1, 2, 3], kept=[[1], [2, 1]], dropped=[])
    assert told[0] == ((0, 1), "person 0 and person 1, part 2 of 2")
    assert told[2] == ((), "dropped, no reason given")


def test_body_outcomes_reads_what_select_bodies_returns():
    """The plain tuples of a `Selection` fit, whatever class they come in."""
    rng = np.random.default_rng(0)
    standing = rng.uniform(0, 1, (25, 3)) * [0.4, 1.7, 0.2]
    tracks = [
        Track(body, there, 0 * there, standing + rng.normal(0, 0.01, (len(there), 25, 3)))
        for body, there in FRAMES.items()
    ]
    selection = select_bodies(tracks, 50)
    told = body_outcomes(list(FRAMES), kept=selection.kept, dropped=selection.dropped)
    assert [persons for persons, _ in told] == [(0,), (0,), (), ()]
    assert told[2][1] == "dropped, short: 6 frames"


def test_body_timeline_draws_when_who_is_seen_and_why():
    ax = viz.body_timeline(FRAMES, num_frames=50, **FATES)
    bars = [
        [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in body.get_paths()]
        for body in ax.collections
    ]
    assert bars == [[(-0.5, 19.5)], [(21.5, 49.5)], [(4.5, 8.5), (11.5, 13.5)], [(44.5, 49.5)]]
    assert [text.get_text() for text in ax.texts] == TEXTS
    colors = [tuple(body.get_facecolor()[0]) for body in ax.collections]
    assert colors[0] == colors[1] != colors[3]
    assert ax.collections[2].get_hatch()
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["body …1101", "body …1202", "body …1303", "body …1404"]
    ax.figure.canvas.draw()
    right = ax.get_window_extent().x1
    assert all(text.get_window_extent().x1 <= right + 1 for text in ax.texts)


@pytest.mark.parametrize(
    ("ids", "name"), [([5, 6], "body 5"), ([10**9, 10**10], "body 1000000000")]
)
def test_body_timeline_names_bodies_in_full_where_that_is_short_or_needed(ids, name):
    frames = {body: np.arange(3) for body in ids}
    ax = viz.body_timeline(frames, num_frames=3, kept=[ids], dropped=[])
    assert ax.get_yticklabels()[0].get_text() == name


def test_body_timeline_of_a_body_in_two_persons_has_both_colours():
    ax = viz.body_timeline({5: np.arange(3)}, num_frames=4, kept=[[5], [5]], dropped=[])
    upper, lower = ax.collections
    assert tuple(upper.get_facecolor()[0]) != tuple(lower.get_facecolor()[0])
    assert ax.texts[0].get_text() == "person 0 and person 1"


def test_heading_of_a_prepared_body_is_forward(body, make_walk):
    np.testing.assert_allclose(heading(make_walk()[0, 0], body), [0, 1, 0], atol=1e-9)


@pytest.mark.parametrize("degrees", [0, 40, 110, 200])
def test_heading_of_a_recorded_body_turns_with_it(body, make_walk, degrees):
    x, y, z = np.moveaxis(make_walk()[0, 0].astype(float), -1, 0)
    recorded = np.stack([x, z, 3 - y], axis=-1)  # facing the camera, at -z
    a = np.radians(degrees)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    np.testing.assert_allclose(heading(recorded @ turn.T, body), turn @ [0, 0, -1], atol=1e-9)


def test_heading_needs_to_know_what_is_across(toy_skeleton):
    with pytest.raises(ValueError, match="no `align`"):
        heading(np.zeros((5, 3)), toy_skeleton)


@pytest.fixture(scope="module")
def recorded():
    return synthetic.record("S001C003P003R001A015")[0]


def test_preparation_figure_shows_two_views_with_the_arrays_coordinates(body, recorded):
    figure = viz.preparation_figure(recorded, prepare_3d(recorded, body), body, title="Clip")
    figure.canvas.draw()
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [
        "Before, from the front",
        "After, from the front",
        "Before, from above",
        "After, from above",
    ]
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels == ["y, up (m)", "z, up (m)", "z, away from the camera (m)", "y (m)"]
    # Ticks say the arrays' own x, which grows to the left of the page.
    for ax in figure.axes:
        ticks = [label.get_text().replace("\N{MINUS SIGN}", "-") for label in ax.get_xticklabels()]
        np.testing.assert_allclose([float(t) for t in ticks], -ax.get_xticks(), atol=1e-6)
    # The two persons' heads, from above.
    above = figure.axes[2]
    drawn = np.concatenate([dots.get_offsets() for dots in above.collections[1::2]])
    np.testing.assert_allclose(drawn[:, 1].min(), recorded[:, 0, :, 2].min(), atol=1e-5)
    assert {text.get_text() for text in above.texts} >= {"faces", "camera"}


def test_preparation_figure_skips_frames_in_which_nobody_is(body, recorded):
    late = recorded.copy()
    late[:, :5] = 0
    figure = viz.preparation_figure(late, prepare_3d(recorded, body), body)
    dots = figure.axes[0].collections[1].get_offsets()
    np.testing.assert_allclose(-dots[:, 0], late[0, 5, :, 0], atol=1e-5)


def test_preparation_figure_says_what_is_wrong(body, recorded):
    with pytest.raises(ValueError, match="a person in one frame at least"):
        viz.preparation_figure(recorded, 0 * recorded, body)
    with pytest.raises(ValueError, match="found"):
        viz.preparation_figure(recorded, recorded, skeletons.get("coco17"))
