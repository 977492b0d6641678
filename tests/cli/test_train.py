import re

import pytest

from msg3d_lab.training import open_run, recipes
from msg3d_lab.training.diagnostics import estimation


@pytest.fixture
def toy(toy_recipe, toy_store, tmp_path):
    """The shell's words for the toy recipe and store."""
    recipes.save(toy_recipe, tmp_path / "toy.yaml")
    return ["toy.yaml", "--data", toy_store.path, "--device", "cpu"]


def test_info_predicts_what_training_takes(shell, toy, monkeypatch):
    # Fresh processes take seconds: test_memory.py starts some.
    monkeypatch.setattr(estimation, "peak_memory", lambda *_, **__: 123_000_000)
    code, out, err = shell("info", *toy, "--seconds", "0.5", "--set", "batch_size=4")
    assert code == 0, err
    assert out.startswith("recipe                  toy-joint\n")
    for word in ("parameters", "GMACs", "activations, per clip", "training, 1000 clips"):
        assert word in out
    assert "whole run" in out
    assert "bodies computed         1.73 of 2 per clip, empty ones once a batch\n" in out
    assert re.search(r"^peak memory, \d clips +123 MB$", out, re.M)


def test_info_works_without_a_store(shell):
    settings = ["--set", "base_channels=6", "num_gcn_scales=2", "clip_len=8", "batch_size=2"]
    code, out, err = shell("info", "ntu60-xsub-2d-bone", "--no-calibration", *settings)
    assert code == 0, err
    assert "not calibrated" in out
    assert "epoch" not in out


def test_train_writes_for_tensorboard(shell, toy, tmp_path):
    code, _, err = shell("train", *toy, "--run", "r", "--tensorboard", "--set", "epochs=1")
    assert code == 0, err
    assert list((tmp_path / "r/tensorboard").glob("events.out.tfevents.*"))
    assert open_run(tmp_path / "r").finished


def test_train_slurm_goes_with_seeds_but_not_with_devices(shell, toy):
    request = ["--slurm", "partition=gpu,gpus=1,hours=1"]
    code, _, err = shell("train", *toy, "--seeds", "1", "2", *request)
    assert (code, "--slurm goes without --device, --devices and --num-nodes" in err) == (2, True)
