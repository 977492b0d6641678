import pandas as pd
import pytest
from made_runs import made_run, made_scores

from msg3d_lab.evaluation import compare
from msg3d_lab.reporting.comparison import compare_section, learning_curves


@pytest.fixture
def runs(tmp_path):
    first = made_run(tmp_path / "one")
    second = made_run(tmp_path / "two", settings=["seed=7", "learning_rate=0.3"])
    first.write_metrics(
        [
            {"epoch": 1, "lr": 0.1, "train_loss": 2.0, "train_top1": 0.25, "test_top1": None},
            {"epoch": 2, "lr": 0.05, "train_loss": 1.0, "train_top1": 0.5, "test_top1": 0.5},
        ]
    )
    second.write_metrics([{"epoch": 2, "lr": 0.3, "train_loss": 1.5, "train_top1": 0.4}])
    return first, second


def test_learning_curves_are_the_metrics(runs):
    accuracy, loss, rate = learning_curves(runs[:1])
    assert accuracy.epochs == [1, 2]
    assert accuracy.series == {"train": [25, 50], "test": [None, 50]}
    assert loss.series == {"train": [2, 1]}
    assert rate.series == {"learning rate": [0.1, 0.05]}
    accuracy, *_ = learning_curves(runs)
    assert accuracy.series["one train"] == [25, 50]
    assert accuracy.series["two train"] == [None, 40]


def test_compare_section_shows_the_settings_that_differ(runs):
    scores = made_scores()
    ((_, table),) = compare_section(runs[0], scores, runs[1], scores).tables
    assert table.loc["training.seed"].tolist() == [str(runs[0].recipe.training.seed), "7"]
    assert table.loc["training.learning_rate", "two"] == "0.3"
    assert len(table) == 2


def test_compare_section_says_what_compare_says(runs):
    first, second = made_scores(right=0.9), made_scores(right=0.5, seed=1)
    section = compare_section(runs[0], first, runs[1], second)
    found = compare(first.correct, second.correct)
    (text,) = section.texts
    assert f"{100 * found.difference:+.2f} percentage points" in text
    assert f"{100 * found.low:+.2f} to {100 * found.high:+.2f}" in text
    assert "does not contain 0" in text
    assert section.heading == "Against two"
    assert isinstance(section.tables[0][1], pd.DataFrame)
    same = compare_section(runs[0], first, runs[0], first)
    assert "do not tell the two apart" in same.texts[0]
    assert same.texts[1] == "The two recipes are equal."
    with pytest.raises(ValueError, match="same sample ids"):
        compare_section(runs[0], first, runs[1], made_scores(count=49))
