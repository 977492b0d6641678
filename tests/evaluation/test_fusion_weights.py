import numpy as np
import pytest
from made_runs import made_scores

from msg3d_lab.evaluation import Scores
from msg3d_lab.evaluation.fusion import fuse
from msg3d_lab.evaluation.fusion_weights import fit_weights, validation_scores, weight_curve
from msg3d_lab.training import fit, recipes

SUBJECTS = {"split": "xsub_train", "validation_subjects": [3]}


def test_weight_curve_goes_from_the_one_to_the_other():
    first, second = made_scores(right=0.6), made_scores(right=0.9, seed=1)
    curve = weight_curve(first, second, steps=5)
    assert curve["weight"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve["top1"].iloc[0] == first.correct.mean()
    assert curve["top1"].iloc[-1] == second.correct.mean()
    fused = fuse([first, second], weights=[1, 3])
    assert curve["top1"].iloc[3] == fused.correct.mean()
    assert (curve["low"] <= curve["top1"]).all()
    assert (curve["high"] >= curve["top1"]).all()
    with pytest.raises(ValueError, match="two steps or more"):
        weight_curve(first, second, steps=1)


def log_loss(parts, weights, on, factor=1.0):
    """The mean log loss of a fusion, by definition."""
    if on == "softmax":
        values = fuse(parts, weights=weights).values.astype(float)
    else:
        mean = np.tensordot(weights, [np.log(p.values.astype(float)) for p in parts], axes=1)
        values = np.exp(factor * mean)
        values /= values.sum(axis=1, keepdims=True)
    return -np.log(values[np.arange(len(values)), parts[0].labels]).mean()


@pytest.mark.parametrize("on", ["softmax", "logits"])
def test_fit_weights_finds_what_a_grid_finds(on):
    parts = [made_scores(right=r, count=200, seed=i, **SUBJECTS) for i, r in enumerate((0.7, 0.85))]
    found = fit_weights(parts, on=on)
    factors = [1.0] if on == "softmax" else np.linspace(0.05, 3, 200)
    grid = {
        share: min(log_loss(parts, [1 - share, share], on, factor) for factor in factors)
        for share in np.linspace(0, 1, 101)
    }
    best = min(grid, key=grid.get)
    assert found.weights == pytest.approx((1 - best, best), abs=0.02)
    assert sum(found.weights) == pytest.approx(1)
    assert found.loss == pytest.approx(grid[best], abs=1e-3)
    assert found.loss <= grid[best] + 1e-6
    assert found.equal_loss == pytest.approx(grid[0.5], abs=1e-3)
    assert found.samples == 200


@pytest.mark.parametrize("on", ["softmax", "logits"])
def test_fit_weights_gives_noise_nothing(on):
    good = made_scores(right=0.95, count=400, **SUBJECTS)
    noise = np.random.default_rng(0).dirichlet(np.ones(7), 400).astype(np.float32)
    guess = Scores(good.ids, good.labels, noise, good.label_names, good.facts)
    assert fit_weights([good, guess, guess], on=on).weights[0] > 0.9


def test_fit_weights_on_parts_that_are_always_wrong_prefers_none():
    labels = np.arange(30) % 3
    values = np.full((30, 3), 0.45, np.float32)
    values[np.arange(30), labels] = 0.1
    ids = tuple(map(str, range(30)))
    part = Scores(ids, labels, values, ("a", "b", "c"), {"kind": "softmax", **SUBJECTS})
    assert fit_weights([part, part], on="logits").weights == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"split": "xsub_val"}, "found xsub_val, which is test data"),
        ({"split": "xsub_train"}, "which is trained on"),
        ({"split": None}, "that say which split they are of"),
    ],
)
def test_fit_weights_refuses_what_must_not_decide(facts, message):
    with pytest.raises(ValueError, match=message):
        fit_weights([made_scores(**SUBJECTS), made_scores(seed=1, **facts)])


def test_validation_scores_are_of_the_subjects_held_back(toy_store, toy_recipe, tmp_path):
    with_part = recipes.with_settings(toy_recipe, {"validation_subjects": [3], "epochs": 1})
    runs = [
        fit(
            recipes.with_settings(with_part, {"stream": stream}),
            data=toy_store, run=tmp_path / stream, device="cpu", progress=False,
        )
        for stream in ("joint", "bone")
    ]  # fmt: skip
    parts = [validation_scores(run, device="cpu", progress=False) for run in runs]
    samples = toy_store.samples.set_index("id")
    held_back = samples[(samples.subject == 3) & samples.splits.map(lambda s: "xsub_train" in s)]
    assert set(parts[0].ids) == set(held_back.index)
    assert not runs[0].scores_path.exists()
    found = fit_weights(parts)
    assert found.samples == len(held_back)
    without = fit(toy_recipe, data=toy_store, run=tmp_path / "w", device="cpu", progress=False)
    with pytest.raises(ValueError, match="has no validation part: train with validation_subjects"):
        validation_scores(without)
