import logging
import math

import numpy as np
import pytest
import torch

from msg3d_lab.data import Clip, open_store, write_store
from msg3d_lab.training import overfit, recipes
from msg3d_lab.training.diagnostics.overfitting import _suspicions


@pytest.fixture
def another_store(tmp_path, toy_skeleton):
    """Stores of the toy data set with the clips given."""

    def make(keypoints, labels):
        clips = [
            Clip(f"clip{i}", np.asarray(k, np.float32), int(label), ("xsub_train", "xsub_val"))
            for i, (k, label) in enumerate(zip(keypoints, labels, strict=True))
        ]
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.arrow"
        write_store(
            path, clips, dataset="toy", skeleton=toy_skeleton, label_names=["a", "b", "c"],
            channels=3, preparation={"name": "none"}, synthetic=True,
        )  # fmt: skip
        return open_store(path)

    return make


def test_a_network_learns_eight_clips_by_heart(toy_store, toy_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = torch.get_rng_state()
    curve = overfit(toy_recipe, data=toy_store, device="cpu")
    assert curve.columns.tolist() == ["step", "loss", "top1"]
    assert curve["step"].tolist() == list(range(1, len(curve) + 1))
    assert curve["loss"].iloc[0] == pytest.approx(math.log(3), rel=0.4)
    assert (curve["loss"].iloc[-1], curve["top1"].iloc[-1]) == (pytest.approx(0, abs=0.05), 1)
    assert curve.attrs["learned"] is True
    assert curve.attrs["verdict"].startswith("learned: 8 clips by heart after")
    assert torch.equal(before, torch.get_rng_state())
    assert list(tmp_path.iterdir()) == []


def test_clips_are_balanced_and_from_the_training_part(toy_store, toy_recipe):
    recipe = recipes.with_settings(toy_recipe, {"validation_subjects": [0, 1]})
    ids = overfit(recipe, data=toy_store, device="cpu", num_clips=7, steps=10).attrs["ids"]
    rows = toy_store.samples.set_index("id").loc[ids]
    assert len(set(ids)) == 7
    assert sorted(np.bincount(rows["label"])) == [2, 2, 3]
    assert set(rows["subject"]) <= {2, 3}
    assert set(ids) <= {toy_store.ids[i] for i in toy_store.indices("xsub_train")}


def test_dropout_and_label_smoothing_do_not_stand_in_the_way(toy_store, toy_recipe):
    recipe = recipes.with_settings(
        toy_recipe, {"dropout": 0.5, "label_smoothing": 0.2, "weight_decay": 0.1}
    )
    assert overfit(recipe, data=toy_store, device="cpu").attrs["learned"]


def test_too_large_a_rate_is_named(toy_store, toy_recipe, caplog):
    recipe = recipes.with_settings(toy_recipe, {"learning_rate": 1e30})
    with caplog.at_level(logging.WARNING):
        curve = overfit(recipe, data=toy_store, device="cpu", steps=60)
    assert not curve.attrs["learned"]
    assert "learning rate (5e+29 here) is too large" in curve.attrs["verdict"]
    assert curve.attrs["verdict"] in caplog.text


def test_too_small_a_rate_is_named(toy_store, toy_recipe):
    recipe = recipes.with_settings(toy_recipe, {"learning_rate": 1e-9})
    verdict = overfit(recipe, data=toy_store, device="cpu", steps=10).attrs["verdict"]
    assert verdict.startswith("not learned: after 10 of 10 steps the loss is")
    assert "hardly moved: the learning rate (5e-10 here) is much too small" in verdict


def test_contradicting_labels_and_empty_clips_are_named(another_store, toy_recipe):
    rng = np.random.default_rng(0)
    one, two, three = rng.normal(0, 0.3, (3, 1, 8, 5, 3))
    store = another_store([one, one, two, three * 0], [0, 1, 2, 2])
    verdict = overfit(toy_recipe, data=store, device="cpu", num_clips=4, steps=40).attrs["verdict"]
    assert "clip1 and clip0 are the same, but not their labels" in verdict
    assert "clip3 have no body at all" in verdict


def test_a_loss_that_rose_again_and_one_that_was_still_falling_are_told_apart():
    x, labels = np.random.default_rng(0).normal(size=(2, 1, 4, 5, 3)), np.array([0, 1])
    told = {"x": x, "labels": labels, "ids": ["a", "b"], "peak": 0.1, "num_classes": 3}
    [rose] = _suspicions([1.1, 0.2, 0.9], **told)
    assert rose.startswith("the loss was down to 0.2 and rose again")
    [falling] = _suspicions([1.1, 0.6, 0.3], **told)
    assert falling.startswith("it was still falling: give it more steps")
    assert "check the scale" in _suspicions([9.0, 0.6, 0.3], **told)[-1]


def test_overfit_refuses_what_is_no_test(toy_store, toy_recipe):
    with pytest.raises(ValueError, match="at least 2 clips and 10 steps, found 1 and 200"):
        overfit(toy_recipe, data=toy_store, num_clips=1)
    with pytest.raises(ValueError, match="at least 40 clips to train on, found 36"):
        overfit(toy_recipe, data=toy_store, num_clips=40)
