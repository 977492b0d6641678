"""Files as MS-G3D, CTR-GCN, pyskl and mmaction2 write them, brought to the samples they are of."""

import os
import pickle

import numpy as np
import pytest
import torch

from msg3d_lab.data import Clip, write_store
from msg3d_lab.data.datasets import ntu_facts, ntu_splits
from msg3d_lab.data.store import open_store
from msg3d_lab.evaluation import read_external_scores, read_scores


@pytest.fixture(scope="module")
def ntu(tmp_path_factory, toy_skeleton):
    """NTU's names in no particular order, as an annotation file lists them; four classes."""
    rng = np.random.default_rng(0)
    names = [
        f"S{s:03}C{c:03}P{p:03}R001A{a:03}"
        for s in (1, 2, 3) for c in (1, 2, 3) for p in (3, 1, 10, 7) for a in (1, 2, 3, 4)
    ]  # fmt: skip
    clips = [
        Clip(
            name,
            rng.normal(size=(1, 3, 5, 3)).astype(np.float32),
            int(name[-3:]) - 1,
            (*ntu_splits(name), "xset_train" if int(name[3]) % 2 == 0 else "xset_val"),
            **ntu_facts(name),
        )
        for name in rng.permutation(names).tolist()
    ]
    path = tmp_path_factory.mktemp("ntu") / "ntu.arrow"
    return open_store(
        write_store(
            path,
            clips,
            dataset="toy",
            skeleton=toy_skeleton,
            label_names=["a", "b", "c", "d"],
            channels=3,
            preparation={"name": "none"},
            synthetic=True,
        )
    )


@pytest.fixture
def dump(tmp_path):
    def _dump(content, protocol=None):
        path = tmp_path / "scores.pkl"
        path.write_bytes(pickle.dumps(content, protocol))
        return path

    return _dump


def logits_of(labels, classes, *, seed=0):
    """Logits that are right three times in four or so."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(len(labels), classes)) + 2 * np.eye(classes)[labels]
    return found.astype(np.float32)


def softmax(logits):
    return (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)


def ctrgcn_order(store, split):
    """The test clips in the order of CTR-GCN's arrays, the way its scripts go about it."""
    protocol, part = split.split("_")
    names = np.array(sorted(store.ids))
    digits = {"xsub": slice(9, 12), "xview": slice(5, 8), "xset": slice(1, 4)}[protocol]
    number = np.array([int(name[digits]) for name in names])
    found = np.empty(0, dtype=int)
    for i in sorted(set(number)):
        member = (
            f"{protocol}_{part}"
            in store.samples.set_index("id").loc[names[number == i][0], "splits"]
        )
        found = np.hstack((found, np.where(number == i)[0])) if member else found
    return names[found].tolist()


@pytest.mark.parametrize("protocol", [2, 4])
def test_msg3d_scores_are_found_by_name(ntu, dump, protocol):
    indices = np.random.default_rng(1).permutation(ntu.indices("xsub_val"))
    logits = logits_of(ntu.labels[indices], 4)
    names = [f"{ntu.ids[i]}.skeleton" for i in indices]
    path = dump(dict(zip(names, logits, strict=True)), protocol)
    scores = read_external_scores(path, store=ntu, stream="bone")
    assert scores.ids == tuple(ntu.ids[i] for i in indices)
    np.testing.assert_array_equal(scores.values, logits)
    np.testing.assert_array_equal(scores.labels, ntu.labels[indices])
    assert scores.label_names == tuple(ntu.label_names)
    expected = {
        "dataset": "toy",
        "synthetic": True,
        "split": "xsub_val",
        "kind": "logits",
        "stream": "bone",
        "format": "MS-G3D scores",
        "data_fingerprint": ntu.fingerprint,
        "source": "scores.pkl",
    }
    assert expected.items() <= scores.facts.items()
    again = read_external_scores(path, store=ntu, split="xsub_val")
    assert again.ids == scores.ids


def test_without_a_store_the_split_is_that_of_the_names(dump):
    names = ["S001C001P001R001A001", "S001C002P001R001A002"]  # both train in X-Sub
    path = dump({name: np.zeros(60, np.float32) for name in names})
    assert read_external_scores(path).facts["split"] == "xsub_train"
    assert read_external_scores(path, split="xsub_train").facts["split"] == "xsub_train"
    with pytest.raises(ValueError, match=r"not of xview_val of ntu60: 1 of its 2 .*C002P001"):
        read_external_scores(path, split="xview_val")


