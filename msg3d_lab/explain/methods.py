"""Importance of a run's clips by any method, what it costs, and the controls."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from msg3d_lab.analysis import class_activation, importance
from msg3d_lab.analysis.baselines import BASELINES
from msg3d_lab.analysis.features import Features
from msg3d_lab.analysis.sanity import motion_energy
from msg3d_lab.data.store import Store
from msg3d_lab.explain.clips import Clips, choose_clips, load_clips, store_of
from msg3d_lab.model import MSG3D
from msg3d_lab.training.runs import Run, open_run

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CONTROLS",
    "METHODS",
    "check_names",
    "device_of",
    "explain_cost",
    "importance_of",
    "network_of",
    "predictions_of",
]

METHODS = ("class_activation", *importance.METHODS)
# What no network has part in; every method must do better.
CONTROLS = ("motion", "random")
_TIMED = 16  # clips that a pass is timed on


def importance_of(
    model: MSG3D,
    clips: Clips,
    *,
    classes: Tensor,
    method: str,
    features: Features,
    baseline: str = "mean_pose",
    score: str = "logit",
    samples: int = 8,
    steps: int = 16,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> np.ndarray:
    """Return the importance of every feature of every clip by one method.

    Args:
        model: a network in eval mode; the run's own, or one with shuffled weights.
        clips: the clips; see `load_clips`.
        classes: (N,) the class asked about, clip by clip.
        method: one of `METHODS`, or of `CONTROLS`: how much a feature moves, and random numbers.
        features: see `Clips.features`.
        baseline: "mean_pose", "first_frame" or "removed"; class activation knows none.
        score: "logit" or "log_probability"; class activation is of logits.
        samples: see `msg3d_lab.analysis.importance.attribute`, like the rest.
        steps: of integrated gradients.
        batch_size: clips at a time.
        seed: of what is drawn for a clip, with its name: the same in any company.
        progress: whether to show a progress bar.

    Returns:
        (N, F) float32.

    Raises:
        ValueError: an unknown method or baseline, or class activation of anything but the logit.
    """
    check_names(method, baseline)
    if method == "motion":
        return motion_energy(clips.x, features).astype(np.float32)
    if method == "random":
        rows = [g.random(len(features)) for g in importance.generators_of(clips.ids, seed)]
        return np.array(rows, dtype=np.float32)
    if method == "class_activation":
        if score != "logit":
            raise ValueError(f"class activation explains the logit, not {score}")
        found = []
        for start in range(0, len(clips.x), batch_size):
            part = slice(start, start + batch_size)
            activation = class_activation(model, clips.x[part], classes[part])
            found.append(features.total(activation) / activation[0].numel())
        return torch.cat(found).float().cpu().numpy()
    return importance.attribute(
        model,
        clips.x,
        classes=classes,
        method=method,
        features=features,
        baseline=clips.baseline(baseline),
        score=score,
        samples=samples,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        ids=clips.ids,
        progress=progress,
    )


def explain_cost(
    run: Run | str | Path,
    *,
    by: str = "joint",
    num_clips: int | None = None,
    methods: Sequence[str] = METHODS,
    data: Store | str | Path | None = None,
    split: str | None = None,
    num_segments: int = 8,
    samples: int = 8,
    steps: int = 16,
    batch_size: int = 64,
    device: str = "auto",
) -> pd.DataFrame:
    """Say beforehand what it takes to explain clips.

    The time is measured on a few real clips, forwards and back, and multiplied.

    Args:
        run: a run or its folder.
        by: the features.
        num_clips: how many clips; all of the split if left out.
        methods: which methods.
        data: the store; the one the run was trained on if left out.
        split: the clips; the recipe's test split if left out.
        num_segments: stretches of time.
        samples: orders drawn by Shapley sampling.
        steps: points of integrated gradients.
        batch_size: clips at a time.
        device: where to compute.

    Returns:
        A row per method: clips, forward and backward passes per clip, and minutes for all clips,
        with one pass per clip for its prediction.

    Raises:
        FileNotFoundError: no run, no weights, or the store is gone.
        ValueError: an unknown method, or a store that does not fit the run.
    """
    import pandas as pd

    run = run if isinstance(run, Run) else open_run(run)
    where = device_of(device)
    model, store = network_of(run, data, device=where)
    split = split or run.recipe.data.test_split
    count = len(choose_clips(store, split, num_clips=num_clips))
    sample = choose_clips(store, split, num_clips=min(batch_size, count, _TIMED))
    clips = load_clips(run, sample, data=store, device=where)
    num_features = len(clips.features(by, num_segments=num_segments))
    forward, backward = _seconds_per_clip(model, clips.x)
    rows = {}
    for method in methods:
        check_names(method, "removed")
        cost = importance.Passes(0, 0) if method in CONTROLS else importance.Passes(1, 0)
        if method in importance.METHODS:
            cost = importance.passes(
                method, num_features=num_features, samples=samples, steps=steps
            )
        seconds = count * ((cost.forward + 1) * forward + cost.backward * backward)
        rows[method] = {
            "clips": count,
            "forward": cost.forward,
            "backward": cost.backward,
            "minutes": seconds / 60,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def network_of(
    run: Run, data: Store | str | Path | None = None, *, device: torch.device | str = "cpu"
) -> tuple[MSG3D, Store]:
    """Open a run's network, in eval mode, and its store.

    Raises:
        FileNotFoundError: no weights, or the store is gone.
        ValueError: they do not fit.
    """
    store, model = store_of(run, data), run.model().to(device)
    if (store.num_classes, store.channels) != (model.num_classes, model.in_channels):
        raise ValueError(
            f"{run.path} knows {model.num_classes} classes and takes {model.in_channels} channels, "
            f"but {store.path} has {store.num_classes} and {store.channels}"
        )
    return model, store


def predictions_of(model: MSG3D, x: Tensor, *, batch_size: int = 64) -> Tensor:
    """Return the predicted classes: (N, M, T, V, C) -> (N,), on the clips' device."""
    with torch.inference_mode():
        parts = [x[start : start + batch_size] for start in range(0, len(x), batch_size)]
        found = torch.cat([model(part).argmax(dim=1) for part in parts])
    return found.clone()


def device_of(name: str) -> torch.device:
    """Return the device: "auto" is CUDA where it is there, else the processor."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def check_names(method: str, baseline: str) -> None:
    """Raise ValueError if there is no such method or baseline."""
    known = (*METHODS, *CONTROLS)
    if method not in known:
        raise ValueError(f"unknown method {method!r}: expected one of {', '.join(known)}")
    if baseline not in BASELINES:
        raise ValueError(f"unknown baseline {baseline!r}: expected one of {', '.join(BASELINES)}")


def _seconds_per_clip(model: MSG3D, x: Tensor) -> tuple[float, float]:
    """Seconds of a clip's forward and of its backward pass, after a first pass that warms up."""
    for clips in (x[:1], x):
        start = time.perf_counter()
        with torch.no_grad():
            model(clips).sum().item()
        forward = time.perf_counter() - start
        start = time.perf_counter()
        inputs = clips.clone().requires_grad_()
        torch.autograd.grad(model(inputs).sum(), inputs)[0].sum().item()
        backward = time.perf_counter() - start - forward
    return forward / len(x), max(backward, 0.0) / len(x)
