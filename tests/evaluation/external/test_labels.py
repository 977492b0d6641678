"""Score files as people keep them, without a store: labels and names in files of their own."""

import pickle
import re

import numpy as np
import pytest
import torch

from msg3d_lab.cli import main
from msg3d_lab.evaluation import fuse, read_external_scores, read_scores
from msg3d_lab.evaluation.external.labels import read_labels, read_name_rule, read_names

LABELS = np.arange(30) % 3
NAMES = [f"clip{i:02d}" for i in range(30)]


def logits(seed=0, *, shape=(30, 3)):
    rng = np.random.default_rng(seed)
    eye = np.eye(3)[LABELS]
    return (rng.normal(size=shape) + 3 * (eye if len(shape) == 2 else eye[:, None])).astype("f4")


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture
def put(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def _put(content, name="scores.pkl"):
        path = tmp_path / name
        if name.endswith(".npy"):
            np.save(path, content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            path.write_bytes(pickle.dumps(content))
        return path

    return _put


@pytest.mark.shared
def test_shared_scores_of_nw_ucla_give_their_numbers_without_a_store(
    shared_dir, tmp_path, monkeypatch, capsys
):
    """Source: MMNet's stored MS-G3D scores, recomputed: joint 90.93, bone 90.06, sum 92.66."""
    monkeypatch.chdir(tmp_path)
    folder = shared_dir / "data" / "scores" / "nw-ucla-view3"
    for stream in ("joint", "bone"):
        words = ["scores", f"{folder}/{stream}_result_msg3d.pkl", "--stream", stream]
        main([*words, "--labels", f"{folder}/val_label.pkl", "--out", f"{stream}.parquet"])
    shown = capsys.readouterr().out
    assert "463 samples in 10 classes" in shown
    assert [found[:5] for found in re.findall(r"top1 ([\d.]+)", shown)] == ["90.93", "90.06"]
    main(["fuse", "joint.parquet", "bone.parquet", "--on", "logits"])
    shown = capsys.readouterr().out
    assert re.search(r"^fused .* 92\.66 ", shown, re.M), shown
    assert "None" not in shown


@pytest.mark.parametrize("form", ["array", "npy", "lists", "dict", "suffixes"])
def test_scores_of_every_form_are_the_same(form, put):
    values = logits()
    path = {
        "array": lambda: put(values),
        "npy": lambda: put(values, "scores.npy"),
        "lists": lambda: put([row.tolist() for row in values]),
        "dict": lambda: put(dict(zip(NAMES, values, strict=True))),
        "suffixes": lambda: put({f"a/{n}.npy": v for n, v in zip(NAMES, values, strict=True)}),
    }[form]()
    labels = put((NAMES, LABELS.tolist()), "labels.pkl")
    scores = read_external_scores(path, labels=labels)
    assert scores.ids == tuple(NAMES)
    np.testing.assert_array_equal(scores.values, values)
    np.testing.assert_array_equal(scores.labels, LABELS)
    assert scores.label_names == ("class 0", "class 1", "class 2")
    assert (scores.kind, scores.facts["num_clips"]) == ("logits", None)


@pytest.mark.parametrize("kind", ["logits", "softmax"])
def test_clips_of_a_sample_are_averaged_as_softmax_scores(kind, put):
    """As mmaction2's average_clips="prob" does."""
    values = logits(shape=(30, 10, 3))
    given = values if kind == "logits" else softmax(values)
    labels = put((NAMES, LABELS.tolist()), "labels.pkl")
    for content in (list(given), given, [row.tolist() for row in given]):
        scores = read_external_scores(put(content), labels=labels)
        np.testing.assert_allclose(scores.values, softmax(values).mean(1), rtol=1e-5)
        assert (scores.kind, scores.facts["num_clips"]) == ("softmax", 10)


def test_shell_says_that_clips_were_averaged_and_labels_start_at_1(put, capsys):
    put(logits(shape=(30, 10, 3)))
    put("sample,label\n" + "".join(f"{n},{k + 1}\n" for n, k in zip(NAMES, LABELS, strict=True)),
        "labels.csv")  # fmt: skip
    main(["scores", "scores.pkl", "--labels", "labels.csv", "--out", "x.parquet"])
    shown = capsys.readouterr().out
    assert "10 clips per sample, their softmax scores averaged" in shown
    assert "labels.csv counts classes from 1" in shown
    assert "in the order of labels.csv" in shown
    np.testing.assert_array_equal(read_scores("x.parquet").labels, LABELS)


def test_result_dumps_are_fused_without_a_store(put, capsys):
    for n in (0, 1):
        put(
            [
                {"pred_score": torch.from_numpy(row.copy()), "gt_label": torch.tensor([int(k)])}
                for row, k in zip(logits(n), LABELS, strict=True)
            ],
            f"{n}.pkl",
        )
    main(["fuse", "0.pkl", "1.pkl"])
    shown = capsys.readouterr().out
    assert shown.startswith("data set unknown: ")
    assert "None" not in shown
    expected = (softmax(logits(0)) + softmax(logits(1))).argmax(1) == LABELS
    assert f"{100 * expected.mean():.2f}".rstrip("0").rstrip(".") in shown
    turned = [
        {"pred_score": row, "gt_label": int(k)}
        for row, k in zip(logits()[::-1], LABELS[::-1], strict=True)
    ]
    put(turned, "turned.pkl")
    with pytest.raises(SystemExit):
        main(["fuse", "0.pkl", "turned.pkl"])
    assert "expected the same true class for each id" in capsys.readouterr().err


@pytest.mark.parametrize("rule", [r"(clip\d+)", "names.csv"])
def test_name_rules_map_other_spellings(rule, put, capsys):
    theirs = [f"run3/{name}_rgb" for name in NAMES]
    put("".join(f"{a},{b}\n" for a, b in zip(theirs, NAMES, strict=True)), "names.csv")
    put(dict(zip(theirs, logits(), strict=True)), "a.pkl")
    put(dict(zip(NAMES, logits(1), strict=True)), "b.pkl")
    labels = put({n: int(k) for n, k in zip(NAMES, LABELS, strict=True)}, "labels.pkl")
    with pytest.raises(ValueError, match=r"30 of 30 samples have no label .*clip00_rgb.*--names"):
        read_external_scores("a.pkl", labels=labels)
    a = read_external_scores("a.pkl", labels=labels, names=rule)
    b = read_external_scores("b.pkl", labels=labels)
    assert len(fuse([a, b]).ids) == 30
    main(["fuse", "a.pkl", "a.pkl", "--labels", "labels.pkl", "--names", rule])
    assert "fused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (r"clip\d+", "with 0 groups"),
        (r"(clip", "no file and no regular expression"),
        (r"(sample\d+)", "does not fit 'clip00'"),
        (r"(clip)", "maps 29 samples to an id that another has, the first is clip01 -> clip"),
    ],
)
def test_name_rules_that_do_not_fit_are_refused(rule, message, put):
    path = put(dict(zip(NAMES, logits(), strict=True)))
    labels = put({n: int(k) for n, k in zip(NAMES, LABELS, strict=True)}, "labels.pkl")
    with pytest.raises(ValueError, match=message):
        read_external_scores(path, labels=labels, names=rule)


