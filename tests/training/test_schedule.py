import math

import pytest

from msg3d_lab.training import recipes
from msg3d_lab.training.schedule import lr_at, peak_lr


def training(toy_recipe, *settings):
    return recipes.with_settings(toy_recipe, settings).training


def test_lr_at_cosine_has_a_closed_form(toy_recipe):
    settings = training(toy_recipe, "epochs=4", "warmup_epochs=0")
    rates = [lr_at(s, peak=2.0, steps_per_epoch=5, settings=settings) for s in range(20)]
    expected = [1 + math.cos(math.pi * s / 20) for s in range(20)]
    assert rates == pytest.approx(expected)


def test_lr_at_cosine_after_warm_up_starts_at_the_peak(toy_recipe):
    settings = training(toy_recipe, "epochs=5", "warmup_epochs=1")
    rates = [lr_at(s, peak=2.0, steps_per_epoch=4, settings=settings) for s in range(20)]
    assert rates[:4] == pytest.approx([0.4, 0.8, 1.2, 1.6])
    assert rates[4:] == pytest.approx([1 + math.cos(math.pi * s / 16) for s in range(16)])


def test_lr_at_grows_then_drops_at_milestones(toy_recipe):
    settings = training(
        toy_recipe, "epochs=6", "warmup_epochs=1", "schedule=steps", "milestones=[3, 5]"
    )
    rates = [lr_at(s, peak=2.0, steps_per_epoch=4, settings=settings) for s in range(24)]
    warmup = [0.4, 0.8, 1.2, 1.6]
    assert rates == pytest.approx([*warmup, *[2] * 8, *[0.2] * 8, *[0.02] * 4])


def test_peak_lr_follows_the_clips_of_a_step(toy_recipe):
    settings = training(
        toy_recipe, "learning_rate=0.1", "base_batch_size=128", "batch_size=16", "accumulate=2"
    )
    assert peak_lr(settings, 1) == 0.025
    assert peak_lr(settings, 8) == 0.2
