import math

import numpy as np
import pandas as pd
import pytest
import torch

from msg3d_lab.training import find_learning_rate, recipes, suggest
from msg3d_lab.training.diagnostics import lr_finder
from msg3d_lab.training.step import StepResult


@pytest.fixture(scope="module")
def curve(toy_store, toy_recipe):
    return find_learning_rate(
        toy_recipe, data=toy_store, device="cpu", lowest=1e-3, highest=1e4, steps=40
    )


def test_range_test_grows_the_rate_and_ends_when_it_flies_off(curve):
    assert curve.columns.tolist() == ["lr", "loss", "smoothed"]
    factors = curve["lr"].to_numpy()[1:] / curve["lr"].to_numpy()[:-1]
    assert factors == pytest.approx(np.full(len(curve) - 1, 1e7 ** (1 / 39)))
    assert curve["lr"].iloc[0] == pytest.approx(1e-3)
    assert 10 < len(curve) < 40
    assert np.isfinite(curve).all(axis=None)
    # A network that knows nothing of three classes.
    assert curve["loss"].iloc[0] == pytest.approx(math.log(3), rel=0.4)


def test_smoothed_loss_is_the_unbiased_average(curve):
    weights = 0.9 ** np.arange(len(curve))[::-1]
    expected = (weights * curve["loss"]).sum() / weights.sum()
    assert curve["smoothed"].iloc[-1] == pytest.approx(expected)
    assert curve["smoothed"].iloc[0] == pytest.approx(curve["loss"].iloc[0])


SHORT = {"device": "cpu", "steps": 10}


@pytest.fixture(scope="module")
def short(toy_store, toy_recipe):
    return find_learning_rate(toy_recipe, data=toy_store, lowest=0.01, highest=0.1, **SHORT)


def test_range_test_is_the_same_every_time_and_writes_nothing(
    short, toy_store, toy_recipe, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = torch.get_rng_state()
    again = find_learning_rate(toy_recipe, data=toy_store, lowest=0.01, highest=0.1, **SHORT)
    pd.testing.assert_frame_equal(again, short)
    assert torch.equal(before, torch.get_rng_state())
    assert list(tmp_path.iterdir()) == []


def test_rates_are_the_recipes(short, toy_store, toy_recipe):
    """Twice the batch the rate is meant for, twice the rate in use: half of it is found."""
    other = find_learning_rate(
        recipes.with_settings(toy_recipe, {"base_batch_size": 8}),
        data=toy_store,
        lowest=0.005,
        highest=0.05,
        **SHORT,
    )
    assert other["lr"].to_numpy() == pytest.approx(short["lr"].to_numpy() / 2)
    assert other["loss"].to_numpy() == pytest.approx(short["loss"].to_numpy(), rel=1e-5)


def test_range_test_has_the_steps_of_accumulated_batches(toy_store, toy_recipe):
    options = {"data": toy_store, "lowest": 1e-6, "highest": 2e-6, **SHORT}
    accumulated = recipes.with_settings(toy_recipe, {"batch_size": 4, "accumulate": 2})
    one, other = (find_learning_rate(r, **options) for r in (toy_recipe, accumulated))
    # The same clips; only the normalisations see them in halves.
    assert other["loss"].to_numpy() == pytest.approx(one["loss"].to_numpy(), rel=0.3)


def synthetic_curve(*, fall=1.0, rise_from=1.0, steps=121):
    """A loss that is 2, falls around 0.1, and rises to 4 from a rate on."""
    lr = np.geomspace(1e-4, 1e2, steps)
    down = fall / (1 + (0.1 / lr) ** 3)
    up = 10 * np.clip(np.log10(lr / rise_from), 0, None)
    loss = 2 - down + up
    return pd.DataFrame({"lr": lr, "loss": loss, "smoothed": loss})[lambda c: c["loss"] < 4]


def test_suggest_finds_the_steepest_descent_and_the_divergence():
    found = suggest(synthetic_curve(rise_from=1.0))
    assert found.steepest == pytest.approx(0.1, rel=0.15)
    # Half of the fall of 1 is lost again where 10 * log10(lr) is 0.5.
    assert found.diverged == pytest.approx(10**0.05, rel=0.15)
    assert found.tenth == pytest.approx(found.diverged / 10)


def test_suggest_without_divergence_says_so():
    found = suggest(synthetic_curve(rise_from=1e9))
    assert found.steepest == pytest.approx(0.1, rel=0.15)
    assert math.isnan(found.diverged)
    assert math.isnan(found.tenth)


def test_suggest_takes_an_early_end_for_divergence():
    curve = synthetic_curve(rise_from=1e9)
    curve.attrs["ended_early"] = True  # the loss was not finite at the next step
    assert suggest(curve).diverged == curve["lr"].iloc[-1]


def test_suggest_reads_a_real_test(toy_store, toy_recipe):
    curve = find_learning_rate(
        toy_recipe, data=toy_store, device="cpu", lowest=1e-3, highest=100, steps=40
    )
    assert curve.attrs["ended_early"] is (len(curve) < 40)
    found = suggest(curve)
    assert curve["lr"].iloc[0] < found.steepest < found.diverged <= curve["lr"].iloc[-1]


def test_a_network_that_knows_the_clips_may_do_four_times_worse(toy_store, toy_recipe, monkeypatch):
    """Losses as told: from 2 down to 0.02, up to 0.5, then beyond the first."""
    losses = iter([*np.geomspace(2, 0.02, 15), *[0.5] * 20, *[30.0] * 5])
    monkeypatch.setattr(
        lr_finder,
        "train_step",
        lambda *_, **__: StepResult(torch.tensor([8.0 * next(losses), 0.0]), torch.ones(()), True),
    )
    curve = find_learning_rate(toy_recipe, data=toy_store, device="cpu", steps=40)
    assert curve.attrs["ended_early"]
    assert len(curve) == 35


def test_suggest_refuses_what_shows_nothing():
    with pytest.raises(ValueError, match="at least 10 steps, found 5"):
        suggest(synthetic_curve().head(5))
    rising = synthetic_curve().assign(smoothed=lambda c: np.linspace(1, 2, len(c)))
    with pytest.raises(ValueError, match=r"never fell between the rates 0\.0001 and .* lower rate"):
        suggest(rising)


def test_range_test_refuses_what_is_no_range(toy_store, toy_recipe):
    for wrong in ({"lowest": 0}, {"lowest": 2.0, "highest": 1.0}, {"steps": 9}):
        with pytest.raises(ValueError, match="rates that grow from above 0 and at least 10 steps"):
            find_learning_rate(toy_recipe, data=toy_store, **wrong)
