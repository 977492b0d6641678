"""The shell's command that measures speed and memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

__all__ = ["BENCH_COMMANDS"]


def bench(
    against: Literal["yardstick"] | None = None,
    quick: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    rounds: int | None = None,
    compile: bool = False,
    memory: bool = True,
    out: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Measure how fast the network trains and answers here, and what memory it takes.

    About five minutes on two cores, half an hour against the yardstick; the machine should do
    nothing else. On CUDA the batches are 16, 64 and 128, in fp32, TF32 and bf16; that part has not
    been run on a GPU yet.

    Args:
        against: compare with the plain formulation, as the published implementations compute it.
        quick: a narrow network, small batches and few rounds, to see that it works; a minute.
        device: where to compute.
        threads: of the arithmetic; as many as cores if left out.
        rounds: times each is measured; 5 if left out.
        compile: also measure the inference form under torch.compile.
        memory: also measure memory.
        out: the page, ending in .md, every number as .json beside it; bench-DATE.md, or the next
            free bench-DATE-N.md, if left out.
        overwrite: replace existing files.
    """
    import sys

    from msg3d_lab.benchmarking import bench as run_bench

    path = out if out is not None else _free_path()
    taken = [p for p in (path, path.with_suffix(".json")) if p.exists() and not overwrite]
    if taken:  # said before the measuring, not after
        raise FileExistsError(f"{taken[0]} exists already: choose another --out, or --overwrite")
    if path.suffix != ".md":
        raise ValueError(f"expected --out to end in .md, found {path}")
    result = run_bench(
        against=against,
        quick=quick,
        device=device,
        threads=threads,
        rounds=rounds,
        compile=compile,
        memory=memory,
        say=lambda line: print(f"measuring: {line}", file=sys.stderr, flush=True),
    )
    print(result.markdown())
    page, numbers = result.save(path, overwrite=overwrite)
    print(f"Saved: {page}, every number in {numbers}")


def _free_path() -> Path:
    from datetime import date
    from itertools import count

    stem = f"bench-{date.today()}"
    paths = (Path(f"{stem}.md" if n == 1 else f"{stem}-{n}.md") for n in count(1))
    return next(p for p in paths if not (p.exists() or p.with_suffix(".json").exists()))


BENCH_COMMANDS: dict[str, Callable[..., None]] = {"bench": bench}
