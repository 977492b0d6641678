"""Ctrl-C and a notebook's stop button: a checkpoint, one sentence, no traceback."""

import os
import re
import shutil
import signal
import time

import launchers
import pytest

from msg3d_lab.training import open_run, recipes
from msg3d_lab.training.signals import Stopped, say_when_interrupted

# What a cell calls, a file that is there once it is at work, and what is said after a stop.
CALLS = {
    "fit": (
        "lab.fit({recipe!r}, data={data!r}, run={tmp!r} + '/run', resume=True, device='cpu')",
        "run/metrics.csv",
        r"stopped: the checkpoint is of .*; go on with --resume \(resume=True\)",
    ),
    "ablate": (
        "lab.experiments.ablate(lab.experiments.Grid(name='toy', title='', source='', seeds=(1,), "
        "recipe={recipe!r}, variants=[dict(name='a')]), data={data!r}, runs={tmp!r}, device='cpu')",
        "a/seed-1/metrics.csv",
        "stopped: trainings have written their checkpoints; the same call goes on",
    ),
    "evaluate": (
        "lab.evaluate({trained!r}, data={data!r}, num_clips=400, save_seconds=0, device='cpu')",
        "trained/testing-*/*.npz",
        "stopped: [1-9]+ of 13 samples are scored; the same call goes on",
    ),
    "explain": (
        "from msg3d_lab.explain import *; explain_run({trained!r}, Shapley(samples=100_000), "
        "Options(data={data!r}, device='cpu'))",
        "trained/.importance*.lock",
        "stopped: finished chunks of clips are kept; the same call goes on",
    ),
}


def test_an_interrupt_gets_a_message_and_stopped_keeps_its_own():
    with pytest.raises(Stopped, match=r"^go on$"), say_when_interrupted("go on"):
        raise KeyboardInterrupt
    with pytest.raises(Stopped, match=r"^mine$") as stopped, say_when_interrupted("other"):
        raise Stopped("mine")
    assert stopped.value._render_traceback_() == ["mine"]
    with pytest.raises(ValueError, match="wrong"), say_when_interrupted("other"):
        raise ValueError("wrong")


@pytest.fixture(scope="module")
def kernel():
    """A kernel as a notebook has one."""
    from jupyter_client.manager import start_new_kernel

    # Tests that were started in the background inherit that SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    manager, client = start_new_kernel()
    client.execute("import msg3d_lab as lab", silent=True)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def endless(toy_recipe, tmp_path_factory):
    """The path of a recipe whose training does not end by itself."""
    path = tmp_path_factory.mktemp("recipe") / "endless.yaml"
    recipes.save(recipes.with_settings(toy_recipe, ["epochs=4000", "validate_every=0"]), path)
    return path


def wait_for(folder, pattern):
    end = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert time.monotonic() < end, f"{pattern} never came"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no signals; un-skip never")
@pytest.mark.filterwarnings("ignore")  # the notebook stack warns about its own future
@pytest.mark.parametrize("name", CALLS)
def test_the_stop_button_shows_one_sentence(name, kernel, endless, toy_run, toy_store, tmp_path):
    call, begun, expected = CALLS[name]
    trained = shutil.copytree(toy_run.path, tmp_path / "trained")
    values = {"recipe": endless, "data": toy_store.path, "trained": trained, "tmp": tmp_path}
    manager, client = kernel
    asked = client.execute(call.format(**{key: str(value) for key, value in values.items()}))
    wait_for(tmp_path, begun)
    manager.interrupt_kernel()
    said = []
    while not said or said[-1].get("execution_state") != "idle":
        message = client.get_iopub_msg(timeout=60)
        said += [message["content"]] * (message["parent_header"].get("msg_id") == asked)
    (error,) = [content for content in said if "traceback" in content]
    assert error["ename"] == "Stopped"
    (line,) = error["traceback"]
    assert re.fullmatch(expected, line)
    assert not [c for c in said if "stopped" in c.get("text", "")]  # said once
    if name == "fit":
        assert open_run(tmp_path / "run").has_checkpoint


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no signals; un-skip never")
def test_ctrl_c_in_the_shell_says_how_to_go_on(endless, toy_store, tmp_path):
    words = ["train", endless, "--device", "cpu"]
    words += ["--data", toy_store.path, "--run", tmp_path / "run"]
    process = launchers.start("msg3d_lab", *words, output=tmp_path / "said")
    wait_for(tmp_path, "run/metrics.csv")
    os.kill(process.pid, signal.SIGINT)
    assert launchers.finish([process]) == [130]
    said = (tmp_path / "said").read_text()
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("msg3d-lab: stopped: the checkpoint is of ")
    assert last.endswith("; go on with --resume (resume=True)")
