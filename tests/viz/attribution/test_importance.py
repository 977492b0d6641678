import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from msg3d_lab.data.datasets import DATASETS
from msg3d_lab.viz import (
    class_clustermap,
    deletion_plot,
    difference_plot,
    importance_body,
    joint_time_heatmap,
    save_figure,
)


def test_importance_body_is_centred_at_zero(body):
    values = np.linspace(-0.5, 1, 25)
    ax = importance_body(values, body)
    dots = ax.collections[-1]
    assert (dots.norm.vmin, dots.norm.vmax) == (-1, 1)
    np.testing.assert_allclose(dots.get_array(), values)
    sizes = dots.get_sizes()
    assert np.argmax(sizes) == 24
    # The size of a dot is that of the value, whatever its sign.
    order = np.argsort(np.abs(values))
    assert (np.diff(sizes[order]) >= 0).all()
    assert "unitless" in ax.figure.axes[-1].get_ylabel()


def test_importance_body_without_negative_values_goes_from_light_to_dark(body):
    dots = importance_body(np.arange(25.0), body).collections[-1]
    assert (dots.norm.vmin, dots.norm.vmax) == (0, 24)
    light, dark = (np.mean(dots.cmap(v)[:3]) for v in (0.0, 1.0))
    assert light > dark


def test_joint_time_heatmap_has_readable_ticks_and_dots():
    table = pd.DataFrame(
        [[1.0, -2], [0, 0.5]], index=["head", "hand"], columns=["frames 0 to 3", "frame 4"]
    )
    planted = np.array([[False, True], [False, False]])
    ax = joint_time_heatmap(table, planted=planted)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0\N{EN DASH}3", "4"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["head", "hand"]
    assert ax.collections[1].get_offsets().tolist() == [[1.5, 0.5]]
    assert ax.collections[0].norm.vmin == -2
    assert ax.get_xlabel() == "frames of the clip, as the network saw it; dots: planted"


def test_class_clustermap_brings_alike_classes_together():
    rng = np.random.default_rng(0)
    kind = np.array([0, 1, 0, 1, 0, 1])
    values = rng.normal(0, 0.01, (6, 4)) + np.where(kind[:, None] == 0, [1, 0, 0, 0], [0, 0, 1, 0])
    names = [f"class {k}" for k in kind]
    table = pd.DataFrame(values, index=names, columns=list("abcd"))
    figure = class_clustermap(table, title="by class")
    (heat,) = [ax for ax in figure.axes if len(ax.get_yticklabels()) == 6]
    labels = [t.get_text() for t in heat.get_yticklabels()]
    assert labels in (sorted(names), sorted(names)[::-1])
    short = heat_of(class_clustermap(table.set_axis(list("abcdef"), axis=0)))
    assert {label.get_rotation() for label in short.get_yticklabels()} == {0}
    assert any("unitless" in ax.get_xlabel() for ax in figure.axes)


def heat_of(figure):
    return max(figure.axes, key=lambda ax: len(ax.get_yticklabels()))


def test_class_clustermap_leaves_time_in_its_order():
    spans = [f"frames {4 * i} to {4 * i + 3}" for i in range(8)]
    values = np.random.default_rng(0).normal(size=(5, 8))
    table = pd.DataFrame(values, index=list("abcde"), columns=spans)

    def columns(figure):
        return [t.get_text() for t in heat_of(figure).get_xticklabels()]

    assert columns(class_clustermap(table)) != spans
    assert columns(class_clustermap(table, cluster_columns=False)) == spans


@pytest.mark.parametrize("saved", [False, True])
def test_class_clustermap_shows_all_of_the_names_of_ntu60(saved, body, tmp_path, monkeypatch):
    names = DATASETS["ntu60"].label_names
    values = np.random.default_rng(0).normal(size=(60, 25))
    figure = class_clustermap(
        pd.DataFrame(values, index=names, columns=body.joints), title="by class"
    )
    seen = []

    def look():
        figure.draw_without_rendering()
        page = figure.bbox
        for text in figure.findobj(Text):
            if text.get_text() and text.get_visible():
                box = text.get_window_extent()
                assert box.x0 >= page.x0, text
                assert box.x1 <= page.x1, text
                assert box.y0 >= page.y0, text
                assert box.y1 <= page.y1, text
                seen.append(text.get_text())
        width, height = figure.get_size_inches()
        assert 183 * height / width < 240  # millimetres of a page with margins
        rows = [label.get_window_extent() for label in heat_of(figure).get_yticklabels()]
        tops = sorted(box.y1 for box in rows)
        assert np.diff(tops).min() > 0.8 * max(box.height for box in rows)

    if saved:
        savefig = Figure.savefig

        def watched(self, *words, **options):
            look()
            return savefig(self, *words, **options)

        monkeypatch.setattr(Figure, "savefig", watched)
        save_figure(figure, tmp_path / "classes", width="double", formats=["svg"])
    else:
        look()
    assert "by class" in seen
    (cut,) = set(names) - set(seen)
    assert cut == "put something inside pocket / take out something from pocket"
    assert f"{cut[:43]}\N{HORIZONTAL ELLIPSIS}" in seen


def test_difference_plot_fills_what_is_beyond_zero():
    table = pd.DataFrame(
        {"difference": [0.1, -0.3], "low": [-0.1, -0.5], "high": [0.3, -0.1]}, index=["a", "b"]
    )
    ax = difference_plot(table, names=("right", "wrong"))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b", "a"]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [to_hex(dot.get_markerfacecolor()) == "#ffffff" for dot in dots] == [False, True]
    assert ax.get_xlabel().startswith("right minus wrong")
    unknown = difference_plot(table.assign(low=np.nan, high=np.nan))
    dots = [line for line in unknown.lines if line.get_marker() == "o"]
    assert all(to_hex(dot.get_markerfacecolor()) == "#ffffff" for dot in dots)
    with pytest.raises(ValueError, match="high"):
        difference_plot(table.drop(columns="high"))


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
