"""What an attribution method is asked: clips, classes, features and a baseline, in one object."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from msg3d_lab.explain.features import Features, replace_features

Network = Callable[[Tensor], Tensor]
SCORES = ("logit", "log_probability")


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """How much does each feature of each clip add to the score of a class?

    Args:
        classes: the class that is explained, per clip.
        features: what importance is given to; see `make_features`.
        baseline: what replaces a feature: clips like `x`; see `make_baseline`.
        score: "logit", or "log_probability", which also depends on the other classes.
        ids: names of the clips. Random numbers are drawn per clip, from its id and the seed, so
            that they do not depend on the batch. Default: the positions in `x`.
        seed: for methods that draw random numbers.
        batch_size: the largest number of clips in one forward pass.

    Shapes:
        x, baseline: (N, M, T, V, C); classes: (N,)

    Raises:
        ValueError: shapes that do not match, an unknown score, or a batch size below 1.
    """

    x: Tensor
    classes: Tensor
    features: Features
    baseline: Tensor
    score: str = "logit"
    ids: Sequence[object] | None = None
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Check shapes and names."""
        N, (T, V) = len(self.x), self.features.index.shape
        if self.x.ndim != 5 or tuple(self.x.shape[2:4]) != (T, V):
            raise ValueError(f"expected clips (N, M, {T}, {V}, C), found {tuple(self.x.shape)}")
        if self.baseline.shape != self.x.shape:
            raise ValueError(
                f"expected a baseline {tuple(self.x.shape)}, found {tuple(self.baseline.shape)}: "
                "make_baseline gives one"
            )
        if tuple(self.classes.shape) != (N,):
            raise ValueError(
                f"expected {N} classes, one per clip, found {tuple(self.classes.shape)}"
            )
        if self.ids is not None and len(self.ids) != N:
            raise ValueError(f"expected {N} ids, one per clip, found {len(self.ids)}")
        if self.score not in SCORES:
            raise ValueError(f"unknown score {self.score!r}: expected one of {', '.join(SCORES)}")
        if self.batch_size < 1:
            raise ValueError(f"expected a batch_size of at least 1, found {self.batch_size}")
        object.__setattr__(self, "classes", self.classes.to(self.x.device))
        object.__setattr__(self, "ids", tuple(range(N) if self.ids is None else self.ids))

    def __len__(self) -> int:
        return len(self.x)

    def batches(self) -> Iterator[Question]:
        """Yield the same question about at most `batch_size` clips at a time."""
        for start in range(0, len(self), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield replace(
                self,
                x=self.x[part],
                classes=self.classes[part],
                baseline=self.baseline[part],
                ids=self.ids[part] if self.ids is not None else None,
            )

    def generators(self) -> list[np.random.Generator]:
        """Return a random generator per clip, seeded by the clip's id and the seed."""
        texts = [f"{self.seed} {name}" for name in self.ids or ()]
        digests = [hashlib.sha256(text.encode()).digest()[:8] for text in texts]
        return [np.random.default_rng(int.from_bytes(digest)) for digest in digests]

    def scores(self, network: Network, kept: Tensor) -> Tensor:
        """Return the score of each clip when only some of its features are kept.

        Args:
            network: clips -> logits.
            kept: 1 for features that stay, 0 for those that the baseline replaces.

        Shapes:
            kept: (N, features) -> (N,)
        """
        changed = replace_features(self.x, self.baseline, kept, self.features)
        return class_scores(network(changed), self.classes, score=self.score)


def class_scores(logits: Tensor, classes: Tensor, *, score: str = "logit") -> Tensor:
    """Return the score of each clip's class: its logit, or its log probability.

    Shapes:
        logits: (N, classes), classes: (N,) -> (N,)
    """
    values = logits.log_softmax(-1) if score == "log_probability" else logits
    return values.gather(1, classes[:, None])[:, 0]
