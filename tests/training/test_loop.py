import logging
import os
import subprocess
import sys
import time

import launchers
import numpy as np
import pytest
import torch

from msg3d_lab import evaluation, load_model, skeletons
from msg3d_lab.data import Clip, write_store
from msg3d_lab.evaluation import read_scores
from msg3d_lab.model.checkpoints import read_notes
from msg3d_lab.training import fit, open_run, recipes
from msg3d_lab.training.distributed.processes import launch
from msg3d_lab.training.setup import build_batches, build_model, build_test_batches
from msg3d_lab.training.state import TrainState
from msg3d_lab.training.step import clips_per_step, train_step

LEARNING = ["epochs=4", "repeat=4"]


@pytest.fixture(scope="module")
def run(toy_store, toy_recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "toy"
    recipe = recipes.with_settings(toy_recipe, LEARNING)
    return fit(recipe, data=toy_store, run=path, device="cpu", progress=False)


def test_fit_learns(run):
    metrics = run.metrics
    assert metrics["epoch"].tolist() == [1, 2, 3, 4]
    assert metrics["train_loss"].iloc[-1] < 0.8 * metrics["train_loss"].iloc[0]
    assert metrics["test_top1"].iloc[-1] > 0.8
    assert not any(column.startswith("val_") for column in metrics)
    assert (metrics["clips_per_s"] > 0).all()


def test_fit_leaves_a_whole_run_folder(run, toy_store, toy_recipe):
    names = {p.name for p in run.path.iterdir()}
    whole = {"recipe.yaml", "environment.json", "metrics.csv", "model.safetensors", "training.log"}
    assert names == whole
    again = open_run(run.path)
    assert again.recipe == recipes.with_settings(toy_recipe, LEARNING)
    environment = again.environment
    assert environment["data"]["fingerprint"] == toy_store.fingerprint
    assert environment["synthetic"] is True
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["seconds"] > 0
    notes = read_notes(run.checkpoint)
    assert notes["label_names"] == list(toy_store.label_names)
    assert notes["preparation"] == toy_store.preparation
    assert notes["recipe"] == again.recipe.model_dump(mode="json")
    model = load_model(run.path)
    assert sum(p.numel() for p in model.parameters()) == environment["parameters"]


def test_fit_is_the_same_every_time(toy_run, toy_store, toy_recipe, tmp_path):
    run = tmp_path / "again"
    again = fit(toy_recipe, data=toy_store.path, run=run, device="cpu", progress=False)
    one, other = (r.model().state_dict() for r in (toy_run, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_fit_another_seed_gives_another_network(run, toy_store, toy_recipe, tmp_path):
    other = fit(
        recipes.with_settings(toy_recipe, ["epochs=1", "seed=2", "validate_every=0"]),
        data=toy_store,
        run=tmp_path / "seed2",
        device="cpu",
        progress=False,
    )
    assert not torch.equal(other.model().fc.weight, run.model().fc.weight)
    # The last epoch is always evaluated.
    assert other.metrics["test_top1"].notna().all()


def test_fit_validates_every_so_often(toy_store, toy_recipe, tmp_path):
    recipe = recipes.with_settings(toy_recipe, ["epochs=3", "validate_every=2", "batch_size=36"])
    metrics = fit(recipe, data=toy_store, run=tmp_path / "r", device="cpu", progress=False).metrics
    assert metrics["test_top1"].isna().tolist() == [True, False, False]


def test_fit_scales_the_learning_rate_and_says_so(toy_store, toy_recipe, tmp_path, caplog):
    recipe = recipes.with_settings(
        toy_recipe, ["epochs=1", "learning_rate=0.1", "base_batch_size=128", "batch_size=16"]
    )
    with caplog.at_level(logging.INFO, logger="msg3d_lab"):  # where there is no bar
        run = fit(recipe, data=toy_store, run=tmp_path / "r", device="cpu", progress=False)
    assert run.environment["learning_rate"] == 0.0125
    assert "learning rate 0.0125 = 0.1 * 16 / 128" in caplog.text


def test_fit_shows_progress_with_an_eta(toy_store, toy_recipe, tmp_path, capsys):
    fit(toy_recipe, data=toy_store, run=tmp_path / "r", device="cpu")
    shown = capsys.readouterr()
    assert "clips/s" in shown.err
    assert "top-1" in shown.err
    assert "<00:00" in shown.err  # the bar's ETA at its end
    assert "epoch   2: loss" in shown.out
    assert "learning rate 0.025 = 0.05 * 8 / 16" in shown.out


def test_fit_refuses_an_existing_run_folder(run, toy_store, toy_recipe):
    before = {p: p.stat().st_mtime_ns for p in run.path.iterdir()}
    with pytest.raises(FileExistsError, match="exists already"):
        fit(toy_recipe, data=toy_store, run=run.path, device="cpu", progress=False)
    assert before == {p: p.stat().st_mtime_ns for p in run.path.iterdir()}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nw-ucla-joint",
            "is for nw-ucla, but .*holds toy .5 joints of toy5.; set dataset=toy layout=toy5 "
            ".*num_gcn_scales=",
        ),
        ("synthetic-joint", "is for synthetic, but"),
    ],
)
def test_fit_refuses_a_store_of_another_data_set(name, message, toy_store, tmp_path):
    with pytest.raises(ValueError, match=message):
        fit(name, data=toy_store.path, run=tmp_path / "r", progress=False)
    assert not (tmp_path / "r").exists()


