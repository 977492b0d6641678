import shutil
import signal

import numpy as np
import pytest
import torch

from msg3d_lab.data.batches.sampling import resize, uniform_sample
from msg3d_lab.evaluation import (
    accuracy_interval,
    calibration_error,
    evaluate,
    read_scores,
)
from msg3d_lab.evaluation.partial_scores import PartialScores
from msg3d_lab.model import save_model
from msg3d_lab.training import Requeue, Stopped, fit, open_run, recipes
from msg3d_lab.training.matching.tested_store import open_matching_store


@pytest.fixture(scope="module")
def run(toy_run, tmp_path_factory):
    """A trained run of this module's own."""
    return open_run(shutil.copytree(toy_run.path, tmp_path_factory.mktemp("test") / "toy"))


def test_evaluate_scores_every_sample_once_under_its_id(run, toy_store):
    result = evaluate(run, device="cpu", progress=False)
    scores = read_scores(run.scores_path)
    expected = [toy_store.ids[i] for i in toy_store.indices("xsub_val")]
    assert list(scores.ids) == expected
    np.testing.assert_array_equal(scores.values, result.scores.values)
    np.testing.assert_allclose(scores.values.sum(1), 1, rtol=1e-5)
    assert result.top1 == pytest.approx((scores.predictions == scores.labels).mean())
    assert result.top5 is None
    assert scores.facts["split"] == "xsub_val"
    assert scores.facts["synthetic"] is True


@pytest.mark.parametrize("average", ["softmax", "logits"])
def test_evaluate_averages_scores_over_clips(average, run, toy_store):
    result = evaluate(run, num_clips=4, average=average, device="cpu", progress=False, batch_size=8)
    assert result.scores.facts["kind"] == read_scores(run.scores_path).kind == average
    model = run.model()
    for i, sample in list(enumerate(toy_store.indices("xsub_val")))[:4]:
        keypoints = toy_store.keypoints(sample)
        M, T = keypoints.shape[:2]
        padded = np.zeros((2, T, 5, 3), np.float32)
        padded[:M] = keypoints
        frames = uniform_sample(T, clip_len=8, num_clips=4)
        clips = torch.from_numpy(np.stack([padded[:, f] for f in frames]))
        with torch.no_grad():
            logits = model(clips)
        expected = (logits.softmax(1) if average == "softmax" else logits).mean(0).numpy()
        np.testing.assert_allclose(result.scores.values[i], expected, atol=1e-5)


def test_evaluate_turns_clips_as_training_did(toy_run, toy_recipe, toy_store, tmp_path):
    """Four clips are quarter turns about z: (x, y), (-y, x), (-x, -y), (y, -x)."""
    shutil.copytree(toy_run.path, tmp_path / "r")
    settings = ["sampling=resize", "rotation=[0, 0, 180]", "test_clips=4"]
    recipes.save(recipes.with_settings(toy_recipe, settings), tmp_path / "r" / "recipe.yaml")
    run = open_run(tmp_path / "r")
    result = evaluate(run, device="cpu", progress=False)
    assert result.scores.facts["num_clips"] == 4
    model = run.model()
    for i, sample in list(enumerate(toy_store.indices("xsub_val")))[:4]:
        keypoints = toy_store.keypoints(sample)
        clip = np.zeros((2, 8, 5, 3), np.float32)
        clip[: len(keypoints)] = keypoints[:, resize(toy_store.frames[[sample]], 8)[0]]
        x, y, z = np.moveaxis(clip, -1, 0)
        turned = [(x, y, z), (-y, x, z), (-x, -y, z), (y, -x, z)]
        with torch.no_grad():
            logits = model(torch.from_numpy(np.stack([np.stack(one, -1) for one in turned])))
        expected = logits.softmax(1).mean(0).numpy()
        np.testing.assert_allclose(result.scores.values[i], expected, atol=1e-5)


def test_evaluate_agrees_with_what_was_watched_in_training(run):
    result = evaluate(run, num_clips=1, device="cpu", progress=False)
    assert result.top1 == pytest.approx(run.metrics["test_top1"].iloc[-1])


def test_evaluate_says_how_sure_the_accuracy_and_the_network_are(run):
    for average in ("softmax", "logits"):
        result = evaluate(run, average=average, device="cpu", progress=False)
        assert result.interval == accuracy_interval(result.scores.correct)
        assert result.interval[0] <= result.top1 <= result.interval[1]
        assert result.calibration_error == calibration_error(result.scores)
        assert 0 < result.calibration_error < 1


