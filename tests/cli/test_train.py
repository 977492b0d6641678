import pytest

from msg3d_lab.training import open_run, recipes


@pytest.fixture
def toy(toy_recipe, toy_store, tmp_path):
    """The shell's words for the toy recipe and store."""
    recipes.save(toy_recipe, tmp_path / "toy.yaml")
    return ["toy.yaml", "--data", toy_store.path, "--device", "cpu"]


def test_info_predicts_what_training_takes(shell, toy, monkeypatch):
    # As on a system that does not tell: the fresh processes are test_held.py's, and take seconds.
    module = __import__("msg3d_lab.training.diagnostics.estimate", fromlist=["_"])
    monkeypatch.setattr(module, "held_bytes", lambda *_, **__: None)
    code, out, err = shell("info", *toy, "--seconds", "0.5", "--set", "batch_size=4")
    assert code == 0, err
    assert out.startswith("recipe                  toy-joint\n")
    for word in ("parameters", "GMACs", "activations, per clip", "training, 1000 clips", "4 *"):
        assert word in out
    assert "whole run" in out
    assert "bodies computed         1.73 of 2 per clip, empty ones once a batch\n" in out
    assert "process" not in out


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
    code, _, err = shell("train", *toy, "--seeds", "1,2", *request)
    assert (code, "--slurm goes without --device, --devices and --num-nodes" in err) == (2, True)
    code, _, err = shell("train", *toy[:3], "--seeds", "1,one", *request)
    assert (code, "expected seeds like 1,2,3, found '1,one'" in err) == (2, True)
