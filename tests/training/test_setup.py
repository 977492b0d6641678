import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from msg3d_lab.data.batches.loader import Batch
from msg3d_lab.training import recipes
from msg3d_lab.training.diagnostics.trial import new_state
from msg3d_lab.training.setup import balanced_class_weights, build_batches, build_optimizer
from msg3d_lab.training.step import clip_loss, train_step


def training(toy_recipe, *settings):
    return recipes.with_settings(toy_recipe, settings).training


def steps(optimizer, weight, gradients):
    """The weight after a step with each gradient."""
    seen = []
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=weight.dtype)
        optimizer.step()
        seen.append(weight.detach().clone())
    return seen


def test_build_optimizer_sgd_steps_by_hand(toy_recipe):
    settings = training(toy_recipe, "momentum=0.9", "weight_decay=0.01")
    w = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
    optimizer = build_optimizer([w], settings, lr=0.1)
    one, two = steps(optimizer, w, [[1.0, 0.0], [0.0, 3.0]])
    # Nesterov: v = 0.9 v + g, w -= lr * (g + 0.9 v), with g = gradient + 0.01 w.
    start = torch.tensor([2.0, -1.0], dtype=torch.float64)
    g = torch.tensor([1.0, 0.0], dtype=torch.float64) + 0.01 * start
    v = g
    expected = start - 0.1 * (g + 0.9 * v)
    torch.testing.assert_close(one, expected, rtol=1e-14, atol=0)
    g = torch.tensor([0.0, 3.0], dtype=torch.float64) + 0.01 * expected
    v = 0.9 * v + g
    torch.testing.assert_close(two, expected - 0.1 * (g + 0.9 * v), rtol=1e-14, atol=0)


def test_build_optimizer_without_momentum_is_plain_descent(toy_recipe):
    settings = training(toy_recipe, "momentum=0", "weight_decay=0")
    w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    (one,) = steps(build_optimizer([w], settings, lr=0.5), w, [[0.25]])
    assert one.item() == 1 - 0.5 * 0.25


def test_build_optimizer_adamw_steps_by_hand(toy_recipe):
    settings = training(toy_recipe, "optimizer=adamw", "betas=[0.8, 0.95]", "weight_decay=0.1")
    w = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    seen = steps(build_optimizer([w], settings, lr=0.01), w, [[0.5], [-2.0], [1.0]])
    value, m, v = 2.0, 0.0, 0.0
    for k, g in enumerate([0.5, -2.0, 1.0], start=1):
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        mean, square = m / (1 - 0.8**k), v / (1 - 0.95**k)
        value = value * (1 - 0.01 * 0.1) - 0.01 * mean / (math.sqrt(square) + 1e-8)
        assert seen[k - 1].item() == pytest.approx(value, rel=1e-12)


def test_label_smoothing_is_the_formula(toy_recipe):
    """The share is spread over all classes, the right one included."""
    share = training(toy_recipe, "label_smoothing=0.1").label_smoothing
    logits = torch.randn(6, 5, dtype=torch.float64)
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    target = torch.full((6, 5), share / 5, dtype=torch.float64)
    target[torch.arange(6), labels] += 1 - share
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    loss = F.cross_entropy(logits, labels, label_smoothing=share)
    torch.testing.assert_close(loss, expected, rtol=1e-14, atol=0)


def test_class_weights_by_hand():
    weights = balanced_class_weights(np.array([0, 0, 0, 2]), num_classes=3)
    # 4 clips, 2 classes that occur: 4 / (2 * 3) and 4 / (2 * 1); their mean over the clips is 1.
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 0, 2]))
    assert weights[[0, 0, 0, 2]].mean() == pytest.approx(1)
    logits = torch.tensor([[2.0, 0, 1], [0, 1, 0], [1, 1, 3], [0, 0, 1]])
    labels = torch.tensor([0, 0, 0, 2])
    for smoothing in (0.0, 0.1):
        target = (1 - smoothing) * F.one_hot(labels, 3) + smoothing / 3
        losses = -(target * logits.log_softmax(1)).sum(1)
        expected = (2 / 3 * losses[:3].sum() + 2 * losses[3]) / 4
        found = clip_loss(logits, labels, label_smoothing=smoothing, class_weights=weights)
        torch.testing.assert_close(found, expected)
        plain = clip_loss(logits, labels, label_smoothing=smoothing, class_weights=None)
        torch.testing.assert_close(plain, losses.mean())