def test_fit_refuses_a_store_of_another_layout(toy_store, toy_recipe, tmp_path):
    recipe = recipes.with_settings(toy_recipe, ["layout=ntu25"])
    with pytest.raises(ValueError, match=r"needs joints of ntu25, but .*5 joints of toy5"):
        fit(recipe, data=toy_store.path, run=tmp_path / "r", progress=False)
    assert not (tmp_path / "r").exists()


def test_fit_says_how_to_get_missing_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"msg3d-lab data import .+ --dataset ntu60"):
        fit("ntu60-xsub-3d-joint", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_fit_refuses_a_store_without_the_split(toy_store, toy_recipe, tmp_path):
    recipe = recipes.with_settings(toy_recipe, ["test_split=xview_val"])
    with pytest.raises(ValueError, match="xview_val"):
        fit(recipe, data=toy_store, run=tmp_path / "r", progress=False)
    assert not (tmp_path / "r").exists()


def test_fit_stops_at_a_loss_that_is_not_finite(toy_store, toy_recipe, tmp_path):
    recipe = recipes.with_settings(toy_recipe, ["learning_rate=1e30", "warmup_epochs=0"])
    with pytest.raises(ValueError, match=r"loss is .* at epoch 1, step \d.*clip\d\d"):
        fit(recipe, data=toy_store, run=tmp_path / "r", device="cpu", progress=False)
    assert not (tmp_path / "r" / "model.safetensors").exists()


def test_fit_gives_each_dialect_its_graph(tmp_path):
    """The edge set is the recipe's, whatever the store was imported with."""
    rng = np.random.default_rng(0)
    clips = [
        Clip(f"c{i}", rng.normal(size=(1, 9, 25, 3)).astype(np.float32), i % 2, (split,))
        for i, split in enumerate(["xsub_train", "xsub_train", "xsub_val", "xsub_val"])
    ]
    store = write_store(
        tmp_path / "ntu.arrow",
        clips,
        dataset="ntu60",
        skeleton=skeletons.get("ntu25"),
        label_names=["a", "b"],
        channels=3,
        preparation={"name": "prepare_3d"},
    )
    recipe = recipes.with_settings(
        recipes.get("ntu60-xsub-3d-joint"),
        ["epochs=1", "repeat=1", "base_channels=6", "clip_len=8", "batch_size=2"],
    )
    run = fit(recipe, data=store, run=tmp_path / "run", device="cpu", progress=False)
    model = run.model()
    assert model.skeleton == skeletons.get("ntu25", edge_set="star")
    assert model.arguments["normalization"] == "column"


def test_fit_trains_on_a_layout_with_edge_sets_of_its_own(toy_store, toy_recipe, tmp_path):
    """Also under a name of ours: what the store says counts."""
    own = skeletons.from_dict(
        {
            "name": "ntu25",
            "joints": list(toy_store.skeleton.joints),
            "edges": [["hip", "chest"], ["chest", "head"]],
            "edge_sets": {
                "arms": [["chest", "left hand"], ["chest", "right hand"]],
                "loop": [["hip", "left hand"], ["hip", "right hand"]],
            },
            "center": "chest",
        },
        edge_set="loop",
    )
    clips = [
        Clip(toy_store.ids[i], np.array(toy_store.keypoints(i)), int(toy_store.labels[i]), (split,))
        for i, split in enumerate(["xsub_train"] * 8 + ["xsub_val"] * 4)
    ]
    store = write_store(
        tmp_path / "own.arrow",
        clips,
        dataset="toy",
        skeleton=own,
        label_names=list(toy_store.label_names),
        channels=3,
        preparation={"name": "none"},
    )
    recipe = recipes.with_settings(toy_recipe, ["layout=ntu25", "epochs=1", "edge_set=loop"])
    run = fit(recipe, data=store, run=tmp_path / "run", device="cpu", progress=False)
    assert run.model().skeleton == own


@pytest.mark.slow
def test_fit_under_torchrun_uses_every_process_and_writes_once(toy_store, toy_recipe, tmp_path):
    recipes.save(recipes.with_settings(toy_recipe, ["batch_size=6"]), tmp_path / "toy.yaml")
    folder = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--standalone", "-m", "--", "msg3d_lab"]
    words = ["train", tmp_path / "toy.yaml", "--data", toy_store.path, "--run", folder]
    done = subprocess.run(
        [*torchrun, *map(str, words), "--device", "cpu"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run = open_run(folder)
    assert run.environment["world_size"] == 2
    # 0.05 at a batch of 16; two processes with 6 clips each. The 13 test clips are shared unevenly,
    # so that one process has two batches of them and the other one.
    assert run.environment["learning_rate"] == pytest.approx(0.0375)
    assert 0 <= run.metrics["test_top1"].iloc[-1] <= 1
    assert done.stdout.count("Finished: ") == 1
    words = ["test", folder, "--device", "cpu"]
    shown = launchers.run_group(2, "msg3d_lab", *words, folder=tmp_path)
    assert shown.count("Scores:") == 1
    several = read_scores(run.scores_path)
    one = evaluation.evaluate(run, device="cpu", progress=False).scores
    assert several.ids == one.ids
    np.testing.assert_allclose(several.values, one.values, atol=1e-6)


def quick(recipe, store, folder, *settings, **options):
    """A short training; its run."""
    recipe = recipes.with_settings(recipe, settings)
    return fit(recipe, data=store, run=folder, device="cpu", progress=False, **options)


def test_fit_evaluates_the_validation_part_and_trains_on_the_rest(toy_store, toy_recipe, tmp_path):
    run = quick(toy_recipe, toy_store, tmp_path / "run", "validation_subjects=[1]", "epochs=1")
    recipe = run.recipe
    part = toy_store.samples.iloc[toy_store.indices("xsub_train")]
    mine = part.index[part["subject"] == 1].to_numpy()
    net, right = run.model(), 0
    for batch in build_test_batches(recipe, toy_store, mine, batch_size=4):
        with torch.no_grad():
            guess = net(torch.from_numpy(batch.x[:, 0])).argmax(1).numpy()
        right += (guess == batch.labels).sum()
    assert run.metrics["val_top1"].iloc[-1] == pytest.approx(right / len(mine))
    assert not any(column.startswith("test_") for column in run.metrics)


def test_fit_keeps_the_best_of_validation(toy_store, toy_recipe, tmp_path):
    settings = ["validation_subjects=[1]", "epochs=5", "validate_every=1", "schedule=cosine"]
    settings += ["learning_rate=0.4", "warmup_epochs=0", "batch_size=16"]
    best = quick(toy_recipe, toy_store, tmp_path / "best", *settings, "keep=best")
    last = quick(toy_recipe, toy_store, tmp_path / "last", *settings)
    columns = ["epoch", "lr", "train_loss", "val_loss", "val_top1"]
    assert best.metrics[columns].equals(last.metrics[columns])  # keeping changes no training
    top1 = best.metrics["val_top1"]
    assert best.environment["kept_epoch"] == int(top1.idxmax()) + 1  # of equals the first
    assert last.environment["kept_epoch"] == 5
    same = torch.equal(best.model().fc.weight, last.model().fc.weight)
    assert same == (best.environment["kept_epoch"] == 5)


def test_fit_stops_when_patience_ends(toy_store, toy_recipe, tmp_path):
    settings = ["validation_subjects=[1]", "epochs=9", "validate_every=1", "learning_rate=1e-9"]
    settings += ["batch_size=16", "patience=2"]
    run = quick(toy_recipe, toy_store, tmp_path / "run", *settings)
    top1 = run.metrics["val_top1"]
    assert len(run.metrics) == int(top1.idxmax()) + 3 < 9
    assert run.finished


def test_fit_evaluates_and_keeps_the_average(toy_store, toy_recipe, tmp_path):
    settings = ["epochs=1"]
    plain = quick(toy_recipe, toy_store, tmp_path / "plain", *settings)
    averaged = quick(toy_recipe, toy_store, tmp_path / "average", *settings, "ema_decay=0.9")
    assert averaged.metrics["train_loss"].equals(plain.metrics["train_loss"])
    assert not averaged.metrics["test_loss"].equals(plain.metrics["test_loss"])
    assert not torch.equal(averaged.model().fc.weight, plain.model().fc.weight)


def test_fit_clips_the_gradient(toy_store, toy_recipe, tmp_path):
    """Steps of plain descent with a gradient of norm c go c * learning rate far at most."""
    settings = ["epochs=1", "repeat=1", "momentum=0", "weight_decay=0", "learning_rate=16"]
    settings += ["warmup_epochs=0", "schedule=steps", "milestones=[9]", "clip_norm=1e-5"]
    run = quick(toy_recipe, toy_store, tmp_path / "run", *settings)
    torch.manual_seed(run.recipe.training.seed)
    start = build_model(run.recipe, toy_store)
    moves = zip(start.parameters(), run.model().parameters(), strict=True)
    moved = torch.stack([(a - b).norm() for a, b in moves]).norm().item()
    assert 0 < moved <= 4 * 8e-5 * 1.01  # four steps


def test_accumulated_batches_give_the_gradient_of_the_large_one(toy_store, toy_recipe):
    """With the batch normalisations in eval mode, the only thing that sees a batch as a whole."""
    fabric = launch("cpu")
    gradients = []
    for settings in (["batch_size=12"], ["batch_size=4", "accumulate=3"], ["accumulate=5"]):
        recipe = recipes.with_settings(toy_recipe, settings)
        torch.manual_seed(0)
        net = build_model(recipe, toy_store).double().eval()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        large = recipes.with_settings(recipe, ["batch_size=12", "accumulate=1"])
        batches, _ = build_batches(large, toy_store)
        batch = batches.batch(0, epoch=0)
        batch = batch._replace(x=batch.x.astype(np.float64))
        model, optimizer = fabric.setup(net, optimizer)
        state = TrainState(fabric, recipe.training, net, model, optimizer, ema=None)
        result = train_step(state, batch, total_clips=clips_per_step(batches), lr=0.0)
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
        assert result.norm.item() == pytest.approx(gradients[-1].norm().item())
        assert result.sums[0].item() > 0
        assert result.finite
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-10, atol=1e-12)


def test_fit_accumulates_over_the_same_clips(toy_store, toy_recipe, tmp_path):
    settings = ["epochs=1", "repeat=1"]
    large = quick(toy_recipe, toy_store, tmp_path / "large", *settings, "batch_size=12")
    small = quick(
        toy_recipe, toy_store, tmp_path / "small", *settings, "batch_size=6", "accumulate=2"
    )
    rates = [run.environment["learning_rate"] for run in (large, small)]
    assert rates == pytest.approx([0.0375, 0.0375])
    one, other = (r.metrics["train_loss"].iloc[0] for r in (large, small))
    assert one == pytest.approx(other, rel=0.1)  # batch normalisation makes the difference


def test_fit_recomputes_to_the_same_result(toy_store, toy_recipe, tmp_path):
    settings = ["epochs=1", "batch_size=18", "dropout=0.2"]
    runs = [
        quick(toy_recipe, toy_store, tmp_path / f"{recompute}", *settings, f"recompute={recompute}")
        for recompute in ("true", "false")
    ]
    states = [run.model().state_dict() for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_fit_in_bf16(toy_store, toy_recipe, tmp_path):
    settings = ["epochs=1", "batch_size=18"]
    run = quick(toy_recipe, toy_store, tmp_path / "run", *settings, precision="bf16-mixed")
    assert run.environment["precision"] == "bf16-mixed"
    assert run.metrics["train_loss"].iloc[0] < 2


def test_fit_does_not_look_at_the_clock_on_the_wall(toy_store, toy_recipe, tmp_path, monkeypatch):
    backwards = iter(range(10**6, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(backwards)))
    run = quick(toy_recipe, toy_store, tmp_path / "run", "epochs=1", "batch_size=18")
    assert (run.metrics["seconds"] > 0).all()
    assert run.environment["seconds"] >= 0


@pytest.mark.parametrize("wrong", [{"on_nan": "go"}, {"checkpoint_minutes": -1.0}])
def test_fit_refuses_arguments_out_of_range(wrong, toy_store, toy_recipe, tmp_path):
    with pytest.raises(ValueError, match='expected on_nan "stop" or "skip" and checkpoint_minutes'):
        quick(toy_recipe, toy_store, tmp_path / "run", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_fit_asserts_the_number_of_processes(toy_store, toy_recipe, tmp_path):
    with pytest.raises(ValueError, match="2 devices on 1 machines were asked for, but 1"):
        fit(toy_recipe, data=toy_store, run=tmp_path / "r", device="cpu", devices=2)
    assert not (tmp_path / "r").exists()


def test_fit_says_when_there_is_no_such_device(toy_store, toy_recipe, tmp_path):
    device = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(ValueError, match=f"cannot compute on '{device}'"):
        fit(toy_recipe, data=toy_store, run=tmp_path / "r", device=device)
