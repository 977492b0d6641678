import dataclasses

import numpy as np
import pytest

from msg3d_lab.data import open_store, write_store
from msg3d_lab.evaluation import Scores, describe_copies


@pytest.fixture(scope="module")
def store(toy_store, tmp_path_factory):
    """The first four test clips are training clips under another name."""
    clips = [toy_store.clip(i) for i in range(len(toy_store))]
    clips[36:40] = [
        dataclasses.replace(clips[36 + i], keypoints=clips[i].keypoints) for i in range(4)
    ]
    facts = {
        name: getattr(toy_store, name)
        for name in ("dataset", "skeleton", "label_names", "channels", "preparation", "synthetic")
    }
    return open_store(write_store(tmp_path_factory.mktemp("copies") / "toy.arrow", clips, **facts))


def scores_of(store, positions, wrong):
    labels = store.labels[positions]
    values = np.eye(3, dtype=np.float32)[(labels + np.isin(positions, wrong)) % 3]
    return Scores(
        ids=tuple(store.ids[i] for i in positions),
        labels=labels,
        values=values,
        label_names=tuple(store.label_names),
        facts={},
    )


def test_describe_copies_counts_them_and_the_accuracy_of_the_others(store):
    # 13 test clips: of the four copies one is wrong, of the nine others three.
    scores = scores_of(store, np.arange(48, 35, -1), wrong=[37, 40, 41, 42])
    assert describe_copies(scores, store, trained="xsub_train") == (
        "4 of the 13 clips are in xsub_train too; top-1 of the others: 66.67 %"
    )


def test_describe_copies_says_nothing_where_there_are_none(store, toy_store):
    others = np.arange(40, 49)
    assert describe_copies(scores_of(store, others, []), store, trained="xsub_train") == ""
    scores = scores_of(toy_store, np.arange(36, 49), [])
    assert describe_copies(scores, toy_store, trained="xsub_train") == ""
    assert describe_copies(scores, toy_store, trained="unknown") == ""


def test_describe_copies_of_nothing_but_copies(store):
    scores = scores_of(store, np.arange(36, 40), [])
    assert describe_copies(scores, store, trained="xsub_train") == (
        "4 of the 4 clips are in xsub_train too"
    )
