import logging
import math
import sys
import time

import launchers
import pandas as pd
import pytest
import torch

from msg3d_lab.training import TensorBoard, callbacks, fit, open_run, recipes
from msg3d_lab.training.callbacks import _TAGS, CallbackList

QUIET = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def brief(toy_recipe):
    """Two epochs of two steps."""
    return recipes.with_settings(toy_recipe, ["batch_size=18"])


@pytest.fixture(scope="module")
def plain(brief, toy_store, tmp_path_factory):
    """A run without callbacks."""
    return fit(brief, data=toy_store, run=tmp_path_factory.mktemp("plain") / "r", **QUIET)


class Diary:
    """A callback that notes what it is called with."""

    def __init__(self):
        self.frames, self.rows, self.told = [], [], []

    def start(self, run):
        self.told.append(run.path.name)

    def __call__(self, metrics):
        self.frames.append(metrics)

    def progress(self, row):
        self.rows.append(row)

    def close(self):
        self.told.append("closed")


def test_callbacks_see_every_epoch_and_what_is_between(toy_store, brief, tmp_path, monkeypatch):
    monkeypatch.setattr(callbacks, "SECONDS", 0)
    diary, frames = Diary(), []
    run = fit(brief, data=toy_store, run=tmp_path / "r", callbacks=[diary, frames.append], **QUIET)
    assert diary.told == ["r", "closed"]
    assert [len(frame) for frame in diary.frames] == [1, 2] == [len(frame) for frame in frames]
    pd.testing.assert_frame_equal(diary.frames[-1], run.metrics)
    assert [row["epoch"] for row in diary.rows] == [0.5, 1, 1.5, 2]
    # The last report of an epoch is its row.
    for row, (_, whole) in zip(diary.rows[1::2], run.metrics.iterrows(), strict=True):
        for name in ("epoch", "lr", "train_loss", "train_top1"):
            assert row[name] == pytest.approx(whole[name])
        assert row["clips_per_s"] > 0


def test_callbacks_change_nothing(plain, toy_store, brief, tmp_path, monkeypatch):
    monkeypatch.setattr(callbacks, "SECONDS", 0)

    def greedy(metrics):
        metrics.loc[:, "train_loss"] = math.nan

    run = fit(brief, data=toy_store, run=tmp_path / "r", callbacks=(greedy, Diary()), **QUIET)
    one, other = plain.model().state_dict(), run.model().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert run.metrics["train_loss"].notna().all()


def test_a_failing_callback_costs_nothing_and_is_reported_once(toy_store, brief, tmp_path, caplog):
    class Broken(Diary):
        def __call__(self, metrics):
            super().__call__(metrics)
            raise OSError("no space left")

        def close(self):
            raise RuntimeError("not closed")

    broken, diary = Broken(), Diary()
    with caplog.at_level(logging.WARNING):
        run = fit(brief, data=toy_store, run=tmp_path / "r", callbacks=[broken, diary], **QUIET)
    assert run.finished
    assert len(broken.frames) == len(diary.frames) == 2
    [record] = [r for r in caplog.records if "callback" in r.message]
    assert "failed (OSError: no space left); training goes on" in record.message
    assert record.exc_info


def test_a_callback_cannot_swallow_an_interruption(toy_store, brief, tmp_path):
    def interrupt(metrics):
        raise KeyboardInterrupt

    diary = Diary()
    with pytest.raises(KeyboardInterrupt):
        fit(brief, data=toy_store, run=tmp_path / "r", callbacks=[diary, interrupt], **QUIET)
    assert diary.told[-1] == "closed"
    # The row was on the disk before anybody was told.
    assert len(open_run(tmp_path / "r").metrics) == 1
    resumed = fit(brief, data=toy_store, run=tmp_path / "r", resume=True, **QUIET)
    assert resumed.finished


def test_a_callback_must_be_callable(toy_store, brief, tmp_path):
    with pytest.raises(TypeError, match="called with the metrics so far, found 'loud'"):
        fit(brief, data=toy_store, run=tmp_path / "r", callbacks=["loud"], **QUIET)
    assert not (tmp_path / "r").exists()


def test_only_the_first_process_tells():
    diary = Diary()
    with CallbackList([diary], enabled=False) as told:
        told.start(None)
        told.epoch([{"epoch": 1}])
    assert (diary.told, diary.frames) == ([], [])


# --- TensorBoard


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def assert_the_curves(folder, metrics):
    found = scalars(folder)
    tags = {name: tag for name, tag in _TAGS.items() if not name.startswith("val_")}
    assert set(found) == set(tags.values())
    for name, tag in tags.items():
        expected = metrics[["epoch", name]].dropna()
        assert [step for step, _ in found[tag]] == expected["epoch"].tolist()
        assert [value for _, value in found[tag]] == pytest.approx(expected[name].tolist())


