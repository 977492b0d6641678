"""Attribution: how much each joint, body part or stretch of time adds to a class's score.

It works on any callable that takes (N, M, T, V, C) and returns logits (N, classes); captum does the
arithmetic. All methods answer the same question, "what did this part of the clip add, compared with
a baseline in its place?". On a linear network they agree exactly; on any network that is a sum over
parts, all but the first do.

- `gradient_x_input`: (x - baseline) * gradient at x. One backward pass; exact for a linear network.
- `integrated_gradients`: the same with the gradient averaged along the straight line from baseline
  to x. Sums to the difference of the two scores (Sundararajan et al., ICML 2017, arXiv 1703.01365).
- `occlusion`: the score's drop when one part is replaced (Zeiler and Fergus, ECCV 2014, arXiv
  1311.2901). What two parts say alike, neither of them loses.
- `shapley`: the score's rise when a part joins the others, averaged over random orders in which
  parts join (Castro et al., Computers & Operations Research 36, 2009). Sums to the difference. The
  orders of a clip are its own: what is wrong with a few of them averages out over clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from msg3d_lab.analysis.decomposition import check_mode
from msg3d_lab.analysis.features import Features, hide

__all__ = [
    "METHODS",
    "Forward",
    "Method",
    "Passes",
    "attribute",
    "explained_score",
    "generators_of",
    "gradient_map",
    "passes",
]

Method = Literal["gradient_x_input", "integrated_gradients", "occlusion", "shapley"]
METHODS: tuple[str, ...] = get_args(Method)
Score = Literal["logit", "log_probability"]
Forward = Callable[[Tensor], Tensor]


class Passes(NamedTuple):
    """The cost of one clip's attribution.

    Args:
        forward: clips that go through the network.
        backward: how many of them also go back; about twice the time of a forward pass each.
    """

    forward: int
    backward: int


def passes(method: str, *, num_features: int, samples: int = 8, steps: int = 16) -> Passes:
    """Say beforehand what one clip costs.

    Args:
        method: one of `METHODS`.
        num_features: the number of features.
        samples: orders drawn by Shapley sampling.
        steps: points on the line of integrated gradients.

    Raises:
        ValueError: an unknown method.

    Example:
        >>> passes("shapley", num_features=25, samples=8)
        Passes(forward=201, backward=0)
    """
    _check_method(method)
    if method == "gradient_x_input":
        return Passes(1, 1)
    if method == "integrated_gradients":
        return Passes(steps, steps)
    # Occlusion begins with the whole clip, Shapley sampling with the baseline.
    return Passes((samples if method == "shapley" else 1) * num_features + 1, 0)


def explained_score(logits: Tensor, classes: Tensor, *, score: str = "logit") -> Tensor:
    """Return the score of each clip's class.

    Args:
        logits: the network's answer.
        classes: which class is asked about, clip by clip.
        score: "logit", or "log_probability", which also counts what speaks for other classes.

    Shapes:
        logits: (N, classes), classes: (N,) -> (N,)

    Raises:
        ValueError: an unknown score.
    """
    if score not in get_args(Score):
        raise ValueError(f"unknown score {score!r}: expected one of {', '.join(get_args(Score))}")
    values = logits.log_softmax(-1) if score == "log_probability" else logits
    return values.gather(1, classes[:, None])[:, 0]


def attribute(
    forward: Forward,
    x: Tensor,
    *,
    classes: Tensor,
    method: str,
    features: Features,
    baseline: Tensor,
    score: str = "logit",
    samples: int = 8,
    steps: int = 16,
    batch_size: int = 64,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Return the importance of every feature of every clip.

    Args:
        forward: (N, M, T, V, C) -> logits (N, classes); a network in eval mode.
        x: the clips.
        classes: (N,) the class asked about, clip by clip.
        method: one of `METHODS`; see this module.
        features: what importance is given to; see `make_features`.
        baseline: what takes a feature's place: clips like `x`.
        score: "logit" or "log_probability" of the class.
        samples: orders drawn by Shapley sampling; every clip has orders of its own, by its name and
            the seed, whatever the batch size.
        steps: points on the line of integrated gradients.
        batch_size: clips at a time; for integrated gradients, points on the lines of clips.
        seed: of Shapley's orders; the global generator is left as it was.
        ids: names of the clips, by which Shapley's orders are drawn; their numbers in `x` if left
            out.
        progress: whether to show a progress bar.

    Returns:
        (N, features) float32, in units of the score: positive speaks for the class.

    Raises:
        ValueError: an unknown method, shapes that do not belong together, or a network in training
            mode.
    """
    from tqdm.auto import tqdm

    check_mode(forward)
    _check(x, classes, features, baseline, method)
    names: Sequence[object] = range(len(x)) if ids is None else ids
    if len(names) != len(x):
        raise ValueError(f"expected {len(x)} ids, one per clip, found {len(names)}")
    if batch_size < 1 or samples < 1 or steps < 1:
        raise ValueError(
            f"expected batch_size, samples and steps of at least 1, found {batch_size}, {samples}, "
            f"{steps}"
        )
    rows = []
    parts = range(0, len(x), batch_size)
    for start in tqdm(parts, desc=method, unit="batch", disable=not progress, dynamic_ncols=True):
        part = slice(start, start + batch_size)
        if method in ("gradient_x_input", "integrated_gradients"):
            found = gradient_map(
                forward, x[part], classes=classes[part], method=method, baseline=baseline[part],
                score=score, steps=steps, batch_size=batch_size,
            )  # fmt: skip
            rows.append(features.total(found))
        else:
            rows.append(
                _by_replacing(
                    forward,
                    x[part],
                    classes[part],
                    method,
                    features,
                    baseline[part],
                    names[part],
                    score=score,
                    samples=samples,
                    at_once=batch_size,
                    seed=seed,
                )
            )
    return torch.cat(rows).float().cpu().numpy()


