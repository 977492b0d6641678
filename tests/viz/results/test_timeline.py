import numpy as np
import pandas as pd
import pytest

from msg3d_lab.viz import timeline_figure


def curves():
    seconds = np.arange(20) / 10
    rising = np.linspace(0, 1, 20)
    return pd.DataFrame(
        {"frame": range(20), "seconds": seconds, "sit": 1 - rising, "stand": rising, "jump": 0.0}
    )


def segments(*rows):
    return pd.DataFrame(rows, columns=["class", "start_s", "stop_s", "probability"])


def test_segments_are_named_and_their_classes_coloured():
    found = segments(("sit", 0.0, 1.0, 0.8), ("stand", 1.0, 2.0, 0.7))
    figure = timeline_figure(curves(), found, title="a recording")
    top, bottom = figure.axes
    assert [text.get_text() for text in top.get_legend().get_texts()] == ["sit", "stand"]
    assert [text.get_text() for text in bottom.texts] == ["sit\n80 %", "stand\n70 %"]
    assert [bar.get_width() for bar in bottom.patches] == [1.0, 1.0]
    faces = [bar.get_facecolor() for bar in bottom.patches]
    assert faces[0] != faces[1]
    assert top.get_ylabel() == "probability (%)"


def test_a_recording_without_segments_is_drawn():
    figure = timeline_figure(curves(), segments())
    assert figure.axes[0].get_legend() is None
    with pytest.raises(ValueError, match="missing columns"):
        timeline_figure(curves().drop(columns="seconds"), segments())
