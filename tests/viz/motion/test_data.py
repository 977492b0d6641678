from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msg3d_lab import viz
from msg3d_lab.data import uniform_sample
from msg3d_lab.data.datasets import DATASETS
from msg3d_lab.viz.motion.data import chosen_frames


@pytest.fixture
def make_counts():
    """Make tables of clips per class, with as many classes as wanted."""

    def make(K):
        names = [f"{name}, class {i}" for i, name in enumerate(["wave", "bow"] * K)][:K]
        return pd.DataFrame({"train": np.arange(K) + 10, "val": 5}, names)

    return make


def test_chosen_frames_unrolls_clips_that_wrap_around():
    chosen = chosen_frames(np.array([[0, 1, 2, 3, 0, 1], [3, 0, 1, 2, 3, 0]]), num_frames=4)
    expected = [[1, 1, 1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1, 1, 1]]
    np.testing.assert_array_equal(chosen, np.array(expected, dtype=bool))


def test_chosen_frames_of_a_single_frame_is_a_row_of_it():
    np.testing.assert_array_equal(chosen_frames([[0, 0, 0]], num_frames=1), [[True] * 3])


def test_chosen_frames_of_a_frame_repeated_in_place_stays_in_the_recording():
    np.testing.assert_array_equal(
        chosen_frames([[0, 0, 1, 1]], num_frames=3), [[True, True, False]]
    )


@given(n=st.integers(1, 90), clip_len=st.integers(1, 40), clips=st.integers(1, 5))
def test_chosen_frames_are_those_of_the_sampler(n, clip_len, clips):
    indices = uniform_sample(n, clip_len=clip_len, num_clips=clips)
    chosen = chosen_frames(indices, num_frames=n)
    assert chosen.shape[1] >= n
    for row, frames in zip(chosen, indices, strict=True):
        assert row.sum() == clip_len
        np.testing.assert_array_equal(np.flatnonzero(row) % n, frames)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 1], "clips, clip length"),
        ([[0.5, 1]], "clips, clip length"),
        (np.zeros((0, 3), dtype=int), "clips, clip length"),
        ([[0, 7]], "frames 0 to 6, found 0 to 7"),
        ([[-1, 2]], "found -1 to 2"),
    ],
)
def test_chosen_frames_says_what_is_wrong(indices, message):
    with pytest.raises(ValueError, match=message):
        chosen_frames(indices, num_frames=7)


def cells(ax):
    return np.concatenate([mesh.get_array().reshape(1, -1) for mesh in ax.collections])


def test_sampling_plot_shades_segments_of_long_recordings_only():
    ax = viz.sampling_plot(uniform_sample(30, clip_len=5, num_clips=3), num_frames=30)
    drawn = cells(ax)
    assert drawn.shape == (3, 30)
    assert (drawn == 2).sum(axis=1).tolist() == [5, 5, 5]
    segments = np.repeat([1, 0, 1, 0, 1], 6)
    np.testing.assert_array_equal(drawn[0][drawn[0] < 2], segments[drawn[0] < 2])
    short = viz.sampling_plot(uniform_sample(8, clip_len=5, num_clips=3), num_frames=8)
    assert set(np.unique(cells(short))) == {0, 2}
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["clip 0", "clip 1", "clip 2"]


def test_sampling_plot_counts_frames_anew_where_the_recording_starts_again():
    ax = viz.sampling_plot(uniform_sample(12, clip_len=20, num_clips=2), num_frames=12)
    assert [text.get_text() for text in ax.texts] == ["again", "again"]
    for place, label in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True):
        assert int(label.get_text()) == place % 12


def test_sampling_figure_names_the_three_cases():
    figure = viz.sampling_figure(
        {n: uniform_sample(n, clip_len=16, num_clips=2) for n in (10, 20, 40)}, title="Uniform"
    )
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[0].startswith("10 frames, fewer than 16")
    assert "leaves out 4" in titles[1]
    assert "in 16 segments" in titles[2]
    assert figure.get_suptitle() == "Uniform"


@pytest.mark.parametrize("clips", [{}, {4: [[0, 1]], 5: [[0, 1, 2]]}])
def test_sampling_figure_wants_clips_of_one_length(clips):
    with pytest.raises(ValueError, match="clips of one length"):
        viz.sampling_figure(clips)


def test_length_plot_counts_clips_by_persons_and_marks_the_median():
    frames = np.array([10, 10, 11, 14, 30])
    ax = viz.length_plot(frames, persons=np.array([1, 2, 1, 1, 1]), clip_len=8)
    one, two = (container.patches for container in ax.containers)
    assert sum(bar.get_height() for bar in two) == 1
    assert sum(bar.get_height() for bar in one) == 4
    # Bars have a whole number of frames and none is cut off.
    assert one[0].get_x() == 9.5
    assert one[0].get_width() == 1
    assert one[-1].get_x() + one[-1].get_width() >= 30.5
    assert {text.get_text() for text in ax.texts} == {"median 11", "L = 8", "2L = 16"}
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1 person", "2 persons"]


def test_length_plot_keeps_its_marks_apart_and_inside():
    ax = viz.length_plot(np.array([8, 9, 10, 11, 20]), clip_len=10)
    assert {text.get_text() for text in ax.texts} == {"median 10", "L = 10", "2L = 20"}
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.x1 <= ax.get_window_extent().x1 for box in boxes)


def test_length_plot_of_clips_of_one_length():
    ax = viz.length_plot(np.full(7, 20), title="All alike")
    assert [bar.get_height() for bar in ax.patches] == [7]
    assert ax.get_legend() is None


@pytest.mark.parametrize(("frames", "persons"), [([], None), ([3, 4], [1]), ([[3]], None)])
def test_length_plot_says_what_is_wrong(frames, persons):
    with pytest.raises(ValueError, match="a length per clip"):
        viz.length_plot(frames, persons=persons)


def test_class_plot_stacks_the_parts_of_a_split(make_counts):
    ax = viz.class_plot(make_counts(3), title="Clips")
    train, val = (container.patches for container in ax.containers)
    assert [bar.get_width() for bar in train] == [10, 11, 12]
    assert [bar.get_x() for bar in val] == [10, 11, 12]
    assert [text.get_text() for text in ax.texts] == ["15", "16", "17"]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["train (33)", "val (15)"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first class is on top"


@pytest.mark.parametrize("dataset", ["ntu60", "ntu120", "nw-ucla"])
def test_class_plot_keeps_names_legible_and_apart(dataset):
    names = list(DATASETS[dataset].label_names)
    counts = pd.DataFrame({"train": 600, "val": 300}, names)
    ax = viz.class_plot(counts)
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert min(label.get_fontsize() for label in ax.get_yticklabels()) >= 5.5
    assert all(a.y0 > b.y1 - 2 for a, b in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0
    assert max(len(label.get_text()) for label in ax.get_yticklabels()) <= 46


@pytest.mark.parametrize(
    "counts", [pd.DataFrame(), pd.DataFrame({"train": [-1]}), pd.DataFrame(index=["wave"])]
)
def test_class_plot_says_what_is_wrong(counts):
    with pytest.raises(ValueError, match="a row per class"):
        viz.class_plot(counts)


def test_plots_draw_into_given_axes(make_counts):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert viz.sampling_plot([[0, 1]], num_frames=3, ax=ax) is ax
    assert viz.length_plot([3, 4], ax=Figure().subplots()).figure is not ax.figure
    assert viz.class_plot(make_counts(2), ax=ax) is ax