def test_evaluate_averages_nothing_else(run):
    with pytest.raises(ValueError, match='"softmax" or "logits", found \'prob\''):
        evaluate(run, average="prob", progress=False)


def test_evaluate_on_another_split_leaves_the_scores_alone(run):
    evaluate(run, device="cpu", progress=False)
    before = run.scores_path.read_bytes()
    result = evaluate(run, split="xsub_train", device="cpu", progress=False)
    assert len(result.scores.ids) == 36
    assert run.scores_path.read_bytes() == before


def test_evaluate_refuses_a_store_with_other_classes(run, toy_store, tmp_path):
    from msg3d_lab.data import Clip, write_store

    clips = [
        Clip(f"c{i}", np.ones((1, 9, 5, 3), np.float32), i % 2, (split,))
        for i, split in enumerate(["xsub_train", "xsub_val"])
    ]
    other = write_store(
        tmp_path / "other.arrow",
        clips,
        dataset="toy",
        skeleton=toy_store.skeleton,
        label_names=["a", "b"],
        channels=3,
        preparation={"name": "none"},
    )
    with pytest.raises(
        ValueError, match=r"trained for 3 classes and 3 channels, but .* has 2 classes"
    ):
        evaluate(run, data=other, progress=False)


def test_evaluate_needs_weights(toy_store, toy_recipe, tmp_path):
    from msg3d_lab.training.runs import create_run

    run = create_run(tmp_path / "run", toy_recipe, {"data": {"path": str(toy_store.path)}})
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        evaluate(run, progress=False)


def test_evaluate_makes_the_synthetic_set_again_if_its_cache_is_gone(
    tmp_path, small_run, small_store, monkeypatch
):
    from msg3d_lab.data.synthetic import dataset

    run = open_run(shutil.copytree(small_run.path, tmp_path / "run"))
    data = run.environment["data"] | {"path": str(tmp_path / "gone.arrow")}
    run.write_environment(run.environment | {"data": data})
    monkeypatch.setattr(dataset, "load_synthetic", lambda: small_store)
    assert open_matching_store(run).store is small_store
    for asked in (
        lambda path: open_matching_store(run, path),
        lambda path: fit(run.recipe, data=path),
    ):
        with pytest.raises(FileNotFoundError, match=r"no store at .*typo\.arrow"):
            asked(tmp_path / "typo.arrow")


def test_evaluate_wants_at_least_one_clip(run):
    with pytest.raises(ValueError, match="at least one clip per sample, found 0"):
        evaluate(run, num_clips=0, progress=False)


def test_evaluate_with_several_clips_needs_uniform_sampling(toy_run, toy_recipe, tmp_path):
    shutil.copytree(toy_run.path, tmp_path / "r")
    recipe = recipes.with_settings(toy_recipe, ["sampling=resize"])
    recipes.save(recipe, tmp_path / "r" / "recipe.yaml")
    with pytest.raises(ValueError, match="uniform"):
        evaluate(tmp_path / "r", num_clips=3, progress=False)


def test_evaluate_of_a_broken_network_is_no_result(toy_run, tmp_path):
    """NaN is greater than nothing, so all samples would be taken for the first class."""
    broken = open_run(shutil.copytree(toy_run.path, tmp_path / "run"))
    model = broken.model()
    torch.nn.init.constant_(model.fc.bias, torch.nan)
    save_model(model, broken.checkpoint, overwrite=True)
    with pytest.raises(ValueError, match=r"1 tensors hold NaN .*fc.bias: 3 of 3"):
        evaluate(broken, device="cpu", progress=False)
    assert not broken.scores_path.exists()


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, Requeue), (signal.SIGINT, Stopped)], ids=str
)
def test_a_stopped_evaluation_keeps_what_it_has_scored(number, error, run, monkeypatch):
    undisturbed = evaluate(run, device="cpu", progress=False, batch_size=4).scores
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    added, add = [], PartialScores.add

    def add_and_stop(self, rows, scores):
        add(self, rows, scores)
        added.extend(rows)
        if not stopped:
            signal.raise_signal(number)

    monkeypatch.setattr(PartialScores, "add", add_and_stop)
    stopped: list[str] = []
    try:
        with pytest.raises(error) as found:
            evaluate(run, device="cpu", progress=False, batch_size=4)
        message = getattr(found.value, "message", str(found.value))
        stopped.append(message)
        assert message == "stopped: 4 of 13 samples are scored; the same call goes on"
        again = evaluate(run, device="cpu", progress=False, batch_size=4).scores
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(added) == list(range(13))  # each once
    np.testing.assert_allclose(again.values, undisturbed.values, atol=1e-6)