def test_scores_of_part_of_a_split_are_not_called_by_its_name(ntu, dump):
    ids = [ntu.ids[i] for i in ntu.indices("xsub_val")[1:]]
    path = dump(dict(zip(ids, np.ones((len(ids), 4), "f4"), strict=True)))
    assert read_external_scores(path, store=ntu).facts["split"] is None
    with pytest.raises(ValueError, match="1 of its 108 samples are missing and 0 others"):
        read_external_scores(path, store=ntu, split="xsub_val")


@pytest.mark.parametrize("classes", [60, 120])
def test_ntu_names_tell_their_class_without_a_store(dump, classes):
    names = ["S001C001P003R001A060", "S002C002P003R001A001", "S001C003P007R001A007"]
    path = dump(
        {f"{name}.skeleton": row for name, row in zip(names, np.eye(3, classes), strict=True)}
    )
    scores = read_external_scores(path)
    assert scores.ids == tuple(names)
    assert scores.labels.tolist() == [59, 0, 6]
    assert scores.label_names[0] == "drink water"
    assert scores.facts["dataset"] == f"ntu{classes}"
    assert scores.kind == "softmax"
    assert scores.facts["split"] == "xsub_val"  # no other has all of them


@pytest.mark.parametrize("split", ["xsub_val", "xview_val", "xset_val"])
def test_ctrgcn_scores_are_in_the_order_of_its_arrays(ntu, dump, split):
    ids = ctrgcn_order(ntu, split)
    assert sorted(ids) == sorted(ntu.ids[i] for i in ntu.indices(split))
    labels = np.array([int(name[-3:]) - 1 for name in ids])
    logits = logits_of(labels, 4)
    path = dump({f"test_{i}": row for i, row in enumerate(logits)})
    scores = read_external_scores(path, store=ntu, split=split, order="ctrgcn")
    assert list(scores.ids) == ids
    np.testing.assert_array_equal(scores.values, logits)
    assert scores.facts["order"] == "ctrgcn"
    with pytest.raises(ValueError, match="most likely written in another order"):
        read_external_scores(path, store=ntu, split=split, order="store")


def test_ctrgcn_scores_of_nw_ucla_have_numbers_for_names(ntu, dump, tmp_path):
    """Its feeder's list, which comes as a pickle, is the order; the keys are NumPy's numbers."""
    ids = [ntu.ids[i] for i in np.random.default_rng(2).permutation(ntu.indices("xview_val"))]
    labels = np.array([int(name[-3:]) - 1 for name in ids])
    logits = logits_of(labels, 4)
    shuffled = np.random.default_rng(3).permutation(len(ids))
    path = dump({np.arange(len(ids))[i]: logits[i] for i in shuffled})
    listed = [{"file_name": n, "length": 3, "label": 1} for n in ids]
    (tmp_path / "val_label.pkl").write_bytes(pickle.dumps(listed))
    (tmp_path / "label.pkl").write_bytes(
        pickle.dumps(([f"{n}.skeleton" for n in ids], [0] * len(ids)))
    )
    (tmp_path / "names.txt").write_text("\n".join(ids))
    for order in (tmp_path / "val_label.pkl", str(tmp_path / "label.pkl"),
                  tmp_path / "names.txt", ids):  # fmt: skip
        scores = read_external_scores(path, store=ntu, split="xview_val", order=order)
        assert list(scores.ids) == ids
        np.testing.assert_array_equal(scores.values, logits)


@pytest.mark.parametrize("shape", [(4,), (1, 4)])
def test_pyskl_scores_are_in_the_order_of_the_annotation_file(ntu, dump, shape):
    indices = ntu.indices("xsub_val")
    found = softmax(logits_of(ntu.labels[indices], 4))
    path = dump([row.reshape(shape) for row in found], 2)
    scores = read_external_scores(path, store=ntu, split="xsub_val", order="store")
    assert scores.ids == tuple(ntu.ids[i] for i in indices)
    np.testing.assert_array_equal(scores.values, found)
    assert scores.kind == "softmax"
    by_name = sorted(scores.ids)
    rows = [found[scores.ids.index(name)] for name in by_name]
    scores = read_external_scores(dump(rows, 2), store=ntu, split="xsub_val", order="name")
    assert list(scores.ids) == by_name


