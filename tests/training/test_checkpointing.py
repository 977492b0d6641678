"""Runs that are killed, stopped, starved and tampered with, against one that is left alone."""

import os
import resource
import shutil
import signal
import threading
import time
from contextlib import contextmanager

import launchers
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msg3d_lab import cli, evaluation
from msg3d_lab.data import Clip, open_store, write_store
from msg3d_lab.training import Requeue, fit, loop, open_run, recipes, session
from msg3d_lab.training.checkpointing import (
    read_checkpoint,
    remove_checkpoints,
    write_checkpoint,
)
from msg3d_lab.training.runs import Run
from msg3d_lab.training.session import check_unchanged
from msg3d_lab.training.signals import stop_signal

TIMING = ["seconds", "clips_per_s"]
KILLS = 10
# All that draws random numbers or remembers something from step to step.
SETTINGS = ["epochs=2", "repeat=2", "dropout=0.2", "ema_decay=0.9", "clip_norm=1"]
SETTINGS += ["validation_subjects=[3]", "keep=best", "rotation=[0, 30, 0]", "flip=0.5"]


@pytest.fixture(scope="module")
def words(toy_store, toy_recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "toy.yaml"
    recipes.save(recipes.with_settings(toy_recipe, SETTINGS), path)
    return ["train", str(path), "--data", str(toy_store.path), "--device", "cpu"]


@pytest.fixture(scope="module")
def start(words):
    """Start a real process that trains."""

    def start(folder, *more):
        options = ["--run", folder, "--resume", "--checkpoint-minutes", "0", *more]
        return launchers.start("msg3d_lab", *words, *options)

    return start


@pytest.fixture
def start_two(words):
    """Start two real processes that train together, as torchrun would."""

    def start_two(folder):
        options = ["--run", folder, "--resume", "--checkpoint-minutes", "0"]
        options += ["--set", "batch_size=4", "repeat=1"]
        return launchers.start_group(2, "msg3d_lab", *words, *options)

    return start_two


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert launchers.finish([start(folder, "--checkpoint-minutes", "5")]) == [0]
    run = open_run(folder)
    evaluation.evaluate(run, device="cpu", progress=False)
    return run


def assert_the_same(folder, undisturbed, *, scores=True):
    run = open_run(folder)
    names = {p.name for p in run.path.iterdir()}
    assert names == {
        "recipe.yaml",
        "environment.json",
        "metrics.csv",
        "model.safetensors",
        "training.log",
    }
    assert run.checkpoint.read_bytes() == undisturbed.checkpoint.read_bytes()
    one, other = (r.metrics.drop(columns=TIMING) for r in (run, undisturbed))
    assert one.to_csv() == other.to_csv()
    if scores:
        found = evaluation.evaluate(run, device="cpu", progress=False).scores
        expected = evaluation.read_scores(undisturbed.scores_path)
        assert found.ids == expected.ids
        np.testing.assert_array_equal(found.values, expected.values)


def kill(process):
    process.kill()
    process.join(60)
    return process.exitcode == -signal.SIGKILL  # else it had ended by itself


def wait_for(found, process, *, seconds=60):
    """Wait until `found()`, or until the process has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.is_alive():
        for _ in range(50):
            if found():
                return True
            time.sleep(2e-4)
    return False


def test_run_killed_at_random_moments_ends_as_if_it_was_not(start, undisturbed, tmp_path):
    rng = np.random.default_rng(0)
    kills, number = 0, 0
    while kills < KILLS:
        folder = tmp_path / f"run{number}"
        finished = False
        while not finished:
            process = start(folder)
            if kills < KILLS:
                wait_for(folder.exists, process)  # the start itself is not what is tested
                process.join(rng.uniform(0, 0.7))
                kills += kill(process)
            else:
                process.join(60)
            finished = process.exitcode == 0
            assert process.exitcode in (0, -signal.SIGKILL)
        assert_the_same(folder, undisturbed)
        number += 1


def test_run_killed_while_it_writes_a_checkpoint_goes_on(start, undisturbed, tmp_path):
    folder = tmp_path / "run"

    def writes():
        return any(p.name.startswith(".resume.pt") for p in folder.iterdir())

    halves = 0
    for _ in range(6):
        process = start(folder)
        wait_for(folder.exists, process)
        wait_for(writes, process)
        if not kill(process):
            break
        halves += writes()
        read_checkpoint(folder)  # one of the two is always whole, or there is none yet
    assert halves  # a half-written checkpoint was left behind at least once
    process = start(folder)
    process.join(60)
    assert process.exitcode == 0
    assert_the_same(folder, undisturbed)


def test_sigterm_leaves_a_checkpoint_and_says_requeue(start, undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = start(folder)
    assert wait_for((folder / "resume.pt").exists, process)
    process.terminate()
    process.join(60)
    assert process.exitcode == 75
    state, damaged = read_checkpoint(folder)
    assert (state["version"], damaged) == (2, None)
    assert not list(folder.glob(".*"))
    process = start(folder)
    process.join(60)
    assert process.exitcode == 0
    assert_the_same(folder, undisturbed)
    assert open_run(folder).environment["resumed"] == 1


def test_resume_of_adamw_with_accumulated_batches(start, tmp_path):
    settings = ["--set", "optimizer=adamw", "learning_rate=0.001", "accumulate=2", "batch_size=5"]
    settings += ["repeat=1"]
    folders = tmp_path / "one", tmp_path / "other"
    process = start(folders[0], *settings)
    assert wait_for((folders[0] / "resume.pt").exists, process)
    process.kill()
    process.join(60)
    for folder in folders:
        process = start(folder, *settings)
        process.join(60)
        assert process.exitcode == 0
    assert_the_same(folders[0], open_run(folders[1]), scores=False)


def test_second_process_on_a_run_refuses(start, words, toy_store, undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = start(folder)
    assert wait_for((folder / "resume.pt").exists, process)
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(BlockingIOError, match=f"in use by process {process.pid} on .*wait for it"):
        fit(words[1], data=toy_store, run=folder, resume=True, device="cpu", progress=False)
    with pytest.raises(FileExistsError, match=r"go on with it by --resume \(resume=True\)"):
        fit(words[1], data=toy_store, run=folder, device="cpu", progress=False)
    os.kill(process.pid, signal.SIGCONT)
    process.join(60)
    assert process.exitcode == 0
    assert_the_same(folder, undisturbed)


def test_several_processes_stop_and_go_on_together(start_two, tmp_path):
    """Also if only one of them is told to stop."""
    one, other = tmp_path / "one", tmp_path / "other"
    processes = start_two(one)
    assert wait_for((one / "resume.pt").exists, processes[0])
    processes[1].terminate()
    for process in processes:
        process.join(60)
        assert process.exitcode == 75
    processes = start_two(one)
    assert wait_for((one / ".lock").exists, processes[0])
    time.sleep(0.3)
    for process in processes:
        process.kill()
        process.join(60)
    for processes in (start_two(one), start_two(other)):
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
    assert_the_same(one, open_run(other), scores=False)


def test_finished_run_is_returned_as_it_is(undisturbed, start, words, toy_store, capsys):
    before = {p: p.stat().st_mtime_ns for p in undisturbed.path.iterdir()}
    cli.main([*words, "--run", str(undisturbed.path), "--resume"])
    assert f"Finished: {undisturbed.path}; validation (1 clip)" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in undisturbed.path.iterdir()}


# A run that stands still after its first epoch, to be resumed in many ways.


@pytest.fixture(scope="module")
def small(toy_recipe):
    return recipes.with_settings(
        toy_recipe, ["epochs=2", "batch_size=12", "dropout=0.2", "validate_every=1"]
    )


@pytest.fixture(scope="module")
def stopped(small, toy_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:

        def validate_and_stop(*arguments, validate=loop.validate, **options):
            found = validate(*arguments, **options)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)  # the handler runs between two lines of Python
            return found

        patch.setattr(loop, "validate", validate_and_stop)
        with pytest.raises(Requeue, match="75") as stopped:
            fit(small, data=toy_store, run=folder, device="cpu", progress=False)
    assert stopped.value.code == 75
    assert "the checkpoint is of the end of epoch 1; go on with --resume" in stopped.value.message
    return Run(folder)


@pytest.fixture
def again(stopped, tmp_path):
    """A copy of the stopped run."""
    return Run(shutil.copytree(stopped.path, tmp_path / "again"))


def test_resume_needs_the_same_recipe(again, small, toy_store):
    other = recipes.with_settings(small, ["epochs=3", "stream=bone"])
    with pytest.raises(ValueError, match=r"cannot be resumed: .*") as refused:
        fit(other, data=toy_store, run=again.path, resume=True, device="cpu", progress=False)
    assert "data.stream is 'joint' in the run and 'bone' now" in str(refused.value)
    assert "training.epochs is 2 in the run and 3 now" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"world_size": 2}, "the number of processes was 2 and is 1 now"),
        ({"precision": "bf16-mixed"}, "the precision was bf16-mixed and is 32-true now"),
        ({"device": "cuda:0"}, "the device was cuda and is cpu now"),
        (
            {"data": {"path": "elsewhere", "fingerprint": "123"}},
            "the store's fingerprint was 123 and is",
        ),
    ],
)
def test_resume_needs_the_same_facts(change, message, again, small, toy_store):
    again.write_environment({**again.environment, **change})
    with pytest.raises(ValueError, match=message):
        fit(small, data=toy_store, run=again.path, resume=True, device="cpu", progress=False)


def test_resume_of_a_run_made_of_a_checkpoint_is_refused(again, small, toy_store):
    again.write_environment({"weights": {"sha256": "0"}, "data": again.environment["data"]})
    with pytest.raises(ValueError, match=r"was made of a checkpoint.* with --init"):
        fit(small, data=toy_store, run=again.path, resume=True, device="cpu", progress=False)


def test_resume_says_what_may_change_the_last_digits(again, small, toy_store, caplog):
    again.write_environment({**again.environment, "threads": 99})
    with caplog.at_level("INFO", logger="msg3d_lab"):
        fit(small, data=toy_store, run=again.path, resume=True, device="cpu", progress=False)
    assert "resumed from the end of epoch 1; results may differ in their last digits" in caplog.text
    assert f"threads 99 before, {torch.get_num_threads()} now" in caplog.text


def test_resume_of_a_damaged_checkpoint_takes_the_one_before(
    again, stopped, small, toy_store, caplog
):
    """Here the previous one is of the same place."""
    newest, previous = again.path / "resume.pt", again.path / "resume.previous.pt"
    assert previous.exists()
    newest.write_bytes(newest.read_bytes()[:-1000])
    with caplog.at_level("INFO", logger="msg3d_lab"):
        run = fit(small, data=toy_store, run=again.path, resume=True, device="cpu", progress=False)
    assert "resume.pt is damaged or cut short" in caplog.text
    assert "gone back to the one before it" in caplog.text
    assert run.finished
    assert run.metrics["epoch"].tolist() == [1, 2]


def test_resume_of_a_run_stopped_while_it_finished(again, small, toy_store, monkeypatch):
    """The weights are there, the checkpoints too."""
    options = {"data": toy_store, "device": "cpu", "progress": False, "resume": True}

    def full(folder):
        raise OSError("no more")

    monkeypatch.setattr(session, "remove_checkpoints", full)
    with pytest.raises(OSError, match="no more"):
        fit(small, run=again.path, **options)
    before = again.checkpoint.read_bytes()
    assert not again.finished
    monkeypatch.undo()
    assert fit(small, run=again.path, **options).finished
    assert again.checkpoint.read_bytes() == before


def test_resume_of_another_version_s_checkpoint_is_refused(again, small, toy_store):
    state, _ = read_checkpoint(again.path)
    write_checkpoint(again.path, {**state, "version": 1})
    with pytest.raises(ValueError, match="of another version of msg3d-lab: finish the run with"):
        fit(small, data=toy_store, run=again.path, resume=True, device="cpu", progress=False)


def test_resume_without_a_whole_checkpoint_says_so(again, small, toy_store):
    for name in ("resume.pt", "resume.previous.pt"):
        (again.path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"resume.pt is damaged.*previous.pt is damaged.*new run"):
        fit(small, data=toy_store, run=again.path, resume=True, device="cpu", progress=False)


def test_resume_of_a_folder_that_is_no_run(tmp_path, small, toy_store):
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        fit(small, data=toy_store, run=tmp_path, resume=True, device="cpu", progress=False)


# Checkpoints.


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in range(2):
        write_checkpoint(folder, {"step": step, "rows": [{"lr": 0.1}], "w": torch.arange(9.0)})
    return folder


def test_write_checkpoint_keeps_two_that_torch_can_read(checkpoints):
    for name, step in (("resume.pt", 1), ("resume.previous.pt", 0)):
        state = torch.load(checkpoints / name, weights_only=True)
        assert (state["step"], state["rows"]) == (step, [{"lr": 0.1}])
    assert len(list(checkpoints.iterdir())) == 2


@given(st.data())
def test_read_checkpoint_never_takes_a_damaged_one(checkpoints, data):
    whole = (checkpoints / "resume.pt").read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    damage = data.draw(st.sampled_from(["cut", "flip", "insert"]))
    if damage == "cut":
        damaged = whole[:place]
    elif damage == "flip":
        byte = whole[place] ^ data.draw(st.integers(1, 255))
        damaged = whole[:place] + bytes([byte]) + whole[place + 1 :]
    else:
        damaged = whole[:place] + data.draw(st.binary(min_size=1, max_size=9)) + whole[place:]
    (checkpoints / "resume.pt").write_bytes(damaged)
    try:
        state, problem = read_checkpoint(checkpoints)
    finally:
        (checkpoints / "resume.pt").write_bytes(whole)
    if damaged != whole:
        assert state["step"] == 0
        assert "resume.pt is damaged or cut short" in problem


def test_read_checkpoint_of_a_run_killed_between_two_names(tmp_path):
    assert read_checkpoint(tmp_path) == (None, None)
    write_checkpoint(tmp_path, {"step": 0})
    (tmp_path / "resume.pt").rename(tmp_path / "resume.previous.pt")
    assert read_checkpoint(tmp_path) == ({"step": 0}, None)
    write_checkpoint(tmp_path, {"step": 1})
    assert read_checkpoint(tmp_path) == ({"step": 1}, None)
    remove_checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def files_of_at_most(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_leaves_the_checkpoints_as_they_were(again, small, toy_store, stopped):
    """Python ignores SIGXFSZ, so a file over the limit is an OSError like one on a full disk."""
    names = ("resume.pt", "resume.previous.pt")
    before = [(again.path / name).read_bytes() for name in names]
    with (
        files_of_at_most(50_000),
        pytest.raises(OSError, match=r"cannot write the checkpoint .*File too large.*--resume"),
    ):
        fit(small, data=toy_store, run=again.path, resume=True, device="cpu", progress=False)
    assert before == [(again.path / name).read_bytes() for name in names]
    assert not list(again.path.glob(".*"))
    run = fit(small, data=toy_store, run=again.path, resume=True, device="cpu", progress=False)
    assert run.finished


def test_folder_that_cannot_be_written_is_an_oserror(small, toy_store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="File exists"):
        fit(small, data=toy_store, run=tmp_path / "file" / "run", device="cpu", progress=False)
    if os.geteuid():  # nothing is closed to root
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(PermissionError):
            fit(small, data=toy_store, run=tmp_path / "closed" / "run", device="cpu")


# The store.


def test_check_unchanged_notices_another_store(toy_store, tmp_path):
    path = tmp_path / "toy.arrow"
    shutil.copy(toy_store.path, path)
    store = open_store(path)
    check_unchanged(store)
    os.utime(path)
    check_unchanged(store)
    other = write_store(
        tmp_path / "other.arrow",
        [toy_store.clip(i) for i in range(5)],
        dataset="toy",
        skeleton=toy_store.skeleton,
        label_names=toy_store.label_names,
        channels=3,
        preparation={"name": "none"},
    )
    other.replace(path)
    with pytest.raises(ValueError, match=r"was changed while it was in use: its fingerprint was"):
        check_unchanged(store)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"was removed while it was in use: put it back"):
        check_unchanged(store)


def test_fit_stops_when_its_store_is_removed(small, toy_store, tmp_path, monkeypatch):
    path = tmp_path / "toy.arrow"
    shutil.copy(toy_store.path, path)

    def validate_and_remove(*arguments, validate=loop.validate, **options):
        path.unlink(missing_ok=True)
        return validate(*arguments, **options)

    monkeypatch.setattr(loop, "validate", validate_and_remove)
    with pytest.raises(FileNotFoundError, match="was removed while it was in use"):
        fit(small, data=path, run=tmp_path / "run", device="cpu", progress=False)
    shutil.copy(toy_store.path, path)
    monkeypatch.undo()
    run = fit(small, data=path, run=tmp_path / "run", resume=True, device="cpu", progress=False)
    assert run.metrics["epoch"].tolist() == [1, 2]


# Numbers that are not finite.


@pytest.fixture(scope="module")
def poisoned(toy_store, tmp_path_factory):
    """The toy store with a clip whose numbers are too large to be squared."""
    clips = [toy_store.clip(i) for i in range(len(toy_store))]
    huge = np.full_like(clips[7].keypoints, 3e38)
    clips[7] = Clip("poison", huge, clips[7].label, clips[7].splits, subject=0)
    return open_store(
        write_store(
            tmp_path_factory.mktemp("poisoned") / "toy.arrow",
            clips,
            dataset="toy",
            skeleton=toy_store.skeleton,
            label_names=toy_store.label_names,
            channels=3,
            preparation={"name": "none"},
        )
    )


def test_on_nan_stop_reports_and_skip_goes_on(small, poisoned, tmp_path, caplog):
    options = {"data": poisoned, "device": "cpu", "progress": False, "checkpoint_minutes": 0}
    with pytest.raises(ValueError, match="the loss is nan") as stopped:
        fit(small, run=tmp_path / "run", **options)
    for part in (" at epoch 1, step ", "poison", "last good checkpoint: ", "skip"):
        assert part in str(stopped.value)
    with caplog.at_level("INFO", logger="msg3d_lab"):
        run = fit(small, run=tmp_path / "run", resume=True, on_nan="skip", **options)
    assert caplog.text.count("this step is skipped") == 2
    assert run.metrics["skipped"].tolist() == [1, 1]
    weights = run.model().state_dict()
    assert all(torch.isfinite(v).all() for v in weights.values())
    assert (run.metrics["train_loss"] < 2).all()
    other = fit(small, run=tmp_path / "other", on_nan="skip", **options)
    assert other.checkpoint.read_bytes() == run.checkpoint.read_bytes()


def test_on_nan_skip_stops_after_many_in_a_row(small, toy_store, tmp_path):
    recipe = recipes.with_settings(
        small, ["learning_rate=1e30", "warmup_epochs=0", "repeat=4", "epochs=1"]
    )
    with pytest.raises(ValueError, match=r"so were the 9 steps before; last good"):
        fit(
            recipe,
            data=toy_store,
            run=tmp_path / "run",
            device="cpu",
            on_nan="skip",
            progress=False,
        )


@pytest.mark.filterwarnings("ignore:The `srun` command is available")  # a Fabric of its own
@pytest.mark.parametrize("clip_norm", [0, 1])
def test_fp16_keeps_its_loss_scale_and_skips_a_step(
    clip_norm, small, poisoned, tmp_path, monkeypatch
):
    """Fabric has fp16 on CUDA only, but its parts work on a CPU too."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision

    def launch(*arguments, **options):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14, growth_interval=3)
        precision = MixedPrecision("16-mixed", "cpu", scaler)
        return Fabric(accelerator="cpu", devices=1, plugins=[precision])

    monkeypatch.setattr(loop, "launch", launch)
    options = {"data": poisoned, "device": "cpu", "progress": False, "on_nan": "skip"}
    recipe = recipes.with_settings(small, {"clip_norm": clip_norm})
    whole = fit(recipe, run=tmp_path / "whole", **options)
    assert whole.metrics["skipped"].tolist() == [1, 1]

    def stop_and_validate(*arguments, validate=loop.validate, **more):
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(*arguments, **more)

    monkeypatch.setattr(loop, "validate", stop_and_validate)
    with pytest.raises(Requeue):
        fit(recipe, run=tmp_path / "run", **options)
    state, _ = read_checkpoint(tmp_path / "run")
    assert state["precision"]["growth_interval"] == 3
    assert (state["epoch"], state["step"]) == (0, 3)  # all steps done, not validated yet
    monkeypatch.undo()
    monkeypatch.setattr(loop, "launch", launch)
    run = fit(recipe, run=tmp_path / "run", resume=True, **options)
    assert run.checkpoint.read_bytes() == whole.checkpoint.read_bytes()


