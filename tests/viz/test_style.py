import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from msg3d_lab import viz
from msg3d_lab.viz import style


def test_styled_leaves_the_callers_settings_alone(body):
    before = dict(mpl.rcParams)
    viz.body_graph(body)
    assert dict(mpl.rcParams) == before


def test_styled_keeps_what_a_notebook_backend_switches_on():
    was = mpl.is_interactive()
    try:
        style.styled(lambda: mpl.interactive(True))()
        assert mpl.is_interactive()
    finally:
        mpl.interactive(was)


def test_figures_leave_nothing_open_in_pyplot(body):
    viz.disentangled_figure(body, focus=6)
    assert plt.get_fignums() == []


def test_png_is_opaque_white(body):
    figure = viz.disentangled_figure(body, focus=6)
    assert style.png(figure, dpi=40).startswith(b"\x89PNG")
    assert figure.get_facecolor() == (1, 1, 1, 1)


def test_sequential_darkens_evenly():
    """Lightness falls all the way, in steps of about one size: no false edges."""
    red, green, blue, _ = style.sequential()(np.linspace(0, 1, 20)).T
    linear = np.stack([red, green, blue]) ** 2.2
    luminance = np.array([0.2126, 0.7152, 0.0722]) @ linear
    lightness = 116 * np.cbrt(luminance) - 16
    steps = -np.diff(lightness)
    assert (steps > 0).all()
    assert steps.max() < 2 * steps.mean()
