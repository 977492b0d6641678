import numpy as np
import pandas as pd
import pytest

from msg3d_lab.viz import seeds_plot

NAN = float("nan")
TABLE = pd.DataFrame(
    {
        "streams": ["joint", "bone", "two-stream"],
        "seed 1": [90.0, 88.0, NAN],
        "seed 2": [92.0, NAN, NAN],
        "measured": [91.0, 88.0, NAN],
        "low": [85.0, 84.0, NAN],
        "high": [97.0, 91.0, NAN],
        "best epoch": [93.0, 88.5, NAN],
        "published": [90.93, NAN, 92.66],
    }
)


def points(ax, label):
    (found,) = [c for c in ax.collections if c.get_label() == label]
    xy = np.ma.filled(found.get_offsets(), np.nan)
    return xy[~np.isnan(xy[:, 0])].tolist()


def test_seeds_plot_has_every_seed_the_means_and_the_published():
    ax = seeds_plot(TABLE, title="NW-UCLA")
    assert [text.get_text() for text in ax.get_yticklabels()] == list(TABLE["streams"])
    assert points(ax, "a seed") == [[90, 2], [92, 2], [88, 1]]
    assert points(ax, "mean of the last epochs") == [[91, 2], [88, 1]]
    assert points(ax, "published") == [[90.93, 2], [92.66, 0]]
    assert points(ax, "best epoch on test: no result") == [[93, 2], [88.5, 1]]
    (lines,) = [c for c in ax.collections if c.get_label() == "95 % interval"]
    assert [line[:, 0].tolist() for line in lines.get_segments()] == [[85, 97], [84, 91]]
    assert [text.get_text() for text in ax.texts] == ["91.00", "88.00", "not run"]


def test_seeds_plot_of_nothing_measured_says_not_run():
    ax = seeds_plot(TABLE.assign(**dict.fromkeys(["measured", "low", "high"], NAN)))
    assert [text.get_text() for text in ax.texts] == ["not run", "not run"]


def test_seeds_plot_says_what_is_missing():
    with pytest.raises(ValueError, match="published"):
        seeds_plot(TABLE.drop(columns="published"))