def test_loss_of_mixed_clips_by_hand():
    logits = torch.randn(3, 4, dtype=torch.float64)
    labels = torch.tensor([[1, 0, 0, 0], [0.25, 0.75, 0, 0], [0, 0, 0.5, 0.5]], dtype=torch.float64)
    losses = -(labels * logits.log_softmax(1)).sum(1)
    for weights, expected in (
        (None, losses.mean()),
        ([1, 3, 2, 4], (1 * losses[0] + 2.5 * losses[1] + 3 * losses[2]) / 3),
    ):
        given = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        found = clip_loss(logits, labels, label_smoothing=0.0, class_weights=given)
        torch.testing.assert_close(found, expected)


def test_a_step_of_mixed_clips(toy_store, toy_recipe):
    recipe = recipes.with_settings(toy_recipe, ["mixup=1"])
    state = new_state(recipe, toy_store, device="cpu")
    state.net.eval()
    batch = build_batches(recipe, toy_store)[0].batch(0, epoch=0)
    with torch.no_grad():
        logits = state.net(torch.from_numpy(batch.x))
    options = {"label_smoothing": recipe.training.label_smoothing, "reduction": "sum"}
    expected = F.cross_entropy(logits, torch.from_numpy(batch.labels), **options)
    result = train_step(state, batch, total_clips=len(batch.labels), lr=0.0)
    right = logits.argmax(1).numpy() == batch.labels.argmax(1)
    assert result.sums.tolist() == pytest.approx([expected.item(), right.sum()])


@pytest.mark.parametrize("accumulate", [1, 3])
def test_training_steps_weight_the_clips(accumulate, toy_store, toy_recipe):
    """However many parts a step has."""
    recipe = recipes.with_settings(
        toy_recipe,
        ["class_weights=balanced", "validation_subjects=[3]", f"accumulate={accumulate}"],
    )
    state = new_state(recipe, toy_store, device="cpu")
    part = toy_store.samples.iloc[toy_store.indices("xsub_train")]
    counts = part["label"][part["subject"] != 3].value_counts().sort_index()
    weights = torch.tensor((counts.sum() / (3 * counts)).to_numpy(), dtype=torch.float32)
    torch.testing.assert_close(state.class_weights, weights)
    state.class_weights = torch.tensor([0.5, 1, 4])
    state.net.eval()  # parts of a step have batch statistics of their own
    x = np.random.default_rng(0).normal(size=(6, 2, 8, 5, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 2, 1, 0])
    with torch.no_grad():
        losses = F.cross_entropy(
            state.net(torch.from_numpy(x)),
            torch.from_numpy(labels),
            reduction="none",
            label_smoothing=recipe.training.label_smoothing,
        )
    result = train_step(state, Batch(x, labels, labels), total_clips=6, lr=0.0)
    expected = (losses * state.class_weights[labels]).sum()
    torch.testing.assert_close(result.sums[0], expected)


def test_classes_are_balanced_once(toy_recipe):
    with pytest.raises(ValueError, match="choose one"):
        training(toy_recipe, "class_weights=balanced", "balanced_sampling=true")
    off = recipes.with_settings(toy_recipe, ["class_weights=none", "balanced_sampling=false"])
    assert off.hash == toy_recipe.hash


def test_a_checkpoint_keeps_the_statistics_of_every_process(toy_recipe, toy_store):
    """Until they are averaged at the end of the epoch, each process has its own."""
    recipe = recipes.with_settings(toy_recipe, ["average_statistics=true", "ema_decay=0.9"])
    state = new_state(recipe, toy_store, device="cpu")
    saved = copy.deepcopy(state.capture())
    for buffer in state.net.buffers():
        if buffer.is_floating_point():
            buffer += 1  # as if another process had saved the network's part
    own = state.capture()["processes"][0]["statistics"]
    assert len(own) == 2 * sum("running_" in name for name, _ in state.net.named_buffers())
    saved["processes"][0]["statistics"] = own
    again = new_state(recipe, toy_store, device="cpu")
    again.restore(saved)
    before = dict(again.net.named_buffers())
    for name, buffer in state.net.named_buffers():
        if "running_" in name:
            assert torch.equal(before[name], buffer)
    again.average_statistics()  # of one process: nothing changes
    for name, buffer in state.net.named_buffers():
        if "running_" in name:
            assert torch.equal(before[name], buffer)
