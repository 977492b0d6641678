import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from msg3d_lab import viz
from msg3d_lab.viz.style import ACCENT, CATEGORIES

BINS = pd.DataFrame(
    {
        "low": [0.4, 0.8],
        "high": [0.6, 1.0],
        "samples": [1, 3],
        "confidence": [0.5, 0.9],
        "accuracy": [1.0, 0.7],
    }
)
CLASSES = pd.DataFrame(
    {
        "samples": [10, 4, 0, 6],
        "recall": [0.9, 0.25, np.nan, 0.5],
        "taken_for": ["stand", "sit", "", "sit"],
    },
    index=["sit", "stand", "never", "wave"],
)
DELTA = pd.DataFrame(
    {
        "samples": [10, 4, 6],
        "difference": [0.1, -0.5, 0.3],
        "low": [-0.1, -0.8, 0.1],
        "high": [0.3, -0.1, 0.5],
        "p_holm": [0.5, 0.01, 0.04],
    },
    index=["sit", "stand", "wave"],
)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_reliability_diagram_shows_the_gap():
    ax = viz.reliability_diagram(BINS, title="t")
    line = ax.lines[-1]
    np.testing.assert_allclose(line.get_xydata(), [[0.5, 1.0], [0.9, 0.7]])
    # (1 * 0.5 + 3 * 0.2) / 4, (0.5 + 3 * 0.9) / 4, (1 + 3 * 0.7) / 4
    assert "calibration error 27.5 %: confidence 80.0 %, accuracy 77.5 %" in ax.get_xlabel()
    bars = [patch.get_height() for patch in ax.patches]
    assert bars[1] == pytest.approx(3 * bars[0])
    assert [patch.get_x() for patch in ax.patches] == [0.4, 0.8]


def test_class_accuracy_has_the_hardest_first_and_leaves_out_what_never_occurs():
    ax = viz.class_accuracy(CLASSES)
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    assert labels == ["stand  (n=4)", "wave  (n=6)", "sit  (n=10)"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first at the top
    assert [patch.get_width() for patch in ax.patches] == [25, 50, 90]
    colors = [to_hex(patch.get_facecolor()) for patch in ax.patches]
    assert colors == [ACCENT, ACCENT, CATEGORIES[0]]
    assert texts(ax) == ["25  taken for sit", "50  taken for sit", "90"]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert set(legend) == {"below the mean", "the mean or above", "mean of the classes, 55.0 %"}
    without = viz.class_accuracy(CLASSES.drop(columns="taken_for"))
    assert texts(without) == ["25", "50", "90"]
    low, high = CLASSES["recall"] - 0.1, CLASSES["recall"] + 0.05
    ax = viz.class_accuracy(CLASSES.assign(low=low, high=high))
    spans = [segment[:, 0] for segment in ax.collections[0].get_segments()]
    np.testing.assert_allclose(spans, [[15, 30], [40, 55], [80, 95]])


def test_class_differences_marks_what_holds():
    ax = viz.class_differences(DELTA)
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    assert labels == ["wave  (n=6)", "sit  (n=10)", "stand  (n=4)"]
    np.testing.assert_allclose([patch.get_width() for patch in ax.patches], [30, 10, -50])
    segments = ax.collections[0].get_segments()
    np.testing.assert_allclose([s[:, 0] for s in segments], [[10, 50], [-10, 30], [-80, -10]])
    stars = [text.xy for text in ax.texts if text.get_text() == "*"]
    np.testing.assert_allclose(stars, [(50, 0), (-80, 2)])
    low, high = ax.get_xlim()
    assert low == -high < -80


@pytest.mark.parametrize("count", [1, 120])
def test_figures_of_any_number_of_classes_can_be_drawn(count):
    names = [f"c{i}" for i in range(count)]
    classes = pd.DataFrame({"samples": 3, "recall": 0.5}, index=names)
    delta = pd.DataFrame(dict.fromkeys(["difference", "low", "high"], 0.0), index=names)
    for ax in (
        viz.class_accuracy(classes),
        viz.class_differences(delta.assign(samples=3, p_holm=1.0)),
    ):
        ax.figure.canvas.draw()
        assert len(ax.get_yticklabels()) == count
        assert len(ax.texts) == (1 if count == 1 and ax.get_xlabel().startswith("recall (") else 0)


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (viz.reliability_diagram, BINS),
        (viz.class_accuracy, CLASSES),
        (viz.class_differences, DELTA),
    ],
)
def test_figures_draw_where_they_are_told_and_refuse_other_tables(draw, table):
    _, ax = plt.subplots()
    assert draw(table, ax=ax, title="made up") is ax
    assert ax.get_title(loc="left") == "made up"
    with pytest.raises(ValueError, match=r"missing columns \['samples'\]"):
        draw(table.drop(columns="samples"))
    with pytest.raises(ValueError, match="found 0 rows"):
        draw(table.iloc[:0])


def test_class_accuracy_wants_a_class_with_samples():
    with pytest.raises(ValueError, match="found 0 rows"):
        viz.class_accuracy(CLASSES.loc[["never"]])


COUNTS = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
LABELS = ["sit", "stand", "never"]


def test_confusion_matrix_is_in_percent_of_the_true_class():
    ax = viz.confusion_matrix(COUNTS, labels=LABELS)
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["80", "20", "25", "75"]
    np.testing.assert_allclose(ax.collections[0].get_array().filled(0)[0], [0.8, 0.2, 0])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == LABELS
    assert ax.get_title(loc="left") == "Predictions in percent of the true class"


@pytest.mark.parametrize("K", [1, 35])
def test_confusion_matrix_of_many_classes_has_no_numbers(K):
    ax = viz.confusion_matrix(np.eye(K), labels=[f"c{i}" for i in range(K)])
    assert len(ax.texts) == (1 if K == 1 else 0)
    assert len(ax.figure.axes) == (1 if K == 1 else 2)  # with a colour bar instead


def test_confusion_wants_a_label_per_class():
    with pytest.raises(ValueError, match=r"\(3, 3\), indices imply \(2, 2\)"):
        viz.confusion_matrix(COUNTS, labels=LABELS[:2])