def gradient_map(
    forward: Forward,
    x: Tensor,
    *,
    classes: Tensor,
    method: str,
    baseline: Tensor,
    score: str = "logit",
    steps: int = 16,
    batch_size: int = 64,
) -> Tensor:
    """Return the importance of every joint in every frame, by one of the gradient methods.

    Args:
        forward: as for `attribute`, like what follows.
        x: the clips.
        classes: (N,) the class asked about.
        method: "gradient_x_input" or "integrated_gradients".
        baseline: clips like `x`.
        score: "logit" or "log_probability".
        steps: points on the line of integrated gradients.
        batch_size: clips at a time, or points on the lines of clips.

    Shapes:
        x: (N, M, T, V, C) -> (N, M, T, V), added up over coordinates.

    Raises:
        ValueError: another method.
    """
    if method not in ("gradient_x_input", "integrated_gradients"):
        raise ValueError(
            f"{method!r} gives no value per joint and frame: expected gradient_x_input or "
            "integrated_gradients"
        )
    x, classes = x.detach(), classes.to(x.device)
    parts = [torch.split(each, batch_size) for each in (x, classes, baseline)]
    found = [
        _by_gradient(
            forward, clips, which, without, method, score=score, steps=steps, at_once=batch_size
        )
        for clips, which, without in zip(*parts, strict=True)
    ]
    return torch.cat(found)


def _by_gradient(
    forward: Forward,
    x: Tensor,
    classes: Tensor,
    baseline: Tensor,
    method: str,
    *,
    score: str,
    steps: int,
    at_once: int,
) -> Tensor:
    """One batch of `gradient_map`."""
    from captum.attr import IntegratedGradients, Saliency  # type: ignore[import-untyped]

    def asked(clips: Tensor, which: Tensor) -> Tensor:
        return explained_score(forward(clips), which, score=score)

    if method == "gradient_x_input":
        gradient = Saliency(asked).attribute(
            x.clone().requires_grad_(), abs=False, additional_forward_args=classes
        )
        return ((x - baseline) * gradient).sum(-1).detach()
    found: Any = IntegratedGradients(asked).attribute(
        x,
        baselines=baseline,
        additional_forward_args=classes,
        n_steps=steps,
        # A pass back keeps all activations: as many points at a time as were allowed, no more.
        internal_batch_size=max(at_once, len(x)),
    )
    return found.sum(-1).detach()


def _by_replacing(
    forward: Forward,
    x: Tensor,
    classes: Tensor,
    method: str,
    features: Features,
    baseline: Tensor,
    names: Sequence[object],
    *,
    score: str,
    samples: int,
    at_once: int,
    seed: int,
) -> Tensor:
    """Occlusion and Shapley sampling, over the question which features are there."""
    from captum.attr import FeatureAblation, ShapleyValueSampling

    # captum has the same orders for all clips, whose error would not average out over them. So
    # clips number their features differently: column i is a clip's own feature order[:, i].
    rows = [generator.permutation(len(features)) for generator in generators_of(names, seed)]
    order = torch.from_numpy(np.stack(rows)).to(x.device)

    def asked(
        columns: Tensor, clips: Tensor, without: Tensor, which: Tensor, own: Tensor
    ) -> Tensor:
        kept = torch.zeros_like(columns).scatter_(1, own, columns)
        return explained_score(forward(hide(clips, without, kept, features)), which, score=score)

    everything = torch.ones(len(x), len(features), dtype=x.dtype, device=x.device)
    arguments: dict[str, Any] = {
        "baselines": 0.0,
        "additional_forward_args": (x, baseline, classes.to(x.device), order),
        "perturbations_per_eval": max(1, at_once // len(x)),
    }
    if method == "occlusion":
        found = FeatureAblation(asked).attribute(everything, **arguments)
    else:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            found = ShapleyValueSampling(asked).attribute(
                everything, n_samples=samples, **arguments
            )
    return torch.zeros_like(found).scatter_(1, order, found)


def generators_of(names: Sequence[object], seed: int) -> list[np.random.Generator]:
    """Return a random generator for every clip, by its name and the seed.

    What is drawn for a clip is then the same in any batch, and has nothing to do with what is drawn
    for other clips.
    """
    digests = [hashlib.sha256(f"{seed} {name}".encode()).digest()[:8] for name in names]
    return [np.random.default_rng(int.from_bytes(digest)) for digest in digests]


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: expected one of {', '.join(METHODS)}")


def _check(x: Tensor, classes: Tensor, features: Features, baseline: Tensor, method: str) -> None:
    _check_method(method)
    if x.ndim != 5 or tuple(x.shape[2:4]) != features.index.shape:
        T, V = features.index.shape
        raise ValueError(f"expected clips (N, M, {T}, {V}, C), found {tuple(x.shape)}")
    if baseline.shape != x.shape:
        raise ValueError(
            f"expected a baseline {tuple(x.shape)}, found {tuple(baseline.shape)}: make_baseline "
            "gives one"
        )
    if tuple(classes.shape) != (len(x),):
        raise ValueError(f"expected {len(x)} classes, one per clip, found {tuple(classes.shape)}")
