"""A run on another store than it was trained on: the same things, or a refusal that says what."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest

from msg3d_lab.cli import main
from msg3d_lab.data import Clip, open_store, write_store
from msg3d_lab.evaluation import evaluate, read_scores
from msg3d_lab.explain import load_clips, open_network
from msg3d_lab.reporting import find_runs, record_result
from msg3d_lab.skeletons import from_dict
from msg3d_lab.training import open_run
from msg3d_lab.training.matching.tested_store import open_matching_store


@pytest.fixture
def run(toy_run, tmp_path):
    return open_run(shutil.copytree(toy_run.path, tmp_path / "runs" / "toy"))


@pytest.fixture
def other_store(toy_store, tmp_path):
    """The clips of the toy store, in a store of another kind."""

    def make(*, names=None, skeleton=None, preparation=None, splits=None, name="other"):
        old, names = toy_store.label_names, names or toy_store.label_names
        clips = [toy_store.clip(i) for i in range(len(toy_store))]
        return open_store(
            write_store(
                tmp_path / f"{name}.arrow",
                [
                    Clip(
                        clip.id,
                        clip.keypoints,
                        names.index(old[clip.label]) if old[clip.label] in names else clip.label,
                        clip.splits,
                        subject=clip.subject,
                    )
                    for clip in clips
                    if splits is None or clip.splits[0] in splits
                ],
                dataset="toy",
                skeleton=skeleton or toy_store.skeleton,
                label_names=names,
                channels=3,
                preparation=preparation or {"name": "none", "source": "elsewhere"},
                synthetic=True,
            )
        )

    return make


def forget(run, *keys):
    """Make environment.json one of an earlier version."""
    facts = run.environment
    for key in keys:
        del facts["data"][key]
    run.write_environment(facts)


def joints_of(toy_skeleton, order, renamed=None, *, name="toy5"):
    names = [toy_skeleton.joints[i] for i in order]
    shown = [(renamed or {}).get(name, name) for name in names]
    edges = [["hip", "chest"], ["chest", "head"], ["chest", "left hand"], ["chest", "right hand"]]
    edges = [[(renamed or {}).get(name, name) for name in pair] for pair in edges]
    return from_dict({"name": name, "joints": shown, "edges": edges, "center": shown[1]})


def test_the_store_of_the_training_is_the_runs_own(run, toy_store):
    for data in (None, toy_store, toy_store.path):
        found = open_matching_store(run, data)
        assert (found.is_own, found.notes, found.suffix) == (True, (), "")


def test_scores_of_another_store_are_written_beside_and_are_no_result(
    run, other_store, tmp_path, caplog
):
    evaluate(run, device="cpu", progress=False)
    before = run.scores_path.read_bytes()
    store = other_store(splits=["xsub_val"], name="clinic")
    with caplog.at_level(logging.WARNING):
        result = evaluate(run, data=store, device="cpu", progress=False)
    assert "clinic.arrow is not the store that toy was trained on" in caplog.text
    assert result.path == run.path / "scores-clinic.parquet"
    assert not result.tested.is_own
    assert run.scores_path.read_bytes() == before
    np.testing.assert_allclose(
        read_scores(result.path).values, read_scores(run.scores_path).values, atol=1e-6
    )
    run.scores_path.unlink()
    assert find_runs(tmp_path / "runs") == []
    with pytest.raises(FileNotFoundError, match="has no test scores"):
        record_result(run, tmp_path / "results.csv")


def test_classes_in_another_order_are_matched_by_name(run, toy_store, other_store, caplog):
    own = evaluate(run, device="cpu", progress=False)
    store = other_store(names=["right up", "head up", "left up"])
    with caplog.at_level(logging.WARNING):
        result = evaluate(run, data=store, device="cpu", progress=False)
    assert "3 of the 3 classes of other.arrow have other numbers" in caplog.text
    assert result.scores.label_names == tuple(toy_store.label_names)
    np.testing.assert_array_equal(result.scores.labels, own.scores.labels)
    np.testing.assert_allclose(result.scores.values, own.scores.values, atol=1e-6)
    clips = load_clips(run, store.indices("xsub_val"), data=store)
    np.testing.assert_array_equal(clips.labels, own.scores.labels)
    _, opened = open_network(run, store)
    assert opened.label_names == toy_store.label_names


def test_other_classes_are_refused(run, other_store):
    store = other_store(names=["head up", "left up", "wave"])
    expected = "its classes are others .only the run has right up; only the store has wave."
    with pytest.raises(ValueError, match=expected):
        evaluate(run, data=store, progress=False)
    with pytest.raises(ValueError, match=expected):
        open_network(run, store)


@pytest.mark.parametrize("layout", ["toy5", "my-toy"])
def test_joints_in_another_order_are_matched_by_name(
    layout, run, toy_store, toy_skeleton, tmp_path, caplog
):
    own = evaluate(run, device="cpu", progress=False)
    order = [2, 1, 0, 3, 4]
    path = write_store(
        tmp_path / "other.arrow",
        [
            replace(clip, keypoints=clip.keypoints[:, :, order])
            for clip in map(toy_store.clip, range(len(toy_store)))
        ],
        dataset="toy",
        skeleton=joints_of(toy_skeleton, order, name=layout),
        label_names=toy_store.label_names,
        channels=3,
        preparation={"name": "none"},
        synthetic=True,
    )
    with caplog.at_level(logging.WARNING):
        result = evaluate(run, data=path, device="cpu", progress=False)
    assert (
        "2 of the 5 joints of other.arrow have other numbers than in toy; they are" in caplog.text
    )
    np.testing.assert_allclose(result.scores.values, own.scores.values, atol=1e-6)
    clips = load_clips(run, toy_store.indices("xsub_val"), data=path)
    np.testing.assert_array_equal(
        clips.x, load_clips(run, toy_store.indices("xsub_val"), data=toy_store).x
    )


def test_other_joints_are_refused(run, other_store, toy_skeleton):
    store = other_store(skeleton=joints_of(toy_skeleton, [2, 1, 0, 3, 4], {"head": "nose"}))
    message = "its joints are others .only the run has head; only the store has nose"
    with pytest.raises(ValueError, match=message):
        evaluate(run, data=store, progress=False)


def test_other_bones_are_refused(run, other_store, toy_skeleton):
    edges = [["hip", "chest"], ["chest", "head"], ["head", "left hand"], ["chest", "right hand"]]
    other = from_dict(
        {"name": "toy5", "joints": list(toy_skeleton.joints), "edges": edges, "center": "chest"}
    )
    with pytest.raises(ValueError, match="the bones of its layout toy5 start at other joints"):
        evaluate(run, data=other_store(skeleton=other), progress=False)


def test_another_preparation_is_refused(run, other_store):
    store = other_store(preparation={"name": "center", "joint": "chest", "scored": False})
    with pytest.raises(ValueError, match=r"preparation is center, the run's none\. Import the rec"):
        evaluate(run, data=store, progress=False)


def test_older_runs_are_compared_by_the_store_that_they_name(run, toy_store, other_store, caplog):
    forget(run, "label_names", "preparation")
    with pytest.raises(ValueError, match="only the store has wave"):
        open_matching_store(run, other_store(names=["head up", "left up", "wave"]))
    facts = run.environment
    run.write_environment({**facts, "data": {**facts["data"], "path": "gone.arrow"}})
    assert open_matching_store(run, toy_store).is_own
    found = open_matching_store(run, other_store(name="second"))
    assert not found.is_own
    assert "the class names and preparation of toy are not known" in found.notes[1]


def test_weights_take_the_first_tested_store_that_fits_for_their_own(run, toy_store, other_store):
    facts = run.environment
    facts |= {"weights": {"file": "w.pt", "sha256": "0" * 64, "name": None}}
    facts["data"]["fingerprint"] = None
    run.write_environment(facts)
    with pytest.raises(ValueError, match="only the store has wave"):
        evaluate(run, data=other_store(names=["head up", "left up", "wave"]), progress=False)
    assert run.environment["data"]["fingerprint"] is None
    result = evaluate(run, data=toy_store, device="cpu", progress=False)
    assert result.path == run.scores_path
    assert run.environment["data"]["fingerprint"] == toy_store.fingerprint
    assert run.environment["data"]["path"] == str(toy_store.path)
    second = evaluate(run, data=other_store(name="second"), device="cpu", progress=False)
    assert second.path.name == "scores-second.parquet"


def test_shell_names_scores_and_report_after_another_store(
    run, other_store, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    main(["test", str(run.path), "--device", "cpu"])
    own = (run.path / "report.html").read_bytes()
    store = other_store(splits=["xsub_val"], name="clinic")
    main(["test", str(run.path), "--data", str(store.path), "--device", "cpu"])
    shown = capsys.readouterr().out
    assert "scores-clinic.parquet" in shown
    assert "report-clinic.html" in shown
    assert (run.path / "report.html").read_bytes() == own
    page = (run.path / "report-clinic.html").read_text(encoding="utf-8")
    assert "clinic.arrow is not the store that toy was trained on" in page
    main(["importance", str(run.path), "--data", str(store.path), "--clips", "2"])
    assert (run.path / "importance-occlusion-joint-clinic.parquet").is_file()
    assert not (run.path / "importance-occlusion-joint.parquet").exists()
