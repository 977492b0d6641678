import re
import threading
from dataclasses import replace

import pytest
import torch

from msg3d_lab.model.kernels.bodies import find_empty_bodies
from msg3d_lab.training import estimate, recipes
from msg3d_lab.training.diagnostics import estimation, trial
from msg3d_lab.training.diagnostics.estimation import (
    _bodies_per_clip,
    _bytes,
    _duration,
    _with_run_times,
)
from msg3d_lab.training.setup import build_batches, build_model

TINY = {
    "base_channels": 6,
    "num_gcn_scales": 2,
    "num_g3d_scales": 2,
    "clip_len": 8,
    "batch_size": 4,
}


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    """Time for all the steps there could be, but few of them: no machine is too slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "_MOST", 3)
        # Fresh processes take seconds: test_memory.py starts some.
        patch.setattr(estimation, "peak_memory", lambda *_, batch_size, **__: 10**6 * batch_size)
        counted = {}  # operations are counted once per network

        def cost(recipe, store, count=estimation._cost):
            key = recipe.data.layout, recipe.model, recipe.data.clip_len
            if key not in counted:
                counted[key] = count(recipe, store)
            return counted[key]

        patch.setattr(estimation, "_cost", cost)
        yield


@pytest.fixture(scope="module")
def of_toy(toy_store, toy_recipe):
    return estimate(toy_recipe, data=toy_store, device="cpu", seconds=3600)


@pytest.fixture
def ntu():
    return recipes.with_settings(recipes.get("ntu60-xsub-3d-joint"), TINY)


def test_estimate_measures_memory_at_the_recipe_s_batch(of_toy, toy_store, toy_recipe):
    assert of_toy.peak_memory == {8: 8_000_000}
    parameters = sum(p.numel() for p in build_model(toy_recipe, toy_store).parameters())
    assert of_toy.cost.parameters == parameters


def test_estimate_of_a_system_that_does_not_tell_memory(toy_store, toy_recipe, monkeypatch):
    monkeypatch.setattr(estimation, "peak_memory", lambda *_, **__: None)
    found = estimate(toy_recipe, data=toy_store, device="cpu", seconds=1e-3)
    assert found.peak_memory == {}
    assert "peak memory" not in str(found)


def test_estimate_can_count_only(toy_store, toy_recipe):
    found = estimate(toy_recipe, data=toy_store, device="cpu", calibrate=False)
    assert (found.seconds_per_clip, found.seconds, found.calibration) == (None, None, None)
    assert found.peak_memory == {}
    assert "not calibrated" in str(found)


def test_estimate_of_time_is_steps_and_evaluations(of_toy, toy_recipe):
    """36 clips in steps of 8: the last four are left out; two epochs, the second evaluated."""
    assert toy_recipe.training.validate_every == 2
    assert of_toy.clips == 32
    assert of_toy.seconds_per_epoch == pytest.approx(32 * of_toy.seconds_per_clip)
    expected = 2 * of_toy.seconds_per_epoch + 13 * of_toy.test_seconds_per_clip
    assert of_toy.seconds == pytest.approx(expected)
    assert min(of_toy.test_seconds_per_clip, of_toy.seconds_per_clip) > 0
    assert of_toy.calibration == "synthetic clips of toy.arrow, 8 at a time"


@pytest.mark.parametrize(
    ("validate_every", "epochs", "evaluations"),
    [(0, 3, 1), (1, 3, 3), (2, 3, 2), (3, 3, 1), (4, 3, 1)],
)
def test_estimate_counts_evaluations_as_fit_makes_them(
    validate_every, epochs, evaluations, of_toy, toy_store, toy_recipe
):
    settings = {"validate_every": validate_every, "epochs": epochs}
    recipe = recipes.with_settings(toy_recipe, settings)
    priced = replace(of_toy, recipe=recipe, seconds_per_clip=0.0, test_seconds_per_clip=1.0)
    assert _with_run_times(priced, toy_store).seconds == 13 * evaluations


def test_estimate_counts_repeats_and_accumulated_batches(of_toy, toy_store, toy_recipe):
    settings = {"repeat": 3, "accumulate": 4, "validation_subjects": [3]}
    recipe = recipes.with_settings(toy_recipe, settings)
    whole = _with_run_times(replace(of_toy, recipe=recipe), toy_store)
    assert whole.clips == 3 * 27 // 32 * 32  # 27 of the 36 are trained on


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_estimate_knows_how_many_bodies_are_computed(batch, toy_store, toy_recipe):
    """Against the network's own count, over random batches of the clips trained on."""
    recipe = recipes.with_settings(toy_recipe, {"batch_size": batch, "repeat": 20})
    batches, bodies, clips = build_batches(recipe, toy_store)[0], 0, 0
    for i in range(len(batches)):
        x = torch.from_numpy(batches.batch(i, epoch=0).x)
        shared = find_empty_bodies(x)
        bodies += len(x) * 2 if shared is None else len(shared.kept)
        clips += len(x)
    # Half of the clips have a second body. Two in a hundred: batches are drawn at random.
    assert bodies / clips == pytest.approx(
        _bodies_per_clip(recipe, toy_store, batch=batch), rel=0.02
    )


