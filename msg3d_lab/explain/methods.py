"""Attribution methods: how much each joint, body part or time segment adds to a class's score.

Each method is one class with `attribute` and `cost`. All of them compare the clip with a baseline
that replaces a feature. They work on any callable that takes clips (N, M, T, V, C) and returns
logits (N, classes). They agree exactly on a linear network; all but `GradientInput` also agree on a
sum of functions of single features. captum does the arithmetic.

A new method is a new class: see `Method`, and docs/examples/attribution_method.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from msg3d_lab.analysis.decomposition import check_mode, class_activation
from msg3d_lab.explain.features import replace_features
from msg3d_lab.explain.question import Network, Question, class_scores
from msg3d_lab.model import MSG3D


class Passes(NamedTuple):
    """The cost of one clip: passes through the network, and how many of them also go back.

    A backward pass takes about twice the time of a forward one.
    """

    forward: int
    backward: int


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """An attribution method.

    A subclass is a frozen dataclass: its parameters are its fields, and `name` has a default.

    Args:
        name: in tables and file names; two methods of one comparison need two names.

    Attributes:
        version: of the computation. Raise it when the numbers of a method change: saved tables of
            the version before are then no longer continued or reused.
        uses_baseline: whether the result depends on the baseline.
    """

    name: str
    version: ClassVar[int] = 1
    uses_baseline: ClassVar[bool] = True

    @abstractmethod
    def attribute(self, network: Network, question: Question) -> Tensor:
        """Return the importance of every feature of a batch of clips: (N, features).

        Values are in units of the score; a positive one speaks for the class. The function
        `attribute` calls this with at most `question.batch_size` clips at a time.
        """

    @abstractmethod
    def cost(self, num_features: int) -> Passes:
        """Return the passes of one clip."""


def attribute(network: Network, question: Question, method: Method) -> np.ndarray:
    """Return the importance of every feature of every clip; the network is in evaluation mode.

    Returns:
        (N, features) float32, in units of the score; positive speaks for the class.

    Raises:
        ValueError: a network in training mode, or no method.
    """
    check_method(method)
    check_mode(network)
    rows = [method.attribute(network, batch).detach() for batch in question.batches()]
    return torch.cat(rows).float().cpu().numpy()


def check_method(method: object) -> None:
    """Raise ValueError unless this is an attribution method."""
    if not isinstance(method, Method):
        names = ", ".join(f"{type(known).__name__}()" for known in METHODS)
        raise ValueError(f"expected a method such as {names}, found {method!r}")


@dataclass(frozen=True, kw_only=True)
class ClassActivation(Method):
    """The exact decomposition of the logit over the places of the last block.

    It says where the network keeps the evidence, not which input it came from; see
    `msg3d_lab.analysis.class_activation`.
    """

    name: str = "class_activation"
    uses_baseline: ClassVar[bool] = False

    def attribute(self, network: Network, question: Question) -> Tensor:
        """Return the importance of every feature; the network must be an MSG3D."""
        if question.score != "logit":
            raise ValueError(f"class activation explains the logit, not {question.score}")
        activation = class_activation(cast(MSG3D, network), question.x, question.classes)
        return question.features.total(activation) / activation[0].numel()

    def cost(self, num_features: int) -> Passes:
        """Return the passes of one clip."""
        return Passes(1, 0)


@dataclass(frozen=True, kw_only=True)
class GradientInput(Method):
    """(x - baseline) * gradient at x: one backward pass; exact for a linear network."""

    name: str = "gradient_x_input"

    def attribute(self, network: Network, question: Question) -> Tensor:
        """Return the importance of every feature."""
        from captum.attr import Saliency  # type: ignore[import-untyped]

        x = question.x.detach()
        gradient = Saliency(_score_of(network, question)).attribute(
            x.clone().requires_grad_(), abs=False, additional_forward_args=question.classes
        )
        return question.features.total(((x - question.baseline) * gradient).sum(-1).detach())

    def cost(self, num_features: int) -> Passes:
        """Return the passes of one clip."""
        return Passes(1, 1)


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(Method):
    """(x - baseline) * the mean gradient on the straight line from the baseline to x.

    The importance of all features sums to the difference of the scores of x and of the baseline.

    Args:
        steps: points on the line.

    Source: Sundararajan et al., ICML 2017 (arXiv 1703.01365).
    """

    name: str = "integrated_gradients"
    steps: int = 16

    def __post_init__(self) -> None:
        """Check the number of steps."""
        if self.steps < 1:
            raise ValueError(f"expected steps of at least 1, found {self.steps}")

    def attribute(self, network: Network, question: Question) -> Tensor:
        """Return the importance of every feature."""
        from captum.attr import IntegratedGradients as Captum

        x = question.x.detach()
        found: Any = Captum(_score_of(network, question)).attribute(
            x,
            baselines=question.baseline,
            additional_forward_args=question.classes,
            n_steps=self.steps,
            # A backward pass keeps all activations: at most this many points at a time.
            internal_batch_size=max(question.batch_size, len(x)),
        )
        return question.features.total(found.sum(-1).detach())

    def cost(self, num_features: int) -> Passes:
        """Return the passes of one clip."""
        return Passes(self.steps, self.steps)


@dataclass(frozen=True, kw_only=True)
class Occlusion(Method):
    """The fall of the score when one feature is replaced by the baseline.

    Where two features carry the same evidence, neither gets it.

    Source: Zeiler and Fergus, ECCV 2014 (arXiv 1311.2901).
    """

    name: str = "occlusion"

    def attribute(self, network: Network, question: Question) -> Tensor:
        """Return the importance of every feature."""
        from captum.attr import FeatureAblation

        forward, inputs, order = _by_replacing(network, question)
        found = FeatureAblation(forward).attribute(**inputs)
        return torch.zeros_like(found).scatter_(1, order, found)

    def cost(self, num_features: int) -> Passes:
        """Return the passes of one clip: the whole clip, then each feature."""
        return Passes(num_features + 1, 0)


@dataclass(frozen=True, kw_only=True)
class Shapley(Method):
    """The rise of the score when a feature is added, averaged over random orders of adding.

    The importance of all features sums to the difference of the scores of x and of the baseline.
    Every clip has its own orders, so that the error of a few orders averages out over clips.

    Args:
        samples: random orders per clip.

    Source: Castro et al., Computers & Operations Research 36, 2009.
    """

    name: str = "shapley"
    samples: int = 8

    def __post_init__(self) -> None:
        """Check the number of samples."""
        if self.samples < 1:
            raise ValueError(f"expected samples of at least 1, found {self.samples}")

    def attribute(self, network: Network, question: Question) -> Tensor:
        """Return the importance of every feature."""
        from captum.attr import ShapleyValueSampling

        forward, inputs, order = _by_replacing(network, question)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(question.seed)
            found = ShapleyValueSampling(forward).attribute(**inputs, n_samples=self.samples)
        return torch.zeros_like(found).scatter_(1, order, found)

    def cost(self, num_features: int) -> Passes:
        """Return the passes of one clip: the baseline, then each feature of each order."""
        return Passes(self.samples * num_features + 1, 0)


@dataclass(frozen=True, kw_only=True)
class Motion(Method):
    """A control: the squared distances of each feature to the next frame, without any network.

    A method that finds nothing more only finds what moves.
    """

    name: str = "motion"
    uses_baseline: ClassVar[bool] = False

    def attribute(self, network: Network, question: Question) -> Tensor:
        """Return the motion of every feature."""
        step = question.x.diff(dim=2).square().sum(-1)
        return question.features.total(torch.nn.functional.pad(step, (0, 0, 0, 1)))

    def cost(self, num_features: int) -> Passes:
        """Return no passes."""
        return Passes(0, 0)


@dataclass(frozen=True, kw_only=True)
class RandomNumbers(Method):
    """A control: random numbers, drawn per clip from its id and the seed."""

    name: str = "random"
    uses_baseline: ClassVar[bool] = False

    def attribute(self, network: Network, question: Question) -> Tensor:
        """Return random numbers from 0 to 1."""
        rows = [generator.random(len(question.features)) for generator in question.generators()]
        return torch.from_numpy(np.stack(rows))

    def cost(self, num_features: int) -> Passes:
        """Return no passes."""
        return Passes(0, 0)


def _score_of(network: Network, question: Question) -> Callable[[Tensor, Tensor], Tensor]:
    """The function whose gradient is taken: clips, classes -> scores."""
    return lambda x, classes: class_scores(network(x), classes, score=question.score)


def _by_replacing(
    network: Network, question: Question
) -> tuple[Callable[..., Tensor], dict[str, Any], Tensor]:
    """The question in captum's terms: which features are kept (1) or replaced (0).

    captum takes the same order of features for all clips of a batch. To give every clip an order
    of its own, column i stands for a clip's own feature order[:, i].

    Returns:
        The function (columns kept, ...) -> scores; captum's arguments; and the order (N, features),
        by which its result must be sorted back.
    """
    x, features = question.x, question.features
    rows = [generator.permutation(len(features)) for generator in question.generators()]
    order = torch.from_numpy(np.stack(rows)).to(x.device)

    def forward(
        columns: Tensor, clips: Tensor, baseline: Tensor, classes: Tensor, own: Tensor
    ) -> Tensor:
        kept = torch.zeros_like(columns).scatter_(1, own, columns)
        changed = replace_features(clips, baseline, kept, features)
        return class_scores(network(changed), classes, score=question.score)

    inputs = {
        "inputs": torch.ones(len(x), len(features), dtype=x.dtype, device=x.device),
        "baselines": 0.0,
        "additional_forward_args": (x, question.baseline, question.classes, order),
        "perturbations_per_eval": max(1, question.batch_size // len(x)),
    }
    return forward, inputs, order


METHODS: tuple[Method, ...] = (
    ClassActivation(),
    GradientInput(),
    IntegratedGradients(),
    Occlusion(),
    Shapley(),
)
# They use no network: every method must do better than these.
CONTROLS: tuple[Method, ...] = (Motion(), RandomNumbers())