def test_tensorboard_has_the_run_curves(toy_store, brief, tmp_path):
    recipe = recipes.with_settings(brief, ["epochs=3", "validate_every=2"])
    callback = TensorBoard()
    for name in ("one", "two"):  # one callback, as for several seeds
        run = fit(recipe, data=toy_store, run=tmp_path / name, callbacks=[callback], **QUIET)
        assert_the_curves(run.path / "tensorboard", run.metrics)
    assert math.isnan(run.metrics["test_loss"].iloc[0])


def test_tensorboard_goes_on_after_a_kill_without_doubled_steps(toy_store, brief, tmp_path):
    recipe = recipes.with_settings(brief, ["epochs=4"])
    recipes.save(recipe, tmp_path / "toy.yaml")
    code = f"""
import os
from msg3d_lab.training import TensorBoard, fit

def kill(metrics):
    if len(metrics) == 2:
        os._exit(9)

fit({str(tmp_path / "toy.yaml")!r}, data={str(toy_store.path)!r}, run={str(tmp_path / "r")!r},
    device="cpu", progress=False, callbacks=[TensorBoard(), kill])
"""
    assert launchers.run_script(code, tmp_path)[0] == 9
    folder = tmp_path / "r" / "tensorboard"
    assert [step for step, _ in scalars(folder)["loss/train"]] == [1, 2]
    time.sleep(1)  # TensorBoard reads files in the order of the seconds in their names
    run = fit(
        recipe,
        data=toy_store,
        run=tmp_path / "r",
        resume=True,
        callbacks=[TensorBoard()],
        **QUIET,
    )
    assert_the_curves(folder, run.metrics)


def frame(epochs, *, loss=1.0):
    return pd.DataFrame({"epoch": range(1, epochs + 1), "train_loss": loss})


def test_tensorboard_of_a_run_that_was_set_back_forgets_what_came_after(tmp_path):
    first = TensorBoard(tmp_path)
    first(frame(3))
    first.close()
    second = TensorBoard(tmp_path)  # resumed from the end of epoch 1
    second(frame(2, loss=[1.0, 2.0]))
    second(frame(3, loss=[1.0, 2.0, 2.0]))
    second.close()
    assert scalars(tmp_path)["loss/train"] == [(1, 1.0), (2, 2.0), (3, 2.0)]


def test_tensorboard_of_another_run_in_the_folder_begins_anew(tmp_path):
    for loss in (1.0, 2.0):
        callback = TensorBoard(tmp_path)
        for epochs in (1, 2):
            callback(frame(epochs, loss=loss))
        callback.close()
    assert scalars(tmp_path)["loss/train"] == [(1, 2.0), (2, 2.0)]


def test_tensorboard_mends_an_epoch_that_was_written_in_part(tmp_path):
    whole = frame(2).assign(lr=0.1)
    for metrics in (whole.assign(lr=[0.1, math.nan]), whole):  # killed between two values
        callback = TensorBoard(tmp_path)
        callback(metrics)
        callback.close()
    assert scalars(tmp_path)["learning_rate"] == [(1, pytest.approx(0.1)), (2, pytest.approx(0.1))]
    assert [step for step, _ in scalars(tmp_path)["loss/train"]] == [1, 2]


def test_callbacks_are_told_of_a_last_epoch_after_which_the_run_was_killed(
    toy_store, brief, tmp_path
):
    def last(metrics):
        if len(metrics) == 2:
            raise KeyboardInterrupt

    options = {"data": toy_store, "run": tmp_path / "r", **QUIET}
    with pytest.raises(KeyboardInterrupt):
        fit(brief, callbacks=[last], **options)
    diary = Diary()
    run = fit(brief, resume=True, callbacks=[diary, TensorBoard()], **options)
    assert [len(frame) for frame in diary.frames] == [2]
    assert_the_curves(run.path / "tensorboard", run.metrics)
    # A finished run has nothing left to train either.
    fit(brief, resume=True, callbacks=[diary, TensorBoard()], **options)
    assert diary.told == ["r", "closed"] * 2
    pd.testing.assert_frame_equal(diary.frames[1], run.metrics)
    assert_the_curves(run.path / "tensorboard", run.metrics)


def test_tensorboard_that_came_later_gets_all_epochs(tmp_path):
    callback = TensorBoard(tmp_path / "late")
    callback(frame(3))
    callback.close()
    assert [step for step, _ in scalars(tmp_path / "late")["loss/train"]] == [1, 2, 3]


def test_tensorboard_can_be_sent_to_a_cluster(tmp_path):
    import pickle

    callback = pickle.loads(pickle.dumps(TensorBoard(tmp_path)))
    callback(frame(1))
    callback.close()
    assert len(scalars(tmp_path)["loss/train"]) == 1


def test_tensorboard_says_what_to_install_and_where_to_write(monkeypatch):
    with pytest.raises(ValueError, match="no folder to write to"):
        TensorBoard()(frame(1))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install msg3d-lab\[tensorboard\]"):
        TensorBoard()