def test_estimate_takes_time_to_grow_with_the_bodies(toy_store, toy_recipe, monkeypatch):
    monkeypatch.setattr(
        estimation, "step_seconds", lambda recipe, *_, **__: recipe.training.batch_size
    )
    monkeypatch.setattr(estimation, "test_seconds", lambda *_, **__: 1.0)
    recipe = recipes.with_settings(toy_recipe, {"batch_size": 16})
    # A second per clip: 2 at a time take what there is. Of 2 clips one in two has a second body,
    # and 0.75 an empty one; of 16 all but surely one.
    found = estimate(recipe, data=toy_store, device="cpu", seconds=20)
    assert found.calibration.endswith("2 at a time (the recipe's batch is 16)")
    assert found.seconds_per_clip == pytest.approx((1.5 + 1 / 16) / (1.5 + 0.75 / 2), rel=1e-4)
    dropping = recipes.with_settings(recipe, {"dropout": 0.1})
    found = estimate(dropping, data=toy_store, device="cpu", seconds=20)
    assert (found.seconds_per_clip, found.bodies_per_clip) == (1, 2)


def test_estimate_of_fewer_clips_than_a_batch_says_how_many(toy_store, toy_recipe):
    recipe = recipes.with_settings(toy_recipe, {"batch_size": 64})
    found = estimate(recipe, data=toy_store, device="cpu", seconds=3600)
    assert found.calibration.endswith("36 at a time (the recipe's batch is 64)")
    assert found.clips == 36


def test_estimate_without_a_store_times_noise(ntu, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = estimate(ntu, device="cpu", seconds=3600)
    assert found.calibration == "noise, 4 at a time"
    assert found.seconds_per_clip > 0
    assert (found.clips, found.seconds_per_epoch, found.seconds) == (None, None, None)
    assert list(tmp_path.iterdir()) == []
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_estimate_times_fewer_clips_where_there_is_no_time_or_memory(
    toy_store, toy_recipe, monkeypatch
):
    recipe = recipes.with_settings(toy_recipe, {"batch_size": 32})
    hurried = estimate(recipe, data=toy_store, device="cpu", seconds=1e-3)
    assert hurried.calibration.endswith("2 at a time (the recipe's batch is 32)")
    free = 2 * 4.5 * hurried.cost.activation_bytes
    monkeypatch.setattr(estimation, "_free_bytes", lambda _device: free)
    small = estimate(recipe, data=toy_store, device="cpu", seconds=3600)
    assert small.calibration.endswith("4 at a time (the recipe's batch is 32)")


def test_estimate_reads_as_a_table(of_toy):
    text = str(of_toy)
    assert re.search(r"^recipe +toy-joint$", text, re.M)
    assert re.search(r"^a clip +8 frames, 2 persons$", text, re.M)
    assert re.search(r"^parameters +[\d,]+$", text, re.M)
    assert re.search(r"^epoch +[\d.]+ s, 32 clips$", text, re.M)
    assert re.search(r"^peak memory, 8 clips +8 MB$", text, re.M)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_499, "999 kB"),
                        (999_500, "1 MB"), (4_420_000_000, "4.42 GB")],
)  # fmt: skip
def test_bytes_read(count, text):
    assert _bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.25 s"), (89, "89 s"), (90, "1.5 min"), (7200, "2 h"),
                          (259200, "3 d")],
)  # fmt: skip
def test_durations_read(seconds, text):
    assert _duration(seconds) == text


def test_estimate_refuses_what_it_cannot_know(toy_recipe, toy_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"no store of toy to count its classes .* name your"):
        estimate(toy_recipe)
    with pytest.raises(FileNotFoundError, match="no store at"):
        estimate(toy_recipe, data=tmp_path / "gone.arrow")
    with pytest.raises(ValueError, match=r"is for nw-ucla, but .* holds toy"):
        estimate("nw-ucla-joint", data=toy_store)
    with pytest.raises(ValueError, match="seconds above 0, found 0"):
        estimate(toy_recipe, data=toy_store, seconds=0)


def test_a_trial_starts_as_fit_does(toy_store, toy_recipe):
    torch.manual_seed(toy_recipe.training.seed)
    expected = build_model(toy_recipe, toy_store).state_dict()
    before = torch.get_rng_state()
    state = trial.new_state(toy_recipe, toy_store, device="cpu")
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(expected[name], v) for name, v in state.net.state_dict().items())
    trial.step_seconds(toy_recipe, toy_store, device="cpu", precision="32-true", seconds=0)
