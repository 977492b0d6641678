"""Ablations: grids of variants, run, resumed and compared."""

from msg3d_lab.experiments.ablations import ablate, submit_ablation
from msg3d_lab.experiments.grids import Grid, Variant
from msg3d_lab.experiments.results import AblationResults
from msg3d_lab.experiments.seeds import fit_seeds

__all__ = ["AblationResults", "Grid", "Variant", "ablate", "fit_seeds", "submit_ablation"]
