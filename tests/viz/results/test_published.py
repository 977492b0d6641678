import numpy as np
import pandas as pd
import pytest

from msg3d_lab import viz

TABLE = pd.DataFrame(  # invented
    {
        "data": ["A", "A", "B"],
        "streams": ["joint", "bone", "joint"],
        "source": ["one README", "one README", "two README"],
        "published": [90.0, 91.0, np.nan],
        "measured": [90.5, np.nan, 80.0],
        "sd": [0.2, np.nan, np.nan],
    }
)


def test_published_plot_says_what_was_not_run():
    ax = viz.published_plot(TABLE, title="t")
    texts = {text.get_text(): text.xy[1] for text in ax.texts}
    assert list(texts) == ["90.50  +0.50", "not run", "80.00  ", "A", "B"]
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == ["joint  (one)", "bone  (one)", "joint  (two)"]
    named = viz.published_plot(TABLE.assign(recipe=["one-a", "one-b", "mine (changed: 0af)"]))
    names = [tick.get_text() for tick in named.get_yticklabels()]
    assert names == ["joint  (one-a)", "bone  (one)", "joint  (mine, changed)"]
    places = dict(zip(range(3), ax.get_yticks(), strict=True))
    assert texts["A"] > places[0] > places[1] > texts["B"] > places[2]
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [90, 91, np.nan])
    with pytest.raises(ValueError, match=r"missing columns \['sd'\]"):
        viz.published_plot(TABLE.drop(columns="sd"))
