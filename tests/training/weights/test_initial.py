"""Fine-tuning: initial weights and frozen parts."""

import hashlib
import shutil
import signal

import launchers
import numpy as np
import pandas as pd
import pytest
import torch

from msg3d_lab import load_model, save_model, skeletons
from msg3d_lab.data import Clip, open_store, write_store
from msg3d_lab.experiments import fit_seeds
from msg3d_lab.model import MSG3D, convert
from msg3d_lab.training import Requeue, fit, open_run, recipes
from msg3d_lab.training.diagnostics.trial import new_state
from msg3d_lab.training.runs import NEWEST, PREVIOUS
from msg3d_lab.training.setup import build_batches, build_model
from msg3d_lab.training.step import clips_per_step, train_step

HEAD = {"fc.weight", "fc.bias"}
QUICK = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def recipe(toy_recipe):
    return recipes.with_settings(toy_recipe, ["epochs=1"])


@pytest.fixture(scope="module")
def other_store(tmp_path_factory, toy_skeleton):
    """Clips of four classes, of which there are no weights."""
    return make_store(tmp_path_factory.mktemp("other"), toy_skeleton, names=list("abcd"))


def make_store(folder, skeleton, *, names, channels=3):
    rng = np.random.default_rng(1)
    clips = [
        Clip(
            f"clip{i:02d}",
            rng.normal(size=(1, 10, skeleton.num_joints, channels)).astype(np.float32),
            i % len(names),
            ("xsub_train" if i < 16 else "xsub_val",),
        )
        for i in range(24)
    ]
    path = write_store(
        folder / "toy.arrow",
        clips,
        dataset="toy",
        skeleton=skeleton,
        label_names=names,
        channels=channels,
        preparation={"name": "none"},
        synthetic=True,
    )
    return open_store(path)


def network(recipe, store, **changes):
    return MSG3D(
        **{
            "num_classes": store.num_classes,
            "in_channels": store.channels,
            "skeleton": store.skeleton,
            **recipe.model.model_dump(exclude={"edge_set"}),
            **changes,
        }
    )


def same(one, other):
    return [name for name in one if torch.equal(one[name], other[name])]


# At a learning rate of (nearly) nothing the weights at the end are those at the start, but for the
# running statistics.
STILL = ["learning_rate=1e-30", "weight_decay=0", "validate_every=0"]


def test_training_starts_from_the_weights(toy_run, toy_store, recipe, tmp_path):
    still = recipes.with_settings(recipe, STILL)
    run = fit(still, data=toy_store, run=tmp_path / "r", init=toy_run.path, **QUICK)
    before, after = toy_run.model().state_dict(), run.model().state_dict()
    weights = [n for n in before if "running" not in n and "tracked" not in n]
    assert set(weights) <= set(same(before, after))
    record = run.environment["init"]
    assert record["sha256"] == hashlib.sha256(toy_run.checkpoint.read_bytes()).hexdigest()
    tensors = pd.read_csv(run.path / "init.csv")
    assert tensors["tensor"].tolist() == list(before)
    assert set(tensors["status"]) == {"loaded"}


def test_a_new_head_where_the_classes_differ(toy_run, other_store, recipe, tmp_path, capsys):
    still = recipes.with_settings(recipe, STILL)
    words = {"data": other_store, "init": str(toy_run.checkpoint), "device": "cpu"}
    run = fit(still, run=tmp_path / "r", **words)
    before, after = toy_run.model().state_dict(), run.model().state_dict()
    tensors = pd.read_csv(run.path / "init.csv", index_col="tensor")
    assert set(tensors.index[tensors["status"] == "new"]) == HEAD
    assert tensors.loc["fc.weight", ["shape", "shape_in_file"]].tolist() == ["4x24", "3x24"]
    assert torch.equal(
        before["blocks.1.tcn.reduce.conv.weight"], after["blocks.1.tcn.reduce.conv.weight"]
    )
    # The new head is the one that the seed gives.
    torch.manual_seed(recipe.training.seed)
    assert torch.equal(after["fc.weight"], build_model(recipe, other_store).fc.weight)
    shown = capsys.readouterr().out
    assert shown.count(f"{len(before) - 2} tensors loaded, 2 new") == 1
    assert "the classifier is new: 4 classes of the store, 3 other ones in the file" in shown


