"""What attribution and the comparison of methods cost, before they are started."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from msg3d_lab.data.store import Store
from msg3d_lab.explain.clips import choose_clips, load_clips, open_network, resolve_device
from msg3d_lab.explain.features import make_features
from msg3d_lab.explain.methods import CONTROLS, METHODS, Method, Passes, check_method
from msg3d_lab.model import MSG3D
from msg3d_lab.training.runs import Run, open_run

__all__ = ["explain_cost", "ranking_cost"]

_TIMED = 16  # clips that a pass is timed on


def explain_cost(
    run: Run | str | Path,
    methods: Sequence[Method] = METHODS,
    *,
    by: str = "joint",
    num_clips: int | None = None,
    data: Store | str | Path | None = None,
    split: str | None = None,
    num_segments: int = 8,
    batch_size: int = 64,
    device: str = "auto",
) -> pd.DataFrame:
    """Return what it takes to explain clips by each method.

    The time of a forward and a backward pass is measured on a few clips and multiplied.

    Args:
        run: a run or its folder.
        methods: which methods.
        by: the features.
        num_clips: how many clips. Default: all of the split.
        data: the store. Default: the one the run was trained on.
        split: the clips. Default: the recipe's test split.
        num_segments: number of time segments.
        batch_size: the largest number of clips in one forward pass.
        device: where to compute.

    Returns:
        A row per method: clips, forward and backward passes per clip, and minutes for all clips,
        with one more forward pass per clip for its prediction.

    Raises:
        FileNotFoundError: no run, no weights, or no store.
        ValueError: a store that does not fit the run.
    """
    run = run if isinstance(run, Run) else open_run(run)
    split = split or run.recipe.data.test_split
    for method in methods:
        check_method(method)
    timing = _Timing(run, data, split, num_clips, batch_size, device)
    num_features = timing.num_features(by, num_segments)
    return _table(
        {method.name: timing.row(method.cost(num_features), extra_forward=1) for method in methods}
    )


def ranking_cost(
    run: Run | str | Path,
    methods: Sequence[Method] = METHODS,
    *,
    others: Sequence[Run | str | Path] = (),
    by: str = "joint",
    data: Store | str | Path | None = None,
    split: str | None = None,
    num_clips: int = 48,
    num_segments: int = 8,
    repeats: int = 20,
    points: int = 8,
    batch_size: int = 64,
    device: str = "auto",
) -> pd.DataFrame:
    """Return what `rank_methods` takes; the arguments are the same.

    Every method runs on the network, on its shuffled copy and on every other network. Two deletion
    curves check each method and each control.

    Args:
        run: a run or its folder.
        methods: which methods.
        others: runs with other seeds.
        by: the features.
        data: the store. Default: the one the run was trained on.
        split: the clips. Default: the recipe's training split.
        num_clips: how many.
        num_segments: number of time segments.
        repeats: sets of features per clip for `faithfulness`.
        points: steps of each deletion curve.
        batch_size: the largest number of clips in one forward pass.
        device: where to compute.

    Returns:
        A row "ranking" with the columns of `explain_cost`: clips, all forward and backward passes
        per clip, and minutes.

    Raises:
        FileNotFoundError: no run, no weights, or no store.
        ValueError: a store that does not fit the run.
    """
    run = run if isinstance(run, Run) else open_run(run)
    split = split or run.recipe.data.train_split
    timing = _Timing(run, data, split, num_clips, batch_size, device)
    num_features = timing.num_features(by, num_segments)
    curve = min(points, num_features) + 1
    # The prediction; the whole clip and sets of its features; the random curve, and two of each.
    checks = 1 + (1 + repeats) + curve * (1 + 2 * (len(methods) + len(CONTROLS)))
    networks = 2 + len(others)
    costs = [method.cost(num_features) for method in methods]
    total = Passes(
        checks + networks * sum(cost.forward for cost in costs),
        networks * sum(cost.backward for cost in costs),
    )
    return _table({"ranking": timing.row(total)})


class _Timing:
    """Seconds per clip and pass, measured on a few clips of a split."""

    def __init__(
        self,
        run: Run,
        data: Store | str | Path | None,
        split: str,
        num_clips: int | None,
        batch_size: int,
        device: str,
    ) -> None:
        where = resolve_device(device)
        model, self.store = open_network(run, data, device=where)
        self.clip_len = run.recipe.data.clip_len
        self.count = len(choose_clips(self.store, split, num_clips=num_clips))
        few = min(batch_size, self.count, _TIMED)
        sample = choose_clips(self.store, split, num_clips=few)
        clips = load_clips(run, sample, data=self.store, device=where)
        self.forward, self.backward = _seconds_per_clip(model, clips.x)

    def num_features(self, by: str, num_segments: int) -> int:
        return len(
            make_features(
                by, self.store.skeleton, num_frames=self.clip_len, num_segments=num_segments
            )
        )

    def row(self, cost: Passes, *, extra_forward: int = 0) -> dict[str, float]:
        seconds = (cost.forward + extra_forward) * self.forward + cost.backward * self.backward
        return {
            "clips": self.count,
            "forward": cost.forward,
            "backward": cost.backward,
            "minutes": self.count * seconds / 60,
        }


def _table(rows: dict[str, dict[str, float]]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def _seconds_per_clip(model: MSG3D, x: Tensor) -> tuple[float, float]:
    """Seconds of a clip's forward and backward pass; the first clip warms up."""
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
