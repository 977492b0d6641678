import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from msg3d_lab.viz import importance_body, save_figure


def test_save_figure_has_the_journals_width_and_readable_text(body, tmp_path):
    ax = importance_body(np.arange(25.0), body, title="a title")
    before, sizes = ax.figure.get_size_inches().copy(), [t.get_fontsize() for t in ax.texts]
    pdf, svg = save_figure(ax, tmp_path / "figures" / "body.pdf", width="single")
    assert (pdf.name, svg.name) == ("body.pdf", "body.svg")
    text = svg.read_text(encoding="utf-8")
    width = float(text.split('width="')[1].split("pt")[0])
    assert width == pytest.approx(89 / 25.4 * 72, rel=1e-3)
    assert "a title" in text  # text, not outlines
    assert "dc:date" not in text
    np.testing.assert_array_equal(ax.figure.get_size_inches(), before)
    assert [t.get_fontsize() for t in ax.texts] == sizes
    with pytest.raises(FileExistsError, match=r"body\.pdf, .*body\.svg exists already"):
        save_figure(ax, tmp_path / "figures" / "body", width="single")
    with pytest.raises(ValueError, match="width is 'single'"):
        save_figure(ax, tmp_path / "other", width="wide")
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["body.pdf", "body.svg"]


def test_save_figure_never_goes_below_six_points(body, tmp_path, monkeypatch):
    ax = importance_body(np.arange(25.0), body)
    seen = []
    savefig = Figure.savefig

    def watched(self, *words, **options):
        seen.extend(t.get_fontsize() for t in self.findobj(Text))
        return savefig(self, *words, **options)

    monkeypatch.setattr(Figure, "savefig", watched)
    save_figure(ax, tmp_path / "small", width=40, formats=["svg"])
    assert min(seen) == 6
