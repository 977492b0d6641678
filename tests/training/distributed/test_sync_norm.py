"""This file is also the program of the processes: see the end."""

import copy
import sys
from pathlib import Path

import launchers
import pytest
import torch
import torch.nn.functional as F
import yaml
from made_batches import train_batches
from torch import nn

from msg3d_lab.data import open_store
from msg3d_lab.model import MSG3D
from msg3d_lab.training import open_run, recipes
from msg3d_lab.training.distributed.processes import launch
from msg3d_lab.training.distributed.sync_norm import SyncBatchNorm, synchronise
from msg3d_lab.training.setup import build_batches, build_model, build_optimizer
from msg3d_lab.training.step import clips_per_step, loss_weight

STEPS = 3
# (clips of a step, how), by number of processes. A step wants 96 of 35 clips: they are
# shared 18 + 17 and 12 + 12 + 11.
CASES = {
    1: [(16, "synchronised"), (15, "synchronised"), (96, "synchronised")],
    2: [(16, "synchronised"), (96, "synchronised"), (16, "recomputed"), (16, "apart")],
    3: [(15, "synchronised"), (96, "synchronised")],
}


@pytest.fixture(scope="module")
def trained(toy_store, tmp_path_factory):
    """Gradients and state after a few steps, by number of processes; each is started once."""
    folder, found = tmp_path_factory.mktemp("sync"), {}

    def get(processes, *, total, how="synchronised"):
        if processes not in found:
            out = folder / f"{processes}.pt"
            launchers.run_group(processes, __file__, toy_store.path, out, folder=folder)
            found[processes] = torch.load(out, weights_only=True)
        return found[processes][total, how]

    return get


@pytest.mark.slow
def test_two_processes_compute_what_one_does(trained):
    """2 x 8 clips = 1 x 16: loss, gradients, running statistics, and the weights they lead to."""
    one, two = trained(1, total=16), trained(2, total=16)
    assert one.keys() == two.keys()
    kinds = {name.partition("/")[0] for name in one}
    assert kinds == {"loss", "first gradient", "last gradient", "state"}
    assert any("running_var" in name for name in one)
    assert all(t.dtype in (torch.float64, torch.int64) for t in one.values())
    assert max(_distances(one, two).values()) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "total"), [(3, 15), (2, 96), (3, 96)])
def test_more_processes_and_unequal_shares_compute_the_same(trained, processes, total):
    distances = _distances(trained(1, total=total), trained(processes, total=total))
    assert max(distances.values()) < 1e-10


@pytest.mark.slow
def test_recomputed_activations_change_nothing(trained):
    """The statistics are gathered a second time in backward, by all processes in one order."""
    plain, recomputed = trained(2, total=16), trained(2, total=16, how="recomputed")
    assert max(_distances(plain, recomputed).values()) < 1e-12


@pytest.mark.slow
def test_without_synchronisation_it_is_another_training(trained):
    """What docs/clusters.md says about it, with room for another machine's arithmetic."""
    one, two = trained(1, total=16), trained(2, total=16, how="apart")
    distances = _distances(one, two)
    gradient = _whole(one, two, "first gradient")
    print(f"gradient differs by {gradient:.3f} of its length, loss by {distances['loss/0']:.4f}")
    print(f"weights after {STEPS} steps by {_whole(one, two, 'state'):.4f}")
    assert gradient > 0.1
    assert max(d for name, d in distances.items() if "running" in name) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("averaged", [False, True])
