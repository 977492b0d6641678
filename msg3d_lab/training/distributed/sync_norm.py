"""Batch normalisation over the batches of all processes.

With it, N processes with n clips each compute what one process with N * n clips computes: loss,
gradients and running statistics (tested in float64 to 1e-10). Without it, every process normalises
by its own n clips, which gives other gradients; and the running statistics that are kept have seen
the first process's clips only. docs/clusters.md has the numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from msg3d_lab.model.kernels.norm import update_running

if TYPE_CHECKING:
    from lightning_fabric import Fabric


_Model = TypeVar("_Model", bound=nn.Module)


def synchronise(model: _Model, fabric: Fabric) -> _Model:
    """Replace a model's batch normalisations by synchronised ones, in place.

    Parameters and buffers stay the same objects under the same names: an optimizer made before
    stays valid, and checkpoints do not change. With one process nothing is done. On CUDA the
    modules become `torch.nn.SyncBatchNorm`, which accepts CUDA tensors only; elsewhere
    `SyncBatchNorm` of this module. This comes before `fabric.setup`.
    """
    if fabric.world_size == 1:
        return model
    if fabric.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return _converted(model)


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation with the statistics of all processes' batches in training.

    Batches may differ in size. In eval mode it is `nn.BatchNorm2d`.

    Shapes:
        x: (B, C, ...) -> the same, in the same memory format.

    Raises:
        ValueError: there is a single value per channel over all processes.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; see the class."""
        mean, var = self.running_mean, self.running_var
        if not self.training and mean is not None and var is not None:
            return torch.batch_norm(
                x, self.weight, self.bias, mean, var, False, 0.0, self.eps, False
            )
        count, batch_mean, batch_var = _statistics(x.detach())
        if self.training and mean is not None and var is not None:
            update_running(self, count, batch_mean, batch_var)
        return _Normalise.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.bias, batch_mean, batch_var, count, self.eps
        )


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias; mean and var depend on all processes' x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        count: float,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.count, ctx.eps = count, eps
        return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        scale = torch.ones_like(mean) if weight is None else weight
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
        # With mean and var fixed; what they add to x's gradient follows.
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, scale, mean, var, None, None, False, ctx.eps, [need_x, True, True]
        )
        if need_x:
            sums = torch.stack([grad_weight, grad_bias]).double()
            torch.distributed.all_reduce(sums)
            inverse = (var.double() + ctx.eps).rsqrt()
            constant = scale * inverse * sums[1] / ctx.count
            slope = scale * inverse * inverse * sums[0] / ctx.count
            centred = x - _channels(mean, x)
            centred.mul_(_channels(slope, centred)).add_(_channels(constant, centred))
            grad_x.sub_(centred)
        return (
            grad_x if need_x else None,
            grad_weight if need_weight else None,
            grad_bias if need_bias else None,
            *(None,) * 4,
        )


def _statistics(x: Tensor) -> tuple[float, Tensor, Tensor]:
    """Number of values per channel, mean and biased variance over all processes' batches.

    They are combined from each process's mean and variance; sums of squares would lose digits.
    """
    precision = torch.promote_types(x.dtype, torch.float32)
    unused = torch.zeros(2, x.shape[1], dtype=precision, device=x.device)
    mean, var = torch.batch_norm_update_stats(x, unused[0], unused[1], 0.0)
    count = x.numel() / x.shape[1]
    mine = torch.stack([mean, var, torch.full_like(mean, count)]).double()
    gathered = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(gathered, mine)
    means, variances, counts = torch.stack(gathered, dim=1)
    count = counts[:, 0].sum().item()
    if count <= 1:
        raise ValueError(
            f"expected more than one value per channel over all processes, found {tuple(x.shape)}: "
            "use larger batches"
        )
    weights = counts / count
    mean = (weights * means).sum(0)
    var = (weights * (variances + (means - mean).square())).sum(0)
    return count, mean.to(precision), var.to(precision)


def _channels(values: Tensor, like: Tensor) -> Tensor:
    """Values per channel, shaped to broadcast over `like`."""
    return values.to(like.dtype).view(1, -1, *(1,) * (like.ndim - 2))


def _converted(module: Any) -> Any:
    """The module with every batch normalisation in it replaced."""
    if isinstance(module, _BatchNorm):
        new = SyncBatchNorm(
            module.num_features,
            eps=module.eps,
            momentum=module.momentum,
            affine=False,  # the next lines take over the parameters and buffers
            track_running_stats=False,
        )
        new.affine, new.track_running_stats = module.affine, module.track_running_stats
        new._parameters.update(module._parameters)
        new._buffers.update(module._buffers)
        return new.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, _converted(child))
    return module