def test_a_new_head_where_as_many_classes_have_other_names(toy_run, toy_skeleton, recipe, tmp_path):
    store = make_store(tmp_path, toy_skeleton, names=["x", "y", "z"])
    run = fit(recipe, data=store, run=tmp_path / "r", init=toy_run.path, **QUICK)
    tensors = pd.read_csv(run.path / "init.csv", index_col="tensor")
    assert set(tensors.index[tensors["status"] == "new"]) == HEAD


def test_weights_of_others_are_loaded(recipe, tmp_path, small_store):
    """A file of mmaction2, whose classes have no names."""
    tiny = ["base_channels=6", "num_gcn_scales=3", "num_g3d_scales=2", "clip_len=8", "epochs=1"]
    openmmlab = ["edge_set=star", "normalization=column", "validate_every=0", "batch_size=4"]
    recipe = recipes.with_settings(recipes.get("synthetic-joint"), [*tiny, *openmmlab])
    net = MSG3D(num_classes=60, skeleton="ntu25", **recipe.model.model_dump())
    save_model(net, tmp_path / "own.safetensors")
    convert(tmp_path / "own.safetensors", tmp_path / "their.pth", to="mmaction2")
    still = recipes.with_settings(recipe, STILL)
    words = {"data": small_store, "init": tmp_path / "their.pth", **QUICK}
    after = fit(still, run=tmp_path / "r", **words).model().state_dict()
    assert torch.equal(after["data_bn.weight"], net.data_bn.weight)
    other = recipes.with_settings(recipe, ["edge_set=chain"])
    with pytest.raises(ValueError, match=r"graph is ntu25 .star.*--set edge_set=star"):
        fit(other, run=tmp_path / "s", **words)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_persons": 1}, "takes 1 persons and the recipe 2, and data_bn .*num_persons=1"),
        ({"in_channels": 2}, "takes 2 channels and the store has 3.*import the data with 2"),
        (
            {"skeleton": skeletons.get("coco17")},
            "is for 17 joints of coco17 and the store has 5 of toy5.*import the data with coco17",
        ),
        (
            {"num_gcn_scales": 2, "tcn_dilations": (1, 2)},
            r"num_gcn_scales 2 and not 3, .*--set num_gcn_scales=2 tcn_dilations=\[1,2\]",
        ),
        ({"normalization": "column"}, "normalization column and not symmetric"),
    ],
)
def test_weights_of_another_network_are_refused(changes, message, toy_store, recipe, tmp_path):
    save_model(network(recipe, toy_store, **changes), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=message):
        fit(recipe, data=toy_store, run=tmp_path / "r", init=tmp_path / "w.safetensors", **QUICK)
    assert not (tmp_path / "r").exists()


def test_weights_that_are_not_finite_or_not_there_are_refused(toy_store, recipe, tmp_path):
    net = network(recipe, toy_store)
    net.fc.bias.data[0] = float("nan")
    save_model(net, tmp_path / "nan.safetensors")
    words = {"data": toy_store, "run": tmp_path / "r", **QUICK}
    with pytest.raises(ValueError, match=r"fc\.bias"):
        fit(recipe, init=tmp_path / "nan.safetensors", **words)
    with pytest.raises(FileNotFoundError, match="no checkpoint or run folder at"):
        fit(recipe, init=tmp_path / "none.pth", **words)
    assert not (tmp_path / "r").exists()


