"""The form of a recipe, the run it starts, and the monitor."""

import os
import time

import launchers
import pytest

from msg3d_lab.training import recipes
from msg3d_lab.training.runs import create_run
from msg3d_lab.training.settings import Data, Model, Training
from msg3d_lab.widgets import RunMonitor, TrainingPanel
from msg3d_lab.widgets.jobs import Job
from msg3d_lab.widgets.recipe_form import argument_help, changed_recipe, form_fields


@pytest.fixture(scope="module")
def recipe():
    return recipes.get("synthetic-joint")


def wait_until(true):
    end = time.monotonic() + 100
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_form_has_every_setting_with_help_and_gives_the_recipe_back(recipe):
    fields = form_fields(recipe)
    expected = [
        f"{name}.{field}"
        for name, section in (("training", Training), ("data", Data), ("model", Model))
        for field in section.model_fields
    ]
    assert [field["name"] for field in fields] == [*expected, "test_clips"]
    assert all(field["help"] for field in fields)
    same, errors = changed_recipe(recipe, {field["name"]: field["value"] for field in fields})
    assert (same, errors) == (recipe, {})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("training.epochs", "0", "expected 1 or more, found 0"),
        ("training.epochs", "many", 'expected a whole number, found "many"'),
        ("training.momentum", "1", "expected less than 1.0, found 1"),
        ("training.optimizer", "lion", "expected one of 'sgd' or 'adamw', found \"lion\""),
        ("model.window_sizes", "[3, 0]", "expected 1 or more, found 0 (value 2 of the list)"),
        ("model.window_sizes", "3", "expected a list such as [1, 2], found 3"),
        ("model.dropout", "[", "expected a value in YAML, found '['"),
    ],
)
def test_errors_are_beside_their_fields_in_words(recipe, name, value, said):
    assert changed_recipe(recipe, {name: value}) == (None, {name: said})


def test_errors_of_several_settings_together_are_said(recipe):
    _, errors = changed_recipe(recipe, {"model.window_sizes": "[3, 5]"})
    assert list(errors) == ["model"]
    assert "must have the same length" in errors["model"]


def test_argument_help_joins_lines():
    text = """First.

    Args:
        one: what it is,
            at length.
        two: more.

    Shapes:
        x: no.
    """
    assert argument_help(text) == {"one": "what it is, at length.", "two": "more."}


def test_settings_are_readable_and_checked_from_python(tmp_path):
    panel = TrainingPanel(settings=["epochs=7"], run=tmp_path / "run")
    assert panel.recipe.training.epochs == 7
    panel.settings = {"training.epochs": 3}
    assert panel.recipe.training.epochs == 3
    panel.settings = {"training.epochs": -1}
    assert panel.errors == {"training.epochs": "expected 1 or more, found -1"}
    with pytest.raises(ValueError, match=r"training\.epochs: expected 1 or more"):
        panel.begin()
    with pytest.raises(ValueError, match="unknown setting 'epoch'"):
        panel.settings = {"epoch": 1}
    assert not Job(tmp_path / "run").files.exists()
    (tmp_path / "seed-1").mkdir()  # another run, not an earlier one of that name
    assert TrainingPanel(run=tmp_path / "seed-5").folder == str(tmp_path / "seed-5")
    assert "with training.epochs=-1" in panel.describe()
    assert len(panel.html()) < 250_000


@pytest.mark.slow
def test_a_run_is_started_and_the_same_call_shows_it(toy_recipe, toy_store, tmp_path):
    options = {"data": toy_store.path, "run": tmp_path / "run", "device": "cpu"}
    panel = TrainingPanel(toy_recipe, **options)
    panel.settings = {"training.epochs": "1"}
    panel._receive(panel, {"action": "begin"}, [])
    assert panel.data["state"] == "starting"
    assert panel.data["actions"] == ["stop"]
    other = TrainingPanel(toy_recipe, **options)
    assert other.data["state"] in ("starting", "training")
    wait_until(lambda: other.refresh() or other.data["state"] == "trained")
    assert other.data["epoch"] == 1
    assert other.data["curves"]["train_top1"][0][0] == 1
    assert recipes.load(tmp_path / "run/recipe.yaml").training.epochs == 1
    assert other.folder == str(tmp_path / "run-2")  # of the next one
    monitor = RunMonitor(tmp_path / "run", device="cpu")
    assert monitor.data["actions"] == ["test"]
    monitor._receive(monitor, {"action": "test"}, [])
    assert monitor.data["state"] == "testing"
    wait_until(lambda: monitor.refresh() or monitor.data["state"] == "tested")
    assert monitor.data["tested"].endswith(")")
    assert (tmp_path / "run/report.html").is_file()


