import numpy as np
import pytest

from msg3d_lab import viz

COUNTS = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
LABELS = ["sit", "stand", "never"]


def test_confusion_matrix_is_in_percent_of_the_true_class():
    ax = viz.confusion_matrix(COUNTS, labels=LABELS)
    assert [text.get_text() for text in ax.texts] == ["80", "20", "25", "75"]
    np.testing.assert_allclose(ax.images[0].get_array().filled(0)[0], [0.8, 0.2, 0])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == LABELS


@pytest.mark.parametrize("K", [1, 35])
def test_confusion_matrix_of_many_classes_has_no_numbers(K):
    ax = viz.confusion_matrix(np.eye(K), labels=[f"c{i}" for i in range(K)])
    assert len(ax.texts) == (1 if K == 1 else 0)


@pytest.mark.parametrize(
    ("counts", "labels"), [(COUNTS, LABELS[:2]), (-COUNTS, LABELS), (np.zeros((0, 0)), [])]
)
def test_confusion_refuses(counts, labels):
    with pytest.raises(ValueError, match="expected counts of 0 or more"):
        viz.confusion_matrix(counts, labels=labels)
