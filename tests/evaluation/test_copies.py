import numpy as np

from msg3d_lab.evaluation import Scores, describe_copies
from msg3d_lab.training.matching.tested_store import MatchedStore


def own(store):
    return MatchedStore(store, is_own=True)


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


def test_describe_copies_counts_them_and_the_accuracy_of_the_others(copies_store):
    # 13 test clips: of the four copies one is wrong, of the nine others three.
    scores = scores_of(copies_store, np.arange(48, 35, -1), wrong=[37, 40, 41, 42])
    assert describe_copies(scores, own(copies_store), trained="xsub_train") == (
        "4 of the 13 clips are in xsub_train too; top-1 of the others: 66.67 %"
    )


def test_describe_copies_says_nothing_where_there_are_none(copies_store, toy_store):
    others = np.arange(40, 49)
    assert (
        describe_copies(
            scores_of(copies_store, others, []), own(copies_store), trained="xsub_train"
        )
        == ""
    )
    scores = scores_of(toy_store, np.arange(36, 49), [])
    assert describe_copies(scores, own(toy_store), trained="xsub_train") == ""
    assert describe_copies(scores, own(toy_store), trained="unknown") == ""


def test_describe_copies_of_nothing_but_copies(copies_store):
    scores = scores_of(copies_store, np.arange(36, 40), [])
    assert describe_copies(scores, own(copies_store), trained="xsub_train") == (
        "4 of the 4 clips are in xsub_train too"
    )


def test_describe_copies_says_nothing_of_a_store_that_was_not_trained_on(copies_store):
    scores = scores_of(copies_store, np.arange(36, 49), [])
    tested = MatchedStore(copies_store, is_own=False)
    assert describe_copies(scores, tested, trained="xsub_train") == ""
