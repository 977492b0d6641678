import numpy as np
import pytest

from msg3d_lab.inference.windows import class_curves, window_starts


def curves(starts, probabilities, **options):
    options = {"num_frames": 20, "window": 8, "label_names": ("a", "b"), "fps": 10} | options
    return class_curves(np.array(starts), np.array(probabilities, dtype=float), **options)


def test_windows_cover_a_recording_and_the_last_ends_with_it():
    starts = window_starts(100, window=32, stride=10)
    assert starts.tolist() == [0, 10, 20, 30, 40, 50, 60, 68]
    assert window_starts(30, window=32, stride=10).tolist() == [0]
    assert window_starts(32, window=32, stride=10).tolist() == [0]
    with pytest.raises(ValueError, match="expected at least one frame"):
        window_starts(10, window=0, stride=1)


def test_a_frame_gets_the_average_of_its_windows_by_how_near_their_middles_are():
    found = curves([0, 4], [[1, 0], [0, 1]], num_frames=12).probabilities
    # By hand: weights 1 2 3 4 4 3 2 1 of each window.
    assert found[3] == pytest.approx([1, 0])
    assert found[4] == pytest.approx([4 / 5, 1 / 5])
    assert found[7] == pytest.approx([1 / 5, 4 / 5])
    assert found.sum(axis=1) == pytest.approx(1)


def test_windows_without_a_person_leave_their_frames_blank():
    found = curves([0, 8, 12], [[1, 0], [np.nan, np.nan], [0, 1]])
    assert np.isnan(found.probabilities[8:12]).all()
    assert not np.isnan(np.delete(found.probabilities, np.s_[8:12], axis=0)).any()


def test_segments_have_start_and_end_in_frames_and_seconds():
    found = curves([0, 8, 12], [[0.9, 0.1], [0.2, 0.8], [0.2, 0.8]]).segments()
    assert found["class"].tolist() == ["a", "b"]
    assert found[["start", "stop"]].to_numpy().tolist() == [[0, 8], [8, 20]]
    assert found["stop_s"].tolist() == [0.8, 2.0]
    assert found["probability"].tolist() == pytest.approx([0.9, 0.8])


def test_unsure_and_short_stretches_are_no_segments():
    found = curves([0, 8, 12], [[0.55, 0.45], [0.2, 0.8], [0.2, 0.8]])
    assert found.segments(min_probability=0.6)["class"].tolist() == ["b"]
    assert found.segments(min_frames=9)["class"].tolist() == ["b"]
    assert list(found.segments(min_probability=0.99).columns)[:3] == ["class", "label", "start"]


def test_a_table_has_a_row_per_frame():
    table = curves([0, 12], [[1, 0], [0, 1]]).table()
    assert list(table.columns) == ["frame", "seconds", "a", "b"]
    assert table["seconds"].iloc[-1] == pytest.approx(1.9)