def samples_of(found, labels, *, old=False, ids=None):
    """A dump of mmaction2: tensors that are rows of a batch, among other things."""
    batch, samples = torch.from_numpy(found), []
    for i, label in enumerate(labels.tolist()):
        row, truth = batch[i], torch.tensor([label])
        sample = {"num_classes": 4, "img_shape": (1080, 1920), "pred_label": row.argmax()[None]}
        if old:
            sample |= {"pred_scores": {"item": row}, "gt_labels": {"item": truth}}
        else:
            sample |= {"pred_score": row, "gt_label": truth}
        samples.append(sample | ({"frame_dir": ids[i]} if ids else {}))
    return samples


@pytest.mark.parametrize("old", [False, True])
def test_mmaction2_scores_are_checked_against_their_labels(ntu, dump, old):
    indices = ntu.indices("xsub_val")
    labels, found = ntu.labels[indices], softmax(logits_of(ntu.labels[indices], 4))
    path = dump(samples_of(found, labels, old=old), 2)
    scores = read_external_scores(path, store=ntu, split="xsub_val", order="store")
    np.testing.assert_array_equal(scores.values, found)
    assert scores.facts["format"] == "mmaction2 scores"
    with pytest.raises(ValueError, match=r"samples have another true class .* another order"):
        read_external_scores(path, store=ntu, split="xsub_val", order="name")
    # One pair of samples that changed places is enough.
    swapped = labels.copy()
    one, other = 0, int(np.flatnonzero(labels != labels[0])[0])
    swapped[[one, other]] = labels[[other, one]]
    path = dump(samples_of(found, swapped), 2)
    with pytest.raises(ValueError, match=r"2 of \d+ samples .* the first at position 0"):
        read_external_scores(path, store=ntu, split="xsub_val", order="store")


def test_mmaction2_scores_with_names_need_no_order(ntu, dump):
    indices = np.random.default_rng(4).permutation(ntu.indices("xsub_val"))
    ids = [ntu.ids[i] for i in indices]
    found = logits_of(ntu.labels[indices], 4)
    path = dump(samples_of(found, ntu.labels[indices], ids=[f"data/ntu/{n}" for n in ids]), 2)
    assert list(read_external_scores(path, store=ntu).ids) == ids
    with pytest.raises(ValueError, match="names its samples: omit order"):
        read_external_scores(path, store=ntu, split="xsub_val", order="store")


def test_ids_that_look_like_positions_are_names_if_the_store_has_them(tmp_path, toy_skeleton, dump):
    ids = ["2", "0", "1"]
    clips = [Clip(n, np.ones((1, 2, 5, 3), np.float32), i % 2, ("t",)) for i, n in enumerate(ids)]
    store = open_store(
        write_store(
            tmp_path / "s.arrow",
            clips,
            dataset="toy",
            skeleton=toy_skeleton,
            label_names=["a", "b"],
            channels=3,
            preparation={"name": "none"},
        )
    )
    path = dump({str(i): np.array([i, 0], "f4") for i in range(3)})
    scores = read_external_scores(path, store=store)
    assert scores.ids == ("0", "1", "2")
    assert scores.values[:, 0].tolist() == [0, 1, 2]


