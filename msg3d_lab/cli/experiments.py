"""The shell's command that compares variants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from msg3d_lab.cli.shared import Settings

__all__ = ["EXPERIMENT_COMMANDS", "chosen_seeds"]


def ablate(
    grid: Positional[str | None] = None,
    seeds: str | None = None,
    jobs: int = 1,
    runs: Path | None = None,
    data: Path | None = None,
    variants: tuple[str, ...] = (),
    settings: Settings = (),
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    slurm: str | None = None,
    table: bool = False,
    out: Path | None = None,
) -> None:
    """Train and test the variants of a grid and compare them; without a grid, list the grids.

    The same words again go on where it was stopped: what is tested stays, what was cut is resumed,
    what failed is tried again. A variant that fails does not stop the others.

    Args:
        grid: a grid's name, or the path of its YAML.
        seeds: how many (3 is 1,2,3), or which, e.g. 4,7; the grid's own if left out.
        jobs: runs at a time, which share the cores or the GPU.
        runs: the folder of the run folders; runs/ablations/GRID if left out.
        data: the store; where `data import` puts it if left out.
        variants: only these, with what they are compared with.
        settings: changes to the recipes of all variants, e.g. epochs=5.
        device: where to compute.
        precision: of the arithmetic.
        slurm: submit a job per run to a cluster instead, e.g. partition=gpu,gpus=1,hours=8; when
            they are done, the same words without --slurm test the networks and show the table.
        table: run nothing, show what there is.
        out: a folder for the table (GRID.csv) and its runs (GRID-runs.csv), which are written over.
    """
    from msg3d_lab import experiments
    from msg3d_lab.experiments import grids

    if grid is None:
        for name in grids.names():
            known = grids.get(name)
            print(f"{name:20} {len(known.variants):2} variants of {known.recipe}: {known.title}")
        return
    chosen = grids.get(grid)
    if variants:
        chosen = chosen.only(variants)
    places: dict[str, Any] = {
        "seeds": None if seeds is None else chosen_seeds(seeds),
        "runs": runs,
        "data": data,
        "settings": settings,
    }
    if slurm is not None:
        from msg3d_lab.training.distributed.slurm import parse_slurm

        if (device, jobs, table, out) != ("auto", 1, False, None):
            raise ValueError("--slurm goes without --device, --jobs, --table and --out")
        sent = experiments.submit_ablation(
            chosen, slurm=parse_slurm(slurm), precision=precision, **places
        )
        print(f"Submitted: {len(sent)} jobs {' '.join(str(job.job_id) for job in sent)}".rstrip())
        return
    if table:
        found = experiments.ablation_table(chosen, **places)
    else:
        found = experiments.ablate(chosen, jobs=jobs, device=device, precision=precision, **places)
    each = experiments.ablation_runs(chosen, **places)
    print(f"\n{chosen.title}\n\n{_readable(found, synthetic=bool(each['synthetic'].any()))}")
    if out is not None:
        from msg3d_lab.files import write_aside

        for name, frame in (
            (f"{chosen.name}.csv", found.reset_index()),
            (f"{chosen.name}-runs.csv", each),
        ):
            with write_aside(out / name, overwrite=True) as aside:
                frame.to_csv(aside, index=False)
            print(f"Written: {out / name}")


def chosen_seeds(text: str) -> tuple[int, ...]:
    """Read `--seeds`: how many, counted from 1, or which.

    Raises:
        ValueError: neither.

    Example:
        >>> chosen_seeds("3"), chosen_seeds("4,7")
        ((1, 2, 3), (4, 7))
    """
    from msg3d_lab.experiments.seeds import parse_seeds

    seeds = parse_seeds(text)
    if len(seeds) > 1 or "," in text:
        return seeds
    if seeds[0] < 1:
        raise ValueError(f"expected at least one seed, found {text!r}")
    return tuple(range(1, seeds[0] + 1))


def _readable(table: Any, *, synthetic: bool) -> str:
    """The table as text: accuracies and differences in percent, with what they rest on below."""
    import pandas as pd

    def percent(column: str, sign: str = "") -> Any:
        return (100 * table[column]).map(lambda x: "" if pd.isna(x) else f"{x:{sign}.1f}")

    def count(column: str, unit: float) -> Any:
        return (table[column] / unit).map(lambda x: "" if pd.isna(x) else f"{x:.3g}")

    interval = percent("low", "+") + " to " + percent("high", "+")
    shown = pd.DataFrame(
        {
            "table": table["table"],
            "seeds": table["seeds"],
            "top-1 %": percent("top1"),
            "sd": percent("sd"),
            "against": table["compare_with"],
            "difference": percent("difference", "+"),
            "95 %": interval.where(table["low"].notna(), ""),
            "p (Holm)": table["p_holm"].map(
                lambda p: "" if pd.isna(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001"
            ),
            "M param.": count("parameters", 1e6),
            "GMAC": count("macs", 1e9),
            "min": count("training_minutes", 1),
        }
    )
    lines = [shown.to_string()]
    lines += [f"{name}: {why}" for name, why in table["why"].items() if why]
    if synthetic:
        lines.append("On SYNTHETIC data.")
    lines.append(
        "Differences in percentage points over the same seeds and clips; p for clips and seeds "
        "together, corrected within a table."
    )
    return "\n".join(lines)


EXPERIMENT_COMMANDS: dict[str, Callable[..., None]] = {"ablate": ablate}
