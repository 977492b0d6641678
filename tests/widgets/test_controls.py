import numpy as np
import pytest

from msg3d_lab.widgets import confusion_player


@pytest.fixture
def cells(body, make_walk):
    labels, predictions = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 0, 2, 2, 1, 0])
    return confusion_player(
        labels,
        predictions,
        ids=list("abcdef"),
        label_names=["walk", "run", "<b>jump</b>"],
        keypoints=lambda name: make_walk(num_frames=4 + ord(name) - ord("a")),
        skeleton=body,
    )


def test_confusion_player_lists_mistakes_first(cells):
    assert [text for text, _ in cells.cell.options] == [
        "run: taken for <b>jump</b> (2)",
        "<b>jump</b>: taken for walk (1)",
        "walk: recognised (2)",
        "run: recognised (1)",
    ]
    assert cells.clip.options == ("c", "d")


def test_confusion_player_shows_the_chosen_clip(cells):
    assert cells.player.value.startswith('<iframe title="c: run, taken for')
    cells.clip.value = "d"
    assert 'title="d: run, taken for' in cells.player.value
    cells.cell.value = (0, 0)
    assert cells.clip.options == ("a", "b")
    assert 'title="a: walk"' in cells.player.value
    assert "<b>" not in cells.player.value
    assert cells.controls.children == (cells.cell, cells.clip)
    assert "Choices of a cell" in repr(cells.controls)


def test_confusion_player_stays_where_two_cells_start_alike(body, make_walk):
    """Another cell's clips are shown even if the drop-down had the same place chosen."""
    cells = confusion_player(
        np.array([0, 1]),
        np.array([1, 0]),
        ids=["a", "b"],
        label_names=["x", "y"],
        keypoints=lambda _: make_walk(num_frames=3),
        skeleton=body,
    )
    cells.cell.value = (1, 0)
    assert 'title="b: y, taken for x"' in cells.player.value


def test_confusion_player_refuses(body):
    with pytest.raises(ValueError, match="as many labels, predictions and ids"):
        confusion_player(
            np.zeros(2, int),
            np.zeros(1, int),
            ids=["a"],
            label_names=["x"],
            keypoints=lambda _: None,
            skeleton=body,
        )