def by_position(count=5):
    return {f"test_{i}": row for i, row in enumerate(np.ones((count, 4), "f4"))}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (by_position(), {}, "by position, not by name: give the store, the split and the order"),
        (by_position(), {"store": 1}, "by position, not by name"),
        (by_position(), {"store": 1, "split": "xsub_val"}, "by position, not by name"),
        (by_position(), {"store": 1, "split": "xsub_val", "order": "store"}, "of 5 samples, but x"),
        (by_position(), {"store": 1, "split": "xsub_val", "order": "stor"}, "'stor', which is no"),
        (by_position(), {"store": 1, "split": "xsub_val", "order": ["a"]}, r"not in ntu.arrow \(a"),
        (by_position(), {"store": 1, "split": "no_val", "order": "name"}, "no split 'no_val'"),
        ({"x": np.ones(4)}, {"store": 1}, r"1 of 1 samples are not in ntu.arrow \(x; "),
        ({"x": np.ones(60)}, {}, r"1 other names \(x\): give the store"),
        ({"S001C001P003R001A001": np.ones(4)}, {}, "found 4 classes and 0 other names"),
        ({"S001C001P003R001A070": np.ones(60)}, {}, "the samples are of 70 classes"),
        ({"S001C001P003R001A001": np.ones(5)}, {"store": 1}, "has 5 scores .* are of 4 classes"),
        (
            {f"S001C001P003R001A001{e}": np.ones(4) for e in ("", ".skeleton")},
            {"store": 1},
            "1 samples occur more than once",
        ),
        ({}, {}, "holds no scores"),
        ([], {}, "holds no scores"),
        (7, {}, "holds no scores"),
        (
            [np.ones((2, 10, 4), "f4")] * 2,
            {},
            r"found an array \(2, 10, 4\) of float32",
        ),
        (
            [np.ones((10, 4), "f4"), np.ones((9, 4), "f4")],
            {},
            r"\(10, 4\) .* \(9, 4\)",
        ),
        (
            np.ones(4, "f4"),
            {},
            r"expected an array \(samples, classes\) or .* found an array \(4,\)",
        ),
        ([[1.0, 2.0], [1.0, "a"]], {}, "found a list of 2 entries at position 1"),
        ([3, 1, 2], {}, "found a value of type int at position 0"),
        (
            [np.ones(4, "f4"), np.ones(5, "f4")],
            {},
            r"\(1, 4\) for every sample, .* found \(1, 5\) at position 1",
        ),
        ([np.ones(4, "f4"), np.ones(4, int)], {}, "found whole numbers .int64.* class numbers"),
        (
            [np.ones(4, "f4"), np.array([1, 2, np.nan, 3], "f4")],
            {},
            "1 samples have scores that are no finite numbers, the first at position 1",
        ),
        ([{"pred_score": np.ones(4, "f4")}, {}], {}, "expected 'pred_score' in every sample"),
        (
            [{"pred_score": np.ones(4, "f4"), "gt_label": np.array([1, 2])}],
            {},
            "one true class for each sample",
        ),
        ([{"pred_score": np.ones(4, "f4"), "gt_label": 0.5}], {}, "one true class for each sample"),
    ],
)
def test_read_external_scores_refuses(ntu, dump, content, options, message):
    if "store" in options:
        options = options | {"store": ntu}
    with pytest.raises(ValueError, match=message):
        read_external_scores(dump(content), **options)


def test_read_external_scores_runs_nothing(dump, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    with pytest.raises(ValueError, match="was refused"):
        read_external_scores(dump({"a": Attack()}))
    assert not (tmp_path / "ran").exists()
    pickle.loads((tmp_path / "scores.pkl").read_bytes())  # it does elsewhere
    assert (tmp_path / "ran").exists()


def test_order_needs_what_it_goes_by(toy_store, dump):
    path = dump(by_position(13))
    with pytest.raises(
        ValueError, match=r"CTR-GCN's order is that of NTU's xsub, .*, found part_val"
    ):
        read_external_scores(path, store=toy_store, split="part_val",
                            order="ctrgcn")  # fmt: skip


@pytest.mark.parametrize("content", [b"\x80\x02K\x01.", b"\x80\x02]q\x00K\x01a."])
def test_order_needs_a_file_of_names(ntu, dump, tmp_path, content):
    (tmp_path / "order.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"expected (sample names|labels)"):
        read_external_scores(
            dump(by_position()), store=ntu, split="xsub_val", order=tmp_path / "order.pkl"
        )


def test_shell_writes_external_scores_as_ours(ntu, dump, tmp_path, monkeypatch, capsys):
    from msg3d_lab.cli import main

    monkeypatch.chdir(tmp_path)
    indices = ntu.indices("xsub_val")
    logits = logits_of(ntu.labels[indices], 4)
    path = dump(list(logits), 2)
    words = ["scores", path, "--store", ntu.path, "--split", "xsub_val", "--order", "store"]
    main([*map(str, words), "--out", "ours.parquet", "--stream", "joint"])
    scores = read_scores("ours.parquet")
    assert scores.facts["stream"] == "joint"
    np.testing.assert_array_equal(scores.values, logits)
    shown = capsys.readouterr().out
    assert f"pyskl scores (logits) of {len(indices)} samples in 4 classes, xsub_val" in shown
    assert f"top1 {100 * scores.correct.mean():.2f} %" in shown