def test_fit_without_sync_norm_normalises_each_share_by_itself(
    averaged, toy_store, toy_recipe, tmp_path
):
    """One step of 2 x 18 clips, by hand: gradients are averaged.

    Statistics are the first process's, or the mean of both.
    """
    recipe = recipes.with_settings(
        toy_recipe,
        {
            "sync_norm": False,
            "average_statistics": averaged,
            "batch_size": 18,
            "epochs": 1,
            "validate_every": 0,
        },
    )
    recipes.save(recipe, tmp_path / "toy.yaml")
    words = ["train", tmp_path / "toy.yaml", "--data", toy_store.path, "--run", tmp_path / "run"]
    launchers.run_group(2, "msg3d_lab", *words, "--device", "cpu", folder=tmp_path)
    run = open_run(tmp_path / "run")
    assert run.recipe.training.sync_norm is False
    gradients, states = [], []
    for rank in range(2):
        torch.manual_seed(recipe.training.seed)
        net = build_model(recipe, toy_store).train()
        batch = build_batches(recipe, toy_store, rank=rank, world_size=2)[0].batch(0, epoch=0)
        logits, labels = net(torch.from_numpy(batch.x)), torch.from_numpy(batch.labels)
        smoothing = recipe.training.label_smoothing
        F.cross_entropy(logits, labels, label_smoothing=smoothing).backward()
        gradients.append([p.grad for p in net.parameters()])
        states.append({name: b.clone() for name, b in net.named_buffers()})
    for parameter, *both in zip(net.parameters(), *gradients, strict=True):
        parameter.grad = sum(both) / 2
    rate = run.metrics["lr"].iloc[-1]
    build_optimizer(net.parameters(), recipe.training, lr=rate).step()
    found = run.model()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found.get_parameter(name), parameter, rtol=1e-4, atol=1e-5)
    first, second = states
    for name, value in found.named_buffers():
        if "running" in name:
            expected = (first[name] + second[name]) / 2 if averaged else first[name]
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(first["data_bn.running_mean"], second["data_bn.running_mean"])


def test_sync_norm_is_off_the_record_where_it_is_not_changed(toy_recipe):
    """Recipes of older run folders keep their hashes; a recipe without it has another."""
    written = recipes.to_yaml(toy_recipe)
    assert "  sync_norm: true\n" in written
    older = written.replace("  sync_norm: true\n", "")
    assert recipes.Recipe.model_validate(yaml.safe_load(older)).hash == toy_recipe.hash
    apart = recipes.with_settings(toy_recipe, ["sync_norm=false"])
    assert apart.hash != toy_recipe.hash


def test_synchronise_leaves_one_process_alone():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert synchronise(model, launch("cpu")) is model
    assert type(model[1]) is nn.BatchNorm1d


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(6, 5, 7, 3), (9, 5), (4, 5, 8)])
def test_sync_batch_norm_of_one_process_is_batch_norm(group_of_one, shape, dtype):
    plain = nn.BatchNorm2d(5) if len(shape) == 4 else nn.BatchNorm1d(5)
    plain.to(torch.promote_types(dtype, torch.float32))
    nn.init.uniform_(plain.weight)
    nn.init.uniform_(plain.bias)
    ours = synchronise(nn.Sequential(copy.deepcopy(plain)), group_of_one)[0]
    assert type(ours) is SyncBatchNorm
    assert repr(ours).partition("(")[2] == repr(plain).partition("(")[2]
    x = torch.randn(shape, dtype=dtype) * 3 + 2
    if len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    weights = torch.randn(shape)
    results = []
    for module in (plain, ours):
        mine = x.clone().requires_grad_()
        y = module(mine)
        (y * weights).sum().backward()
        parts = [y.detach(), mine.grad, module.weight.grad, module.bias.grad]
        results.append([*parts, *module.buffers(), module.eval()(x)])
    digits = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    for expected, found in zip(*results, strict=True):
        assert (found.dtype, found.stride()) == (expected.dtype, expected.stride())
        torch.testing.assert_close(found, expected, rtol=digits, atol=digits)