def test_name_rule_of_a_table_knows_every_name(put):
    rule = read_name_rule(put("a,b\nc,d\n", "names.csv"))
    assert [rule("a"), rule("c")] == ["b", "d"]
    with pytest.raises(ValueError, match="has no row for 'x'"):
        rule("x")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ((["a", "b", "c"], [0, 2, 1]), "l.pkl"),
        ([{"file_name": n, "label": k} for n, k in {"a": 1, "b": 3, "c": 2}.items()], "l.pkl"),
        ({"a": 0, "b": 2, "c": 1}, "l.pkl"),
        ("a,0\nb,2\nc,1\n", "l.csv"),
        ("sample,label\na,1\nb,3\nc,2\n", "l.csv"),
        ([0, 2, 1], "l.pkl"),
        (np.array([0, 2, 1]), "l.pkl"),
        (np.array([0, 2, 1]), "l.npy"),
    ],
)  # fmt: skip
def test_labels_are_read_in_every_form(content, name, put):
    found = read_labels(put(content, name), num_classes=3)
    assert found.labels.tolist() == [0, 2, 1]
    assert found.names in (["a", "b", "c"], None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 0, "b": 3}, "labels from 0 to 2 .* found from 0 to 3"),
        ({"a": 0.5}, "expected whole numbers as labels, found '0.5'"),
        ((["a", "a"], [0, 1]), "1 samples occur more than once"),
        ("text", "expected two columns separated by a comma, found 1 in row 1"),
        (b"", "expected two columns"),
        ({"a": "walk"}, "found 'walk'"),
        ([], "expected labels: a pickle of"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(content, message, put, tmp_path):
    if content == b"":
        (tmp_path / "empty.csv").write_bytes(b"")
        path = tmp_path / "empty.csv"
    else:
        path = put(content, "l.csv" if isinstance(content, str) else "l.pkl")
    with pytest.raises(ValueError, match=message):
        read_labels(path, num_classes=3)


def test_another_number_of_samples_is_refused(put):
    labels = put((NAMES[:-1], LABELS[:-1].tolist()), "labels.pkl")
    with pytest.raises(ValueError, match=r"scores of 30 samples, but .* has 29 labels"):
        read_external_scores(put(list(logits())), labels=labels)
    with pytest.raises(ValueError, match="1 of 30 samples have no label"):
        read_external_scores(put(dict(zip(NAMES, logits(), strict=True))), labels=labels)
    shuffled = put((NAMES, np.random.default_rng(3).permutation(LABELS).tolist()), "shuffled.pkl")
    path = put(list(logits()), "s.pkl")
    with pytest.raises(ValueError, match="most likely written in another order"):
        read_external_scores(path, labels=shuffled)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", "found a zip, Parquet, HDF5 or JSON"),
        (b'{"a": [1]}', "found a zip, Parquet, HDF5 or JSON"),
        (b"hello there", "not a readable pickle"),
    ],
)
def test_other_files_are_called_what_they_are(content, message, tmp_path):
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_external_scores(tmp_path / "x.pkl")


def test_names_are_one_a_line_whatever_they_hold(put):
    assert read_names(put("my clip 1\n  b \n\n", "names.txt")) == ["my clip 1", "b"]
