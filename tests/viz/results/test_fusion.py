import numpy as np
import pandas as pd
import pytest

from msg3d_lab.viz import fusion_curve, fusion_plot

CURVE = pd.DataFrame(
    {
        "weight": [0, 0.5, 1],
        "top1": [0.8, 0.9, 0.7],
        "low": [0.7, 0.8, 0.6],
        "high": [0.9, 0.95, 0.8],
    }
)
TABLE = pd.DataFrame(
    {"top-1 %": [80.0, 90.0], "low": [70.0, 85.0], "high": [85.0, 95.0]}, index=["joint", "fused"]
)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_fusion_curve_draws_the_curve_and_names_its_ends():
    ax = fusion_curve(CURVE, names=("joint", "bone"))
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 80], [0.5, 90], [1, 70]])
    assert texts(ax) == ["joint alone 80.00 %", "bone alone 70.00 %"]
    assert ax.get_xlabel() == "weight of bone"
    assert len(ax.collections) == 1


@pytest.mark.parametrize(("weight", "shown"), [(0.4, "0.5"), (0.5, "0.5"), (1.0, "1")])
def test_fusion_curve_marks_the_nearest_weight(weight, shown):
    ax = fusion_curve(CURVE, names=("joint", "bone"), weight=weight)
    value = {"0.5": 90, "1": 70}[shown]
    assert texts(ax)[-1] == f"joint {1 - float(shown):.3g}, bone {shown}: {value:.2f} %"


def test_fusion_curve_refuses():
    with pytest.raises(ValueError, match=r"missing columns \['top1'\]"):
        fusion_curve(CURVE.drop(columns="top1"))


def test_fusion_plot_has_a_row_each_from_the_top():
    ax = fusion_plot(TABLE)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["joint", "fused"]
    assert ax.get_yticks().tolist() == [1, 0]
    offsets = ax.collections[1].get_offsets()
    np.testing.assert_allclose(offsets, [[80, 1], [90, 0]])
    assert texts(ax) == ["80.00", "90.00"]


@pytest.mark.parametrize("table", [TABLE.head(0), TABLE.drop(columns="low")])
def test_fusion_plot_refuses(table):
    with pytest.raises(ValueError, match="at least one row"):
        fusion_plot(table)
