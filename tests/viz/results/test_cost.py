import pandas as pd
import pytest

from msg3d_lab import viz

PARTS = pd.DataFrame(
    {
        "name": ["data_bn", "blocks.0.tcn", "blocks.0.g3d.windows.0", "blocks.1.tcn"],
        "kind": ["BatchNorm1d", "MSTCN", "G3D", "MSTCN"],
        "macs": [0, 1000, 3000, 4_000_000],
    }
)
TIMINGS = pd.DataFrame(
    {"median ms": [2000.0, 500.0], "from": [1900.0, 450.0], "to": [2100.0, 600.0]},
    index=["plain", "ours"],
)


def test_cost_bars_draw_shares_and_name_them():
    ax = viz.cost_bars(PARTS, title="Cost")
    widths = [bar.get_width() for bar in sorted(ax.patches, key=lambda bar: bar.get_y())]
    assert sum(widths) == pytest.approx(100)
    assert widths[2] == pytest.approx(3 * widths[1])
    assert [t.get_text() for t in ax.get_yticklabels()] == list(PARTS["name"])
    assert ax.texts[3].get_text() == "99.9 %  (4 M)"
    # One colour per kind of layer, which comes with its share of the whole.
    colors = {round(bar.get_y() + bar.get_height() / 2): bar.get_facecolor() for bar in ax.patches}
    assert colors[1] == colors[3] != colors[2]
    kinds = [text.get_text() for text in ax.get_legend().get_texts()]
    assert kinds == ["MSTCN, 100 %"]
    assert ax.yaxis_inverted()  # the first layer on top


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (PARTS.drop(columns="macs"), r"missing columns \['macs'\]"),
        (PARTS.iloc[:0], "at least one layer"),
    ],
)
def test_cost_bars_say_what_is_wrong(parts, message):
    with pytest.raises(ValueError, match=message):
        viz.cost_bars(parts)


def test_timing_bars_compare_with_the_first():
    ax = viz.timing_bars(TIMINGS)
    assert [bar.get_width() for bar in ax.patches] == [2000, 500]
    assert [t.get_text() for t in ax.texts] == ["2.00 s  ", "500 ms  4.00x as fast"]
    with pytest.raises(ValueError, match="missing columns"):
        viz.timing_bars(TIMINGS.drop(columns="to"))
