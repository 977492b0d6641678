"""Recomputation: train with less memory by computing a module's activations again in backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from msg3d_lab.model.kernels.norm import BatchNorm, counted


def run(module: nn.Module, x: Tensor, *, recompute: bool) -> Tensor:
    """Return `module(x)`.

    Args:
        module: a layer without dropout or other random numbers.
        recompute: whether to keep x only, and to run the module again in backward. Values,
            gradients and running statistics stay the same to the bit.
    """
    if not recompute:
        return module(x)
    from torch.utils.checkpoint import checkpoint

    second_run = _as_in_first_run(module)
    return checkpoint(
        module,
        x,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), second_run()),
    )


def _as_in_first_run(module: nn.Module) -> Callable[[], AbstractContextManager[None]]:
    """Return a context for the second run, in which batch normalisations are as they are now.

    They count bodies as often as in the first run (`BatchNorm.multiplicity`). They update copies of
    their running statistics, because otherwise the batch would count twice.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    multiplicity = next((m.multiplicity for m in norms if isinstance(m, BatchNorm)), ())

    @contextmanager
    def second_run() -> Iterator[None]:
        buffers = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers()]
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer.clone())
        try:
            with counted(module, multiplicity):
                yield
        finally:
            for norm, name, buffer in buffers:
                setattr(norm, name, buffer)

    return second_run
