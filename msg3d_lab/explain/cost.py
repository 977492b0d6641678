"""What attribution and the comparison of methods cost, before they are started."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from msg3d_lab.explain.clips import (
    DEFAULT_OPTIONS,
    Options,
    RunClips,
    choose_clips,
    choose_run_clips,
    load_clips,
)
from msg3d_lab.explain.methods import CONTROLS, METHODS, Method, Passes
from msg3d_lab.explain.ranking import POINTS, REPEATS, ranking_options
from msg3d_lab.model import MSG3D
from msg3d_lab.training.runs import Run

_TIMED = 16  # clips that a pass is timed on


def explain_cost(
    run: Run | str | Path,
    methods: Sequence[Method] = METHODS,
    options: Options = DEFAULT_OPTIONS,
) -> pd.DataFrame:
    """Return what it takes to explain clips by each method; see `explain_run`.

    The time of a forward and a backward pass is measured on a few clips and multiplied.

    Returns:
        A row per method: clips, forward and backward passes per clip, and minutes for all clips,
        with one more forward pass per clip for its prediction.

    Raises:
        FileNotFoundError: no run, no weights, or no store.
        ValueError: a store that does not fit the run.
    """
    chosen = choose_run_clips(run, options)
    num_features = _num_features(chosen, options)
    costs = {method.name: method.cost(num_features) for method in methods}
    return _table(costs, chosen, options, predictions=1)


def ranking_cost(
    run: Run | str | Path,
    methods: Sequence[Method] = METHODS,
    options: Options = DEFAULT_OPTIONS,
    *,
    others: Sequence[Run | str | Path] = (),
) -> pd.DataFrame:
    """Return what `rank_methods` takes: a row "ranking" with the columns of `explain_cost`.

    Every method runs on the network, on its shuffled copy and on every other network. Two deletion
    curves check each method and each control. Arguments and errors are those of `rank_methods`.

    Raises:
        FileNotFoundError: no run, no weights, or no store.
        ValueError: a store that does not fit the run.
    """
    options = ranking_options(options)
    chosen = choose_run_clips(run, options, training=True)
    num_features = _num_features(chosen, options)
    curve = min(POINTS, num_features) + 1
    # The prediction; the whole clip and sets of its features; the random curve, and two of each.
    checks = 1 + (1 + REPEATS) + curve * (1 + 2 * (len(methods) + len(CONTROLS)))
    networks = 2 + len(others)
    costs = [method.cost(num_features) for method in methods]
    total = Passes(
        checks + networks * sum(cost.forward for cost in costs),
        networks * sum(cost.backward for cost in costs),
    )
    return _table({"ranking": total}, chosen, options)


def _num_features(chosen: RunClips, options: Options) -> int:
    return len(options.features(chosen.store.skeleton, chosen.run.recipe.data.clip_len))


def _table(
    costs: Mapping[str, Passes], chosen: RunClips, options: Options, *, predictions: int = 0
) -> pd.DataFrame:
    """A row per name; minutes include that many predictions of each clip."""
    run, model, store, device, split, indices = chosen
    few = min(options.batch_size, len(indices), _TIMED)
    sample = choose_clips(store, split, num_clips=few)
    clips = load_clips(run, sample, data=store, device=device)
    forward, backward = _seconds_per_clip(model, clips.x)
    names = pd.Index(list(costs), name="method")
    table = pd.DataFrame(list(costs.values()), names, list(Passes._fields))
    seconds = (table["forward"] + predictions) * forward + table["backward"] * backward
    table.insert(0, "clips", len(indices))
    return table.assign(minutes=len(indices) * seconds / 60)


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