@pytest.fixture
def stop_after(monkeypatch):
    """Train until somebody stops the run after so many steps."""

    def stop_after(steps, recipe, **words):
        done = []

        def step(*args, **options):
            done.append(1)
            if len(done) == steps:
                signal.raise_signal(signal.SIGTERM)
            return train_step(*args, **options)

        with monkeypatch.context() as patched:
            patched.setattr("msg3d_lab.training.loop.train_step", step)
            with pytest.raises(Requeue):
                fit(recipe, **words)

    return stop_after


def test_a_resumed_fine_tuning_ends_like_an_undisturbed_one(
    stop_after, toy_run, other_store, toy_recipe, tmp_path
):
    recipe = recipes.with_settings(
        toy_recipe, ["freeze=[block1,data_bn]", "balanced_sampling=true", "batch_size=4"]
    )
    copy = shutil.copytree(toy_run.path, tmp_path / "weights")
    words = {"data": other_store, **QUICK}
    whole = fit(recipe, run=tmp_path / "whole", init=copy, **words)
    stop_after(6, recipe, run=tmp_path / "cut", init=copy, **words)
    with pytest.raises(ValueError, match=r"the initial weights were .*weights.* and are "):
        fit(recipe, run=tmp_path / "cut", resume=True, init=whole.path, **words)
    same_file = fit(
        recipe,
        run=shutil.copytree(tmp_path / "cut", tmp_path / "again"),
        resume=True,
        init=copy,
        **words,
    )
    shutil.rmtree(copy)  # not needed any more, although the same command names it
    cut = fit(recipe, run=tmp_path / "cut", resume=True, init=copy, **words)
    for run in (cut, same_file):
        one, other = whole.model().state_dict(), run.model().state_dict()
        assert same(one, other) == list(one)
    columns = ["train_loss", "train_top1", "test_top1"]
    pd.testing.assert_frame_equal(whole.metrics[columns], cut.metrics[columns])


def test_a_run_stopped_before_its_first_checkpoint_reads_its_weights_again(
    toy_run, toy_store, recipe, tmp_path
):
    copy = shutil.copytree(toy_run.path, tmp_path / "weights")
    whole = fit(recipe, data=toy_store, run=tmp_path / "r", init=copy, **QUICK)
    one = whole.model().state_dict()
    other = shutil.copytree(whole.path, tmp_path / "other")
    for name in ("model.safetensors", "metrics.csv", NEWEST, PREVIOUS):  # as it was at its start
        (whole.path / name).unlink(missing_ok=True)
    begun = shutil.copytree(whole.path, tmp_path / "begun")
    with pytest.raises(ValueError, match=r"starts again from .*weights.*, and .* are others"):
        fit(recipe, data=toy_store, run=begun, resume=True, init=other, **QUICK)
    again = fit(recipe, data=toy_store, run=whole.path, resume=True, **QUICK)
    assert same(one, again.model().state_dict()) == list(one)
    (copy / "model.safetensors").unlink()
    for named in (None, copy):
        with pytest.raises(FileNotFoundError, match=r"before its first checkpoint.*--init"):
            fit(recipe, data=toy_store, run=begun, resume=True, init=named, **QUICK)


def test_a_run_without_initial_weights_is_not_resumed_with_some(
    stop_after, toy_run, toy_store, toy_recipe, tmp_path
):
    words = {"data": toy_store, "run": tmp_path / "r", **QUICK}
    stop_after(2, toy_recipe, **words)
    with pytest.raises(ValueError, match="the initial weights were none and are"):
        fit(toy_recipe, resume=True, init=toy_run.path, **words)


def test_seeds_start_from_the_weights(toy_run, toy_store, recipe, tmp_path):
    options = {"data": toy_store, "init": toy_run.path, **QUICK}
    fit_seeds(recipe, seeds=(1, 2), runs=tmp_path, **options)
    for seed in (1, 2):
        assert open_run(tmp_path / f"seed-{seed}").environment["init"]["sha256"]


