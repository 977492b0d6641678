"""Decompose logits and sums inside MS-G3D into parts, exactly.

Two places of MS-G3D are linear. After the last block come means and a matrix, so that a logit is
the mean of one number per person, frame and joint. Inside a block, the pathways are added before
the activation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor

from msg3d_lab.analysis.activations import Intervention, run_with_cache, run_with_interventions
from msg3d_lab.analysis.points import graph_layers, list_points
from msg3d_lab.model import G3D, MSG3D, MSGCN

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "check_mode",
    "class_activation",
    "pathway_contributions",
    "pathway_shares",
    "point_importance",
    "scale_shares",
    "spread_over_frames",
]


def class_activation(
    model: MSG3D,
    x: Tensor,
    classes: int | Sequence[int] | Tensor | None = None,
    *,
    frames: Literal["clip", "network"] = "clip",
) -> Tensor:
    """Return the contribution of every person, frame and joint to a logit.

    The mean over persons, frames and joints is the class's logit minus its bias
    (`model.fc.bias[class]`), up to rounding errors. Absent persons count as well: the network
    computes activations for them too.

    A value belongs to a place of the last block, which has seen all joints within reach and many
    frames: it tells where the network keeps the evidence, not which input it came from.

    Args:
        model: the network, in evaluation mode.
        x: a batch.
        classes: the class that is explained: one for all clips, or one per clip. Default: the
            predicted classes.
        frames: "clip" returns T frames, with each frame of the last block spread over the frames
            it stands for (see `spread_over_frames`); "network" returns that block's own frames.

    Shapes:
        x: (N, M, T, V, C) -> (N, M, T, V); with frames="network" (N, M, T', V), T' about T / 4.
    Units: of logits.

    Raises:
        ValueError: no such class, not one class per clip, unknown `frames`, or a network in
            training mode.

    Source: class activation maps, Zhou et al., CVPR 2016 (arXiv 1512.04150), which upsample; for
        skeletons and ST-GCN, Song et al. 2019 (arXiv 1905.06774).
    """
    if frames not in ("clip", "network"):
        raise ValueError(f"frames is 'clip' or 'network', found {frames!r}")
    check_mode(model)
    last = f"block{len(model.blocks)}"
    logits, cache = run_with_cache(model, x, names=[last])
    rows = model.fc.weight[_classes(classes, logits)]
    values = torch.einsum("nmtvc,nc->nmtv", cache[last], rows.to(cache[last])).detach()
    return values if frames == "network" else spread_over_frames(values, x.shape[2])


def spread_over_frames(values: Tensor, clip_len: int) -> Tensor:
    """Spread the values of a layer with fewer frames over the frames of the clip.

    Frame t of the clip gets the value of the layer's frame t * T' // T, times T / (T' * n) if n
    frames share that value, so that the mean over frames does not change. If T is a multiple of T',
    the factor is 1. The receptive field of the layer's frame is centred near the first of its n
    frames.

    Shapes:
        (N, M, T', V) -> (N, M, clip_len, V).

    Raises:
        ValueError: a clip shorter than the layer.
    """
    count = values.shape[2]
    if clip_len < count:
        raise ValueError(f"expected a clip of {count} frames or more, found clip_len {clip_len}")
    source = torch.arange(clip_len, device=values.device) * count // clip_len
    sharing = torch.bincount(source, minlength=count)
    factor = clip_len / (count * sharing.to(values))
    return (values * factor[:, None])[:, :, source]


def pathway_contributions(
    model: MSG3D, x: Tensor, *, rectified: bool = False
) -> dict[str, dict[str, Tensor]]:
    """Return the contribution of each pathway to each block's sum.

    A block adds its pathways' outputs and applies a ReLU. With `rectified`, each output is set to
    zero where the sum is negative: then they add up to the rectified sum, which the next layer
    sees.

    Args:
        model: the network, in evaluation mode.
        x: a batch.
        rectified: whether to count only what passes the ReLU.

    Returns:
        For each block its pathways, "factorized" and one per G3D window ("g3d.window3").

    Shapes:
        x: (N, M, T, V, C) -> (N, M, T', V, C') per pathway, with the block's T' and C'.

    Source: Liu et al., CVPR 2020, figure 3: pathways are added before the activation.
    """
    check_mode(model)
    terms: dict[str, dict[str, str]] = {}
    for point in list_points(model):
        block, *path = point.name.split(".")
        is_window = len(path) == 2 and path[0] == "g3d"
        if path == ["factorized"] or is_window:
            terms.setdefault(block, {})[".".join(path)] = point.name
    names = [name for block in terms.values() for name in block.values()]
    _, cache = run_with_cache(model, x, names=names)
    result = {}
    for block, own in terms.items():
        values = {pathway: cache[name] for pathway, name in own.items()}
        if rectified:
            passes = sum(values.values()) > 0
            values = {pathway: value * passes for pathway, value in values.items()}
        result[block] = values
    return result


def pathway_shares(model: MSG3D, x: Tensor, *, batch_size: int = 4) -> pd.DataFrame:
    """Return how much each pathway contributes to each block, in three exact measures.

    Args:
        model: the network, in evaluation mode.
        x: a batch.
        batch_size: clips at a time; the result is of all clips.

    Returns:
        A row per block and pathway, with `mean`, its mean contribution to the rectified sum (the
        rows of a block add up to that sum's mean); `share`, the fraction of that sum; and
        `variance_share`, the covariance with the sum before the ReLU over that sum's variance,
        both within channels and then summed over channels, so that a constant offset has none.
        Shares of a block add up to 1; a pathway that counteracts the others has a negative one.

    Raises:
        ValueError: the network is in training mode, or a batch size below 1.
    """
    import pandas as pd

    sums: dict[str, tuple[list[str], _Sums, _Sums]] = {}
    for part in _parts(x, batch_size):
        for block, pathways in pathway_contributions(model, part).items():
            terms = torch.stack(list(pathways.values()))
            _, raw, passed = sums.setdefault(block, (list(pathways), _Sums(), _Sums()))
            raw.add(terms)
            passed.add(terms * (terms.sum(dim=0) > 0))
    rows = []
    for block, (names, raw, passed) in sums.items():
        means = passed.means()
        total = sum(means)
        for pathway, mean, share in zip(names, means, raw.shares(), strict=True):
            rows.append(
                {
                    "block": block,
                    "pathway": pathway,
                    "mean": mean,
                    "share": mean / total if total else float("nan"),
                    "variance_share": share,
                }
            )
    return pd.DataFrame(rows)


def scale_shares(model: MSG3D, x: Tensor, *, batch_size: int = 4) -> pd.DataFrame:
    """Return how much each scale (each hop) contributes to each graph convolution; exact.

    A graph convolution adds one term per scale, `(A_k + A_res_k) x W_k`, then normalises the sum,
    which is linear in evaluation mode, and applies a ReLU. The terms of a graph are kept for
    `batch_size` clips at a time; a clip of 100 frames of NTU RGB+D needs about 0.2 GB.

    Args:
        model: the network, in evaluation mode; it runs once per graph.
        x: a batch.
        batch_size: clips at a time; the result is of all clips.

    Returns:
        A row per `graph` ("block1.factorized", "block1.g3d.window3") and `scale`, with its `share`:
        the covariance of its term with the normalised sum over the sum's variance, as
        `variance_share` in `pathway_shares`. Shares of a graph add up to 1.

    Raises:
        ValueError: the network is in training mode, or a batch size below 1.
    """
    import pandas as pd

    check_mode(model)
    rows = []
    for graph, layer in graph_layers(model).items():
        sums = _Sums()
        for part in _parts(x, batch_size):
            sums.add(_scale_terms(model, part, graph, layer))
        rows += [{"graph": graph, "scale": k, "share": s} for k, s in enumerate(sums.shares())]
    return pd.DataFrame(rows)


@torch.no_grad()
def _scale_terms(model: MSG3D, x: Tensor, graph: str, layer: MSGCN | G3D) -> Tensor:
    """A graph convolution's normalised sum by scale, without its constant: (K + 1, ..., C)."""
    K, conv, bn = len(layer.adjacency.A), layer.mlp.conv, cast(Any, layer.mlp.bn)
    _, cache = run_with_cache(model, x, names=[f"{graph}.scale{k}" for k in range(K)])
    terms = list(cache.values())
    if isinstance(layer, MSGCN):
        weights = conv.weight.view(conv.out_channels, K, -1).unbind(dim=1)
        terms = [term @ W.T for term, W in zip(terms, weights, strict=True)]
    factor = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    # G3D's terms hold the channels of every window step, one after another.
    return torch.stack([t.reshape(*t.shape[:4], -1, len(factor)) * factor for t in terms])


def point_importance(
    model: MSG3D,
    x: Tensor,
    interventions: Mapping[str, Intervention],
    classes: int | Sequence[int] | Tensor | None = None,
) -> pd.DataFrame:
    """Return how much a logit falls under each of several interventions.

    With `{f"block1.factorized.scale{k}": zero for k in range(13)}` it is the importance of every
    scale, that is of every hop. Unlike the functions above it is no decomposition: evidence removed
    at one point may be present at another, and the falls do not add up to the logit.

    Args:
        model: the network, in evaluation mode; it runs once per intervention, and once without.
        x: a batch.
        interventions: name or pattern of points -> change; each is applied alone.
        classes: as in `class_activation`; predicted by the unchanged network.

    Returns:
        A row per intervention: its `point`, the `mean` fall of the logit and its `sd` over clips,
        and the fraction of clips whose prediction `changed`.
    Units: of logits.
    """
    import pandas as pd

    check_mode(model)
    rows = []
    with torch.no_grad():
        before = model(x)
        chosen = _classes(classes, before)[:, None]
        for point, intervention in interventions.items():
            after = run_with_interventions(model, x, {point: intervention})
            fall = _double((before - after).gather(1, chosen)[:, 0])
            changed = before.argmax(dim=1) != after.argmax(dim=1)
            rows.append(
                {
                    "point": point,
                    "mean": fall.mean().item(),
                    "sd": fall.std().item() if len(fall) > 1 else float("nan"),
                    "changed": changed.cpu().double().mean().item(),
                }
            )
    return pd.DataFrame(rows)


class _Sums:
    """Means and shares of the variance of a sum's terms, over batches: (terms, ..., C)."""

    def __init__(self) -> None:
        self.count = 0
        self.origin = self.sums = self.products = torch.zeros(())

    def add(self, terms: Tensor) -> None:
        """Add the places of a batch."""
        flat = terms.flatten(1, -2)
        if not self.count:
            # Values relative to about their mean lose less precision in the products.
            self.origin = torch.stack([_double(term).mean(dim=0) for term in flat])
            self.sums = self.products = torch.zeros_like(self.origin)

        def moved() -> Iterator[Tensor]:
            # One term at a time: all of them in double precision would fill the memory.
            return (_double(term) - start for term, start in zip(flat, self.origin, strict=True))

        total = cast(Tensor, sum(moved()))
        self.count += flat.shape[1]
        self.sums = self.sums + torch.stack([term.sum(dim=0) for term in moved()])
        products = [(term * total).sum(dim=0) for term in moved()]
        self.products = self.products + torch.stack(products)

    def means(self) -> list[float]:
        """The mean of each term over places and channels."""
        return (self.origin + self.sums / self.count).mean(dim=1).tolist()

    def shares(self) -> list[float]:
        """The covariance of each term with the sum, over the sum's variance; within channels."""
        means = self.sums / self.count
        given = (self.products / self.count - means * means.sum(dim=0)).sum(dim=1).tolist()
        variance = sum(given)
        return [value / variance if variance else float("nan") for value in given]


def _parts(x: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    if batch_size < 1:
        raise ValueError(f"expected a batch_size of at least 1, found {batch_size}")
    return torch.split(x, batch_size)


def _double(values: Tensor) -> Tensor:
    """In double precision, on the CPU if the device is Apple's GPU, which has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def check_mode(network: object) -> None:
    """Raise ValueError if a network is in training mode; other callables have no mode."""
    if getattr(network, "training", False):
        raise ValueError(
            "the network is in training mode, where each forward pass changes it and depends on "
            "the whole batch: call model.eval() first"
        )


def _classes(classes: int | Sequence[int] | Tensor | None, logits: Tensor) -> Tensor:
    """One class per clip: (N,)."""
    N, count = logits.shape
    if classes is None:
        return logits.argmax(dim=1)
    chosen = torch.as_tensor(classes, device=logits.device).long()
    if chosen.ndim == 0:
        chosen = chosen.expand(N)
    if chosen.shape != (N,):
        raise ValueError(
            f"expected one class, or one for each of {N} clips, found shape {tuple(chosen.shape)}"
        )
    wrong = chosen[(chosen < 0) | (chosen >= count)].tolist()
    if wrong:
        raise ValueError(f"classes are 0 to {count - 1}, found {wrong[0]}")
    return chosen