def test_what_cannot_be_done_is_said(toy_run, tmp_path):
    monitor = RunMonitor(toy_run)
    monitor._receive(monitor, {"action": "start"}, [])
    assert "is finished: name another folder" in monitor.data["problem"]
    assert monitor.answered == 1
    with pytest.raises(ValueError, match=r"nothing that works on .* can be stopped"):
        monitor.stop()
    missing = RunMonitor(tmp_path / "none")
    assert (missing.data["state"], missing.data["actions"]) == ("missing", [])
    assert missing.describe() == f"Run {tmp_path / 'none'}: missing"
    missing.figure()
    with pytest.raises(ValueError, match="give RunMonitor a recipe"):
        missing.start()
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="found the file"):
        RunMonitor(tmp_path / "file")


def test_a_start_that_fails_says_why(toy_recipe, tmp_path):
    monitor = RunMonitor(tmp_path / "run", recipe=toy_recipe, data=tmp_path / "no.arrow")
    assert monitor.data["actions"] == ["start"]
    monitor._receive(monitor, {"action": "start"}, [])
    wait_until(lambda: monitor.refresh() or monitor.data["state"] == "failed")
    assert "no.arrow" in monitor.data["problem"]
    assert monitor.data["actions"] == ["start"]


@pytest.mark.parametrize("there", [True, False])
def test_a_run_is_resumed_on_the_data_it_began_with(recipe, there, tmp_path, monkeypatch):
    store = tmp_path / "cache.arrow"
    if there:
        store.touch()
    data = {"path": str(store), "fingerprint": "f"}
    facts = {"device": "cpu:0", "precision": "32-true", "data": data}
    create_run(tmp_path / "run", recipe, facts)
    monitor, said = RunMonitor(tmp_path / "run"), []
    monkeypatch.setattr(monitor._job, "start", said.extend)
    monitor.start()
    assert said[0] == "train"
    assert "--resume" in said
    # Without a store named, training makes the synthetic set again.
    assert said[-2:] == ["--data", str(store)] if there else "--data" not in said


def test_nothing_is_read_while_nobody_looks(toy_run):
    monitor = RunMonitor(toy_run)
    assert monitor._thread is None
    monitor._receive(monitor, {"action": "look"}, [])
    assert monitor._thread.is_alive()
    monitor.close()
    monitor._thread.join(10)
    assert not monitor._thread.is_alive()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no signals; un-skip never")
def test_a_run_of_a_shell_is_followed_and_stopped(toy_recipe, toy_store, tmp_path):
    path = tmp_path / "endless.yaml"
    recipes.save(recipes.with_settings(toy_recipe, ["epochs=4000", "validate_every=0"]), path)
    words = ["train", path, "--device", "cpu", "--data", toy_store.path, "--run", tmp_path / "run"]
    process = launchers.start("msg3d_lab", *words, output=tmp_path / "said")
    monitor = RunMonitor(tmp_path / "run")
    wait_until(lambda: monitor.refresh() or monitor.data["clips_per_s"])
    assert monitor.data["state"] == "training"
    assert monitor.data["holder"].startswith(f"process {process.pid} on ")
    assert monitor.data["seconds_left"] is None or monitor.data["seconds_left"] > 0
    monitor._receive(monitor, {"action": "stop"}, [])
    assert monitor.data["state"] in ("stopping", "stopped")
    assert launchers.finish([process]) == [75]
    assert "msg3d-lab: stopped: the checkpoint is of " in (tmp_path / "said").read_text()
    monitor.refresh()
    assert (monitor.data["state"], monitor.data["actions"]) == ("stopped", ["resume"])
    assert "stopped: the checkpoint is of " in monitor.data["log"][-1]