def test_two_processes_fine_tune_like_one(toy_run, toy_store, recipe, tmp_path):
    settings = ["freeze=[block1]", "class_weights=balanced", "validate_every=0"]
    two = recipes.with_settings(recipe, [*settings, "batch_size=4"])
    recipes.save(two, tmp_path / "two.yaml")
    words = ["train", tmp_path / "two.yaml", "--data", toy_store.path, "--device", "cpu"]
    words += ["--init", toy_run.path, "--run", tmp_path / "two"]
    launchers.run_group(2, "msg3d_lab", *words, folder=tmp_path)
    one = recipes.with_settings(recipe, [*settings, "batch_size=8"])
    alone = fit(one, data=toy_store, run=tmp_path / "one", init=toy_run.path, **QUICK)
    ours, theirs = alone.model().state_dict(), load_model(tmp_path / "two").state_dict()
    assert all(torch.allclose(ours[n], theirs[n], rtol=1e-3, atol=1e-4) for n in ours)
    start = toy_run.model().state_dict()
    assert {n for n in start if n.startswith("blocks.0.")} <= set(same(start, theirs))


@pytest.mark.parametrize(
    "settings", [[], ["recompute=true"], ["optimizer=adamw"], ["ema_decay=0.9"]]
)
@pytest.mark.parametrize("freeze", ["[data_bn]", "[data_bn,block1]", "[block2]", "[fc,block3]"])
def test_frozen_parts_stay_as_they_are(freeze, settings, toy_store, recipe):
    recipe = recipes.with_settings(recipe, [f"freeze={freeze}", "weight_decay=0.1", *settings])
    state = new_state(recipe, toy_store, device="cpu")
    before = {name: value.clone() for name, value in state.net.state_dict().items()}
    batches, _ = build_batches(recipe, toy_store)
    state.train()
    for step in range(3):
        batch = batches.batch(step, epoch=0)
        result = train_step(state, batch, total_clips=clips_per_step(batches), lr=0.1)
        assert result.finite
    after = state.evaluated.state_dict()
    parts = [n.replace("block", "blocks.") for n in freeze.strip("[]").split(",")]
    parts = [f"blocks.{int(n[-1]) - 1}." if n.startswith("blocks") else f"{n}." for n in parts]
    frozen = {name for name in before if name.startswith(tuple(parts))}
    assert frozen
    assert set(same(before, after)) == frozen


@pytest.mark.parametrize("freeze", [["data_bn", "block1"], ["block2"], ["block3", "fc"]])
def test_gradients_beside_frozen_parts_are_those_of_pytorch(freeze, toy_store, recipe):
    """Another route: all parameters require gradients, and no body is shared."""
    recipe = recipes.with_settings(recipe, {"freeze": freeze})
    state = new_state(recipe, toy_store, device="cpu")
    state.net.double()
    x = torch.from_numpy(build_batches(recipe, toy_store)[0].batch(0, epoch=0).x).double()
    state.train()
    state.net(x).square().sum().backward()
    found = {n: p.grad.clone() for n, p in state.net.named_parameters() if p.grad is not None}
    state.net.requires_grad_(True).zero_grad()
    state.net.share_empty = False
    state.net(x).square().sum().backward()
    wanted = dict(state.net.named_parameters())
    assert 0 < len(found) < len(wanted)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name].grad, rtol=1e-9, atol=1e-9)


def test_freeze_names_are_checked(recipe, toy_run, other_store, tmp_path):
    with pytest.raises(ValueError, match="'data_bn', 'block1', 'block2', 'block3' or 'fc'"):
        recipes.with_settings(recipe, ["freeze=[block4]"])
    with pytest.raises(ValueError, match="leave something to train"):
        recipes.with_settings(recipe, ["freeze=[data_bn,block1,block2,block3,fc]"])
    fixed_head = recipes.with_settings(recipe, ["freeze=[fc]"])
    with pytest.raises(ValueError, match="the classifier is new"):
        fit(fixed_head, data=other_store, run=tmp_path / "r", init=toy_run.path, **QUICK)
    assert recipes.with_settings(recipe, ["freeze=[]"]).hash == recipe.hash
    assert fixed_head.hash != recipe.hash
