"""Ablations: grids of variants, run, resumed and compared."""

from msg3d_lab.experiments.ablations import ablate, submit_ablation
from msg3d_lab.experiments.grids import Grid, Variant
from msg3d_lab.experiments.seeds import fit_seeds
from msg3d_lab.experiments.tables import ablation_classes, ablation_runs, ablation_table

__all__ = [
    "Grid",
    "Variant",
    "ablate",
    "ablation_classes",
    "ablation_runs",
    "ablation_table",
    "fit_seeds",
    "submit_ablation",
]