def test_synchronise_keeps_parameters_and_their_names(group_of_one, toy_skeleton):
    model = MSG3D(num_classes=3, skeleton=toy_skeleton, base_channels=6, num_gcn_scales=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = dict(model.named_parameters()), model.state_dict()
    assert synchronise(model.eval(), group_of_one) is model
    after = dict(model.named_parameters())
    assert list(after) == list(before[0])
    assert all(after[name] is before[0][name] for name in after)
    assert list(model.state_dict()) == list(before[1])
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert {type(m) for m in norms} == {SyncBatchNorm}
    assert not any(m.training for m in norms)


def test_sync_batch_norm_averages_over_all_batches_without_momentum(group_of_one):
    plain = nn.BatchNorm1d(3, momentum=None, affine=False)
    ours = synchronise(nn.Sequential(copy.deepcopy(plain)), group_of_one)
    for _ in range(4):
        x = torch.randn(6, 3)
        torch.testing.assert_close(ours(x), plain(x))
    torch.testing.assert_close(ours[0].state_dict(), plain.state_dict())


def test_sync_batch_norm_refuses_a_single_value(group_of_one):
    module = synchronise(nn.Sequential(nn.BatchNorm1d(3)), group_of_one)
    with pytest.raises(ValueError, match="more than one value per channel over all processes"):
        module(torch.randn(1, 3))


@pytest.fixture
def group_of_one(tmp_path):
    """A process group with one member that says it had two."""
    store = torch.distributed.FileStore(str(tmp_path / "group"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield type("Fabric", (), {"world_size": 2, "device": torch.device("cpu")})()
    torch.distributed.destroy_process_group()


def _distances(one, other):
    """How far each tensor is from the other's, as a share of its length.

    The convolutions' biases in front of a normalisation have a gradient of zero but for rounding:
    nothing is measured in shares of less than a thousandth of the longest gradient.
    """
    found = {}
    for name, tensor in one.items():
        kind = name.partition("/")[0]
        longest = max(float(t.double().norm()) for n, t in one.items() if n.startswith(kind))
        length = max(float(tensor.double().norm()), longest / 1000)
        found[name] = float((other[name] - tensor).double().norm()) / length
    return found


def _whole(one, other, kind):
    """The same for all tensors of a kind as one."""
    names = [name for name in one if name.startswith(kind) and "num_batches" not in name]
    whole = [torch.cat([found[name].flatten() for name in names]) for found in (one, other)]
    return float((whole[1] - whole[0]).norm() / whole[0].norm())


def main(store_path, out):
    """Train every case of this number of processes; the first process writes what it found."""
    torch.set_default_dtype(torch.float64)  # Fabric casts the logits to it
    fabric = launch("cpu", precision="64-true")
    store = open_store(store_path)
    found = {case: _steps(fabric, store, *case) for case in CASES[fabric.world_size]}
    if fabric.is_global_zero:
        torch.save(found, out)
    fabric.barrier()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _steps(fabric, store, total, how):
    torch.manual_seed(1)
    model = MSG3D(
        num_classes=3, skeleton=store.skeleton, base_channels=6, num_gcn_scales=3, num_g3d_scales=2
    )
    if how != "apart":
        model = synchronise(model, fabric)
    model.recompute = how == "recomputed"
    batches = train_batches(
        store,
        store.indices("xsub_train")[:35],
        clip_len=8,
        batch_size=total // fabric.world_size,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    parallel, optimizer = fabric.setup(model, optimizer)
    parallel.train()
    found = {}
    for step in range(STEPS):
        epoch, position = divmod(step, len(batches))
        batch = batches.batch(position, epoch=epoch)
        x, labels = torch.from_numpy(batch.x).double(), torch.from_numpy(batch.labels)
        loss = F.cross_entropy(parallel(x), labels)
        loss = loss * loss_weight(len(labels), clips_per_step(batches), fabric.world_size)
        optimizer.zero_grad()
        fabric.backward(loss)
        found[f"loss/{step}"] = fabric.all_reduce(loss.detach(), reduce_op="mean")
        if step in (0, STEPS - 1):
            when = "last" if step else "first"
            for name, parameter in model.named_parameters():
                found[f"{when} gradient/{name}"] = parameter.grad.clone()
        optimizer.step()
    return found | {f"state/{name}": value for name, value in model.state_dict().items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
