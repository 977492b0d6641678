import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "curves.py"


@pytest.fixture(scope="module")
def curves():
    spec = importlib.util.spec_from_file_location("curves", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def growth(x="frames", kinds=("evaluation", "training step")):
    """Invented: twice the time per multiplication in training, and a slow last row."""
    rows = [
        {x: n, "kind": kind, "seconds": s, "low": 0.9 * s, "high": 1.1 * s, "macs": 1000 * n}
        for factor, kind in enumerate(kinds, start=1)
        for n, s in ((10, factor * 1.0), (20, factor * 2.0), (40, factor * 9.0))
    ]
    return pd.DataFrame(rows)


def test_growth_is_drawn_beside_the_prediction(curves):
    figure = curves.draw_growth({"frames": growth(), "joints": growth("joints")}, title="x")
    assert [ax.get_xlabel() for ax in figure.axes[:2]] == ["frames", "joints"]
    measured, predicted, *others = figure.axes[0].lines
    np.testing.assert_allclose(measured.get_xydata(), [[10, 1000], [20, 2000], [40, 9000]])
    # The median rate is that of the first two: the slow one stands out.
    np.testing.assert_allclose(predicted.get_ydata(), [1000, 2000, 4000])
    assert len(others) == 2
    [legend] = figure.legends
    assert len(legend.get_texts()) == 4
