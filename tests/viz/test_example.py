"""The figure of docs/extending/figure.md."""

import importlib.util
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "figure.py"


def test_the_figure_of_the_guide_draws_the_length_of_each_path(body):
    spec = importlib.util.spec_from_file_location("figure", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clip = np.zeros((1, 3, 25, 3))
    clip[0, :, 4, 0] = [0, 3, 1]
    _, ax = plt.subplots()
    assert module.joint_path_lengths(clip, body, title="Walk", ax=ax) is ax
    assert [bar.get_width() for bar in ax.patches] == [5.0 * (v == 4) for v in range(25)]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(body.joints)
