import numpy as np
import pandas as pd
import pytest

from msg3d_lab import viz


@pytest.fixture
def metrics():
    """Invented: five epochs, validated every second one."""
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3, 4, 5],
            "lr": [0.1, 0.08, 0.05, 0.02, 0.0],
            "train_loss": [2.0, 1.0, 0.5, 0.3, 0.2],
            "train_top1": [0.2, 0.5, 0.7, 0.8, 0.9],
            "val_loss": [np.nan, 1.2, np.nan, 0.6, 0.5],
            "val_top1": [np.nan, 0.4, np.nan, 0.7, 0.75],
            "seconds": 10.0,
            "clips_per_s": 100.0,
        }
    )


def test_learning_curve_draws_percent_and_bridges_missing_epochs(metrics):
    ax = viz.learning_curve(metrics)
    train, val = ax.lines
    np.testing.assert_allclose(train.get_ydata(), [20, 50, 70, 80, 90])
    np.testing.assert_allclose(val.get_xydata(), [[2, 40], [4, 70], [5, 75]])
    assert [text.get_text() for text in ax.texts] == ["training 90.0 %", "validation 75.0 %"]


def test_learning_curve_calls_test_clips_test(metrics):
    metrics.columns = [name.replace("val_", "test_") for name in metrics]
    train, test = viz.learning_curve(metrics).lines
    assert (train.get_label(), test.get_label()) == ("train", "test")
    assert viz.learning_curve(metrics).texts[1].get_text() == "test 75.0 %"


def test_learning_curve_of_the_loss(metrics):
    ax = viz.learning_curve(metrics, quantity="loss", title="Loss")
    assert [text.get_text() for text in ax.texts] == ["training 0.20", "validation 0.50"]
    assert ax.get_ylim()[0] == 0


def test_learning_curve_keeps_its_labels_apart(metrics):
    metrics["val_top1"] = metrics["train_top1"] = 0.999
    places = sorted(text.xy[1] for text in viz.learning_curve(metrics).texts)
    assert places[1] - places[0] > 6
    assert places[1] <= 104


def test_learning_curve_without_validation(metrics):
    ax = viz.learning_curve(metrics.assign(val_top1=np.nan, val_loss=np.nan))
    assert len(ax.lines) == 1


@pytest.mark.parametrize("broken", [lambda m: m.drop(columns="train_top1"), lambda m: m.iloc[:0]])
def test_learning_curve_says_what_is_missing(metrics, broken):
    with pytest.raises(ValueError, match="at least one row"):
        viz.learning_curve(broken(metrics))


def test_training_figure_has_three_panels(metrics):
    figure = viz.training_figure(metrics, title="run")
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["Accuracy", "Loss", "Learning rate"]
    with pytest.raises(ValueError, match=r"missing columns \['lr'\]"):
        viz.training_figure(metrics.drop(columns="lr"))


@pytest.fixture
def range_test():
    lr = np.geomspace(1e-4, 10, 50)
    smoothed = np.r_[np.linspace(3, 2, 40), np.linspace(2.1, 90, 10)]
    return pd.DataFrame({"lr": lr, "loss": smoothed + 0.1, "smoothed": smoothed})


def test_learning_rate_curve_shows_where_the_loss_falls(range_test):
    marks = {"steepest": 0.01, "diverged": float("nan"), "recipe": 0.1}
    ax = viz.learning_rate_curve(range_test, marks=marks, title="Range test")
    assert ax.get_xscale() == "log"
    steps, smoothed, *marked = ax.get_lines()
    np.testing.assert_array_equal(steps.get_ydata(), range_test["loss"])
    np.testing.assert_array_equal(smoothed.get_ydata(), range_test["smoothed"])
    assert [line.get_xdata()[0] for line in marked] == [0.01, 0.1]
    assert [text.get_text() for text in ax.texts] == ["steepest 0.01", "recipe 0.1"]
    low, high = ax.get_ylim()
    assert low < 2
    assert 3 < high < 10  # not the 90 of the end
    assert len({text.get_position() for text in ax.texts}) == 2


def test_learning_rate_curve_needs_a_test(range_test):
    with pytest.raises(ValueError, match=r"found 50 rows, missing columns \['smoothed'\]"):
        viz.learning_rate_curve(range_test.drop(columns="smoothed"))
    with pytest.raises(ValueError, match="found 0 rows"):
        viz.learning_rate_curve(range_test.head(0))


def test_overfit_curve_has_loss_and_accuracy():
    curve = pd.DataFrame({"step": [1, 2, 3], "loss": [2.0, 1.0, 0.0], "top1": [0.0, 0.5, 1.0]})
    ax = viz.overfit_curve(curve, title="Eight clips")
    left, right = ax.figure.axes
    assert left is ax
    assert left.get_lines()[0].get_ydata().tolist() == [2, 1, 0]
    assert right.get_lines()[0].get_ydata().tolist() == [0, 50, 100]
    assert (left.get_ylim()[0], right.get_ylim()) == (0, (0, 104))
    with pytest.raises(ValueError, match="missing columns"):
        viz.overfit_curve(curve.drop(columns="top1"))


def test_moments_and_what_diverges_are_marked(metrics, range_test):
    ax = viz.learning_curve(metrics, epochs=9, marks={"killed": 2.5})
    assert ax.lines[-1].get_xdata() == [2.5, 2.5]
    assert {text.get_text(): text.xy[0] for text in ax.texts}["killed"] == 2.5
    assert ax.get_xlim()[0] == 0
    assert 9 <= ax.get_xlim()[1] < 10
    (shaded,) = viz.learning_rate_curve(range_test, diverged=1.0).patches
    assert (shaded.get_x(), shaded.get_x() + shaded.get_width()) == (1.0, pytest.approx(10))
    assert not viz.learning_rate_curve(range_test, diverged=float("nan")).patches