# Signals.


@pytest.fixture
def ctrl_c():
    """Ctrl-C works as in a terminal; a process started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_leaves_a_checkpoint_and_interrupts(small, toy_store, tmp_path, monkeypatch):
    def interrupt_and_validate(*arguments, validate=loop.validate, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return validate(*arguments, **options)

    monkeypatch.setattr(loop, "validate", interrupt_and_validate)
    options = {"data": toy_store, "run": tmp_path / "run", "device": "cpu", "progress": False}
    with pytest.raises(KeyboardInterrupt, match=r"checkpoint is of step 3 of epoch 1; .*--resume"):
        fit(small, **options)
    state, _ = read_checkpoint(tmp_path / "run")
    assert (state["epoch"], state["step"]) == (0, 3)
    monkeypatch.undo()
    assert fit(small, resume=True, **options).finished


def test_stop_signal_gives_the_handler_back():
    before = signal.getsignal(signal.SIGTERM)
    with stop_signal() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("ctrl_c")
def test_stop_signal_leaves_ignored_signals_alone_and_a_second_ctrl_c_interrupts():
    with stop_signal() as stop:
        signal.raise_signal(signal.SIGINT)
        assert isinstance(stop.error("why"), KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_signal() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGINT, before)


def test_stop_signal_in_a_thread_only_listens_never():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def listen():
        with stop_signal() as stop:
            seen.append((signal.getsignal(signal.SIGTERM) is before, stop.is_set()))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [(True, False)]
