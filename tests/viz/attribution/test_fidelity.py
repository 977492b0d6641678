import numpy as np
import pandas as pd
import pytest

from msg3d_lab.viz import deletion_plot


def curves(methods=("occlusion", "shapley")):
    rows = []
    for method in methods:
        for order in ("important first", "random", "important last"):
            for clip in range(3):
                for share in (0.0, 0.5, 1.0):
                    probability = 1 - share if order == "random" else 1 - share**2
                    rows.append(
                        {
                            "method": method,
                            "kind": "deletion",
                            "order": order,
                            "clip": clip,
                            "share": share,
                            "probability": probability,
                        }
                    )
    return pd.DataFrame(rows)


def test_deletion_plot_draws_means_per_order_and_per_method():
    ax = deletion_plot(curves(["occlusion"]))
    assert [line.get_label() for line in ax.lines] == [
        "important first",
        "random",
        "important last",
    ]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1, 0.75, 0])
    assert ax.get_ylabel() == "probability of the class (unitless)"
    ax = deletion_plot(curves(), by="method")
    assert [line.get_label() for line in ax.lines] == ["occlusion", "shapley", "random order"]
    np.testing.assert_allclose(ax.lines[2].get_ydata(), [1, 0.5, 0])
    # Lines differ in more than their colour.
    assert len({str(line.get_linestyle()) + str(line._dash_pattern) for line in ax.lines}) == 3
    with pytest.raises(ValueError, match="expected deletion or insertion"):
        deletion_plot(curves(), kind="both")
