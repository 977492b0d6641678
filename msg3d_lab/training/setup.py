"""What a recipe and a store become: model, optimizer, and batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from msg3d_lab import skeletons
from msg3d_lab.data.batches.assemble import Assembler, Clips
from msg3d_lab.data.batches.loader import TestBatches, TrainBatches
from msg3d_lab.data.store import Store, open_store
from msg3d_lab.model import MSG3D
from msg3d_lab.model.initialization import initialize
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.training.matching.recipe import check_settings, import_command
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.settings import Training
from msg3d_lab.training.validation import split_validation


def open_store_for(recipe: Recipe, data: Store | str | Path | None = None) -> Store:
    """Open the store that a recipe trains on, and check that they fit.

    Args:
        data: a store or its path. Default: where `msg3d-lab data import` puts it.

    Raises:
        FileNotFoundError: no such file; the message says how to make it.
        ValueError: another data set or joint layout than the recipe's, or no such splits.
    """
    store = open_unchecked_store(recipe, data)
    check_settings(recipe, store)
    return store


def open_unchecked_store(recipe: Recipe, data: Store | str | Path | None) -> Store:
    """Open a recipe's store, see `open_store_for`; the synthetic one is made if none is named."""
    if isinstance(data, Store):
        return data
    path = Path(data) if data is not None else recipe.default_store
    if recipe.data.dataset == "synthetic" and data is None:
        from msg3d_lab.data.synthetic.dataset import load_synthetic

        return load_synthetic()
    if not path.exists():
        raise FileNotFoundError(
            f"no store at {path}: make it with `{import_command(recipe, out=path)}`, or name yours "
            "with --data"
        )
    return open_store(path)


def build_model(recipe: Recipe, store: Store) -> MSG3D:
    """Build the recipe's network for the store's classes, joints and channels."""
    name = store.skeleton.name
    skeleton: str | Skeleton = store.skeleton
    if name in skeletons.names() and store.skeleton in skeletons.variants(name):
        skeleton = name  # the recipe chooses the edge set of a layout of the library
    net = MSG3D(
        num_classes=store.num_classes,
        in_channels=store.channels,
        skeleton=skeleton,
        **recipe.model.model_dump(),
    )
    initialize(net, recipe.training.initialization)
    net.recompute = recipe.training.recompute
    return net


def build_optimizer(
    parameters: Iterable[nn.Parameter], settings: Training, *, lr: float
) -> torch.optim.Optimizer:
    """Build the recipe's optimizer: SGD with Nesterov momentum, or AdamW.

    Weight decay applies to every parameter, as in the field's recipes. Its values cannot be moved
    from one optimizer to the other: AdamW subtracts `lr * weight_decay` times the weights, SGD adds
    `weight_decay` times the weights to the gradient.

    Source: Loshchilov and Hutter, ICLR 2019 (AdamW).
    """
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, lr=lr, betas=settings.betas, weight_decay=settings.weight_decay
        )
    return torch.optim.SGD(
        parameters,
        lr=lr,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay,
    )


def freeze(net: MSG3D, names: Collection[str]) -> list[nn.Module]:
    """Take parts of a network (`Training.freeze`) out of training, and return them.

    Their parameters get no gradient. Their normalisations keep their statistics only in eval mode,
    which `TrainState.train` sets.
    """
    parts = {"data_bn": net.data_bn, "fc": net.fc}
    parts |= {f"block{number}": block for number, block in enumerate(net.blocks, start=1)}
    frozen = [parts[name] for name in names]
    for part in frozen:
        part.requires_grad_(False)
    return frozen


def balanced_class_weights(labels: np.ndarray, *, num_classes: int) -> torch.Tensor:
    """Return the weight of each class: clips / (classes * clips of the class); 0 without clips.

    Args:
        labels: classes of the training clips.
        num_classes: classes of the store; only those with training clips count in the formula.

    Example:
        >>> balanced_class_weights(np.array([0, 0, 0, 1]), num_classes=3)
        tensor([0.6667, 2.0000, 0.0000])
    """
    counts = torch.from_numpy(np.bincount(labels, minlength=num_classes)).double()
    weights = len(labels) / ((counts > 0).sum() * counts)
    return torch.where(counts > 0, weights, 0.0).float()


def build_assembler(recipe: Recipe, clips: Clips) -> Assembler[Clips]:
    """Build what computes clips of a store, or of recordings in memory, as the recipe says."""
    data = recipe.data
    return Assembler(
        clips,
        stream=data.stream,
        clip_len=data.clip_len,
        num_persons=recipe.model.num_persons,
        sampling=data.sampling,
        bone_scores=data.bone_scores,
        rescale=data.rescale,
    )


def build_batches(
    recipe: Recipe, store: Store, *, rank: int = 0, world_size: int = 1
) -> tuple[TrainBatches, TestBatches]:
    """Build the batches to train on and the batches to evaluate during training.

    A training batch has the clips of a whole step: `batch_size * accumulate`. What is evaluated is
    the validation part, or the test split where there is none; see `split_validation`.
    """
    data, training = recipe.data, recipe.training
    train_indices, validation_indices = split_validation(store, recipe)
    train_batches = TrainBatches(
        build_assembler(recipe, store),
        train_indices,
        batch_size=training.batch_size * training.accumulate,
        augment=data.augment,
        repeat=training.repeat,
        balanced=training.balanced_sampling,
        seed=training.seed,
        rank=rank,
        world_size=world_size,
    )
    held_out = validation_indices if len(validation_indices) else store.indices(data.test_split)
    return train_batches, build_test_batches(
        recipe,
        store,
        held_out,
        batch_size=training.batch_size,
        rank=rank,
        world_size=world_size,
    )


def build_test_batches(
    recipe: Recipe,
    store: Store,
    indices: np.ndarray,
    *,
    batch_size: int,
    num_clips: int = 1,
    rank: int = 0,
    world_size: int = 1,
) -> TestBatches:
    """Build batches of the samples at these positions, prepared as the recipe says, not augmented.

    Args:
        batch_size: samples per batch.
        num_clips: clips per sample; see `Assembler.test_clips` for how they differ.
        world_size: the number of processes; each sample goes to one of them.
    """
    return TestBatches(
        build_assembler(recipe, store),
        indices,
        batch_size=batch_size,
        num_clips=num_clips,
        axis=recipe.data.augment.turning_axis,
        rank=rank,
        world_size=world_size,
    )
