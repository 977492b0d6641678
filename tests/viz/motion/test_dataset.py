from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from msg3d_lab import viz
from msg3d_lab.data.datasets import DATASETS


@pytest.fixture
def make_counts():
    """Make tables of clips per class, with as many classes as wanted."""

    def make(K):
        names = [f"{name}, class {i}" for i, name in enumerate(["wave", "bow"] * K)][:K]
        return pd.DataFrame({"train": np.arange(K) + 10, "val": 5}, names)

    return make


def test_length_histogram_counts_clips_by_persons_and_marks_the_median():
    frames = np.array([10, 10, 11, 14, 30])
    ax = viz.length_histogram(frames, persons=np.array([1, 2, 1, 1, 1]), clip_len=8)
    one, two = (container.patches for container in ax.containers)
    assert sum(bar.get_height() for bar in two) == 1
    assert sum(bar.get_height() for bar in one) == 4
    # Bars have a whole number of frames and none is cut off.
    assert one[0].get_x() == 9.5
    assert one[0].get_width() == 1
    assert one[-1].get_x() + one[-1].get_width() >= 30.5
    assert {text.get_text() for text in ax.texts} == {"median 11", "L = 8", "2L = 16"}
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1 person", "2 persons"]


def test_length_histogram_keeps_its_marks_apart_and_inside():
    ax = viz.length_histogram(np.array([8, 9, 10, 11, 20]), clip_len=10)
    assert {text.get_text() for text in ax.texts} == {"median 10", "L = 10", "2L = 20"}
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.x1 <= ax.get_window_extent().x1 for box in boxes)


def test_length_histogram_of_clips_of_one_length():
    ax = viz.length_histogram(np.full(7, 20), title="All alike")
    assert [bar.get_height() for bar in ax.patches] == [7]
    assert ax.get_legend() is None


def test_class_counts_stacks_the_parts_of_a_split(make_counts):
    ax = viz.class_counts(make_counts(3), title="Clips")
    train, val = (container.patches for container in ax.containers)
    assert [bar.get_width() for bar in train] == [10, 11, 12]
    assert [bar.get_x() for bar in val] == [10, 11, 12]
    assert [text.get_text() for text in ax.texts] == ["15", "16", "17"]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["train (33)", "val (15)"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first class is on top"


@pytest.mark.parametrize("dataset", ["ntu60", "ntu120", "nw-ucla", "utd-mhad"])
def test_class_counts_keeps_names_legible_and_apart(dataset):
    names = list(DATASETS[dataset].label_names)
    counts = pd.DataFrame({"train": 600, "val": 300}, names)
    ax = viz.class_counts(counts)
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert min(label.get_fontsize() for label in ax.get_yticklabels()) >= 5.5
    assert all(a.y0 > b.y1 - 2 for a, b in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0
    assert max(len(label.get_text()) for label in ax.get_yticklabels()) <= 46


def test_plots_draw_into_given_axes(make_counts):
    ax = Figure().subplots()
    assert viz.length_histogram([3, 4], ax=Figure().subplots()).figure is not ax.figure
    assert viz.class_counts(make_counts(2), ax=ax) is ax
