"""`msg3d-lab ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from msg3d_lab.cli.shared import Settings

if TYPE_CHECKING:
    import pandas as pd

    from msg3d_lab.experiments.results import GridOptions


def ablate(
    grid: Positional[str | None] = None,
    seeds: tuple[int, ...] = (),
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

    The same command again continues: tested runs are kept, interrupted ones resumed, failed ones
    tried again. A variant that fails does not stop the others.

    Args:
        grid: a grid's name, or the path of its YAML.
        seeds: e.g. 1 2 3. Default: the grid's own.
        jobs: runs at a time, which share the cores or the GPU.
        runs: the folder of the run folders. Default: runs/ablations/GRID.
        data: the store. Default: where `data import` puts it.
        variants: only these, with what they are compared with.
        settings: changes to the recipes of all variants, e.g. epochs=5.
        device: where to compute.
        precision: of the arithmetic.
        slurm: submit a job per run to a cluster instead, e.g. partition=gpu,gpus=1,hours=8; when
            they are done, the same command without --slurm tests the networks and shows the table.
        table: run nothing, show the results so far.
        out: a folder for the table (GRID.csv) and its runs (GRID-runs.csv); replaces existing ones.
    """
    from msg3d_lab import experiments
    from msg3d_lab.experiments import grids

    if grid is None:
        for name in grids.names():
            known = grids.get(name)
            print(f"{name:20} {len(known.variants):2} variants of {known.recipe}: {known.title}")
        return
    chosen = grids.get(grid)
    options: GridOptions = {
        "seeds": seeds or None,
        "runs": runs,
        "data": data,
        "variants": variants or None,
        "settings": settings,
    }
    if slurm is not None:
        from msg3d_lab.training.distributed.slurm import parse_slurm

        if (device, jobs, table, out) != ("auto", 1, False, None):
            raise ValueError("--slurm goes without --device, --jobs, --table and --out")
        submitted = experiments.submit_ablation(
            chosen, slurm=parse_slurm(slurm), precision=precision, **options
        )
        ids = " ".join(str(job.job_id) for job in submitted)
        print(f"Submitted: {len(submitted)} jobs {ids}".rstrip())
        return
    if table:
        results = experiments.AblationResults(chosen, **options)
    else:
        results = experiments.ablate(
            chosen, jobs=jobs, device=device, precision=precision, **options
        )
    compared = results.table()
    print(f"\n{chosen.title}\n\n{_as_text(compared, synthetic=results.store.synthetic)}")
    if out is not None:
        from msg3d_lab.files import write_aside

        for name, frame in (
            (f"{chosen.name}.csv", compared.reset_index()),
            (f"{chosen.name}-runs.csv", results.runs()),
        ):
            with write_aside(out / name, overwrite=True) as aside:
                frame.to_csv(aside, index=False)
            print(f"Written: {out / name}")


def _as_text(table: pd.DataFrame, *, synthetic: bool) -> str:
    """Return the table as text, with accuracies and differences in percent."""
    import pandas as pd

    def percent(column: str, sign: str = "") -> pd.Series:
        return (100 * table[column]).map(lambda x: "" if pd.isna(x) else f"{x:{sign}.1f}")

    def count(column: str, unit: float) -> pd.Series:
        return (table[column] / unit).map(lambda x: "" if pd.isna(x) else f"{x:.3g}")

    interval = percent("low", "+") + " to " + percent("high", "+")
    shown = pd.DataFrame(
        {
            "group": table["group"],
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
        "together, corrected within a group."
    )
    return "\n".join(lines)
