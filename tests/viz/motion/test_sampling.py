import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from msg3d_lab import viz
from msg3d_lab.data import uniform_sample
from msg3d_lab.viz.motion.sampling import chosen_frames


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
