"""What a recipe stands for: its store, its test clips, its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msg3d_lab import skeletons
from msg3d_lab.data.batches.loader import TestBatches, TrainBatches
from msg3d_lab.data.store import Store, open_store
from msg3d_lab.model import MSG3D
from msg3d_lab.skeletons import Skeleton
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.validation import split_validation

__all__ = [
    "build_model_of",
    "clip_settings",
    "open_store_of",
    "test_batches_of",
    "train_batches_of",
    "watched_batches_of",
]


def open_store_of(recipe: Recipe, data: Store | str | Path | None = None) -> Store:
    """Open the store a recipe trains on and check that they fit.

    The embedded synthetic set is made on the way if it is the one wanted.

    Raises:
        FileNotFoundError: no such file; the message says how to make it.
        ValueError: another data set, joint layout or number of joints than the recipe's.
    """
    wanted = recipe.data
    if wanted.dataset == "synthetic" and (data is None or _is_gone(data)):
        from msg3d_lab.data.synthetic.dataset import load_synthetic

        return load_synthetic()
    if not isinstance(data, Store):
        path = Path(data) if data is not None else recipe.default_store
        if not path.exists():
            raise FileNotFoundError(
                f"no store at {path}: make it with `msg3d-lab data import SOURCE --dataset "
                f"{wanted.dataset} --out {path}`, or name yours with --data"
            )
        data = open_store(path)
    if data.dataset != wanted.dataset:
        raise ValueError(
            f"{recipe.name} is for {wanted.dataset}, but {data.path} holds {data.dataset} "
            f"({data.skeleton.num_joints} joints of {data.skeleton.name}); choose a recipe for it "
            f"(msg3d-lab recipes) or set dataset={data.dataset}"
        )
    if data.skeleton.name != wanted.layout:
        raise ValueError(
            f"{recipe.name} needs joints of {wanted.layout}, but {data.path} holds {data.dataset} "
            f"with {data.skeleton.num_joints} joints of {data.skeleton.name}; choose a recipe for "
            "that layout (msg3d-lab recipes) or another store"
        )
    for split in (wanted.train_split, wanted.test_split):
        data.indices(split)
    return data


def build_model_of(recipe: Recipe, store: Store) -> MSG3D:
    """Build the recipe's network for the store's classes, joints and channels."""
    arguments = recipe.model.model_dump()
    skeleton: str | Skeleton = store.skeleton
    name = store.skeleton.name
    if name in skeletons.names() and store.skeleton in skeletons.variants(name):
        skeleton = name  # of a layout of ours the recipe chooses the edge set
    net = MSG3D(
        num_classes=store.num_classes, in_channels=store.channels, skeleton=skeleton, **arguments
    )
    net.recompute = recipe.training.recompute
    return net


def _is_gone(data: Store | str | Path) -> bool:
    return not isinstance(data, Store) and not Path(data).exists()


def train_batches_of(
    recipe: Recipe, store: Store, *, rank: int = 0, world_size: int = 1
) -> TrainBatches:
    """The training clips of a recipe, shuffled and augmented as it says.

    Raises:
        ValueError: see `split_validation`.
    """
    settings = recipe.training
    return TrainBatches(
        store,
        split_validation(store, recipe)[0],
        batch_size=settings.batch_size,
        augment=recipe.data.augment,
        repeat=settings.repeat,
        seed=settings.seed,
        rank=rank,
        world_size=world_size,
        **clip_settings(recipe),
    )


def watched_batches_of(
    recipe: Recipe, store: Store, *, batch_size: int, rank: int = 0, world_size: int = 1
) -> TestBatches:
    """The clips watched during training: the validation part, or the test split without one."""
    data = recipe.data
    chosen = split_validation(store, recipe)[1]
    return TestBatches(
        store,
        chosen if data.validation_subjects else store.indices(data.test_split),
        batch_size=batch_size,
        rank=rank,
        world_size=world_size,
        **clip_settings(recipe),
    )


def test_batches_of(
    recipe: Recipe,
    store: Store,
    *,
    batch_size: int,
    num_clips: int = 1,
    split: str | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> TestBatches:
    """The test clips of a recipe, each sample once."""
    return TestBatches(
        store,
        store.indices(split or recipe.data.test_split),
        batch_size=batch_size,
        num_clips=num_clips,
        rank=rank,
        world_size=world_size,
        **clip_settings(recipe),
    )


def clip_settings(recipe: Recipe) -> dict[str, Any]:
    """What training and test clips have in common: arguments of both kinds of batches."""
    data = recipe.data
    return {
        "stream": data.stream,
        "clip_len": data.clip_len,
        "num_persons": recipe.model.num_persons,
        "sampling": data.sampling,
        "rescale": data.rescale,
    }
